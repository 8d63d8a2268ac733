"""Pooling and Trunc through the QONNX importer, held to qonnx' own execution of the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import mutant
from onnx_models import QONNX, GraphBuilder, agrees, frames_of, kinds, started

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Threshold
from fewbit.importers.qonnx import ops as qonnx_ops
from fewbit.importers.qonnx import ops_2d as qonnx_maps

WINDOWS: dict[str, dict[str, Any]] = {
    "halves": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "overlapping": {"kernel_shape": [2, 4], "strides": [1, 2]},
    "stride 1 by default": {"kernel_shape": [4, 2]},
    "padded": {"kernel_shape": [2, 4], "strides": [2, 3], "pads": [1, 1, 0, 2]},
    "same": {"kernel_shape": [4, 2], "strides": [3, 2], "auto_pad": "SAME_UPPER"},
    "same, lower": {"kernel_shape": [4, 2], "strides": [3, 2], "auto_pad": "SAME_LOWER"},
    "valid": {"kernel_shape": [4, 2], "strides": [2, 2], "auto_pad": "VALID"},
}
CEILED: dict[str, dict[str, Any]] = {
    "ceil": {"kernel_shape": [2, 2], "strides": [2, 3], "ceil_mode": 1},
    "ceil, padded": {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
    "ceil beyond the map": {"kernel_shape": [3, 2], "strides": [4, 4], "pads": [2, 1, 2, 1], "ceil_mode": 1},
    "ceil of nothing": {"kernel_shape": [2, 2], "strides": [2, 1], "ceil_mode": 1},
}
ADDED = {"count_include_pad": 1}


def summed() -> GraphBuilder:
    """Sums on maps (3, 6, 5)."""
    graph = started(2, 7, 7)
    graph.conv(np.random.default_rng(1).integers(-3, 4, (3, 2, 2, 3)))
    return graph


def normalized() -> GraphBuilder:
    """Sums of which the second channel falls, and the third is the same everywhere."""
    graph = summed()
    graph.batch_norm([1, -2, 0], [0, 1, -1], [0.5, 2, -3], [1, 4, 0.25], epsilon=0.0)
    return graph


SOURCES: dict[str, Any] = {
    "bipolar": lambda g: g.bipolar(),
    "int3": lambda g: g.quant(1, bits=3),
    "uint4 with a zero point": lambda g: g.quant(1, 5, 4, signed=0),
    "negative scale": lambda g: g.quant(-0.5, bits=3),
    "a channel": lambda g: g.quant(np.reshape([0.5, 1, 2], (1, 3, 1, 1)), bits=3),
}


@pytest.mark.parametrize("window", WINDOWS | CEILED)
@pytest.mark.parametrize("source", SOURCES)
def test_maximum_of_levels(source: str, window: str, tmp_path: Path) -> None:
    graph = normalized()
    SOURCES[source](graph)
    graph.node("MaxPool", graph.x, **(WINDOWS | CEILED)[window])
    network = agrees(graph, tmp_path, frames_of(graph, 40))
    moved = ["threshold"] if source == "negative scale" else []
    assert kinds(network) == ["conv", "threshold", *moved, "pool"]


@pytest.mark.parametrize("relu", [False, True])
# the one left out is longer to ONNX' own shape inference than to the runtime, so that nothing can follow it
@pytest.mark.parametrize("window", [name for name in WINDOWS | CEILED if name != "ceil beyond the map"])
@pytest.mark.parametrize("source", SOURCES)
def test_maximum_of_sums(source: str, window: str, relu: bool, tmp_path: Path) -> None:
    graph = normalized()
    if relu:
        graph.op("Relu")
    graph.node("MaxPool", graph.x, **(WINDOWS | CEILED)[window])
    graph.op("Sub", 1, left=True)
    SOURCES[source](graph)
    network = agrees(graph, tmp_path, frames_of(graph, 40))
    assert kinds(network) == ["conv", "pool", "threshold"]


@pytest.mark.parametrize("gain", [-1, [1, -1, 0.5]], ids=str)
def test_weights_of_falling_channels_are_negated_for_a_maximum(gain: Any, tmp_path: Path) -> None:
    graph = GraphBuilder(2, 6, 6, annotation="UINT4")
    weights = np.random.default_rng(3).integers(-8, 0, (3, 2, 2, 2))
    graph.conv(weights)
    graph.op("Mul", np.reshape(gain, (1, -1, 1, 1)))
    graph.node("MaxPool", graph.x, kernel_shape=[2, 2])
    frames = np.random.default_rng(0).integers(0, 16, (40, *graph.shape)).astype(np.float32)
    layer = agrees(graph, tmp_path, frames).layers[0]
    assert isinstance(layer, Conv)
    signs = np.sign(np.resize(gain, 3)).astype(int).reshape(3, 1, 1, 1)
    assert np.array_equal(layer.weights, weights * signs)


def test_the_mean_of_one_element_is_no_layer(tmp_path: Path) -> None:
    graph = summed()
    graph.node("AveragePool", graph.x, kernel_shape=[1, 1])
    graph.node("MaxPool", graph.x, kernel_shape=[1, 1])
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv"]


def test_a_maximum_that_skips_elements(tmp_path: Path) -> None:
    graph = summed()
    graph.node("MaxPool", graph.x, kernel_shape=[1, 1], strides=[2, 2])
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv", "pool"]


@pytest.mark.parametrize("quantizer", ["quant", "product"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("source", [name for name in SOURCES if name != "a channel"])
def test_mean_of_levels(source: str, window: str, quantizer: str, tmp_path: Path) -> None:
    graph = normalized()
    SOURCES[source](graph)
    graph.node("AveragePool", graph.x, **WINDOWS[window], **ADDED)
    if quantizer == "quant":
        graph.quant(0.25, bits=4)
    else:
        graph.conv(np.random.default_rng(5).integers(-1, 2, (4, 3, 2, 1)), [0.5, 1, -1, 0])
    network = agrees(graph, tmp_path, frames_of(graph, 40))
    assert kinds(network)[-2:] == ["pool", "threshold" if quantizer == "quant" else "conv"]


@pytest.mark.parametrize("window", [name for name in WINDOWS if "pad" not in name and "same" not in name])
def test_mean_of_sums(window: str, tmp_path: Path) -> None:
    graph = normalized()
    graph.node("AveragePool", graph.x, **WINDOWS[window])
    graph.quant(0.25, bits=4)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv", "pool", "threshold"]


def test_mean_of_levels_scaled_a_channel(tmp_path: Path) -> None:
    graph = normalized()
    graph.op("Relu")
    graph.quant(np.reshape([0.5, 1, 2], (1, 3, 1, 1)), np.reshape([0, 1, -2], (1, 3, 1, 1)), bits=3)
    graph.node("AveragePool", graph.x, kernel_shape=[2, 2])
    graph.quant(0.25, bits=4)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv", "threshold", "pool", "threshold"]


def test_a_mean_of_nine_has_no_ties_to_round(tmp_path: Path) -> None:
    graph = normalized()
    graph.quant(0.5, bits=4)
    graph.node("AveragePool", graph.x, kernel_shape=[3, 3], strides=[3, 2])
    graph.quant(0.5, bits=4)
    agrees(graph, tmp_path, frames_of(graph))


def reduced(keepdims: int, axes: list[int], opset: int) -> Any:
    def add(graph: GraphBuilder) -> None:
        graph.opset = opset
        if opset < 18:
            graph.node("ReduceMean", graph.x, axes=axes, keepdims=keepdims)
        else:
            graph.node("ReduceMean", graph.x, graph.constant(axes, np.int64), keepdims=keepdims)

    return add


WHOLE: dict[str, Any] = {
    "GlobalAveragePool": lambda g: g.node("GlobalAveragePool", g.x),
    "GlobalMaxPool": lambda g: g.node("GlobalMaxPool", g.x),
    "ReduceMean": reduced(1, [2, 3], 13),
    "ReduceMean without axes": reduced(0, [2, 3], 13),
    "ReduceMean, axes from behind": reduced(1, [-1, -2], 18),
    "ReduceMean without axes, from behind": reduced(0, [-2, -1], 18),
    "ReduceMean over rows": reduced(1, [2], 13),
    "ReduceMean over columns, without axis": reduced(0, [3], 18),
}


@pytest.mark.parametrize("end", ["quant", "batch norm", "gemm", "conv"])
@pytest.mark.parametrize("op", WHOLE)
def test_pooling_of_a_whole_map(op: str, end: str, tmp_path: Path) -> None:
    graph = started(2, 5, 6)
    graph.conv(np.random.default_rng(1).integers(-3, 4, (3, 2, 2, 3)))
    graph.quant(0.5, bits=4)  # on maps (3, 4, 4)
    WHOLE[op](graph)
    if end == "quant":
        graph.quant(0.125, bits=6)
    elif end == "batch norm":
        graph.batch_norm([1, -2, 0], [0, 1, -1], [0.5, 2, -3], [1, 4, 0.25], epsilon=0.0)
    elif end == "gemm":
        graph.flatten()
        graph.node("Gemm", graph.x, graph.constant(np.resize([1, -1, 0, 2], (12 if "over" in op else 3, 2))))
    else:
        if "without" in op:
            axes = [3] if "over" in op else [2, 3]
            graph.node("Unsqueeze", graph.x, graph.constant(axes, np.int64))
        graph.conv(np.resize([1, -1, 0, 2], (4, 3, 1, 1)))
    agrees(graph, tmp_path, frames_of(graph, 40))


def test_a_mean_over_no_axes_is_none(tmp_path: Path) -> None:
    graph = summed()
    graph.opset = 18
    graph.node("ReduceMean", graph.x, graph.constant([], np.int64), noop_with_empty_axes=1)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv"]


def test_a_maximum_of_pixels_comes_before_their_quantizer(tmp_path: Path) -> None:
    graph = GraphBuilder(1, 16, 16, annotation="UINT8")
    graph.op("Div", 255)
    graph.op("Sub", 0.1307)
    graph.op("Div", 0.3081)
    graph.node("MaxPool", graph.x, kernel_shape=[1, 1], strides=[1, 2])
    graph.quant(0.0217, bits=8)
    frames = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16)
    assert kinds(agrees(graph, tmp_path, np.concatenate([frames, frames[:, :, :, ::-1]]))) == ["pool", "threshold"]


# Trunc


def trunc(graph: GraphBuilder, scale: Any, zero: Any, bits: tuple[int, int], mode: str = "FLOOR") -> None:
    constants = [graph.constant(value) for value in (scale, zero, *bits)]
    graph.node("Trunc", graph.x, *constants, domain=QONNX, rounding_mode=mode)


def trunc_2(graph: GraphBuilder, scale: Any, zero: Any, out_scale: Any, bits: int, **settings: Any) -> None:
    graph.qonnx_opset = 2
    constants = [graph.constant(value) for value in (scale, zero, 8, out_scale, bits)]
    graph.node("Trunc", graph.x, *constants, domain=QONNX, **{"rounding_mode": "FLOOR", **settings})


MODES = ["ROUND", "HALF_EVEN", "CEIL", "floor", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("zero", [0, 4])
def test_truncated_sums_of_a_pool_as_brevitas_had_them(mode: str, signed: int, zero: int, tmp_path: Path) -> None:
    graph = normalized()
    graph.quant(0.5, zero, bits=4, signed=signed)
    graph.node("AveragePool", graph.x, kernel_shape=[2, 2], strides=[2, 2])
    graph.op("Mul", 4)
    trunc(graph, 0.5, zero, (6, 4), mode)
    network = agrees(graph, tmp_path, frames_of(graph, 40))
    assert kinds(network) == ["conv", "threshold", "pool", "threshold"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("zero", [0, 4])
def test_truncated_means_as_brevitas_has_them(mode: str, signed: int, zero: int, tmp_path: Path) -> None:
    graph = normalized()
    graph.quant(0.5, zero / 4, bits=4, signed=signed)
    graph.node("AveragePool", graph.x, kernel_shape=[2, 2], strides=[2, 2])
    trunc_2(graph, 0.125, zero, 0.5, 4, signed=signed, rounding_mode=mode)
    graph.conv(np.random.default_rng(5).integers(-1, 2, (4, 3, 2, 2)))
    network = agrees(graph, tmp_path, frames_of(graph, 40))
    assert kinds(network) == ["conv", "threshold", "pool", "threshold", "conv"]


@pytest.mark.parametrize(
    "make",
    [
        lambda g: trunc(g, 0.75, 0, (6, 3)),
        lambda g: trunc(g, 0.75, 0.5, (3, 3)),
        lambda g: trunc(g, 2, 0, (2, 3)),
        lambda g: trunc(g, -0.5, 3, (6, 4), "CEIL"),
        lambda g: trunc(g, np.reshape([0.5, 1, 0.25], (1, 3, 1, 1)), np.reshape([0, 1, -2], (1, 3, 1, 1)), (5, 4)),
        lambda g: trunc_2(g, 0.25, 0, 0.5, 2, narrow=1),
        lambda g: trunc_2(g, 0.25, 3, 0.75, 3, signed=0, rounding_mode="ROUND"),
        lambda g: trunc_2(g, np.reshape([0.5, 1, 0.25], (1, 3, 1, 1)), 0, np.reshape([1, 2, 0.5], (1, 3, 1, 1)), 3),
    ],
    ids=[
        "scale of its own",
        "no bits",
        "more bits",
        "negative scale",
        "a channel",
        "narrow",
        "no power",
        "2 a channel",
    ],
)
def test_truncated_sums(make: Any, tmp_path: Path) -> None:
    graph = normalized()
    graph.op("Add", 0.25)
    make(graph)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv", "threshold"]


def test_truncated_pixels(tmp_path: Path) -> None:
    graph = GraphBuilder(1, 16, 16, annotation="UINT8")
    graph.op("Sub", 3)
    trunc(graph, 1, 0, (8, 4), "ROUND")
    layer = agrees(graph, tmp_path, np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16)).layers[0]
    assert isinstance(layer, Threshold)
    assert (str(layer.dtype), layer.base, layer.thresholds[0, :2].tolist()) == ("uint5", 0, [12, 27])


# faults


def falling() -> GraphBuilder:
    graph = normalized()
    graph.node("MaxPool", graph.x, kernel_shape=[2, 2])
    graph.quant(1, bits=4)
    return graph


def averaged() -> GraphBuilder:
    graph = normalized()
    graph.quant(0.5, 3, 4, signed=0)
    graph.node("AveragePool", graph.x, **WINDOWS["padded"], **ADDED)
    return graph


def truncated() -> GraphBuilder:
    graph = normalized()
    graph.op("Add", 0.25)
    trunc(graph, 0.75, 0, (6, 3))
    return graph


FAULTS: list[tuple[str, str, str, Any]] = [
    ("importers.lowering.pools", "if (signs > 0).all():", "if True:", falling),
    ("importers.lowering.pools", "Fraction(1, kernel[0] * kernel[1])", "Fraction(1)", averaged),
    ("importers.lowering.pools", "zero=any(padding)", "zero=False", averaged),
    ("importers.lowering.pools", "of_multiple(exact(signs))", "of_multiple(exact([1]))", falling),
    ("importers.qonnx.trunc", """rounding_boundary("ROUND", math.""", "Boundary(math.", truncated),
]


@pytest.mark.parametrize(("module", "old", "new", "make"), FAULTS, ids=[new for _, _, new, _ in FAULTS])
def test_a_planted_fault_is_found(
    module: str, old: str, new: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make()
    agrees(graph, tmp_path, frames_of(graph, 40))
    broken = mutant(module, old, new)
    if module == "importers.qonnx.trunc":
        monkeypatch.setattr(qonnx_ops, "trunc", broken.trunc)
    else:
        monkeypatch.setattr(qonnx_maps, "network_pools", broken)
    with pytest.raises((AssertionError, FewbitError)):
        agrees(graph, tmp_path, frames_of(graph, 40))
