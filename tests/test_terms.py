"""Streams of terms: worked by hand, and the layer again at every quality."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.golden.codes import Code
from fewbit.golden.network import Conv, Dense
from fewbit.golden.terms import TermStream, term_counts, term_exponents


def test_worked_by_hand():
    # 7 = 8 - 1 and 5 = 4 + 1: the quality of 2 keeps both digits
    layer = Dense(name="dense", weights=np.array([[0, 7, -4], [0, 0, 0], [5, 0, -7]]), code=Code.parse("csd(2,4)"))
    stream = TermStream.of(layer)
    assert stream.sign.tolist() == [[1, -1, -1, 0], [0, 0, 0, 0], [1, 1, -1, 1]]
    assert stream.exponent.tolist() == [[3, 0, 2, 0], [0, 0, 0, 0], [2, 0, 3, 0]]
    assert stream.input.tolist() == [[1, 1, 2, 0], [0, 0, 0, 0], [0, 0, 2, 2]]
    assert stream.order.tolist() == [[1, 2, 1, 0], [0, 0, 0, 0], [1, 2, 1, 2]]
    assert stream.counts.tolist() == [3, 0, 4]
    assert stream.factors(3, 1).tolist() == [[0, 8, -4], [0, 0, 0], [4, 0, -8]]


def test_a_scale_by_hand():
    # -4 * 6 = -4 * (8 - 2) and -4 * -3 = -4 * (-4 + 1)
    layer = Dense(
        name="dense", weights=np.array([[-4, 0], [0, -4]]), code=Code.parse("shift3"),
        scales=np.array([[6], [-3]]), vector=2,
    )  # fmt: skip
    stream = TermStream.of(layer)
    assert stream.sign.tolist() == [[-1, 1], [1, -1]]
    assert stream.exponent.tolist() == [[5, 3], [4, 2]]
    assert stream.order.tolist() == [[1, 2], [1, 2]]


def random_layer(code, kind, seed):
    rng, outputs, inputs = np.random.default_rng(seed), 6, 8
    weights, scales = rng.choice(Code.parse(code).levels, (outputs, inputs)), {}
    if kind:
        shape = (2, inputs) if kind == "across" else (outputs, 3)
        scales = {"scales": rng.integers(-99, 99, shape), "vector": 3, "across": kind == "across"}
        scales |= {"negative_scales": rng.integers(-99, 99, shape)} if kind == "two" else {}
    return Dense(name="dense", weights=weights, code=Code.parse(code), **scales)


@pytest.mark.parametrize("kind", ["", "along", "across", "two"])
@pytest.mark.parametrize("code", ["binary", "ternary", "quinary", "shift3", "csd(3,6)", "int(5)"])
def test_terms_are_the_layer_at_every_quality(code, kind):
    for seed in range(5):
        layer = random_layer(code, kind, seed)
        stream = TermStream.of(layer)
        for quality in (*range(layer.digits + 2), None):
            if quality or layer.digits or quality is None:
                assert np.array_equal(stream.factors(layer.fan_in, quality), layer.factors(quality)), (seed, quality)
        assert np.array_equal(stream.counts, term_counts(layer))
        assert term_exponents(layer) == tuple(sorted(set(stream.exponent[stream.sign != 0].tolist())))


def test_a_convolution_streams_in_the_order_of_its_windows():
    rng = np.random.default_rng(1)
    code = Code.parse("ternary")
    layer = Conv(name="conv", weights=rng.choice(code.levels, (4, 3, 2, 3)), code=code)
    assert np.array_equal(TermStream.of(layer).factors(layer.fan_in), layer.matrix)
    assert np.array_equal(term_counts(layer), (layer.matrix != 0).sum(1))


def test_a_layer_of_zeros_has_no_terms():
    layer = Dense(name="dense", weights=np.zeros((2, 3)), code=Code.parse("ternary"))
    assert TermStream.of(layer).sign.tolist() == [[0], [0]]
    assert term_counts(layer).tolist() == [0, 0]
    assert term_exponents(layer) == (0,)
