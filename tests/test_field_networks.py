"""Networks of the shapes that the field publishes, in every dialect of QONNX, on real images, held to qonnx."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import field_networks
import numpy as np
import pytest
from field_networks import Field
from onnx_models import TensorProto, execute, helper, numpy_helper, onnx
from tiers import slow_but

from fewbit.bitstreams import board_design
from fewbit.boards import catalogue
from fewbit.engines import network_inputs, run_rtl
from fewbit.generator import design
from fewbit.golden import run as golden
from fewbit.golden.network import Linear, Network
from fewbit.hw.planner.constraints import Constraints
from fewbit.importers.qonnx.reader import load

MODELS = Path(__file__).parent.parent / "models"
NETWORKS: dict[str, Callable[[], Field]] = {
    "tfc": field_networks.tfc,
    "keras lenet": field_networks.keras_lenet,
    "residual": field_networks.residual,
}
DOMAINS: dict[str, tuple[str, int]] = {
    "qonnx, version 1": ("qonnx.custom_op.general", 1),
    "qonnx, version 2": ("qonnx.custom_op.general", 2),
    "brevitas": ("onnx.brevitas", 1),
    "finn": ("finn.custom_op.general", 1),
    "no domain": ("", 13),
}
QCDQ = "quantize, clip, dequantize"
CASES = [(name, dialect) for name in NETWORKS for dialect in (*DOMAINS, QCDQ) if (name, dialect) != ("tfc", QCDQ)]
QUICK = [("tfc", "finn"), ("keras lenet", "brevitas"), ("keras lenet", QCDQ), ("residual", "qonnx, version 1")]


def images(graph: Field, count: int) -> Any:
    """MNIST's test images over 255, in the shape of the graph's input."""
    data = gzip.decompress((MODELS / "t10k-images-idx3-ubyte.gz").read_bytes())
    pixels = np.frombuffer(data, np.uint8, count * 784, 16)
    return pixels.reshape(count, *graph.shape).astype(np.float32) / np.float32(255)


def as_qcdq(graph: Field) -> None:
    """``graph`` with QuantizeLinear, Clip and DequantizeLinear in place of every Quant, as Brevitas' QCDQ export has
    them."""
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializers}
    nodes = []
    for node in graph.nodes:
        if node.op_type != "Quant":
            nodes.append(node)
            continue
        scale, zero, bits = (constants[name] for name in node.input[1:])
        settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        assert not zero.any()
        signed, narrow, bits = settings["signed"], settings["narrow"], int(bits)
        kind = np.int8 if signed else np.uint8
        low, high = (-(1 << bits - 1) + narrow, (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1 - narrow)
        axis = int(np.argmax(scale.shape)) if scale.size > 1 else 0
        parts = [graph.constant(scale.reshape(-1) if scale.size > 1 else scale)]
        parts.append(graph.constant(np.zeros(scale.size if scale.size > 1 else ()), kind))
        ends = [graph.constant(end, kind) for end in (low, high)]
        (output,), along = node.output, {"axis": axis} if scale.size > 1 else {}
        integers, clipped = f"{output}/integers", f"{output}/clipped"
        nodes.append(helper.make_node("QuantizeLinear", [node.input[0], *parts], [integers], integers, **along))
        nodes.append(helper.make_node("Clip", [integers, *ends], [clipped], clipped))
        nodes.append(helper.make_node("DequantizeLinear", [clipped, *parts], [output], output, **along))
    graph.nodes[:] = nodes


def written(graph: Field, dialect: str, path: Path) -> Path:
    """``graph`` as a file of this dialect; a QCDQ ``graph`` is changed itself."""
    if dialect == QCDQ:
        as_qcdq(graph)
        return graph.save(path)
    domain, version = DOMAINS[dialect]
    model = graph.model()
    for node in model.graph.node:
        node.domain = domain if node.domain else ""
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 13))
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, version))
    onnx.save(model, path)
    return path


def compared(graph: Field, path: Path, frames: Any, **options: Any) -> Network:
    """The network in ``path``: its predictions are those of qonnx, and so are its scores up to float32 rounding."""
    network = load(path, **options)
    wanted = np.concatenate([execute(graph, part)[graph.x] for part in np.array_split(frames, -(-len(frames) // 500))])
    integers = network_inputs(network, frames if network.input_quantizer else frames.astype(np.int64))
    got = golden.dequantize_output(network, golden.run(network, integers).output)
    assert got.shape == wanted.shape
    assert np.array_equal(got.argmax(1), wanted.argmax(1))
    # float32 may round a sum that lies within its error of a threshold to the other side: hardly ever
    close = np.isclose(got, wanted, rtol=1e-4, atol=1e-4).all(1)
    assert close.mean() >= 0.995
    return network


@pytest.mark.parametrize(("name", "dialect"), slow_but(QUICK, CASES))
def test_every_dialect(name: str, dialect: str, tmp_path: Path) -> None:
    graph = NETWORKS[name]()
    path = written(graph, dialect, tmp_path / "graph.onnx")
    compared(graph, path, images(graph, 100))


@pytest.mark.parametrize(("name", "count"), slow_but([("tfc", 500)], [("tfc", 500), *((n, 10_000) for n in NETWORKS)]))
def test_all_test_images(name: str, count: int, tmp_path: Path) -> None:
    graph = NETWORKS[name]()
    compared(graph, written(graph, "qonnx, version 1", tmp_path / "graph.onnx"), images(graph, count))


def test_layers_of_the_networks_as_keras_has_them(tmp_path: Path) -> None:
    graph = field_networks.keras_lenet()
    network = load(written(graph, "qonnx, version 1", tmp_path / "graph.onnx"))
    steps = ["conv", "threshold", "pool"] * 2 + ["flatten", "dense", "threshold", "dense", "threshold", "dense"]
    assert [layer.kind for layer in network.layers] == steps
    assert network.output_function == "softmax"
    assert network.input.shape == (1, 28, 28)


@pytest.mark.parametrize("dialect", slow_but(["brevitas"], DOMAINS))
def test_cnv(dialect: str, tmp_path: Path) -> None:
    """FINN's CNV is exact: its batch normalizations are the only real numbers."""
    graph = field_networks.cnv()
    frames = np.random.default_rng(1).integers(0, 256, (3, *graph.shape)).astype(np.float32)
    network = compared(graph, written(graph, dialect, tmp_path / "graph.onnx"), frames)
    products = [layer for layer in network.layers if isinstance(layer, Linear)]
    assert {layer.code.name for layer in products} == {"binary"}
    assert sum(layer.weights.size for layer in products) == 1_542_848
    assert network.types["conv_5"].shape == (256, 1, 1)
    assert graph.element == TensorProto.FLOAT


@pytest.mark.parametrize("name", [*NETWORKS, "cnv"])
@pytest.mark.slow
def test_hardware(name: str, tmp_path: Path) -> None:
    """RTL gives golden's scores. CNV is planned only: it fits a ULX3S-85F with 3,600 frames a second at 50 MHz, where
    block RAM limits it, 206 of 208."""
    graph = field_networks.cnv() if name == "cnv" else NETWORKS[name]()
    network = load(written(graph, "qonnx, version 1", tmp_path / "graph.onnx"))
    if name == "cnv":
        plan = board_design(network, catalogue.get("ulx3s-85f")).plan
        assert plan.cycles_per_frame <= 13_824
        assert plan.cost.rams <= 208
        return
    frames = network_inputs(network, images(graph, 3))
    result = run_rtl(design(network, "asic", Constraints(fps=1000)), frames)
    assert np.array_equal(result.scores, golden.run(network, frames).scores)
