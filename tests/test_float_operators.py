"""Operators of float networks in every position: read as onnxruntime executes them, and quantized to scores near."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from float_models import read, reference
from onnx import TensorProto
from onnx_models import GraphBuilder

from fewbit.golden.codes import Code
from fewbit.golden.quantizers.weight_vectors import WeightVectors
from fewbit.golden.run import dequantize_output, run, source_frames
from fewbit.importers.float_onnx.layers import Product, Scale
from fewbit.quantization.quantize import quantize
from fewbit.quantization.recipe import Recipe

RNG = np.random.default_rng(11)
INT8 = Recipe(code=Code.parse("int(8)"), vectors=WeightVectors("channel"))


def numbers(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def column(*values: float) -> Any:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def conv(graph: GraphBuilder, outputs: int = 3, inputs: int = 2, kernel: int = 3, **attributes: Any) -> None:
    graph.conv(numbers(outputs, inputs, kernel, kernel), numbers(outputs), **attributes)


def norm(graph: GraphBuilder, channels: int = 3) -> None:
    """Gains of either sign."""
    gain = np.abs(numbers(channels)) + 0.2
    gain[::2] *= -1
    graph.batch_norm(gain, numbers(channels), numbers(channels), RNG.random(channels) + 0.5)


def pieces(graph: GraphBuilder) -> None:
    """A batch normalization as TensorFlow and older exports write it: Sub, Div by a folded Sqrt, Mul, Add."""
    graph.op("Sub", numbers(3, 1, 1))
    x = graph.x
    spread = graph.node("Add", graph.constant(RNG.random((3, 1, 1)) + 0.5), graph.constant(1e-3))
    root = graph.node("Pow", spread, graph.constant(0.5))
    graph.node("Div", x, root)
    graph.op("Mul", column(-1.5, 0.5, 2), left=True)
    graph.op("Add", numbers(3, 1, 1), left=True)


def head(graph: GraphBuilder, size: int, outputs: int = 4) -> None:
    graph.flatten()
    graph.op("Gemm", numbers(outputs, size), numbers(outputs), transB=1)


def first(make: Callable[[GraphBuilder], Any], *after: Callable[[GraphBuilder], Any], size: int = 108) -> Any:
    """A graph of a padded convolution, what ``make`` and ``after`` add, and a dense layer for ``size`` inputs."""

    def whole() -> GraphBuilder:
        graph = GraphBuilder(2, 6, 6)
        conv(graph, pads=[1, 1, 1, 1])
        for step in (make, *after):
            step(graph)
        head(graph, size)
        return graph

    return whole


def relu(graph: GraphBuilder) -> None:
    graph.op("Relu")


def pool(graph: GraphBuilder) -> None:
    graph.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2])


def mean(graph: GraphBuilder) -> None:
    graph.op("AveragePool", kernel_shape=[2, 2], strides=[2, 2])


def padded(graph: GraphBuilder) -> None:
    conv(graph, 3, 3, pads=[1, 1, 1, 1])


def inverted(graph: GraphBuilder) -> None:
    graph.op("Mul", column(-1, 0.5, -2))


def input_norm(graph: GraphBuilder) -> None:
    graph.op("Sub", np.array([0.4, 0.6], np.float32).reshape(2, 1, 1))
    graph.op("Div", np.array([0.25, 0.3], np.float32).reshape(2, 1, 1))


def normalized_input(pads: int) -> Callable[[], GraphBuilder]:
    def whole() -> GraphBuilder:
        graph = GraphBuilder(2, 6, 6)
        input_norm(graph)
        conv(graph, pads=[pads] * 4)
        relu(graph)
        head(graph, 3 * (4 + 2 * pads) ** 2)
        return graph

    return whole


def norm_first() -> GraphBuilder:
    graph = GraphBuilder(2, 6, 6)
    norm(graph, 2)
    relu(graph)
    conv(graph, pads=[1, 1, 1, 1])
    head(graph, 108)
    return graph


def line(graph: GraphBuilder, outputs: int, inputs: int, **attributes: Any) -> None:
    graph.conv(numbers(outputs, inputs, 3), numbers(outputs), **attributes)


def along_one_axis() -> GraphBuilder:
    graph = GraphBuilder(2, 20)
    line(graph, 4, 2, pads=[2, 0], strides=[2])
    graph.batch_norm(numbers(4), numbers(4), numbers(4), RNG.random(4) + 0.5)
    relu(graph)
    graph.op("MaxPool", kernel_shape=[3], strides=[1], pads=[1, 1])
    line(graph, 4, 1, group=4, dilations=[2])
    graph.op("AveragePool", kernel_shape=[2])
    graph.op("GlobalAveragePool")
    head(graph, 4)
    return graph


def unsqueezed_line() -> GraphBuilder:
    """A line as a map of height 1, by Unsqueeze and Squeeze, as Keras has it."""
    graph = GraphBuilder(2, 12)
    graph.node("Unsqueeze", graph.x, graph.constant([2], np.int64))
    graph.conv(numbers(3, 2, 1, 3))
    graph.node("Squeeze", graph.x, graph.constant([2], np.int64))
    relu(graph)
    head(graph, 30)
    return graph


def channels_last() -> GraphBuilder:
    """Transposes around the maps, and a reshape of a map with its channels last."""
    graph = GraphBuilder(6, 5, 2)
    graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])
    conv(graph)
    graph.node("Transpose", graph.x, perm=[0, 2, 3, 1])
    graph.op("Mul", np.array([0.5, -1, 2], np.float32))
    relu(graph)
    graph.node("Reshape", graph.x, graph.constant([-1, 36], np.int64))
    graph.dense(numbers(36, 4))
    return graph


def channels_last_and_back() -> GraphBuilder:
    graph = GraphBuilder(6, 5, 2)
    graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])
    conv(graph)
    graph.node("Transpose", graph.x, perm=[0, 2, 3, 1])
    graph.op("Add", np.array([0.5, -1, 2], np.float32))
    graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])
    conv(graph, 3, 3, 2)
    graph.node("Transpose", graph.x, perm=[0, 2, 3, 1])
    graph.op("ReduceMean", axes=[1, 2], keepdims=0)
    graph.dense(numbers(3, 4))
    return graph


def grouped() -> GraphBuilder:
    graph = GraphBuilder(4, 7, 6)
    graph.conv(numbers(4, 1, 3, 3), numbers(4), group=4, pads=[0, 1, 2, 0], strides=[1, 2])
    norm(graph, 4)
    graph.op("Clip", np.float32(0), np.float32(6))
    graph.conv(numbers(6, 4, 1, 1))
    graph.conv(numbers(6, 3, 2, 2), group=2, dilations=[2, 1])
    head(graph, 6 * 5 * 2)
    return graph


def transposed_weights() -> GraphBuilder:
    graph = GraphBuilder(6)
    weights = graph.node("Transpose", graph.constant(numbers(5, 6)), perm=[1, 0])
    graph.node("MatMul", "x", weights)
    graph.op("Add", numbers(5), left=True)
    relu(graph)
    graph.op("Gemm", numbers(5, 3), numbers(1, 3), alpha=0.5, beta=-1.0)
    return graph


def shape_chain() -> GraphBuilder:
    """Shape, Slice, Concat, Div in front of a Reshape, in one constant of each number type."""
    graph = GraphBuilder(2, 6, 6)
    conv(graph)
    x = graph.x
    shape = graph.node("Shape", x)
    ends = [graph.constant([value], np.int64) for value in (0, 1)]
    batch = graph.node("Slice", shape, *ends)
    size = graph.node("ReduceProd", shape, keepdims=1)
    rest = graph.node("Div", size, batch)
    target = graph.node("Concat", batch, rest, axis=0)
    graph.node("Reshape", x, target)
    graph.dense(numbers(48, 3))
    return graph


def autoencoder() -> GraphBuilder:
    graph = GraphBuilder(12)
    for inputs, outputs in ((12, 8), (8, 3), (3, 8), (8, 12)):
        graph.op("Gemm", numbers(outputs, inputs), numbers(outputs), transB=1)
        if outputs != 12:
            graph.batch_norm(*np.abs(numbers(2, outputs)), numbers(outputs), RNG.random(outputs) + 0.5)
            relu(graph)
    return graph


def whole_map() -> GraphBuilder:
    """A map is the output."""
    graph = GraphBuilder(2, 5, 4)
    conv(graph, pads=[1, 1, 1, 1])
    relu(graph)
    conv(graph, 2, 3, 1)
    return graph


def ending(*ops: tuple[str, dict[str, Any]], opset: int = 13) -> Callable[[], GraphBuilder]:
    def whole() -> GraphBuilder:
        graph = GraphBuilder(6)
        graph.opset = opset
        graph.dense(0.5 * numbers(6, 4))
        for op, attributes in ops:
            graph.op(op, **attributes)
        return graph

    return whole


def step(op: str, *constants: Any, **attributes: Any) -> Callable[[GraphBuilder], Any]:
    return lambda graph: graph.op(op, *constants, **attributes)


def noop(graph: GraphBuilder) -> None:
    graph.node("Cast", graph.node("Identity", graph.node("Dropout", graph.x)), to=TensorProto.FLOAT)


def regression() -> GraphBuilder:
    graph = GraphBuilder(2, 6, 6)
    conv(graph)
    relu(graph)
    graph.op("GlobalMaxPool")
    head(graph, 3, 1)
    return graph


def scaled_end() -> GraphBuilder:
    """Gains behind the last Relu, which no product takes in."""
    graph = GraphBuilder(6)
    graph.dense(numbers(6, 4))
    relu(graph)
    graph.op("Mul", np.float32(0.5))
    graph.op("Add", np.float32(-1))
    return graph


def old_clip() -> GraphBuilder:
    graph = first(step("Clip", min=-1.0, max=1.0))()
    graph.opset = 9
    return graph


def input_skip(graph: GraphBuilder) -> None:
    start = graph.x
    conv(graph, 2, 2, pads=[1, 1, 1, 1])
    graph.node("Add", start, graph.x)
    relu(graph)


def input_beside(graph: GraphBuilder) -> None:
    start = graph.x
    conv(graph, 2, 2, pads=[1, 1, 1, 1])
    graph.node("Concat", start, graph.x, axis=-3)
    conv(graph, 2, 4)


def skip_over_a_pool(graph: GraphBuilder) -> None:
    """As a U-Net."""
    conv(graph, 3, 2, pads=[1, 1, 1, 1])
    start = graph.op("Relu")
    graph.op("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    padded(graph)
    relu(graph)
    graph.node("Concat", start, graph.x, axis=1)
    conv(graph, 2, 6, 1)


def pools_beside(graph: GraphBuilder) -> None:
    conv(graph)
    start = graph.op("Relu")
    sides = [graph.node(op, start) for op in ("GlobalAveragePool", "GlobalMaxPool")]
    graph.node("Concat", *sides, axis=1)


def preactivated(graph: GraphBuilder) -> None:
    conv(graph, pads=[1, 1, 1, 1])
    for _ in range(3):
        start = graph.x
        norm(graph)
        relu(graph)
        padded(graph)
        graph.node("Add", graph.x, start)
    graph.op("ReduceMean", axes=[2, 3], keepdims=0)


def three_branches(graph: GraphBuilder) -> None:
    start, sides = graph.x, []
    for _ in range(3):
        graph.x = start
        conv(graph, kernel=1)
        sides.append(graph.x)
    graph.node("Sum", *sides)
    graph.op("LeakyRelu")


def doubled(graph: GraphBuilder) -> None:
    conv(graph)
    graph.node("Add", graph.x, graph.x)


def offset_input(graph: GraphBuilder) -> None:
    graph.op("Sub", np.float32(0.5))
    conv(graph, pads=[1, 1, 1, 1])


def branched(make: Callable[[GraphBuilder], None], size: int | None) -> Callable[[], GraphBuilder]:
    """A graph of what ``make`` adds and a dense layer for ``size`` inputs, if any."""

    def whole() -> GraphBuilder:
        graph = GraphBuilder(2, 6, 6)
        make(graph)
        if size is not None:
            head(graph, size)
        return graph

    return whole


GRAPHS: dict[str, Callable[[], GraphBuilder]] = {
    "norm": first(norm),
    "norm, Relu": first(norm, relu),
    "Relu, norm": first(relu, norm),
    "Relu, norm, padded convolution": first(relu, norm, padded),
    "pool, norm, Relu": first(pool, norm, relu, size=27),
    "Relu, norm, pool": first(relu, norm, pool, size=27),
    "Relu, norm, pool, padded convolution": first(relu, norm, pool, padded, size=27),
    "Relu, norm, pool, mean": first(relu, norm, pool, step("GlobalAveragePool"), size=3),
    "Relu, inverted, pool, mean": first(relu, inverted, pool, step("GlobalAveragePool"), size=3),
    "mean, norm, Relu": first(mean, norm, relu, size=27),
    "Relu, mean, norm, padded convolution": first(relu, mean, norm, padded, size=27),
    "pieces": first(pieces, relu),
    "Relu, pieces, padded convolution": first(relu, pieces, padded),
    "normalized input": normalized_input(0),
    "normalized input, padded convolution": normalized_input(1),
    "norm first": norm_first,
    "ReLU6": first(step("Clip", np.float32(0), np.float32(6))),
    "HardTanh": first(step("Clip", np.float32(-1), np.float32(1)), padded),
    "old Clip": old_clip,
    "Clip without an upper limit": first(step("Clip", np.float32(0.25))),
    "HardSigmoid": first(step("HardSigmoid", alpha=0.3, beta=0.4), padded),
    "Sigmoid": first(step("Sigmoid"), padded),
    "Tanh": first(step("Tanh"), pool, padded, size=27),
    "LeakyRelu": first(step("LeakyRelu", alpha=0.1), pool, padded, size=27),
    "PRelu": first(step("PRelu", column(0.1, 0.5, 0.25)), padded),
    "Neg": first(step("Neg"), relu, padded),
    "Identity, Dropout, Cast": first(noop),
    "ReduceMean": first(relu, step("ReduceMean", axes=[-1, 2], keepdims=1), size=3),
    "ReduceMean of rows": first(step("ReduceMean", axes=[3], keepdims=0), size=18),
    "one axis": along_one_axis,
    "Unsqueeze and Squeeze": unsqueezed_line,
    "channels last": channels_last,
    "channels last and back": channels_last_and_back,
    "groups, dilation, uneven padding": grouped,
    "transposed weights": transposed_weights,
    "shape chain": shape_chain,
    "autoencoder": autoencoder,
    "map": whole_map,
    "regression": regression,
    "scaled end": scaled_end,
    "Relu, offset, padded convolution": first(relu, step("Add", np.float32(3)), padded),
    "offset input, padded convolution": branched(offset_input, 108),
    "Relu, offset, padded mean": first(
        relu,
        step("Add", np.float32(3)),
        step("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        size=147,
    ),
    "Softmax": ending(("Softmax", {"axis": -1})),
    "old Softmax": ending(("Softmax", {}), opset=11),
    "LogSoftmax": ending(("LogSoftmax", {"axis": 1})),
    "Sigmoid end": ending(("Sigmoid", {})),
    "Tanh end": ending(("Tanh", {})),
    "Relu end": ending(("Relu", {})),
    "input skip": branched(input_skip, 72),
    "input beside": branched(input_beside, 32),
    "skip over a pool": branched(skip_over_a_pool, None),
    "pools beside": branched(pools_beside, 6),
    "preactivated": branched(preactivated, 3),
    "three branches": branched(three_branches, 108),
    "doubled": branched(doubled, 48),
    "sum at the end": branched(input_skip, None),
    "concatenation at the end": branched(pools_beside, None),
}


def built(name: str) -> GraphBuilder:
    """The graph of this name, always the same."""
    RNG.bit_generator.state = np.random.default_rng(zlib.crc32(name.encode())).bit_generator.state
    return GRAPHS[name]()


@pytest.mark.parametrize("name", GRAPHS)
def test_operator(name: str, tmp_path: Any) -> None:
    graph = built(name)
    integers = np.random.default_rng(5).integers(0, 256, (40, *graph.shape))
    wanted = reference(graph, integers.astype(np.float32) / np.float32(255))
    source = read(graph, tmp_path)
    got = source.outputs(source.source_frames(integers / np.float32(255)))
    assert got.shape == wanted.shape
    assert got == pytest.approx(wanted, rel=1e-4, abs=1e-4 * float(np.abs(wanted).max()))
    network = quantize(source, INT8, calibration=integers).network
    scores = dequantize_output(network, run(network, source_frames(network, integers)).output)
    assert scores.shape == wanted.shape
    assert np.sqrt(np.mean((scores - wanted) ** 2)) < 0.05 * np.sqrt(np.mean(wanted**2))


def test_gains_go_into_products_where_they_can(tmp_path: Any) -> None:
    """A quantizer or the next product takes in what stays."""
    stays = {name for name in GRAPHS if any(isinstance(layer, Scale) for layer in read(built(name), tmp_path).layers)}
    assert stays == {
        "Relu, norm, padded convolution", "pool, norm, Relu", "Relu, norm, pool", "Relu, norm, pool, mean",
        "Relu, norm, pool, padded convolution", "Relu, inverted, pool, mean", "Relu, mean, norm, padded convolution",
        "Relu, pieces, padded convolution", "normalized input, padded convolution", "norm first", "scaled end",
        "preactivated", "Relu, offset, padded convolution", "Relu, offset, padded mean",
        "offset input, padded convolution",
    }  # fmt: skip


@pytest.mark.parametrize("op, attributes", [("ArgMax", {"axis": 1, "keepdims": 0}), ("TopK", {})])
def test_index_of_the_largest_score(op: str, attributes: Any, tmp_path: Any) -> None:
    graph = ending(("Sigmoid", {}), ("Softmax", {"axis": 1}))()
    if op == "TopK":
        graph.node(op, graph.x, graph.constant([1], np.int64), outputs=2)
        graph.x += "b"
    else:
        graph.op(op, **attributes)
    graph.result = TensorProto.INT64
    integers = np.random.default_rng(5).integers(0, 256, (40, 6))
    wanted = reference(graph, integers.astype(np.float32) / np.float32(255))
    source = read(graph, tmp_path)
    assert np.array_equal(source.outputs(integers / np.float32(255)), wanted)
    network = quantize(source, INT8, calibration=integers).network
    got = dequantize_output(network, run(network, integers).output)
    assert got.shape == wanted.shape
    assert np.mean(got == wanted) > 0.9


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_float_types(kind: Any, tmp_path: Any) -> None:
    """A network in float16 or float64 is read as one in float32."""
    element = TensorProto.FLOAT16 if kind == np.float16 else TensorProto.DOUBLE
    graph = GraphBuilder(4, element=element)
    graph.result = element
    weights, bias = numbers(4, 3).astype(kind), numbers(3).astype(kind)
    graph.node("Gemm", graph.x, graph.constant(weights, kind), graph.constant(bias, kind))
    (product,) = (layer for layer in read(graph, tmp_path).layers if isinstance(layer, Product))
    assert np.array_equal(product.weights, weights.T.astype(np.float64))


def test_a_fixed_batch(tmp_path: Any) -> None:
    graph = GraphBuilder(2, 4, 4)
    conv(graph)
    graph.node("Reshape", graph.x, graph.constant([8, 12], np.int64))
    graph.dense(numbers(12, 3))
    from fewbit.importers.float_onnx import reader

    source = reader.load(graph.save(tmp_path / "batch.onnx", batch=8))
    integers = np.random.default_rng(5).integers(0, 256, (5, 8, 2, 4, 4))
    network = quantize(source, INT8, calibration=integers).network
    assert (source.input_batch, network.input_batch) == (8, 8)
    flat = integers.reshape(-1, 2, 4, 4)
    wanted = np.concatenate([reference(graph, x / np.float32(255)) for x in integers.astype(np.float32)])
    assert source.outputs(flat / np.float32(255)) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert np.array_equal(source_frames(network, integers), flat)


def test_every_obstacle_is_told(tmp_path: Any) -> None:
    from fewbit.importers.obstacles import Obstacles

    graph = GraphBuilder(4)
    start = graph.dense(numbers(4, 4))
    graph.op("LeakyRelu", alpha=-1.0)
    graph.op("Mish")
    graph.node("Mul", graph.x, start)
    graph.op("Sin")
    with pytest.raises(Obstacles) as error:
        read(graph, tmp_path)
    heads = [line.partition(": ")[0] for line in error.value.lines[1:]]
    assert error.value.lines[0].endswith(": 3 obstacles:")
    assert heads == ["node 'LeakyRelu_1' (LeakyRelu)", "node 'Mish_2' (Mish)", "node 'Sin_4' (Sin)"]
    assert error.value.lines[2].endswith("train with Relu, LeakyRelu or Clip")
