"""Forks and joins through the QONNX importer, held to qonnx' own execution of the same graph and to the RTL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import GraphBuilder, agrees, execute, frames_of, kinds, onnx, outputs, started
from tiers import each_value

from fewbit import engines
from fewbit.engines import network_inputs, run_rtl
from fewbit.generator import design
from fewbit.golden import file
from fewbit.golden import run as golden
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Add, Conv, Dense, Network, TensorType
from fewbit.importers.qonnx.reader import load

SQUARE = np.array([[1, -2, 1, 0], [-1, -1, 3, 1], [1, 1, -1, 2], [1, -1, -1, -3]], np.float32)


def rtl_agrees(network: Network, frames: Any) -> None:
    """The compiled Verilog gives golden's scores."""
    integers = network_inputs(network, frames)
    planned = design(network, "ecp5-25k")
    result = run_rtl(planned, integers)
    assert np.array_equal(result.scores, golden.run(network, integers).scores)


SIDES: dict[str, tuple[Callable[[GraphBuilder], Any], Callable[[GraphBuilder], Any]]] = {
    "one scale": (lambda g: g.quant(0.5), lambda g: None),
    "scales of a ratio of 4": (lambda g: g.quant(2), lambda g: None),
    "scales of a ratio of 3 to 4": (lambda g: g.quant(0.375), lambda g: None),
    "sums": (lambda g: None, lambda g: None),
    "a zero point": (lambda g: g.quant(0.5, 3, 4, signed=0), lambda g: None),
    "a scale a channel": (lambda g: g.quant([0.5, 1, 0.25, 2]), lambda g: None),
    "a negative gain in some channels": (lambda g: g.op("Mul", [0.5, -1, 0.25, 2]), lambda g: None),
    "no gain in some channels": (lambda g: g.op("Mul", [0.5, 0, 0.25, 0]), lambda g: None),
    "a Relu on each side": (lambda g: (g.quant(0.5), g.op("Relu")), lambda g: g.op("Relu")),
    "bipolar": (lambda g: g.bipolar(0.25), lambda g: g.bipolar()),
    "a bias on each side": (lambda g: g.op("Add", [1, 2, -3, 0.125]), lambda g: g.op("Sub", 0.25)),
}
ENDS: dict[str, Callable[[GraphBuilder], Any]] = {
    "scores": lambda g: None,
    "thresholds": lambda g: (g.op("Relu"), g.quant(0.5, bits=3, signed=0)),
}


def residual(sides: str, op: str) -> GraphBuilder:
    """A dense layer and a connection around it, joined."""
    graph = started(4)
    skip = graph.x
    graph.dense(SQUARE)
    SIDES[sides][0](graph)
    branch, graph.x = graph.x, skip
    SIDES[sides][1](graph)
    graph.node(op, branch, graph.x, **({"axis": 1} if op == "Concat" else {}))
    return graph


@pytest.mark.parametrize("sides, op, end", each_value(SIDES, ["Add", "Sub", "Concat"], ENDS))
def test_residual_branches(sides: str, op: str, end: str, tmp_path: Path) -> None:
    graph = residual(sides, op)
    ENDS[end](graph)
    agrees(graph, tmp_path)


@pytest.mark.parametrize(
    "sides, op",
    each_value(["scales of a ratio of 3 to 4", "a scale a channel", "a bias on each side"], ["Add", "Concat"]),
)
def test_residual_branches_in_hardware(sides: str, op: str, tmp_path: Path) -> None:
    graph = residual(sides, op)
    graph.quant(0.5, bits=3)
    graph.dense(np.resize(SQUARE, (8 if op == "Concat" else 4, 3)))
    frames = frames_of(graph, 20)
    rtl_agrees(agrees(graph, tmp_path, frames), frames)


