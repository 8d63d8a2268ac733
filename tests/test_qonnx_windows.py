"""Convolutions along one axis and with dilation, and quantizers spelled as QuantizeLinear, Clip, DequantizeLinear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import WEIGHTS, GraphBuilder, agrees, frames_of, kinds, started
from tiers import slow_but

from fewbit.engines import network_inputs, run_rtl
from fewbit.generator import design
from fewbit.golden import run as golden
from fewbit.golden.errors import FewbitError
from fewbit.importers.qonnx.reader import load

ONE_AXIS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all said": {"kernel_shape": [3], "strides": [1], "pads": [0, 0], "dilations": [1]},
    "strides": {"strides": [2]},
    "padded on one side": {"pads": [2, 0]},
    "padded": {"pads": [1, 1], "strides": [2]},
    "same": {"auto_pad": "SAME_UPPER"},
    "dilated": {"dilations": [3], "pads": [2, 1]},
}


@pytest.mark.parametrize("window", ONE_AXIS)
def test_convolution_along_one_axis(window: str, tmp_path: Path) -> None:
    graph = GraphBuilder(2, 9)
    graph.quant([[[0.5], [0.5]]])
    graph.conv(np.random.default_rng(1).integers(-3, 4, (3, 2, 3)), [0.5, -1, 2], **ONE_AXIS[window])
    graph.op("Relu")
    graph.quant(1, bits=4, signed=0)
    graph.flatten()
    graph.node("Identity", graph.x)
    frames = frames_of(graph, 40)
    network = agrees(graph, tmp_path, frames)
    assert kinds(network)[:2] == ["conv", "threshold"]


def test_convolutions_along_one_axis_in_hardware(tmp_path: Path) -> None:
    graph = GraphBuilder(2, 9)
    graph.quant(0.5)
    graph.conv(np.random.default_rng(1).integers(-1, 2, (3, 2, 3)), pads=[1, 1], dilations=[2])
    graph.quant(2, bits=3)
    graph.conv(np.random.default_rng(2).integers(-1, 2, (2, 3, 2)))
    frames = frames_of(graph, 10)
    network = agrees(graph, tmp_path, frames)
    integers = network_inputs(network, frames)
    result = run_rtl(design(network, "ecp5-25k"), integers)
    assert np.array_equal(result.scores, golden.run(network, integers).scores)


@pytest.mark.parametrize("dilations", [[2, 2], [1, 3], [2, 1]])
@pytest.mark.parametrize("group", [1, 2])
def test_dilated_kernel_has_zeros_between_its_weights(group: int, dilations: list[int], tmp_path: Path) -> None:
    graph = started(2, 9, 8)
    weights = np.random.default_rng(1).choice([-1, 1], (4, 2 // group, 3, 2))
    graph.conv(weights, dilations=dilations, pads=[1, 0, 2, 1], strides=[1, 2], group=group)
    network = agrees(graph, tmp_path, frames_of(graph, 20))
    (layer,) = network.layers
    assert layer.code.name == "ternary"  # type: ignore[attr-defined]


def qdq(graph: GraphBuilder, zero: int, kind: str, clip: tuple[int, int] | None = None, other: float = 0.5) -> None:
    point = graph.constant(zero, kind)
    graph.node("QuantizeLinear", graph.x, graph.constant(0.5), point)
    if clip is not None:
        graph.node("Clip", graph.x, graph.constant(clip[0], kind), graph.constant(clip[1], kind))
    graph.node("DequantizeLinear", graph.x, graph.constant(other), point)


@pytest.mark.parametrize(("zero", "kind", "clip"), [
    (0, "int8", None), (0, "int8", (-7, 7)), (3, "int8", (-8, 7)), (128, "uint8", None), (0, "uint8", (0, 15)),
])  # fmt: skip
@pytest.mark.parametrize("place", ["the float input", "sums"])
def test_quantize_clip_dequantize(place: str, zero: int, kind: str, clip: Any, tmp_path: Path) -> None:
    graph = GraphBuilder(4) if place == "the float input" else started(4)
    if place == "sums":
        graph.dense(np.resize(WEIGHTS, (4, 4)))
    graph.op("Mul", 0.5)
    qdq(graph, zero, kind, clip)
    weights = graph.node(
        "DequantizeLinear", graph.constant(np.resize([1, -2, 3], (4, 3)), np.int8), graph.constant([0.5, 1, 0.25]),
        graph.constant([0, 1, 0], np.int8), axis=1,
    )  # fmt: skip
    x = graph.nodes[-2].output[0]
    graph.node("MatMul", x, weights)
    assert kinds(agrees(graph, tmp_path)) == (["dense"] if place != "sums" else ["dense", "threshold", "dense"])


def test_quantizer_that_is_not_completed(tmp_path: Path) -> None:
    for spoil, reason in (
        (lambda g: qdq(g, 0, "int8", None, 0.25), "has another scale or zero point than the QuantizeLinear before it"),
        (
            lambda g: (g.node("QuantizeLinear", g.x, g.constant(0.5), g.constant(0, np.int8)), g.op("MatMul", WEIGHTS)),
            "computes with the integers of a QuantizeLinear: export the network with a DequantizeLinear behind each "
            "QuantizeLinear (the QDQ format)",
        ),
    ):
        graph = GraphBuilder(4)
        spoil(graph)
        with pytest.raises(FewbitError, match=r"\(\w+\): " + reason.replace("(", r"\(").replace(")", r"\)")):
            load(graph.save(tmp_path / "graph.onnx"))


POOLS: dict[str, Any] = {
    "MaxPool": {"kernel_shape": [3], "strides": [2], "pads": [1, 0]},
    "MaxPool, ceil": {"kernel_shape": [2], "strides": [3], "ceil_mode": 1},
    "AveragePool": {"kernel_shape": [4], "strides": [2]},
    "GlobalMaxPool": {},
    "GlobalAveragePool": {},
}


@pytest.mark.parametrize("pool", slow_but(["MaxPool", "AveragePool"], POOLS))
def test_pooling_along_one_axis(pool: str, tmp_path: Path) -> None:
    graph = started(2, 9)
    graph.conv(np.random.default_rng(1).integers(-2, 3, (3, 2, 2)))
    graph.quant(2, bits=3)
    graph.node(pool.partition(",")[0], graph.x, **POOLS[pool])
    graph.op("Mul", [[[1], [2], [0.5]]])
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 20))) == ["conv", "threshold", "pool"]


@pytest.mark.parametrize("axes", [[2], [1]])
def test_a_mean_along_one_axis(axes: list[int], tmp_path: Path) -> None:
    """Over the length of a map with channels first, and with channels last."""
    graph = started(2, 9)
    graph.conv(np.random.default_rng(1).integers(-2, 3, (3, 2, 2)))
    graph.quant(2, bits=3)
    if axes == [1]:
        graph.node("Transpose", graph.x, perm=[0, 2, 1])
    graph.op("ReduceMean", axes=axes, keepdims=0)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 20))) == ["conv", "threshold", "pool"]


@pytest.mark.parametrize("behind", ["a convolution", "the input"])
def test_a_dense_layer_at_every_place_of_a_sequence(behind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graph = started(*((2, 9) if behind == "a convolution" else (8, 3)))
    if behind == "a convolution":
        graph.conv(rng.integers(-2, 3, (3, 2, 2)))
        graph.quant(2, bits=3)
        graph.node("Transpose", graph.x, perm=[0, 2, 1])
    graph.dense(rng.integers(-2, 3, (3, 4)))
    graph.op("Add", [1, -2, 0, 3])
    graph.quant(1, bits=3)
    graph.flatten()
    graph.dense(rng.integers(-2, 3, (32, 3)))
    network = agrees(graph, tmp_path, frames_of(graph, 20))
    assert kinds(network)[-4:] == ["conv", "threshold", "flatten", "dense"]
    assert network.input_order == (() if behind == "a convolution" else (1, 0))
