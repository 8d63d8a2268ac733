"""Random float networks as ONNX graphs: every op that the reader takes in some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import GraphBuilder

from fewbit.importers.float_onnx import reader as float_onnx
from fewbit.importers.float_onnx.network import FloatNetwork


def random_graph(rng: np.random.Generator, *, sums: bool = True) -> GraphBuilder:
    """Zero to two convolutions with pools around them, then one or two dense layers; ``sums``: it may end in sums."""
    shape = (int(rng.integers(1, 4)), int(rng.integers(6, 11)), int(rng.integers(6, 11)))
    graph = GraphBuilder(*shape)
    for _ in range(int(rng.integers(0, 3))):
        shape = _convolution(graph, rng, shape)
        shape = _followers(graph, rng, shape)
    graph.flatten()
    size = int(np.prod(shape))
    for _ in range(int(rng.integers(0, 2))):
        size = _dense(graph, rng, size, int(rng.integers(1, 7)))
        if rng.random() < 0.8:
            graph.op("Relu")
    _dense(graph, rng, size, int(rng.integers(2, 6)))
    if not sums or rng.random() < 0.2:
        graph.op("Relu")
    return graph


def _numbers(rng: np.random.Generator, *shape: int) -> Any:
    return rng.normal(size=shape).astype(np.float32)


def _convolution(graph: GraphBuilder, rng: np.random.Generator, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    channels, height, width = shape
    groups = channels if rng.random() < 0.3 else 1
    outputs = groups * int(rng.integers(1, 4))
    kernel = tuple(min(int(rng.integers(1, 4)), extent) for extent in (height, width))
    stride = [int(one) for one in rng.integers(1, 3, 2)]
    pads = [int(rng.integers(0, limit)) for limit in (*kernel, *kernel)]
    graph.conv(
        _numbers(rng, outputs, channels // groups, *kernel),
        _numbers(rng, outputs) if rng.random() < 0.7 else None,
        strides=stride,
        pads=pads,
        group=groups,
    )
    if rng.random() < 0.4:
        parameters = (_numbers(rng, outputs), _numbers(rng, outputs), _numbers(rng, outputs), rng.random(outputs) + 0.5)
        graph.batch_norm(*parameters)
    rows, columns = ((e + pads[a] + pads[a + 2] - kernel[a]) // stride[a] + 1 for a, e in enumerate((height, width)))
    return outputs, rows, columns


def _followers(graph: GraphBuilder, rng: np.random.Generator, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    for op in rng.permutation(["Relu", "MaxPool", "AveragePool", "Mul"])[: int(rng.integers(1, 4))]:
        channels, height, width = shape
        if op in ("MaxPool", "AveragePool") and min(height, width) >= 2:
            graph.op(str(op), kernel_shape=[2, 2], strides=[2, 1])
            shape = channels, (height - 2) // 2 + 1, width - 1
        elif op == "Relu":
            graph.op("Relu")
        elif op == "Mul":
            graph.op("Mul", (rng.random((channels, 1, 1)) + 0.5).astype(np.float32))
    return shape


def _dense(graph: GraphBuilder, rng: np.random.Generator, inputs: int, outputs: int) -> int:
    if rng.random() < 0.5:
        graph.op("Gemm", _numbers(rng, outputs, inputs), _numbers(rng, outputs), transB=1, alpha=0.5, beta=2.0)
    else:
        graph.dense(_numbers(rng, inputs, outputs))
        graph.op("Add", _numbers(rng, outputs))
    return outputs


def reference(graph: GraphBuilder, frames: Any) -> Any:
    """What onnxruntime makes of float ``frames``; onnx's own evaluator is wrong on uneven padding."""
    session = pytest.importorskip("onnxruntime").InferenceSession
    model = graph.model(len(frames)).SerializeToString()
    return session(model, providers=["CPUExecutionProvider"]).run(None, {"x": frames})[0]


def read(graph: GraphBuilder, folder: Path) -> FloatNetwork:
    return float_onnx.load(graph.save(folder / "float.onnx"))