def residual_block(graph: GraphBuilder, channels: int, out_channels: int) -> None:
    """Two convolutions beside a skip connection, which is a convolution too where the channels change."""
    rng = np.random.default_rng(channels + out_channels)

    def conv(inputs: int, size: int, source: str) -> str:
        weights = rng.integers(-2, 3, (out_channels, inputs, size, size))
        pads = [size // 2] * 4
        return graph.conv(weights, x=source, pads=pads)

    skip = graph.x
    conv(channels, 3, skip)
    graph.batch_norm(*(np.resize(part, out_channels) for part in ([1, 2, 0.5], [0, 1], [0.5], [1, 4])), epsilon=0.0)
    graph.op("Relu")
    graph.quant(2, bits=4, signed=0)
    conv(out_channels, 3, graph.x)
    branch = graph.quant(4, bits=5)
    if channels != out_channels:
        conv(channels, 1, skip)
        skip = graph.quant(2, bits=5)
    graph.node("Add", branch, skip)
    graph.op("Relu")
    graph.quant(1, bits=4, signed=0)


def test_residual_network(tmp_path: Path) -> None:
    graph = GraphBuilder(2, 4, 4)
    graph.quant(0.5)
    residual_block(graph, 2, 3)
    residual_block(graph, 3, 3)
    graph.node("GlobalAveragePool", graph.x)
    graph.flatten()
    graph.dense(np.resize(SQUARE, (3, 4)))
    network = agrees(graph, tmp_path, frames_of(graph, 8), exact=False)
    assert kinds(network).count("add") == 2


def test_residual_block_in_hardware(tmp_path: Path) -> None:
    graph = GraphBuilder(1, 3, 3)
    graph.quant(0.5)
    residual_block(graph, 1, 2)
    frames = frames_of(graph, 8)
    rtl_agrees(agrees(graph, tmp_path, frames), frames)


def test_a_dense_block_takes_two_scales_into_its_weights(tmp_path: Path) -> None:
    graph = started(2, 4, 4)
    skip = graph.x
    graph.conv(np.resize(SQUARE, (3, 2, 3, 3)), pads=[1] * 4)
    branch = graph.quant(2, bits=3)
    graph.node("Concat", branch, skip, axis=1)
    graph.conv(np.resize([1, -1, 1, 1], (2, 5, 3, 3)), pads=[1] * 4)
    frames = frames_of(graph, 20)
    network = agrees(graph, tmp_path, frames)
    assert kinds(network) == ["conv", "threshold", "concat", "conv"]
    last = network.layers[-1]
    assert isinstance(last, Conv)
    assert np.abs(last.weights[:, :3]).max() == 4
    assert np.abs(last.weights[:, 3:]).max() == 1
    rtl_agrees(network, frames)


def test_scales_of_activations_that_differ_go_into_the_weights(tmp_path: Path) -> None:
    graph = started(4)
    graph.dense(SQUARE)
    graph.quant([0.5, 1, -2, 4], [0, 1, 0, 2])
    graph.dense(SQUARE)
    network = agrees(graph, tmp_path)
    last = network.layers[-1]
    assert isinstance(last, Dense)
    assert np.array_equal(last.weights.T, SQUARE * [[1], [2], [-4], [8]])


def test_a_branch_added_to_itself_is_a_gain(tmp_path: Path) -> None:
    graph = started(4)
    graph.dense(SQUARE)
    x = graph.x
    graph.node("Add", graph.op("Mul", [1, 2, -1, 0.5]), x)
    graph.node("Add", graph.x, graph.x)
    assert kinds(agrees(graph, tmp_path)) == ["dense"]


def test_a_sum_of_few_bit_levels_goes_into_a_product(tmp_path: Path) -> None:
    graph = started(4)
    skip = graph.x
    graph.dense(SQUARE)
    graph.node("Add", graph.quant(0.5), skip)
    graph.op("Relu")
    graph.dense(SQUARE)
    assert kinds(agrees(graph, tmp_path)) == ["dense", "threshold", "add", "threshold", "dense"]


def test_sums_that_a_maximum_negates_stay_as_they_are_for_others(tmp_path: Path) -> None:
    """The maximum of falling sums negates the weights, which must not change what a second branch reads."""
    graph = started(2, 4, 4)
    graph.conv(np.resize(SQUARE, (3, 2, 1, 1)))
    sums = graph.x
    graph.op("Mul", np.reshape([-1, 1, -0.5], (1, 3, 1, 1)))
    first = graph.node("MaxPool", graph.x, kernel_shape=[2, 2], strides=[2, 2])
    second = graph.node("MaxPool", sums, kernel_shape=[2, 2], strides=[2, 2])
    graph.node("Add", first, second)
    network = agrees(graph, tmp_path)
    assert "affine" in kinds(network)


def test_one_initializer_and_one_tensor_read_by_several_quantizers(tmp_path: Path) -> None:
    graph = started(4)
    x, weights = graph.x, graph.constant(SQUARE)
    first = graph.node("MatMul", x, graph.quant(0.5, bits=3, x=weights))
    second = graph.node("MatMul", x, graph.bipolar(x=weights))
    wide, narrow = graph.quant(1, bits=5, x=first), graph.quant(2, bits=3, x=first)
    graph.node("Add", wide, narrow)
    graph.node("Add", graph.x, second)
    agrees(graph, tmp_path)


def test_the_float_input_quantized_twice_alike(tmp_path: Path) -> None:
    graph = started(4)
    first = graph.dense(SQUARE)
    again = graph.quant(0.5, x="x")
    graph.node("Add", first, again)
    assert kinds(agrees(graph, tmp_path)) == ["dense", "add"]


def test_gains_of_any_float32_scales_are_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        graph = GraphBuilder(4)
        graph.quant(rng.random() / 8 + 0.05, bits=6)
        skip = graph.x
        graph.dense(SQUARE)
        graph.node("Add", graph.quant(rng.random() / 8 + 0.05, bits=6), skip)
        frames = rng.normal(size=(200, 4)).astype(np.float32)
        network = agrees(graph, tmp_path, frames, exact=False)
        assert isinstance(network.layers[-1], Add)


def two_heads() -> tuple[GraphBuilder, list[str]]:
    graph = started(4)
    graph.dense(SQUARE)
    body = graph.quant(1, bits=3)
    first = graph.dense(SQUARE[:, :3])
    graph.x = body
    graph.dense(SQUARE)
    second = graph.op("Mul", [0.5, 2, -1, 0.25])
    graph.extra_outputs = [onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, None)]
    return graph, [second, first]


