"""Convolution through the QONNX importer, held to qonnx' own execution of the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import mutant
from onnx_models import GraphBuilder, agrees, frames_of, kinds, started

from fewbit.golden.network import Conv
from fewbit.importers.qonnx import ops_2d as qonnx_maps
from fewbit.importers.qonnx.reader import load

WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all said": {"kernel_shape": [3, 2], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "auto_pad": "NOTSET"},
    "strides": {"strides": [2, 3]},
    "padded": {"pads": [1, 1, 1, 1]},
    "padded on one side": {"pads": [2, 0, 1, 1]},
    "padded and strided": {"pads": [0, 1, 2, 0], "strides": [3, 2]},
    "valid": {"auto_pad": "VALID", "strides": [2, 1]},
    "same": {"auto_pad": "SAME_UPPER"},
    "same, lower": {"auto_pad": "SAME_LOWER"},
    "same, strided": {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    "same, lower, strided": {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
}
INPUTS: dict[str, Any] = {
    "bipolar": lambda g: g.bipolar(),
    "bipolar, scaled": lambda g: g.bipolar(-0.5),
    "one signed bit": lambda g: g.quant(0.5, bits=1),
    "int4": lambda g: g.quant(0.5),
    "uint2": lambda g: g.quant(1, bits=2, signed=0),
    "zero point": lambda g: g.quant(0.5, 3, 4, signed=0),
    "zero point of a fraction": lambda g: g.quant(0.5, 1.25, 4),
    "0 lies between the levels": lambda g: g.thresholds([[-1, 0, 1]], 1.0, -1.5, "UINT2"),
    "0 lies beyond the levels": lambda g: g.thresholds([[-1, 0, 1]], 1.0, 2.0, "UINT3"),
    "relu": lambda g: (g.quant(0.5), g.op("Relu")),
    "clip": lambda g: (g.quant(0.5), g.op("Clip", -1, 2)),
    "offset": lambda g: (g.bipolar(), g.op("Add", 0.25)),
    "negated": lambda g: (g.quant(0.5), g.op("Sub", 1, left=True)),
}


def random_weights(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(-3, 4, shape)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("source", INPUTS)
def test_every_window_over_every_kind_of_input(source: str, window: str, tmp_path: Path) -> None:
    graph = GraphBuilder(2, 6, 5)
    INPUTS[source](graph)
    graph.conv(random_weights(1, 3, 2, 3, 2), [0.5, -1, 2], **WINDOWS[window])
    agrees(graph, tmp_path, frames_of(graph, 40))


@pytest.mark.parametrize("groups", [1, 2, 6], ids=["one group", "two groups", "depthwise"])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("source", ["bipolar", "int4", "zero point"])
def test_groups(groups: int, multiplier: int, source: str, tmp_path: Path) -> None:
    graph = GraphBuilder(6, 5, 4)
    INPUTS[source](graph)
    weights = random_weights(2, 6 * multiplier, 6 // groups, 3, 3)
    graph.conv(weights, group=groups, pads=[1, 0, 1, 1], strides=[2, 1])
    parts = [[1, -2, 0.5], [0, 1, -1], [0.5, 2, -3], [1, 4, 0.25]]
    graph.batch_norm(*(np.resize(part, 6 * multiplier) for part in parts), epsilon=0.0)
    graph.quant(1, bits=4)
    layer = agrees(graph, tmp_path, frames_of(graph, 40)).layers[-2]
    assert isinstance(layer, Conv)
    assert (layer.groups, layer.channels) == (groups, 6)


WEIGHTS: dict[str, tuple[Any, str]] = {
    "binary": (lambda g, w: g.bipolar(x=w), "binary"),
    "binary, scaled": (lambda g, w: g.bipolar(0.5, x=w), "binary"),
    "binary, scaled an output": (lambda g, w: g.bipolar(np.reshape([0.5, 2, -1, 1], (4, 1, 1, 1)), x=w), "binary"),
    "ternary": (lambda g, w: g.quant(0.5, bits=2, narrow=1, x=w), "ternary"),
    "int4": (lambda g, w: g.quant(0.25, bits=4, x=w), "int(4)"),
    "int4, scaled an output": (
        lambda g, w: g.quant(np.reshape([0.25, 0.125, 0.5, 1], (4, 1, 1, 1)), bits=4, narrow=1, x=w),
        "int(4)",
    ),
    "uint4 with a zero point": (lambda g, w: g.quant(0.25, 8, 4, signed=0, x=w), "int(4)"),
}


@pytest.mark.parametrize("end", ["thresholds", "scores"])
@pytest.mark.parametrize("spelling", WEIGHTS)
def test_every_spelling_of_weights(spelling: str, end: str, tmp_path: Path) -> None:
    make, code = WEIGHTS[spelling]
    graph = started(2, 4, 4)
    x = graph.x
    weights = graph.constant(np.random.default_rng(3).integers(-7, 8, (4, 2, 3, 2)) / 4 + 1 / 16)
    graph.conv(make(graph, weights), x=x, pads=[1, 1, 1, 0])
    if end == "thresholds":
        graph.quant(0.5, bits=3)
    network = agrees(graph, tmp_path, frames_of(graph, 40))
    assert kinds(network) == ["conv", "threshold"][: len(network.layers)]
    layer = network.layers[0]
    assert isinstance(layer, Conv)
    assert layer.code.name == code


AFFINE: dict[str, Any] = {
    "bias": lambda g: g.op("Add", np.reshape([0.5, -1, 2], (1, 3, 1, 1))),
    "bias without batch": lambda g: g.op("Add", np.reshape([0.5, -1, 2], (3, 1, 1)), left=True),
    "quantized bias": lambda g: g.node("Add", g.x, g.quant(0.25, x=g.constant(np.reshape([0.4, 1, -1], (1, 3, 1, 1))))),
    "scale": lambda g: g.op("Mul", np.reshape([0.5, -1, 0], (1, 3, 1, 1))),
    "batch norm in four": lambda g: (
        g.op("Sub", np.reshape([1, -1, 0.5], (1, 3, 1, 1))),
        g.op("Div", np.reshape([0.5, 2, -4], (1, 3, 1, 1))),
        g.op("Mul", np.reshape([1, 0.5, 0.5], (1, 3, 1, 1))),
        g.op("Add", np.reshape([0.25, 0, -1], (1, 3, 1, 1))),
    ),
    "batch norm": lambda g: g.batch_norm([1, -2, 0], [0, 1, -1], [0.5, 2, -3], [1, 4, 0.25], epsilon=0.0),
    "relu": lambda g: (g.batch_norm([1, -2, 0.5], [0, 1, -1], [0, 0, 0], [1, 4, 1], epsilon=0.0), g.op("Relu")),
    "transpose of nothing": lambda g: g.node("Transpose", g.x, perm=[0, 1, 2, 3]),
}
QUANTIZERS: dict[str, Any] = {
    "int4": lambda g: g.quant(0.5),
    "bipolar": lambda g: g.bipolar(),
    "a channel": lambda g: g.quant(np.reshape([0.5, 1, -2], (1, 3, 1, 1)), np.reshape([0, 1, -1], (1, 3, 1, 1))),
    "thresholds": lambda g: g.thresholds([[-1, 0, 2.5]]),
    "thresholds a channel": lambda g: g.thresholds([[-1, 0, 2.5], [3, 1, -0.5], [-4, 0, 4]]),
    "thresholds of a layout": lambda g: g.thresholds([[-1], [0], [2.5]], data_layout="NCHW"),
}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("affine", AFFINE)
def test_what_follows_a_convolution_folds_into_thresholds_a_channel(
    affine: str, quantizer: str, tmp_path: Path
) -> None:
    graph = started(2, 4, 4)
    graph.conv(random_weights(4, 3, 2, 2, 2))
    AFFINE[affine](graph)
    QUANTIZERS[quantizer](graph)
    network = agrees(graph, tmp_path, frames_of(graph, 40))
    assert kinds(network) == ["conv", "threshold"]
    assert network.output.shape == (3, 3, 3)


@pytest.mark.parametrize("affine", [name for name in AFFINE if name != "relu"])
def test_what_no_quantizer_follows_is_the_output_scale_a_channel(affine: str, tmp_path: Path) -> None:
    graph = started(2, 4, 4)
    graph.conv(random_weights(4, 3, 2, 2, 2))
    AFFINE[affine](graph)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv"]


@pytest.mark.parametrize("groups", [1, 2])
def test_an_offset_that_differs_between_channels_folds_without_padding(groups: int, tmp_path: Path) -> None:
    graph = started(4, 3, 3)
    graph.op("Add", np.reshape([0.5, -1, 0.25, 3], (1, 4, 1, 1)))
    graph.conv(random_weights(5, 4, 4 // groups, 2, 2), group=groups)
    graph.quant(0.5, bits=6)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv", "threshold"]


def scaled_a_channel(outputs: int, groups: int) -> GraphBuilder:
    graph = GraphBuilder(4, 3, 3)
    graph.quant(np.reshape([0.5, 0.5, 2, 2] if groups == 2 else [0.5, 1, 2, 0.25], (1, 4, 1, 1)), bits=3)
    graph.annotation = "INT4"
    graph.conv(random_weights(6, outputs, 4 // groups, 2, 2), group=groups, pads=[1, 0, 0, 1])
    return graph


@pytest.mark.parametrize("groups", [2, 4])
def test_a_scale_that_differs_between_groups_folds(groups: int, tmp_path: Path) -> None:
    graph = scaled_a_channel(8, groups)
    frames = np.random.default_rng(0).integers(-8, 8, (40, *graph.shape)).astype(np.float32)
    assert kinds(agrees(graph, tmp_path, frames)) == ["threshold", "conv"]


def test_pixels_go_straight_into_a_convolution(tmp_path: Path) -> None:
    graph = GraphBuilder(1, 6, 6)
    graph.conv(random_weights(7, 4, 1, 3, 3), pads=[1, 1, 1, 1])
    graph.quant(4, bits=4)
    pixels = np.random.default_rng(2).integers(0, 256, (40, 1, 6, 6)).astype(np.float32)
    network = load(graph.save(tmp_path / "graph.onnx"), input="uint8")
    assert (str(network.input), kinds(network)) == ("uint8[1, 6, 6]", ["conv", "threshold"])
    graph.annotation = "UINT8"
    assert agrees(graph, tmp_path, pixels) == network


@pytest.mark.parametrize("annotation", [None, "INT4"])
def test_vectors_become_maps_before_the_first_product(annotation: str | None, tmp_path: Path) -> None:
    graph = GraphBuilder(24, annotation=annotation)
    graph.quant(0.5, bits=3)
    graph.node("Reshape", graph.x, graph.constant([-1, 2, 3, 4], np.int64))
    graph.conv(random_weights(8, 3, 2, 2, 2))
    graph.flatten()
    graph.quant(0.5, bits=5)
    graph.dense(np.resize([1, -1, 1], (18, 3)))
    frames = np.random.default_rng(0).integers(-8, 8, (40, 24)).astype(np.float32)
    assert agrees(graph, tmp_path, frames).input.shape == (2, 3, 4)


def test_maps_become_vectors_by_every_element(tmp_path: Path) -> None:
    graph = started(2, 4, 4)
    graph.conv(random_weights(9, 3, 2, 2, 2))
    graph.batch_norm([1, -2, 0.5], [0, 1, -1], [0.5, 2, -3], [1, 4, 0.25], epsilon=0.0)
    graph.flatten()
    graph.op("Add", np.arange(27) / 4)
    graph.quant(0.5, bits=3)
    graph.node("Gemm", graph.x, graph.constant(np.resize([1, -1, 0, 1], (5, 27))), transB=1)
    assert kinds(agrees(graph, tmp_path, frames_of(graph, 40))) == ["conv", "flatten", "threshold", "dense"]


FAULTS: list[tuple[str, str, str, Any]] = [
    ("importers.lowering.products", "zero=any(padding)", "zero=False", lambda: padded("zero point", "padded")),
    ("importers.lowering.products", "// (outputs // groups)", "% groups", lambda: scaled_a_channel(8, 2)),
    ("importers.onnx_window", "(less, more) if upper", "(more, less) if upper", lambda: padded("bipolar", "same")),
    ("importers.onnx_window", "((extent - 1) // step)", "(extent // step)", lambda: padded("int4", "same, strided")),
]


def padded(source: str, window: str) -> GraphBuilder:
    graph = GraphBuilder(2, 6, 5)
    INPUTS[source](graph)
    graph.conv(random_weights(1, 3, 2, 3, 2), **WINDOWS[window])
    return graph


@pytest.mark.parametrize(("module", "old", "new", "make"), FAULTS, ids=[new for _, _, new, _ in FAULTS])
def test_a_planted_fault_is_found(
    module: str, old: str, new: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make()
    frames = np.random.default_rng(0).integers(-4, 4, (40, *graph.shape)).astype(np.float32)
    agrees(graph, tmp_path, frames)
    broken = mutant(module, old, new)
    if module == "importers.onnx_window":
        monkeypatch.setattr(qonnx_maps, "Window", broken.Window)
    else:
        monkeypatch.setattr(qonnx_maps, "conv", broken.conv)
    with pytest.raises(AssertionError):
        agrees(graph, tmp_path, frames)