def random_branches(rng: np.random.Generator) -> GraphBuilder:
    """A network with one to three blocks of branches, as residual, densely connected and inception networks have."""
    graph = GraphBuilder(int(rng.integers(1, 4)), 6, 5)
    channels = _mapped(graph, rng, graph.shape[0], int(rng.integers(2, 5)))
    for _ in range(int(rng.integers(1, 4))):
        channels = rng.choice(_BLOCKS)(graph, rng, channels)
        if rng.random() < 0.3:
            graph.op("MaxPool", kernel_shape=[2, 2], strides=[1, 1])
    if rng.random() < 0.5:
        graph.op(str(rng.choice(["GlobalAveragePool", "GlobalMaxPool"])))
        size = channels
    else:
        size = channels * _extent(graph)
    graph.flatten()
    start = graph.x
    _dense(graph, rng, size, 4)
    if rng.random() < 0.3:
        first, graph.x = graph.x, start
        _dense(graph, rng, size, 4)
        graph.node("Add", first, graph.x)
    return graph


def _extent(graph: GraphBuilder) -> int:
    """Elements of a channel of the newest map: every pool of :func:`random_branches` takes off a row and a column."""
    pools = sum(node.op_type == "MaxPool" and node.attribute[0].ints[0] == 2 for node in graph.nodes)
    return max(1, 6 - pools) * max(1, 5 - pools)


def _mapped(graph: GraphBuilder, rng: np.random.Generator, channels: int, outputs: int, relu: float = 0.7) -> int:
    """A convolution that keeps the extents, with or without batch normalization and a limit."""
    kernel = int(rng.choice([1, 3]))
    weights = _numbers(rng, outputs, channels, kernel, kernel)
    graph.conv(weights, _numbers(rng, outputs), pads=[kernel // 2] * 4)
    if rng.random() < 0.5:
        _normalized(graph, rng, outputs)
    if rng.random() < relu:
        graph.op(*(("Relu",), ("Clip", np.float32(0), np.float32(6)), ("Relu",))[int(rng.integers(0, 3))])
    if rng.random() < 0.2:
        _normalized(graph, rng, outputs)
    return outputs


def _normalized(graph: GraphBuilder, rng: np.random.Generator, channels: int) -> None:
    graph.batch_norm(*(_numbers(rng, channels) for _ in range(3)), rng.random(channels) + 0.5)


def _residual(graph: GraphBuilder, rng: np.random.Generator, channels: int) -> int:
    start, outputs = graph.x, channels if rng.random() < 0.6 else channels + 1
    _mapped(graph, rng, channels, 3)
    _mapped(graph, rng, 3, outputs, relu=0.1)
    body, graph.x = graph.x, start
    if outputs != channels:
        _mapped(graph, rng, channels, outputs, relu=0.1)
    sides = [body, graph.x] if rng.random() < 0.5 else [graph.x, body]
    graph.node(str(rng.choice(["Add", "Add", "Sub", "Sum"])), *sides)
    if rng.random() < 0.7:
        graph.op("Relu")
    return outputs


def _inception(graph: GraphBuilder, rng: np.random.Generator, channels: int) -> int:
    start, sides, total = graph.x, [], 0
    for _ in range(int(rng.integers(2, 4))):
        graph.x = start
        if rng.random() < 0.2:
            graph.op("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        total += _mapped(graph, rng, channels, int(rng.integers(1, 4)))
        sides.append(graph.x)
    graph.node("Concat", *sides, axis=1)
    return total


def _densely(graph: GraphBuilder, rng: np.random.Generator, channels: int) -> int:
    start = graph.x
    made = _mapped(graph, rng, channels, 2)
    graph.node("Concat", start, graph.x, axis=1)
    if rng.random() < 0.4:
        _normalized(graph, rng, channels + made)
        graph.op("Relu")
    return channels + made


_BLOCKS = [_residual, _inception, _densely]
