"""Whole convolutional networks through the QONNX importer: at random, as Brevitas exports them, and qonnx' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import GraphBuilder, TensorProto, agrees, execute, frames_of, helper, kinds, onnx, outputs
from tiers import slow_but

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Network
from fewbit.golden.run import dequantize_output, quantize_input, run
from fewbit.importers.qonnx.ops import NEAREST
from fewbit.importers.qonnx.reader import load
from fewbit.passes import PASSES

GAINS = [-2.0, -1, -0.5, 0, 0.25, 0.5, 1, 2]


def channels(rng: Any, values: list[float], count: int) -> Any:
    """One value for all, or one for each channel."""
    return rng.choice(values, 1) if rng.random() < 0.3 else rng.choice(values, (1, count, 1, 1))


def affine(graph: GraphBuilder, rng: Any, width: int) -> None:
    step = rng.choice(["Mul", "Add", "Sub", "Relu", "BatchNormalization"])
    if step == "Relu":
        graph.op("Relu")
    elif step == "BatchNormalization":
        parts = (GAINS, [-1, 0, 0.5], [-2, 0, 1.5], [0.25, 1, 4, 16])
        graph.batch_norm(*(rng.choice(values, width) for values in parts), epsilon=0.0)
    else:
        graph.op(step, channels(rng, GAINS, width), left=bool(rng.random() < 0.3))


def quantizer(graph: GraphBuilder, rng: Any, width: int) -> None:
    kind = rng.choice(["quant", "quant", "bipolar", "thresholds"])
    if kind == "quant":
        bits = int(rng.choice([1, 2, 3, 4]))
        graph.quant(rng.choice([0.25, 0.5, 2]), rng.choice([0, 0, 1, -2]), bits, int(rng.integers(2)))
    elif kind == "bipolar":
        graph.bipolar(rng.choice([0.5, 1]))
    else:
        rows = rng.integers(-12, 13, (int(rng.choice([1, width])), int(rng.integers(1, 5)))) / 4
        graph.thresholds(rows, float(rng.choice([0.5, 1])), float(rng.choice([-1, 0])), "INT4")


def dyadic(seed: int) -> GraphBuilder:
    """A graph in which every number is a small multiple of a power of two, so that float32 rounds nothing."""
    rng = np.random.default_rng(seed)
    width, size = int(rng.choice([1, 2, 4])), np.array([9, 14])
    graph = GraphBuilder(width, 9, 14)
    graph.quant(0.5, 0, int(rng.integers(1, 5)))
    for _ in range(2):
        groups = int(rng.choice([one for one in (1, 2, width) if width % one == 0]))
        outputs, kernel, stride = groups * int(rng.integers(1, 4)), rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        pads = np.concatenate([rng.integers(0, kernel), rng.integers(0, kernel)])
        weights = rng.integers(-2, 3, (outputs, width // groups, *kernel))
        bias = rng.choice(GAINS, outputs) if rng.random() < 0.5 else None
        graph.conv(weights, bias, strides=stride.tolist(), pads=pads.tolist(), group=groups)
        width, size = outputs, (size + pads[:2] + pads[2:] - kernel) // stride + 1
        pooled = rng.choice(["before", "after", "mean", "none"]) if (size > 1).all() else "none"
        if pooled == "before":
            affine(graph, rng, width)
            graph.node("MaxPool", graph.x, kernel_shape=[2, 2], strides=[1, 2])
        affine(graph, rng, width)
        quantizer(graph, rng, width)
        if pooled == "after":
            graph.node("MaxPool", graph.x, kernel_shape=[2, 2], strides=[1, 2])
        elif pooled == "mean":
            graph.node("AveragePool", graph.x, kernel_shape=[2, 2], strides=[1, 2])
            quantizer(graph, rng, width)
        size = size if pooled == "none" else np.array([size[0] - 1, size[1] // 2])
    graph.flatten()
    graph.dense(rng.choice([-1, 1], (width * int(size.prod()), 3)))
    graph.op("Mul", rng.choice([-1, 0.5, 2], 3))
    return graph


@pytest.mark.parametrize("seed", slow_but(range(25), range(60)))
def test_dyadic_networks_are_equal_on_every_tie(seed: int, tmp_path: Path) -> None:
    graph = dyadic(seed)
    frames = frames_of(graph, 40)
    network = agrees(graph, tmp_path, frames)
    integers = quantize_input(network, frames)
    for one in PASSES:
        lowered = one(network)
        assert np.array_equal(run(lowered, integers).output, run(network, integers).output), one.__name__
        network = lowered


def convolutional(seed: int, bits: int) -> GraphBuilder:
    """In the manner of CNV: pairs of convolutions of 3x3, batch norm, a quantizer, every other one a maximum."""
    rng = np.random.default_rng(seed)
    graph = GraphBuilder(3, 20, 20)
    graph.quant(1 / 128, bits=8)
    width = 3
    for count, pads, pooled in ((8, 1, False), (8, 0, True), (12, 1, False), (12, 0, True)):
        x = graph.x
        scale = rng.random((count, 1, 1, 1)) + 0.05
        weights = graph.constant(rng.normal(size=(count, width, 3, 3)))
        name = graph.bipolar(0.1, x=weights) if bits == 1 else graph.quant(scale, bits=bits, narrow=1, x=weights)
        graph.conv(name, x=x, pads=[pads] * 4)
        graph.batch_norm(*rng.normal(size=(3, count)), rng.random(count) * 9 + 0.1)
        if bits == 1:
            graph.bipolar()
        else:
            graph.op("Relu")
            graph.quant(0.3, bits=bits, signed=0)
        if pooled:
            graph.node("MaxPool", graph.x, kernel_shape=[2, 2], strides=[2, 2])
        width = count
    graph.flatten()
    graph.dense(rng.choice([-1, 1], (width * 9, 5)))
    graph.op("Mul", rng.normal(size=5))
    return graph


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_networks_with_real_scales(seed: int, bits: int, tmp_path: Path) -> None:
    graph = convolutional(seed, bits)
    frames = np.random.default_rng(seed).random((30, *graph.shape)).astype(np.float32) * 2 - 1
    network = load(graph.save(tmp_path / "graph.onnx"))
    wanted = execute(graph, frames)[graph.x]
    got = outputs(network, frames)
    # float32 may round a sum that lies within its error of a boundary to the other side: hardly ever
    same = np.isclose(got, wanted, rtol=1e-4, atol=1e-4).all(1)
    assert same.mean() > 0.9
    assert np.array_equal(got[same].argmax(1), wanted[same].argmax(1))


def test_a_network_that_ends_in_a_class(tmp_path: Path) -> None:
    graph = convolutional(1, 1)
    graph.node("TopK", graph.x, graph.constant([1], np.int64), outputs=2, axis=1)
    graph.x += "b"
    graph.result = TensorProto.INT64
    frames = np.random.default_rng(1).random((30, *graph.shape)).astype(np.float32) * 2 - 1
    assert kinds(agrees(graph, tmp_path, frames))[-4:] == ["flatten", "dense", "affine", "argmax"]


# files of others

BREVITAS = Path(__file__).parent / "brevitas"


def compared(path: Path, pixels: Any, option: str | None = None) -> Network:
    """The network in ``path``, found equal to qonnx' execution of the file for ``pixels`` / 255."""
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    real = pixels.astype(np.float32) / np.float32(255)
    model = cleanup_model(ModelWrapper(str(path)))
    source, sink = model.graph.input[0].name, model.graph.output[0].name
    wanted = np.concatenate([execute_onnx(model, {source: frame[None]})[sink] for frame in real])
    network = load(path, input=option)
    integers = pixels.astype(np.int64) if option else quantize_input(network, real)
    got = dequantize_output(network, run(network, integers).output)
    assert got.shape == wanted.shape
    assert np.allclose(got, wanted, rtol=1e-6, atol=1e-6)
    return network


