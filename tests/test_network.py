"""Networks check themselves: what each message says, what types flow, what is equal."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.golden.codes import BINARY, TERNARY, Code
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Affine,
    ArgMax,
    Dense,
    Flatten,
    InputQuantizer,
    Layer,
    Network,
    TensorType,
    Threshold,
)

UINT2 = DType.parse("uint2")


def dense(outputs: int = 2, inputs: int = 3, name: str = "dense") -> Dense:
    return Dense(name=name, weights=np.ones((outputs, inputs), int), code=BINARY)


def threshold(**changes) -> Threshold:
    return Threshold(**{"name": "t", "thresholds": [[0, 1, 2]], "sign": [1], "dtype": UINT2, "base": 0} | changes)


def network(*layers: Layer, shape=(3,), dtype=BIPOLAR, **others) -> Network:
    return Network(name="net", input=TensorType(dtype, shape), layers=layers or (dense(),), **others)


def refused(message: str):
    return pytest.raises(FewbitError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"weights": [1, 1]}, "layer 'd': weights must have 2 axes, not 1"),
        ({"weights": np.ones((0, 3))}, "layer 'd': weights must not be empty, got shape (0, 3)"),
        ({"weights": [[1, 0]]}, "layer 'd': weight 0 is not a level of the binary code"),
        ({"weights": [[1, 0.5]]}, "layer 'd': weights: values must fit int32, got float64 that do not"),
        ({"weights": [[1, 1 << 40]]}, "layer 'd': weights: values must fit int32, got int64 that do not"),
    ],
)
def test_a_dense_layer_checks_its_weights(changes, message):
    with refused(message):
        Dense(**{"name": "d", "weights": [[1, -1]], "code": BINARY} | changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"thresholds": [0, 1]}, "layer 't': thresholds must have 2 axes, not 1"),
        ({"thresholds": np.ones((1, 0))}, "layer 't': needs a threshold, got shape (1, 0)"),
        ({"sign": [1, 1]}, "layer 't': sign must be +1 or -1 for each of 1 rows"),
        ({"sign": [0]}, "layer 't': sign must be +1 or -1 for each of 1 rows"),
        ({"thresholds": [[0, 2, 1]]}, "layer 't': thresholds must ascend"),
        ({"base": 1}, "layer 't': levels 1 to 4 do not fit uint2"),
        ({"base": -1}, "layer 't': levels -1 to 2 do not fit uint2"),
        ({"dtype": BIPOLAR, "base": -1}, "layer 't': levels -1 to 5 do not fit bipolar"),
        ({"thresholds": [[0.5]]}, "layer 't': thresholds: values must fit int64, got float64 that do not"),
    ],
)
def test_a_threshold_layer_checks_itself(changes, message):
    with refused(message):
        threshold(**changes)


@pytest.mark.parametrize(
    "scale, bias, message",
    [
        ([1, 2], [1], "layer 'a': scale and bias must have the same length of at least 1, not 2 and 1"),
        ([], [], "layer 'a': scale and bias must have the same length of at least 1, not 0 and 0"),
        ([[1]], [1], "layer 'a': scale must have 1 axes, not 2"),
    ],
)
def test_an_affine_layer_checks_itself(scale, bias, message):
    with refused(message):
        Affine(name="a", scale=scale, bias=bias)


@pytest.mark.parametrize(
    "layers, shape, message",
    [
        ((dense(),), (4,), "layer 'dense': takes 3 inputs on one axis, not bipolar[4]"),
        ((dense(),), (3, 1), "layer 'dense': takes 3 inputs on one axis, not bipolar[3, 1]"),
        (
            (threshold(thresholds=[[0], [1]], sign=[1, 1]),),
            (3,),
            "layer 't': has 2 channels, the input is bipolar[3]",
        ),
        (
            (Affine(name="a", scale=[1, 2], bias=[0, 0]),),
            (3,),
            "layer 'a': has 2 channels, the input is bipolar[3]",
        ),
        ((ArgMax(name="m"),), (3, 2), "layer 'm': takes scores on one axis, not bipolar[3, 2]"),
        ((ArgMax(name="m"), dense()), (3,), "layer 'm': an arg-max can only be the last layer"),
        ((dense(), dense(3, 2)), (3,), "network 'net': two layers are named 'dense'"),
        ((dense(),), (0,), "network 'net': an input of shape (0,) is empty"),
        ((dense(),), (-1, -3), "network 'net': an input of shape (-1, -3) is empty"),
    ],
)
def test_a_network_checks_what_flows(layers, shape, message):
    with refused(message):
        network(*layers, shape=shape)


@pytest.mark.parametrize(
    "others, message",
    [
        ({"layers": ()}, "network 'net' has no layers"),
        ({"output_scale": [1.0, 2.0, 3.0]}, "network 'net': output_scale must have 1 or 2 entries"),
        ({"output_bias": [1.0, 2.0, 3.0]}, "network 'net': output_bias must have 1 or 2 entries"),
        ({"output_shape": (3,)}, "network 'net': 2 outputs do not fill shape (3,)"),
    ],
)
def test_a_network_checks_its_ends(others, message):
    with refused(message):
        replace(network(), **others)


def test_an_input_quantizer_fits_the_input():
    with refused("input quantizer: needs ascending thresholds, and a sign of +1 or -1"):
        InputQuantizer(thresholds=[1.0, 0.0], sign=1, base=0)
    with refused("input quantizer: needs ascending thresholds, and a sign of +1 or -1"):
        InputQuantizer(thresholds=[1.0], sign=0, base=0)
    with refused("input quantizer: levels 0 to 2 do not fit bipolar"):
        network(input_quantizer=InputQuantizer(thresholds=[1.0], sign=1, base=0))


def test_sums_beyond_64_bits_are_refused_and_not_wrapped():
    wide = TensorType(DType.parse("int60"), (64,))
    layer = Dense(name="wide", weights=np.full((1, 64), 1), code=TERNARY)
    with refused(f"layer 'wide': sums up to {-64 * (1 << 59)} need more than 64 bits"):
        Network(name="net", input=wide, layers=(layer,))
    assert replace(layer, weights=np.ones((1, 8))).bounds(wide.dtype)[0].tolist() == [-8 * (1 << 59)]
    with refused("layer 'a': sums up to -9223372036854775808000 need more than 64 bits"):
        Affine(name="a", scale=[1000], bias=[0]).output(TensorType(DType.parse("int64"), (1,)))
    with refused(f"layer 'dense': sums up to {3 * ((1 << 64) - 1)} need more than 64 bits"):
        network(dtype=DType.parse("uint64"))


@given(st.sampled_from(["bipolar", "uint3", "int3"]), st.integers(0, 1 << 32))
def test_bounds_are_reached_and_never_passed(kind, seed):
    dtype, rng = DType.parse(kind), np.random.default_rng(seed)
    layer = Dense(name="d", weights=rng.choice(Code.parse("quinary").levels, (3, 5)), code=Code.parse("quinary"))
    low, high = layer.bounds(dtype)
    best = np.where(layer.weights > 0, dtype.max, dtype.min)
    assert (layer.weights * best).sum(1).tolist() == high.tolist()
    worst = np.where(layer.weights > 0, dtype.min, dtype.max)
    assert (layer.weights * worst).sum(1).tolist() == low.tolist()


def test_types_along_a_network():
    net = network(
        Flatten(name="flatten"),
        dense(4, 6),
        threshold(name="t"),
        Affine(name="a", scale=[1, -2, 3, 4], bias=[0, 1, 2, 3]),
        ArgMax(name="m"),
        shape=(2, 3),
    )
    assert [str(one) for one in net.tensor_types] == [
        "bipolar[2, 3]",
        "bipolar[6]",
        "int4[4]",
        "uint2[4]",
        "int5[4]",
        "uint2[]",
    ]
    assert (str(net.scores), str(net.output)) == ("int5[4]", "uint2[]")


@pytest.mark.parametrize("classes, bits", [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4)])
def test_an_arg_max_gives_an_index_of_just_enough_bits(classes, bits):
    assert ArgMax(name="m").output(TensorType(UINT2, (classes,))) == TensorType(DType("uint", bits), ())


@pytest.mark.parametrize(
    "others, classifies",
    [
        ({}, True),
        ({"output_scale": [0.5]}, True),
        ({"output_scale": [-0.5]}, False),
        ({"output_scale": [0.5, 0.5]}, True),
        ({"output_scale": [0.5, 0.6]}, False),
        ({"output_bias": [0.5, 0.6]}, False),
        ({"layers": (dense(1),)}, False),
    ],
)
def test_which_networks_classify(others, classifies):
    assert replace(network(), **others).classifies is classifies


def test_layers_are_frozen_and_keep_copies():
    weights = np.ones((2, 3), int)
    layer = Dense(name="d", weights=weights, code=BINARY)
    weights[0, 0] = -1
    assert layer.weights[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0, 0] = -1
    with pytest.raises(FrozenInstanceError):
        layer.name = "other"


def test_equal_networks_are_equal_and_hash_alike():
    assert network() == network()
    assert hash(network()) == hash(network())
    assert network() != replace(network(), name="other")
    assert dense() != replace(dense(), weights=-np.ones((2, 3)))
    assert dense() != threshold()
    assert replace(network(), layers=[dense()]) == network()
