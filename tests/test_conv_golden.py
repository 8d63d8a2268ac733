"""Convolution, pooling and scales of the golden model, held to their definitions element by element."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import random_frames

from fewbit.golden import file
from fewbit.golden.codes import Code, csd_digits
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.linear import truncate
from fewbit.golden.matvec import product
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Flatten, Network, Pool, TensorType, Threshold
from fewbit.golden.run import run


def at(x, channel, row, column):
    """Element of a map, 0 outside of it."""
    inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
    return int(x[channel, row, column]) if inside else 0


def convolved(layer, x, levels):
    """By the definition, a frame (C, H, W) of Python integers at a time."""
    top, left, bottom, right = layer.padding
    rows = (x.shape[1] + top + bottom - layer.kernel[0]) // layer.stride[0] + 1
    columns = (x.shape[2] + left + right - layer.kernel[1]) // layer.stride[1] + 1
    seen, outputs = layer.weights.shape[1], layer.outputs // layer.groups
    y = np.zeros((layer.outputs, rows, columns), object)
    for o, r, c in np.ndindex(*y.shape):
        for i, u, v in np.ndindex(*layer.weights.shape[1:]):
            value = at(x, o // outputs * seen + i, r * layer.stride[0] + u - top, c * layer.stride[1] + v - left)
            y[o, r, c] += int(levels[o, i, u, v]) * value
    return y


def random_conv(rng, code="ternary", groups=1, **options):
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    channels, outputs = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    kind = Code.parse(code)
    weights = rng.choice(kind.levels, (outputs, channels // groups, *kernel))
    padding = tuple(int(rng.integers(0, limit)) for limit in (*kernel, *kernel))
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 3)))
    return Conv(name="conv", weights=weights, code=kind, stride=stride, padding=padding, groups=groups, **options)


def one_layer(layer, source):
    return Network(name="net", input=source, layers=(layer,))


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("activation", ["bipolar", "uint1", "int1", "uint4", "int3"])
@pytest.mark.parametrize("code", ["binary", "ternary", "shift3", "int(4)", "csd(2,4)"])
def test_convolution_is_its_definition(code, activation, groups):
    rng = np.random.default_rng(groups)
    for _ in range(4):
        layer = random_conv(rng, code, groups)
        source = TensorType(DType.parse(activation), (layer.channels, 4 + int(rng.integers(3)), 5))
        x = random_frames(rng, source.dtype, (3, *source.shape))
        y = run(one_layer(layer, source), x).output
        assert y.tolist() == [convolved(layer, frame, layer.weights).tolist() for frame in x]


def test_a_large_batch_is_cut_into_parts(monkeypatch):
    rng = np.random.default_rng(1)
    layer = random_conv(rng)
    source = TensorType(DType.parse("uint2"), (layer.channels, 6, 6))
    x = random_frames(rng, source.dtype, (7, *source.shape))
    whole = run(one_layer(layer, source), x).output
    monkeypatch.setattr("fewbit.golden.linear._MOST_ELEMENTS", 2 * 36 * layer.fan_in)
    assert np.array_equal(run(one_layer(layer, source), x).output, whole)


@pytest.mark.parametrize("mode", ["max", "sum"])
@pytest.mark.parametrize("activation", ["bipolar", "uint3", "int3"])
def test_pooling_is_its_definition(mode, activation):
    rng = np.random.default_rng(3)
    source = TensorType(DType.parse(activation), (2, 7, 6))
    x = random_frames(rng, source.dtype, (3, *source.shape))
    for kernel, stride, padding in [
        ((2, 2), (2, 2), (0,) * 4),
        ((3, 2), (2, 1), (1, 0, 2, 1)),
        ((7, 6), (1, 1), (0,) * 4),
    ]:
        pool = Pool(name="pool", mode=mode, kernel=kernel, stride=stride, padding=padding)
        y = run(one_layer(pool, source), x).output
        assert pool.output(source).dtype.contains(y)
        for n, c, r, k in np.ndindex(*y.shape):
            top, left = r * stride[0] - padding[0], k * stride[1] - padding[1]
            window = [
                int(x[n, c, row, column])
                for row in range(max(top, 0), min(top + kernel[0], 7))
                for column in range(max(left, 0), min(left + kernel[1], 6))
            ]
            assert y[n, c, r, k] == (max(window) if mode == "max" else sum(window))


def kept(value, quality):
    """The most significant signed digits, by hand."""
    digits = csd_digits(abs(value))[::-1][:quality]
    return sum(sign << exponent for sign, exponent in digits) * (1 if value >= 0 else -1)


@given(st.integers(-(1 << 30), (1 << 30) - 1), st.integers(0, 20))
def test_truncation_keeps_the_most_significant_digits(value, quality):
    assert truncate(np.array(value), quality) == kept(value, quality)


def scaled(rng, across, code="shift3", two=False):
    kind = Code.parse(code)
    outputs, inputs, vector = 5, 7, 3
    shape = (2, inputs) if across else (outputs, 3)
    return Dense(
        name="dense",
        weights=rng.choice(kind.levels, (outputs, inputs)),
        code=kind,
        scales=rng.integers(-100, 256, shape),
        negative_scales=rng.integers(0, 200, shape) if two else None,
        vector=vector,
        across=across,
    )


@pytest.mark.parametrize("code, two", [("shift3", False), ("ternary", True), ("csd(3,6)", False)])
@pytest.mark.parametrize("across", [False, True])
def test_every_quality_of_a_scaled_layer_is_its_definition(across, code, two):
    rng = np.random.default_rng(7)
    layer = scaled(rng, across, code, two)
    source = TensorType(DType.parse("int4"), (7,))
    x = random_frames(rng, source.dtype, (20, 7))
    net = one_layer(layer, source)
    assert net.digits == layer.digits > 2
    for quality in [*range(layer.digits + 2), None]:
        most = 99 if quality is None else quality
        expected = []
        for frame in x:
            row = []
            for o in range(5):
                total = 0
                for i in range(7):
                    level = int(layer.weights[o, i])
                    table = layer.negative_scales if two and level < 0 else layer.scales
                    scale = int(table[(o // 3, i) if across else (o, i // 3)])
                    if code.startswith("csd"):
                        level = kept(level, most)
                    total += kept(scale, most) * level * int(frame[i])
                row.append(total)
            expected.append(row)
        result = run(net, x, quality)
        assert result.output.tolist() == expected
        assert net.output.dtype.contains(result.output)
    assert np.array_equal(run(net, x, layer.digits).output, run(net, x).output)


def test_a_truncated_scale_may_be_the_larger_one():
    """7 is 8 - 1: of quality 1 the sum is larger than the exact one, and its kind must hold it."""
    layer = Dense(name="d", weights=[[1]], code=Code.parse("binary"), scales=[[7]], vector=1)
    source = TensorType(DType.parse("uint4"), (1,))
    assert layer.bounds(source.dtype)[1] == 8 * 15
    assert run(one_layer(layer, source), np.array([[15]]), 1).output == 120


def test_vectors_of_a_convolution_run_along_the_channels_first():
    weights = np.ones((1, 4, 1, 2), int)
    layer = Conv(name="c", weights=weights, code=Code.parse("binary"), scales=[[1, 2, 4, 8]], vector=2)
    source = TensorType(DType.parse("uint1"), (4, 1, 2))
    for (channel, column), factor in {(0, 0): 1, (1, 0): 1, (3, 0): 2, (0, 1): 4, (2, 1): 8}.items():
        x = np.zeros((1, 4, 1, 2), int)
        x[0, channel, 0, column] = 1
        assert run(one_layer(layer, source), x).output == factor


def test_a_negative_quality_is_refused():
    layer = scaled(np.random.default_rng(1), False)
    net = one_layer(layer, TensorType(DType.parse("int4"), (7,)))
    with pytest.raises(FewbitError, match="^the quality must be 0 or more, not -1$"):
        run(net, np.zeros((1, 7), int), -1)


def lenet(rng):
    code = Code.parse("shift3")
    return Network(
        name="lenet",
        input=TensorType(DType.parse("uint8"), (1, 12, 12)),
        layers=(
            Conv(name="c1", weights=rng.choice(code.levels, (4, 1, 3, 3)), code=code, padding=(1, 1, 1, 1)),
            Pool(name="p1", mode="max", kernel=(2, 2), stride=(2, 2)),
            Threshold(name="t1", thresholds=np.sort(rng.integers(-900, 900, (4, 3)), 1), sign=[1, -1, 1, 1],
                      dtype=DType.parse("uint2"), base=0),
            Conv(name="c2", weights=rng.choice(code.levels, (6, 2, 3, 3)), code=code, groups=2,
                 scales=rng.integers(1, 64, (6, 9)), vector=2),
            Affine(name="a", scale=[1, 2, 3, 4, 5, 6], bias=[0, 1, 2, 3, 4, 5]),
            Pool(name="p2", mode="sum", kernel=(4, 4), stride=(4, 4)),
            Flatten(name="f"),
            Dense(name="d", weights=rng.choice(code.levels, (10, 6)), code=code, scales=rng.integers(1, 9, (2, 6)),
                  vector=5, across=True),
            ArgMax(name="m"),
        ),
    )  # fmt: skip


def test_the_file_holds_every_layer(tmp_path):
    net = lenet(np.random.default_rng(1))
    file.save(net, tmp_path / "net.safetensors")
    loaded = file.load(tmp_path / "net.safetensors")
    assert loaded == net
    assert hash(loaded) == hash(net)
    x = random_frames(np.random.default_rng(2), net.input.dtype, (3, 1, 12, 12))
    assert np.array_equal(run(loaded, x, 2).scores, run(net, x, 2).scores)


@pytest.mark.parametrize("bits, magnitude", [(8, 1 << 10), (60, 1 << 30)])
def test_products_are_exact_whatever_their_size(bits, magnitude):
    rng = np.random.default_rng(1)
    kind = DType("int", bits if bits < 20 else 25)
    x = rng.integers(kind.min, kind.max, (5, 40))
    factors = rng.integers(-magnitude, magnitude, (3, 40))
    exact = [[sum(int(a) * int(b) for a, b in zip(row, other)) for other in factors] for row in x]
    assert product(x, factors, kind).tolist() == exact


W = np.ones((2, 1, 2, 2), int)


@pytest.mark.parametrize(
    "make, shape, message",
    [
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary")), (1, 1, 4),
         "layer 'c': a kernel of 2x2 is larger than the map of 1x4"),
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary"), padding=(0, 1, 0, 0)), (1, 1, 1),
         "layer 'c': a kernel of 2x2 is larger than the map of 1x2 with its padding"),
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary")), (4,),
         "layer 'c': takes a map of (channels, height, width), not bipolar[4]"),
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary")), (2, 4, 4),
         "layer 'c': takes 1 channels, the input is bipolar[2, 4, 4]"),
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary"), groups=3), (3, 4, 4),
         "layer 'c': groups must divide the 2 outputs, not 3"),
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary"), padding=(2, 0, 0, 0)), (1, 4, 4),
         "layer 'c': padding must be less than the kernel 2x2, not (2, 0, 0, 0)"),
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary"), stride=(0, 1)), (1, 4, 4),
         "layer 'c': kernel and stride must be at least 1 and padding 0, not (2, 2), (0, 1), (0, 0, 0, 0)"),
        (lambda: Conv(name="c", weights=W, code=Code.parse("binary"), stride=(1, 1, 1)), (1, 4, 4),
         "layer 'c': stride must be 2 numbers, not 3"),
        (lambda: Pool(name="p", mode="mean", kernel=(2, 2), stride=(2, 2)), (1, 4, 4),
         "layer 'p': pooling is \"max\" or \"sum\", not 'mean'"),
        (lambda: Pool(name="p", mode="max", kernel=(5, 2), stride=(2, 2)), (1, 4, 4),
         "layer 'p': a kernel of 5x2 is larger than the map of 4x4"),
        (lambda: Dense(name="d", weights=[[1, 1]], code=Code.parse("binary"), scales=[[1, 2, 3]], vector=1), (2,),
         "layer 'd': scales must have the shape (1, 2), not (1, 3)"),
        (lambda: Dense(name="d", weights=[[1, 1]], code=Code.parse("binary"), scales=[[1, 2]], vector=3), (2,),
         "layer 'd': a vector has 1 to 2 weights, not 3"),
        (lambda: Dense(name="d", weights=[[1, 1]], code=Code.parse("binary"), vector=2), (2,),
         "layer 'd': negative_scales, vector and across are only allowed with scales"),
        (lambda: Dense(name="d", weights=[[1]], code=Code.parse("binary"), scales=[[1 << 31]], vector=1), (1,),
         "layer 'd': scales must fit 32 signed bits"),
        (lambda: Affine(name="a", scale=[1, 2], bias=[1, 2]), (3, 4, 4),
         "layer 'a': has 2 channels, the input is bipolar[3, 4, 4]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, shape, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        one_layer(make(), TensorType(BIPOLAR, shape))


def test_a_mean_is_a_sum_with_its_divisor_in_the_thresholds():
    x = np.arange(16).reshape(1, 1, 4, 4)
    pool = Pool(name="p", mode="sum", kernel=(2, 2), stride=(2, 2))
    level = Threshold(name="t", thresholds=[[4 * 5, 4 * 9]], sign=[1], dtype=DType.parse("uint2"), base=0)
    net = Network(name="n", input=TensorType(DType.parse("uint4"), (1, 4, 4)), layers=(pool, level))
    means = [Fraction(int(x[0, 0, r : r + 2, c : c + 2].sum()), 4) for r in (0, 2) for c in (0, 2)]
    assert run(net, x).output.ravel().tolist() == [int(mean >= 5) + int(mean >= 9) for mean in means]
