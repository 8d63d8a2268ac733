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
