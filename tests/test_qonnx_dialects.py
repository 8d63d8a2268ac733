"""Spellings of QONNX by older and other exporters: domains, versions, number types, folded constants, batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import WEIGHTS, GraphBuilder, agrees, execute, frames_of, helper, kinds, onnx, outputs, started

from fewbit.golden.errors import FewbitError
from fewbit.golden.run import quantize_input
from fewbit.importers.qonnx.reader import load
from fewbit.readers import load_source

DOMAINS = ["qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "qonnx", "finn", ""]


def small() -> GraphBuilder:
    graph = GraphBuilder(4)
    graph.quant(0.5)
    x = graph.x
    graph.node("MatMul", x, graph.quant(0.25, x=graph.constant(WEIGHTS * 0.6)))
    graph.bipolar(0.5)
    return graph


@pytest.mark.parametrize("listed", ["version 1", "version 2", "no version", "no domain listed at all"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_with_and_without_its_version(domain: str, listed: str, tmp_path: Path) -> None:
    graph = small()
    model, path = graph.model(), tmp_path / "graph.onnx"
    for node in model.graph.node:
        node.domain = domain if node.domain else ""
    del model.opset_import[:]
    if listed != "no domain listed at all":
        model.opset_import.append(helper.make_opsetid("", 13))
    if listed.startswith("version") and domain:
        model.opset_import.append(helper.make_opsetid(domain, int(listed[-1])))
    onnx.save(model, path)
    frames = frames_of(graph)
    assert np.array_equal(outputs(load(path), frames), execute(graph, frames)[graph.x])
    assert load_source(path) == load(path)


def test_a_graph_without_nodes_is_not_called_cut(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(GraphBuilder(4).model().SerializeToString())
    with pytest.raises(FewbitError) as error:
        load(path)
    assert str(error.value) == f"{path}: its graph has no nodes: there is nothing to compute"


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("kind", ["float64", "float16", "int64", "int32", "uint8"])
def test_parameters_of_a_quantizer_in_any_number_type(kind: str, place: int, tmp_path: Path) -> None:
    graph = GraphBuilder(4)
    values = [0.5 if kind.startswith("float") else 1, 1, 4]
    names = [
        graph.constant(value, kind if index == place else np.float32)
        for index, value in enumerate(values)
    ]  # fmt: skip
    settings = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    graph.node("Quant", graph.x, *names, domain="qonnx.custom_op.general", **settings)
    x = graph.x
    weights = graph.node("Quant", graph.constant(WEIGHTS), *names, domain="qonnx.custom_op.general", **settings)
    graph.node("MatMul", x, weights)
    network = load(graph.save(tmp_path / "graph.onnx"))
    same = GraphBuilder(4)
    same.quant(*values)
    x = same.x
    same.node("MatMul", x, same.quant(*values, x=same.constant(WEIGHTS)))
    frames = frames_of(graph)
    assert np.array_equal(outputs(network, frames), execute(same, frames)[same.x])


@pytest.mark.parametrize("kind", ["float64", "float16", "int64"])
def test_a_constant_of_any_number_type_beside_activations(kind: str, tmp_path: Path) -> None:
    graph = started(4)
    graph.dense(WEIGHTS)
    path = tmp_path / "graph.onnx"
    frames = frames_of(graph)
    sums = execute(graph, frames)[graph.x]
    graph.node("Add", graph.x, graph.constant([1, 2, 3], kind))
    assert np.array_equal(outputs(load(graph.save(path)), frames), sums + np.array([1, 2, 3], np.float32))


FOLDED: dict[str, Any] = {
    "Log, Ceil": lambda g: g.node("Ceil", g.node("Log", g.constant([7.0, 60.0, 2000.0]))),
    "Exp": lambda g: g.node("Floor", g.node("Exp", g.constant([0.5, 1.0, 2.0]))),
    "Where": lambda g: g.node("Where", g.constant([True, False, True], bool), g.constant(1), g.constant([2, 4, 8])),
    "Expand": lambda g: g.node("Expand", g.constant([0.5]), g.constant([3], np.int64)),
    "Tile": lambda g: g.node("Tile", g.constant([0.5]), g.constant([3], np.int64)),
    "Range": lambda g: g.node("Range", g.constant(1, np.float32), g.constant(4, np.float32), g.constant(1, np.float32)),
    "ReduceMax": lambda g: g.node("ReduceMax", g.constant([[1, 2, 3], [3, 2, 5]]), axes=[0], keepdims=0),
    "Clip": lambda g: g.node("Clip", g.constant([-1, 0.5, 9]), g.constant(0), g.constant(4)),
    "Split": lambda g: g.node("Split", g.constant([1, 2, 3, 4, 5, 6]), g.constant([3, 3], np.int64), outputs=2),
    "Dropout": lambda g: g.node("Dropout", g.constant([1, 2, 3])),
}


@pytest.mark.parametrize("spelling", FOLDED)
def test_constants_through_any_operator(spelling: str, tmp_path: Path) -> None:
    graph = started(4)
    graph.dense(WEIGHTS)
    x = graph.x
    graph.node("Add", x, FOLDED[spelling](graph))
    agrees(graph, tmp_path)


UNFOLDABLE: list[tuple[Any, str]] = [
    (
        lambda g: g.node("RandomNormal", shape=[3]),
        "node 'RandomNormal_2' (RandomNormal): this op is not supported on constants",
    ),
    (
        lambda g: g.node("Expand", g.constant([0.5]), g.constant([1 << 20, 1 << 10], np.int64)),
        "node 'Expand_2' (Expand): its result has the shape (1048576, 1024): 16,777,216 elements are the most",
    ),
    (
        lambda g: g.node("Range", g.constant(0), g.constant(1e30), g.constant(1)),
        "node 'Range_2' (Range): ",
    ),
    (
        lambda g: g.node("MatMul", g.constant(np.ones((3, 2))), g.constant(np.ones((3, 2)))),
        "node 'MatMul_2' (MatMul): does not fit its inputs: ",
    ),
]


@pytest.mark.parametrize(("make", "message"), UNFOLDABLE)
def test_constants_that_cannot_be_folded(make: Any, message: str, tmp_path: Path) -> None:
    graph = started(4)
    graph.dense(WEIGHTS)
    x = graph.x
    graph.node("Add", x, make(graph))
    path = graph.save(tmp_path / "graph.onnx")
    with pytest.raises(FewbitError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: {message}")


def shape_chain(graph: GraphBuilder) -> None:
    """x.view(x.shape[0], -1) as PyTorch exports it."""
    x = graph.x
    batch = graph.node("Gather", graph.node("Shape", x), graph.constant(0, np.int64), axis=0)
    first = graph.node("Unsqueeze", batch, graph.constant([0], np.int64))
    target = graph.node("Concat", first, graph.constant([-1], np.int64), axis=0)
    graph.node("Reshape", x, target)


@pytest.mark.parametrize("batch", [1, 8, "N"])
def test_a_shape_chain_and_any_batch(batch: Any, tmp_path: Path) -> None:
    graph = started(1, 2, 2)
    shape_chain(graph)
    graph.dense(WEIGHTS)
    graph.node("Identity", graph.x)
    frames = frames_of(graph, 40)
    network = load(graph.save(tmp_path / "graph.onnx", batch))
    assert kinds(network) == ["flatten", "dense"]
    assert network.input_batch == (8 if batch == 8 else 1)
    assert np.array_equal(outputs(network, frames), execute(graph, frames)[graph.x])


def test_batches_are_frames(tmp_path: Path) -> None:
    graph = started(4)
    graph.node("Reshape", graph.x, graph.constant([8, 2, 2], np.int64))
    graph.node("Reshape", graph.x, graph.constant([8, -1], np.int64))
    graph.dense(WEIGHTS)
    network = load(graph.save(tmp_path / "graph.onnx", 8))
    frames = frames_of(graph, 40)
    by_batch = frames.reshape(5, 8, 4)
    assert np.array_equal(quantize_input(network, by_batch), quantize_input(network, frames))
    from fewbit.engines import network_inputs

    assert network_inputs(network, by_batch).shape == (40, 4)
    with pytest.raises(FewbitError, match=r"^inputs must have shape \(N, 4\), not \(5, 7, 4\)$"):
        network_inputs(network, by_batch[:, :7])