def test_several_outputs_come_one_after_another(tmp_path: Path) -> None:
    graph, names = two_heads()
    frames = frames_of(graph, 20)
    network = load(graph.save(tmp_path / "graph.onnx"))
    tensors = execute(graph, frames)
    assert np.array_equal(outputs(network, frames), np.concatenate([tensors[name] for name in names], 1))
    assert (network.output_sizes, network.classifies) == ((4, 3), False)
    file.save(network, tmp_path / "saved.safetensors")
    assert file.load(tmp_path / "saved.safetensors") == network
    assert engines.run(network, frames).classes is None
    rtl_agrees(network, frames)


def test_an_arg_max_beside_another_output_is_refused(tmp_path: Path) -> None:
    graph, _ = two_heads()
    graph.node("ArgMax", graph.x, axis=1)
    graph.result = onnx.TensorProto.INT64
    with pytest.raises(FewbitError, match="one of several outputs is an arg-max, or a function that the host applies"):
        load(graph.save(tmp_path / "graph.onnx"))


def test_sizes_of_outputs_that_do_not_fit() -> None:
    network = Network(
        name="two",
        input=TensorType(DType("uint", 2), (3,)),
        layers=(Dense(name="d", weights=np.ones((4, 3)), code=Code.parse("binary")),),
        output_sizes=(1, 3),
    )
    with pytest.raises(FewbitError) as error:
        replace(network, output_sizes=(2, 3))
    assert str(error.value) == "network 'two': output tensors of (2, 3) elements are not its 4 outputs"
