"""Which code weights take, and how scales that differ within an output are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import mutant
from onnx_models import GraphBuilder, agrees, frames_of, onnx, started
from tiers import slow_but_at

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Linear, Network
from fewbit.importers.lowering import products
from fewbit.importers.onnx_graph import CODE_KEY
from fewbit.importers.qonnx.reader import load

POWERS = [0, 1, -1, 2, -2, 4, -4, 8, -8, 16, -16]


def dense(levels: Any, scale: Any = 1.0) -> GraphBuilder:
    """Sums of eight inputs, with weights (inputs, outputs) through a Quant of nine bits."""
    graph = started(8)
    x = graph.x
    graph.node("MatMul", x, graph.quant(scale, bits=9, x=graph.constant(np.multiply(levels, scale))))
    return graph


def first(network: Network) -> Linear:
    layer = network.layers[0]
    assert isinstance(layer, Linear)
    return layer


CHOSEN: list[tuple[list[int], str]] = [
    ([1, -1], "binary"),
    ([64, -64], "binary"),
    ([7, 0, -7], "ternary"),
    ([1, 2, 0], "quinary"),
    ([3, -6, 0], "int(2)"),
    ([3, -6, 6], "quinary"),
    ([1, 4, 0], "shift3"),
    ([1, 3, -4], "int(3)"),
    (POWERS, "codebook(-16,-8,-4,-2,-1,0,1,2,4,8,16)"),
    ([1, 64], "codebook(1,64)"),
    ([1, 3, 64], "int(8)"),
    ([0], "ternary"),
    ([5], "binary"),
]


@pytest.mark.parametrize(("levels", "code"), slow_but_at((3, 7, 11), CHOSEN), ids=str)
def test_code_of_fewest_bits(levels: list[int], code: str, tmp_path: Path) -> None:
    network = agrees(dense(np.resize(levels, (8, 3))), tmp_path)
    assert first(network).code.name == code


RNG = np.random.default_rng(3)
LEVELS = RNG.integers(-7, 8, (8, 3))
SIGNED = np.where(LEVELS < 0, 4, 1)
SCALES: dict[str, tuple[Any, tuple[int, bool, bool] | None]] = {
    "one an output": (np.float32([[1, 2, 5]]), None),
    "one for four inputs": (np.repeat(np.array([[3, 5, 9], [1, 7, 40]]), 4, 0), (4, False, False)),
    "one for three inputs, the last vector shorter": (
        np.repeat([[3, 5, 9], [1, 7, 4], [11, 2, 8]], 3, 0)[:8],
        (3, False, False),
    ),
    "one for two outputs of an input": (np.array([[9, 9, 5], *[[1, 1, 200]] * 7]), (2, True, False)),
    "one for each sign": (np.where(LEVELS < 0, 4, np.array([[1, 2, 3]])) * 51, (8, False, True)),
    "of real numbers": (np.repeat(np.float32([[0.3, 0.1, 0.7], [0.2, 0.5, 0.9]]), 4, 0), (4, False, False)),
    "one for each weight": (RNG.integers(1, 9, (8, 3)), None),
}  # fmt: skip


@pytest.mark.parametrize("scales", SCALES)
def test_scales_that_differ_within_an_output(scales: str, tmp_path: Path) -> None:
    scale, stored = SCALES[scales]
    network = agrees(dense(LEVELS, scale), tmp_path, exact=False)
    layer = first(network)
    if stored is None:
        assert layer.scales is None
    else:
        assert (layer.vector, layer.across, layer.negative_scales is not None) == stored


@pytest.mark.parametrize("dilation", [1, 2])
def test_kernels_with_a_scale_for_each_group_of_inputs(dilation: int, tmp_path: Path) -> None:
    graph = started(4, 5, 6)
    x = graph.x
    floats = np.random.default_rng(1).integers(-7, 8, (6, 2, 2, 2))
    scale = np.resize([1, 2, 5, 100], (6, 1, 2, 2))
    graph.conv(graph.quant(scale, bits=4, x=graph.constant(floats * scale)), x=x, group=2, dilations=[dilation] * 2)
    layer = first(agrees(graph, tmp_path, frames_of(graph, 20)))
    assert (layer.scales is None) == (dilation > 1)


def test_a_maximum_of_falling_sums_of_two_scales(tmp_path: Path) -> None:
    graph = started(1, 4, 4)
    x = graph.x
    levels = np.random.default_rng(2).integers(-1, 2, (2, 1, 4, 2))
    scale = np.where(levels < 0, 200, 75)
    graph.conv(graph.quant(scale, bits=2, x=graph.constant(levels * scale)), x=x)
    graph.op("Mul", [[[[1]], [[-1]]]])
    graph.node("MaxPool", graph.x, kernel_shape=[1, 2])
    layer = first(agrees(graph, tmp_path, frames_of(graph, 20)))
    assert layer.negative_scales is not None


@pytest.mark.parametrize(("stated", "code"), [("csd(2,5)", "csd(2,5)"), ("binary", "quinary"), ("nothing", "quinary")])
def test_a_stated_code_counts_if_it_has_the_levels(stated: str, code: str, tmp_path: Path) -> None:
    graph = dense(np.resize([2, -4, 0] if code == "csd(2,5)" else [1, -2, 2], (8, 3)))
    model = graph.model()
    quantized = next(node.output[0] for node in model.graph.node if node.op_type == "Quant" and node.input[0] != "x")
    entry = onnx.StringStringEntryProto(key=CODE_KEY, value=stated)
    model.graph.quantization_annotation.append(
        onnx.TensorAnnotation(tensor_name=quantized, quant_parameter_tensor_names=[entry])
    )
    path = tmp_path / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    assert first(load(path)).code.name == code


def test_scales_without_a_common_unit_are_refused(tmp_path: Path) -> None:
    graph = dense(LEVELS, np.repeat(np.float32([[1, 1, 1], [1e-20, 1, 1]]), 4, 0))
    with pytest.raises(FewbitError, match=r"\(MatMul\): the scales of its weights differ between its inputs, by a rat"):
        load(graph.save(tmp_path / "graph.onnx"))


FAULTS = [
    ("earlier[changed], place[changed]", "place[changed] - 1, place[changed] + 1", "one for four inputs"),
    ("levels // divisor, Fraction(divisor)", "levels // divisor, Fraction(1)", None),
    ("[sides >= 0, sides < 0]", "[sides > 0, sides <= 0]", "one for each sign"),
    ("start + first[row]", "start + 0 * first[row]", "one for each sign"),
]


@pytest.mark.parametrize(("old", "new", "scales"), FAULTS, ids=[new for _, new, _ in FAULTS])
def test_a_planted_fault_is_found(
    old: str, new: str, scales: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        if scales is None:
            agrees(dense(np.resize([7, 0, -7], (8, 3))), tmp_path)
        else:
            test_scales_that_differ_within_an_output(scales, tmp_path)

    check()
    monkeypatch.setattr(products, "IntegerWeights", mutant("importers.lowering.weights", old, new).IntegerWeights)
    with pytest.raises(AssertionError):
        check()
