"""Networks in integers with other weights: what they compute stays where the weights do."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from networks import random_design, random_frames
from tiers import slow_but

from fewbit.golden.codes import TERNARY, Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Add,
    Affine,
    ArgMax,
    Concat,
    Conv,
    Dense,
    Flatten,
    Network,
    Pool,
    TensorType,
    Threshold,
)
from fewbit.golden.quantizers.weight_vectors import WeightVectors
from fewbit.golden.run import run
from fewbit.quantization.quantize import quantize
from fewbit.quantization.recipe import Recipe
from fewbit.readers import load

TENSOR = WeightVectors("tensor")


def scaled(network, rng):
    """``network`` with each weight a multiple of a number of its own layer, and thresholds to match."""
    layers, times = [], 1
    for layer in network.layers:
        if isinstance(layer, Dense):
            times *= int(rng.integers(1, 6))
            weights = layer.weights.astype(np.int64) * times
            layer = replace(layer, weights=weights, code=Code.parse("int(16)"))
        elif isinstance(layer, Threshold):
            layer = replace(layer, thresholds=layer.thresholds * times - rng.integers(0, times))
            times = 1
        layers.append(layer)
    return replace(network, layers=tuple(layers))


@pytest.mark.parametrize("seed", slow_but(range(6), range(80)))
@pytest.mark.parametrize("axis", ["tensor", "inputs"])
def test_weights_that_the_code_has_leave_the_results_as_they_are(seed, axis):
    rng = np.random.default_rng(seed)
    network, _ = random_design(rng)
    network = scaled(network, rng)
    frames = random_frames(rng, network.input.dtype, (20, *network.input.shape))
    vectors = TENSOR if axis == "tensor" else WeightVectors("inputs", 3)
    made = quantize(network, Recipe(code=Code.parse("int(8)"), vectors=vectors, scale_bits=12, scale_fraction=0))
    for name, weights in made.weights.items():
        assert weights.relative_error == 0, name
    before, after = run(network, frames), run(made.network, frames)
    if isinstance(network.layers[-1], ArgMax):
        assert np.array_equal(after.output, before.output)
    else:
        assert after.output * made.network.output_scale == pytest.approx(before.output * network.output_scale)


def test_a_network_with_branches_stays_as_it_is():
    """Weights of the shipped residual network are ternary, which the code has."""
    network = load("fashion-resnet")
    made = quantize(network, Recipe(code=Code.parse("shift3"))).network
    assert [layer.kind for layer in made.layers] == [layer.kind for layer in network.layers]
    frames = random_frames(np.random.default_rng(1), network.input.dtype, (5, *network.input.shape))
    assert np.array_equal(run(made, frames).output, run(network, frames).output)


def test_branches_with_gains_and_side_by_side():
    """Sums of levels, with gains of their own, and channels of two branches, in front of thresholds."""
    levels = np.array([[-9, 0, 9]])
    code = Code.parse("int(4)")
    rng = np.random.default_rng(2)
    layers = (
        Dense(name="one", weights=rng.integers(-7, 8, (3, 4)), code=code),
        Threshold(name="first", thresholds=levels, sign=[1], dtype=DType("uint", 2), base=0),
        Dense(name="two", weights=rng.integers(-7, 8, (3, 3)), code=code),
        Threshold(name="second", thresholds=levels, sign=[1], dtype=DType("uint", 2), base=0),
        Add(name="sum", gains=np.array([3, -2]), inputs=("first", "second")),
        Threshold(name="third", thresholds=np.array([[-2, 1, 4]]), sign=[1], dtype=DType("uint", 2), base=0),
        Concat(name="side", inputs=("third", "first")),
        Dense(name="three", weights=rng.integers(-7, 8, (4, 6)), code=code),
    )
    network = Network(name="net", input=TensorType(DType("uint", 3), (4,)), layers=layers)
    frames = rng.integers(0, 8, (200, 4))
    made = quantize(network, Recipe(code=code, vectors=TENSOR)).network
    assert np.array_equal(run(made, frames).output * made.output_scale, run(network, frames).output)


def convolutional(rng):
    conv = Conv(name="conv", weights=rng.integers(-7, 8, (3, 2, 2, 2)), code=Code.parse("int(4)"), padding=(1, 0, 0, 1))
    thresholds = np.sort(rng.integers(-60, 60, (3, 3)), axis=1)
    return Network(
        name="net",
        input=TensorType(DType("uint", 3), (2, 6, 5)),
        layers=(
            conv,
            Pool(name="sums", mode="sum", kernel=(2, 2), stride=(2, 1)),
            Threshold(name="levels", thresholds=thresholds, sign=[1, -1, 1], dtype=DType("int", 3), base=-2),
            Pool(name="most", mode="max", kernel=(2, 2), stride=(1, 2)),
            Flatten(name="flat"),
            Dense(name="fc", weights=rng.integers(-7, 8, (4, 12)), code=Code.parse("int(4)")),
            Affine(name="gain", scale=[3, 2, 1, 2], bias=[5, -7, 100, 0]),
            ArgMax(name="class"),
        ),
    )


@pytest.mark.parametrize("seed", slow_but(range(3), range(20)))
@pytest.mark.parametrize("vectors", [TENSOR, WeightVectors("channel"), WeightVectors("outputs", 2)], ids=str)
def test_thresholds_take_in_the_scales(seed, vectors):
    """Against the reals that the new weights stand for, in fractions."""
    rng = np.random.default_rng(seed)
    network = convolutional(rng)
    made = quantize(network, Recipe(code=Code.parse("shift3"), vectors=vectors)).network
    weights = quantize(network, Recipe(code=Code.parse("shift3"), vectors=vectors)).weights
    frames = random_frames(rng, network.input.dtype, (8, *network.input.shape))
    got = run(made, frames)
    conv, threshold = network.layers[0], network.layers[2]
    reals = weights["conv"].reals.reshape(3, 2, 2, 2)
    padded = np.pad(frames, [(0, 0), (0, 0), (1, 0), (0, 1)])
    levels = got.tensors[3]
    for n, c, r, k in np.ndindex(*levels.shape):
        total = Fraction(0)
        for u, v in np.ndindex(2, 2):
            window = padded[n, :, 2 * r + u :, k + v :][:, : conv.kernel[0], : conv.kernel[1]].transpose(1, 2, 0)
            total += sum(Fraction(float(w)) * int(x) for w, x in zip(reals[c].ravel(), window.ravel()))
        level = sum(threshold.sign[c] * total >= int(t) for t in threshold.thresholds[c])
        assert levels[n, c, r, k] == threshold.base + level


def test_scales_that_differ_between_outputs_need_thresholds_behind_them():
    one = Dense(name="one", weights=[[1, 1], [3, 3]], code=Code.parse("int(4)"))
    two = Dense(name="two", weights=[[1, 1]], code=TERNARY)
    network = Network(name="net", input=TensorType(DType("uint", 2), (2,)), layers=(one, two))
    message = (
        "layer 'two': no thresholds stand between it and the product before it, so that the scales of that one cannot "
        "differ between outputs: give it one scale a tensor"
    )
    with pytest.raises(FewbitError, match=f"^{message}$"):
        quantize(network, Recipe(code=TERNARY))
    made = quantize(
        network, Recipe(code=TERNARY, vectors=TENSOR), layers={"one": Recipe(code=Code.parse("int(4)"), vectors=TENSOR)}
    )
    assert run(made.network, np.array([[1, 2]])).output.size == 1


def test_the_arg_max_of_negated_sums_is_the_least_sum():
    weights = np.random.default_rng(0).integers(-7, 8, (4, 6))
    layers = (
        Dense(name="fc", weights=weights, code=Code.parse("int(4)")),
        Affine(name="gain", scale=[-1] * 4, bias=[0] * 4),
        ArgMax(name="class"),
    )
    network = Network(name="net", input=TensorType(DType("uint", 3), (6,)), layers=layers)
    frames = np.random.default_rng(1).integers(0, 8, (50, 6))
    result = run(quantize(network, Recipe(code=Code.parse("int(4)"), vectors=TENSOR)).network, frames).output
    assert np.array_equal(result, np.argmin(frames @ weights.T, axis=1))


@pytest.mark.parametrize("option", ["activations", "input", "calibration"])
def test_options_of_float_networks_are_refused(option):
    dense = Dense(name="fc", weights=[[1, 1]], code=TERNARY)
    network = Network(name="net", input=TensorType(DType("uint", 2), (2,)), layers=(dense,))
    value = {"activations": 4, "input": "uint8", "calibration": np.zeros((1, 2), int)}[option]
    with pytest.raises(FewbitError, match=f"^{option} is for float networks: 'net' is an integer network$"):
        quantize(network, Recipe(code=TERNARY), **{option: value})
