"""Monotonic functions: thresholds in front of a quantizer, left to the host at the end of a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import WEIGHTS, GraphBuilder, TensorProto, agrees, execute, frames_of, kinds, outputs, started, summed

from fewbit.golden import file
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Dense, Network, TensorType
from fewbit.importers.qonnx.reader import load

ENDS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax", "LogSoftmax": "log_softmax"}


@pytest.mark.parametrize("op", ENDS)
def test_function_at_the_end(op: str, tmp_path: Path) -> None:
    graph = summed()
    graph.op("Mul", 0.25)
    graph.node(op, graph.x)
    network = agrees(graph, tmp_path, exact=False)
    assert (kinds(network), network.output_function) == (["dense"], ENDS[op])
    file.save(network, tmp_path / "saved.safetensors")
    assert file.load(tmp_path / "saved.safetensors") == network


@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_over_the_channels_of_a_map(opset: int, tmp_path: Path) -> None:
    graph = started(2, 3, 3)
    graph.opset = opset
    graph.conv(np.resize([1, -1, 2, 0, 1], (3, 2, 1, 1)))
    graph.node("Softmax", graph.x, axis=1)
    network = agrees(graph, tmp_path, frames_of(graph, 20), exact=False)
    assert kinds(network) == (["conv"] if opset == 13 else ["conv", "flatten"])  # before 13: over the whole frame


@pytest.mark.parametrize("op", ENDS)
def test_arg_max_behind_a_function_is_that_of_the_scores(op: str, tmp_path: Path) -> None:
    graph = summed()
    graph.op("Mul", 0.25)
    graph.node(op, graph.x)
    graph.node("ArgMax", graph.x, axis=1)
    graph.result = TensorProto.INT64
    network = load(graph.save(tmp_path / "graph.onnx"))
    assert isinstance(network.layers[-1], ArgMax)
    assert network.output_function is None
    frames = frames_of(graph)
    assert np.array_equal(outputs(network, frames), execute(graph, frames)[graph.x])


FUNCTIONS: dict[str, Callable[[GraphBuilder], Any]] = {
    "sigmoid": lambda g: g.node("Sigmoid", g.x),
    "tanh": lambda g: g.node("Tanh", g.x),
    "sigmoid of a falling one": lambda g: (g.op("Mul", [-0.5, 0.25, 1]), g.node("Sigmoid", g.x)),
    "a scaled sigmoid": lambda g: (g.node("Sigmoid", g.x), g.op("Mul", [-1, 0.5, 2]), g.op("Add", 0.25)),
    "leaky relu": lambda g: g.node("LeakyRelu", g.x, alpha=0.25),
    "leaky relu of a falling one": lambda g: (g.op("Mul", [-1, 1, 0]), g.node("LeakyRelu", g.x, alpha=0.5)),
    "prelu a channel": lambda g: g.op("PRelu", [0.25, 0.5, 1]),
    "prelu of slope 0": lambda g: g.op("PRelu", [0]),
    "relu6": lambda g: g.op("Clip", 0, 6),
    "hard tanh": lambda g: g.op("Clip", -1, 1),
    "hard sigmoid": lambda g: g.node("HardSigmoid", g.x, alpha=0.25, beta=0.5),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_in_front_of_a_quantizer_is_thresholds(function: str, tmp_path: Path) -> None:
    graph = summed()
    graph.op("Mul", [0.25, -0.5, 1])
    FUNCTIONS[function](graph)
    graph.quant(0.0703125, 0, 5)
    graph.dense(np.eye(3))
    assert kinds(agrees(graph, tmp_path)) == ["dense", "threshold", "dense"]


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if "a channel" not in name and "ling" not in name])
def test_function_of_the_float_input(function: str, tmp_path: Path) -> None:
    if function == "a scaled sigmoid":
        return  # a scale a channel, which a float input cannot have
    graph = GraphBuilder(3)
    FUNCTIONS[function](graph)
    graph.quant(0.0703125, 0, 5)
    graph.dense(np.eye(3))
    assert kinds(agrees(graph, tmp_path)) == ["dense"]


def test_function_that_a_network_does_not_know() -> None:
    layer = Dense(name="dense", weights=WEIGHTS.T.astype(int), code=load_code())
    with pytest.raises(
        FewbitError, match="output_function must be one of sigmoid, tanh, softmax, log_softmax, not 'x'"
    ):
        Network(name="net", input=TensorType(DType("int", 4), (4,)), layers=(layer,), output_function="x")


def load_code() -> Any:
    from fewbit.golden.codes import BINARY

    return BINARY
