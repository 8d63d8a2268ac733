"""Channels last: at the input, where the host transposes frames, and inside, where only the file has them so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import GraphBuilder, agrees, execute, frames_of, onnx, outputs
from tiers import slow_but

from fewbit.engines import network_inputs, run_rtl
from fewbit.generator import design
from fewbit.golden import file
from fewbit.golden import run as golden
from fewbit.golden.errors import FewbitError
from fewbit.importers.qonnx.reader import load


def channels_last(quantized_first: bool, **settings: str) -> GraphBuilder:
    graph = GraphBuilder(4, 3, 2, **settings)
    if quantized_first:
        graph.quant(0.5)
    graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])
    if not quantized_first:
        graph.quant(0.5)
    graph.conv(np.random.default_rng(1).integers(-1, 2, (3, 2, 2, 2)))
    return graph


@pytest.mark.parametrize("quantized_first", [False, True])
def test_input_with_channels_last(quantized_first: bool, tmp_path: Path) -> None:
    graph = channels_last(quantized_first)
    frames = frames_of(graph, 12)
    network = agrees(graph, tmp_path, frames)
    assert (network.input.shape, network.input_shape, network.input_order) == ((2, 4, 3), (4, 3, 2), (2, 0, 1))
    file.save(network, tmp_path / "saved.safetensors")
    assert file.load(tmp_path / "saved.safetensors") == network
    integers = network_inputs(network, frames)
    assert np.array_equal(network_inputs(network, frames.reshape(12, -1)), integers)
    result = run_rtl(design(network, "ecp5-25k"), integers)
    assert np.array_equal(golden.dequantize_output(network, result.scores), execute(graph, frames)[graph.x])


def test_integer_input_with_channels_last(tmp_path: Path) -> None:
    graph = channels_last(False, annotation="INT4")
    network = load(graph.save(tmp_path / "graph.onnx"))
    frames = np.random.default_rng(1).integers(-8, 8, (12, 4, 3, 2))
    got = golden.dequantize_output(network, golden.run(network, network_inputs(network, frames)).output)
    assert np.array_equal(got, execute(graph, frames.astype(np.float32))[graph.x])
    with pytest.raises(FewbitError, match=r"^inputs must have shape \(N, 4, 3, 2\), not \(12, 3, 4, 2\)$"):
        network_inputs(network, frames.transpose(0, 2, 1, 3))


def test_a_second_branch_that_reads_the_input_as_it_is(tmp_path: Path) -> None:
    graph = GraphBuilder(2, 2, 2)
    graph.quant(0.5)
    one = graph.x
    graph.node("Add", graph.node("Transpose", one, perm=[0, 3, 1, 2]), one)
    with pytest.raises(FewbitError, match="reorders the activations of a frame, which only the host can do"):
        load(graph.save(tmp_path / "graph.onnx"))


CHANNELS_LAST = "qonnx.custom_op.channels_last"


class Maps(GraphBuilder):
    """A graph with numbers of its own. ``spelled`` has qonnx' wrappers spelled out: they cannot infer their shapes."""

    def __init__(self, *shape: int, spelled: bool = False, **settings: str) -> None:
        super().__init__(*shape, **settings)
        self.spelled, self.rng = spelled, np.random.default_rng(4)

    def numbers(self, *shape: int) -> Any:
        return self.rng.integers(-2, 3, shape)


def to_last(graph: GraphBuilder) -> None:
    graph.node("Transpose", graph.x, perm=[0, 2, 3, 1])


def to_first(graph: GraphBuilder) -> None:
    graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])


def wrapped(graph: Maps, op: str, *constants: Any, **attributes: Any) -> None:
    if graph.spelled:
        to_first(graph)
        graph.op(
            op, *(np.moveaxis(value, -1, 1) if np.ndim(value) == 4 else value for value in constants), **attributes
        )
        to_last(graph)
    else:
        names = [graph.constant(value) for value in constants]
        graph.node(op, graph.x, *names, domain=CHANNELS_LAST, **attributes)


def last_conv(graph: Maps, outputs: int, inputs: int, **attributes: Any) -> None:
    settings = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}
    wrapped(graph, "Conv", graph.numbers(outputs, 2, 2, inputs), **(settings | attributes))


def island(graph: Maps) -> None:
    """Channels last between two convolutions with channels first."""
    graph.conv(graph.numbers(3, 2, 2, 2))
    to_last(graph)
    graph.op("Mul", [0.5, 2, -1])
    graph.op("Relu")
    graph.quant([[[[0.5, 1, 0.25]]]], bits=3, signed=0)
    graph.thresholds([[0.5, 1], [1, 2], [0, 1.5]], data_layout="NHWC")
    to_first(graph)
    graph.conv(graph.numbers(2, 3, 2, 2))


def wrappers(graph: Maps) -> None:
    """The operators that qonnx wraps."""
    to_last(graph)
    last_conv(graph, 3, 2, pads=[1, 0, 1, 1], strides=[1, 2])
    wrapped(graph, "BatchNormalization", [1, 2, -1], [0, 1, 0.5], [0.5, 0, 1], [1, 4, 0.25], epsilon=0.0)
    graph.quant(1, bits=4)
    wrapped(graph, "MaxPool", kernel_shape=[2, 1], strides=[1, 1], pads=[0, 0, 0, 0])
    last_conv(graph, 2, 3, kernel_shape=[2, 2])
    to_first(graph)


