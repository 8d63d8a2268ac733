"""Golden runs held to plain Python, and what they refuse."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_design, random_frames

from fewbit.golden.codes import BINARY, TERNARY
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Affine,
    ArgMax,
    Dense,
    Flatten,
    InputQuantizer,
    Network,
    TensorType,
    Threshold,
)
from fewbit.golden.run import check_frames, classify, dequantize_output, quantize_input, run


def by_python(network: Network, frame) -> list:
    """Every intermediate of one frame, element by element, in Python's integers."""
    x = [int(value) for value in np.ravel(frame)]
    kept = [x]
    for layer in network.layers:
        if isinstance(layer, Dense):
            x = [sum(int(w) * value for w, value in zip(row, x)) for row in layer.weights]
        elif isinstance(layer, Threshold):
            rows = len(layer.thresholds)
            per_channel = len(x) // rows if rows > 1 else len(x)
            step = 2 if layer.dtype.kind == "bipolar" else 1
            level = [
                sum(int(layer.sign[i // per_channel]) * value >= int(t) for t in layer.thresholds[i // per_channel])
                for i, value in enumerate(x)
            ]
            x = [layer.base + step * one for one in level]
        elif isinstance(layer, Affine):
            x = [int(s) * value + int(b) for s, value, b in zip(layer.scale, x, layer.bias)]
        elif isinstance(layer, ArgMax):
            x = [x.index(max(x))]
        kept.append(x)
    return kept


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 1 << 32))
def test_every_intermediate_is_what_python_computes(seed):
    rng = np.random.default_rng(seed)
    network, _ = random_design(rng)
    x = random_frames(rng, network.input.dtype, (3, *network.input.shape))
    result = run(network, x)
    assert len(result.tensors) == len(network.tensor_types)
    for tensor, kind in zip(result.tensors, network.tensor_types):
        assert tensor.dtype == np.int64
        assert tensor.shape == (3, *kind.shape)
        assert kind.dtype.contains(tensor)
    for index in range(3):
        assert [tensor[index].ravel().tolist() for tensor in result.tensors] == by_python(network, x[index])


def classifier(**changes) -> Network:
    return replace(
        Network(
            name="net",
            input=TensorType(DType.parse("uint2"), (2, 2)),
            layers=(Flatten(name="f"), Dense(name="d", weights=[[1, 1, 0, 0], [0, 0, 1, 1]], code=TERNARY)),
        ),
        **changes,
    )


def test_a_network_worked_by_hand():
    net = Network(
        name="hand",
        input=TensorType(DType.parse("uint2"), (2, 2)),
        layers=(
            Flatten(name="f"),
            Dense(name="d", weights=[[1, 1, 1, 1], [1, -1, 1, -1]], code=BINARY),
            Threshold(name="t", thresholds=[[3], [0]], sign=[1, -1], dtype=BIPOLAR, base=-1),
            Affine(name="a", scale=[2, 3], bias=[1, 0]),
            ArgMax(name="m"),
        ),
    )
    result = run(net, np.array([[[0, 1], [2, 0]], [[0, 3], [0, 0]]]))
    assert [tensor.tolist() for tensor in result.tensors[2:]] == [
        [[3, 1], [3, -3]], [[1, -1], [1, 1]], [[3, -3], [3, 3]], [0, 0],
    ]  # fmt: skip
    assert result.scores.tolist() == [[3, -3], [3, 3]]
    assert result.output.tolist() == [0, 0]


def test_no_frames_give_no_outputs():
    assert run(classifier(), np.zeros((0, 2, 2), int)).output.shape == (0, 2)


def test_axes_of_one_need_not_be_given():
    net = Network(name="n", input=TensorType(DType("uint", 8), (1, 2, 3)), layers=(Flatten(name="f"),))
    frames = np.arange(12).reshape(2, 2, 3)
    for same in (frames, frames[:, None], frames[..., None], frames.reshape(2, 6)):
        assert np.array_equal(check_frames(net, same), frames[:, None])
    with pytest.raises(FewbitError, match=re.escape("inputs must have shape (N, 1, 2, 3), not (2, 3, 2)")):
        check_frames(net, frames.reshape(2, 3, 2))
    one = Network(name="n", input=TensorType(DType("uint", 8), (1,)), layers=(Flatten(name="f"),))
    with pytest.raises(FewbitError, match=re.escape("inputs must have shape (N, 1), not (2,)")):
        check_frames(one, np.zeros(2, int))


def test_flat_frames_and_booleans_are_taken():
    flat = run(classifier(), np.array([[1, 2, 3, 0]])).output
    assert flat.tolist() == run(classifier(), np.array([[[1, 2], [3, 0]]], np.uint8)).output.tolist() == [[3, 3]]
    assert run(classifier(), np.ones((1, 4), bool)).output.tolist() == [[2, 2]]


@pytest.mark.parametrize(
    "frames, message",
    [
        (np.zeros((1, 4)), "inputs must be integers (uint2), not float64"),
        (np.zeros((1, 3), int), "inputs must have shape (N, 2, 2), not (1, 3)"),
        (np.zeros((), int), "inputs must have shape (N, 2, 2), not ()"),
        (np.full((1, 4), 4), "inputs must be uint2 (0 to 3), got 4 to 4"),
        (np.full((1, 4), -1), "inputs must be uint2 (0 to 3), got -1 to -1"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        run(classifier(), frames)


def test_a_bipolar_zero_is_refused():
    net = Network(name="b", input=TensorType(BIPOLAR, (2,)), layers=(Dense(name="d", weights=[[1, 1]], code=BINARY),))
    with pytest.raises(FewbitError, match=re.escape("inputs must be bipolar (-1 or +1), got 0 to 1")):
        check_frames(net, np.array([[0, 1]]))


def test_inputs_are_quantized_at_equality_and_by_sign():
    quantizer = InputQuantizer(thresholds=np.array([0.25, 0.5, 0.75], np.float32), sign=1, base=0)
    net = classifier(input_quantizer=quantizer)
    assert quantize_input(net, np.array([[0.0, 0.25, 0.7, np.inf]])).tolist() == [[0, 1, 2, 3]]
    turned = classifier(input_quantizer=replace(quantizer, sign=-1))
    assert quantize_input(turned, np.array([[0.0, -0.25, -0.7, -np.inf]])).tolist() == [[0, 1, 2, 3]]
    # 0.1 as float64 lies below the float32 threshold 0.1, and is float32 before it is compared.
    fine = classifier(input_quantizer=InputQuantizer(thresholds=np.array([0.1], np.float32), sign=1, base=0))
    assert quantize_input(fine, np.array([[0.1]])).tolist() == [[1]]


def test_inputs_that_cannot_be_quantized_are_refused():
    with pytest.raises(FewbitError, match=re.escape("network 'net' takes integers (uint2[2, 2]), not float64")):
        quantize_input(classifier(), np.zeros((1, 4)))
    quantizer = InputQuantizer(thresholds=np.array([0.5], np.float32), sign=1, base=0)
    with pytest.raises(FewbitError, match=r"^inputs hold a value that is not a number$"):
        quantize_input(classifier(input_quantizer=quantizer), np.array([[0, np.nan]]))


def test_outputs_take_the_scale_bias_and_shape_of_the_source():
    net = classifier(output_scale=[0.5, -2.0], output_bias=[1.0], output_shape=(1, 2))
    real = dequantize_output(net, np.array([[2, 3]]))
    assert (real.dtype, real.tolist()) == (np.float32, [[[2.0, -5.0]]])
    index = dequantize_output(classifier(layers=(*classifier().layers, ArgMax(name="m"))), np.array([1, 0]))
    assert (index.dtype, index.tolist()) == (np.int64, [1, 0])


def test_classes_are_those_of_the_scaled_scores():
    scores = np.array([[3, 3], [1, 2], [-1, -2]])
    assert classify(classifier(), scores).tolist() == [0, 1, 0]
    assert classify(classifier(output_scale=[1.0, -1.0]), scores).tolist() == [0, 0, 1]
    assert classify(classifier(output_scale=[-1.0]), scores).tolist() == [0, 0, 1]