@pytest.mark.parametrize("name", sorted(path.stem for path in BREVITAS.glob("*.onnx")))
def test_what_brevitas_exports(name: str) -> None:
    path = BREVITAS / f"{name}.onnx"
    model = onnx.load(path)
    shape = [extent.dim_value for extent in model.graph.input[0].type.tensor_type.shape.dim][1:]
    pixels = np.random.default_rng(1).integers(0, 256, (20, *shape))
    if name.startswith("mobile"):
        with pytest.raises(FewbitError, match="its activations are not quantized: put a Quant before it"):
            load(path)
        network = compared(path, pixels, "uint8/255")
        assert [layer.groups for layer in network.layers if isinstance(layer, Conv)] == [1, 8, 1, 16, 1]
        assert kinds(network)[-4:] == ["pool", "threshold", "flatten", "dense"]
    else:
        network = compared(path, pixels)
        assert kinds(network).count("pool") == 2


@pytest.mark.parametrize(
    ("name", "stop", "last", "option"),
    [
        ("nn_resize", "node 'Resize_42' (Resize)", "onnx::Resize_80", None),
        ("subpixel", "node 'DepthToSpace_42' (DepthToSpace)", "onnx::DepthToSpace_73", "uint8/255"),
    ],
)
def test_a_trained_network_of_qonnx_up_to_what_is_refused(
    name: str, stop: str, last: str, option: str | None, tmp_path: Path
) -> None:
    data = pytest.importorskip("qonnx.data")
    path = Path(next(iter(data.__path__))) / "onnx" / "bsd300x3-espcn" / name / "quant_model.onnx"
    with pytest.raises(FewbitError) as refusal:
        load(path, input=option)
    assert str(refusal.value) == f"{path}: {stop}: this op is not supported: " + NEAREST["Resize"]
    model = onnx.load(path)
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    for extent in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        extent.dim_value = 20
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.SerializeToString())
    compared(cut, np.random.default_rng(1).integers(0, 256, (4, 3, 20, 20)), option)