def flattened(graph: Maps) -> None:
    """A map flattened with its channels last, in front of a dense layer."""
    graph.conv(graph.numbers(3, 2, 2, 2))
    graph.quant(2, bits=3)
    to_last(graph)
    graph.flatten()
    graph.dense(graph.numbers(36, 3))


def joined(graph: Maps) -> None:
    """Sum and concatenation with channels last."""
    to_last(graph)
    skip = graph.x
    last_conv(graph, 2, 2, pads=[1, 1, 0, 0])
    branch = graph.quant(0.5)
    total = graph.node("Add", branch, skip)
    graph.node("Concat", total, skip, axis=3)
    graph.op("Mul", [1, 2, 0.5, 4])


def mean(graph: Maps) -> None:
    """The mean over height and width, as Keras has it."""
    to_last(graph)
    last_conv(graph, 3, 2)
    graph.quant(1)
    graph.op("ReduceMean", axes=[1, 2], keepdims=0)
    graph.quant(0.25, bits=6)
    graph.dense(graph.numbers(3, 4))


def output(graph: Maps) -> None:
    """A network whose output has its channels last."""
    graph.conv(graph.numbers(3, 2, 2, 2))
    to_last(graph)
    graph.op("Mul", [0.5, 2, -1])


def everywhere(graph: Maps) -> None:
    """A dense layer at every place of a map."""
    to_last(graph)
    graph.dense(graph.numbers(2, 3))
    graph.op("Add", [1, 0, -2])
    graph.quant(1)
    graph.dense(graph.numbers(3, 2))


ISLANDS = {make.__name__: make for make in (island, wrappers, flattened, joined, mean, output, everywhere)}


@pytest.mark.parametrize("make", ISLANDS.values(), ids=list(ISLANDS))
def test_channels_last_inside_a_network(make: Callable[[Maps], None], tmp_path: Path) -> None:
    graphs = [Maps(2, 4, 5, spelled=spelled) for spelled in (False, True)]
    for graph in graphs:
        graph.quant(0.5)
        make(graph)
    network, reference = load(graphs[0].save(tmp_path / "graph.onnx")), graphs[1]
    frames = frames_of(reference, 12)
    assert np.allclose(outputs(network, frames), execute(reference, frames)[reference.x], rtol=1e-6)
    assert not network.input_order
    file.save(network, tmp_path / "saved.safetensors")
    assert file.load(tmp_path / "saved.safetensors") == network


@pytest.mark.parametrize("make", slow_but([wrappers], [wrappers, joined, mean, everywhere]))
def test_channels_last_from_the_input_on(make: Callable[[Maps], None], tmp_path: Path) -> None:
    """Without the first Transpose: the frames themselves have their channels last."""
    graphs = [Maps(4, 5, 2, spelled=spelled) for spelled in (False, True)]
    for graph in graphs:
        graph.op("Mul", [0.5, 1])
        graph.quant(0.5)
        make(graph)
        transpose = next(node for node in graph.nodes if node.op_type == "Transpose")
        graph.nodes.remove(transpose)
        for node in graph.nodes:
            node.input[:] = [transpose.input[0] if name == transpose.output[0] else name for name in node.input]
    network, reference = load(graphs[0].save(tmp_path / "graph.onnx"), input="int4/2"), graphs[1]
    frames = np.random.default_rng(1).integers(-8, 8, (12, 4, 5, 2))
    got = golden.dequantize_output(network, golden.run(network, network_inputs(network, frames)).output)
    assert np.allclose(got, execute(reference, frames.astype(np.float32) / 2)[reference.x], rtol=1e-6)
    assert (network.input_shape, network.input_order) == ((4, 5, 2), (2, 0, 1))


def test_what_the_wrappers_of_qonnx_compute() -> None:
    """The spelled-out wrappers, against qonnx' own."""
    from qonnx.custom_op.registry import getCustomOp

    own, spelled = (Maps(4, 5, 2, spelled=spelled) for spelled in (False, True))
    for graph in (own, spelled):
        last_conv(graph, 3, 2, pads=[1, 0, 1, 1], strides=[1, 2])
    frames = frames_of(own, 3)
    wanted = execute(spelled, frames)[spelled.x]
    (node,), (kernels,) = own.nodes, own.initializers
    context = {"x": frames, kernels.name: onnx.numpy_helper.to_array(kernels), node.output[0]: np.zeros_like(wanted)}
    getCustomOp(node).execute_node(context, None)
    assert np.array_equal(context[node.output[0]], wanted)


def test_two_branches_from_the_input_in_two_orders_are_refused(tmp_path: Path) -> None:
    """Each branch has a quantizer of its own, so that neither reads what the other does."""
    graph = GraphBuilder(2, 2, 2, annotation="INT4")
    first = graph.quant(1, bits=3, x="x")
    graph.node("Transpose", first, perm=[0, 3, 1, 2])
    left = graph.conv(np.ones((2, 2, 2, 2)))
    second = graph.quant(1, bits=4, x="x")
    right = graph.conv(np.ones((2, 2, 2, 2)), x=second)
    graph.node("Add", left, right)
    with pytest.raises(FewbitError, match="reorders the activations of a frame, which only the host can do"):
        load(graph.save(tmp_path / "graph.onnx"))


def test_a_softmax_over_channels_that_come_last_is_refused(tmp_path: Path) -> None:
    graph = Maps(2, 4, 4)
    graph.quant(0.5)
    output(graph)
    graph.node("Softmax", graph.x, axis=3)
    with pytest.raises(FewbitError, match="ends in a softmax over channels that come last: export it with channels fi"):
        load(graph.save(tmp_path / "graph.onnx"))
