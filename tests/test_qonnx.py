"""Whole networks through the QONNX importer: their inputs, chains at random, and what Brevitas exported."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_models import WEIGHTS, GraphBuilder, TensorProto, agrees, execute, frames_of, kinds, outputs
from tiers import slow_but

from fewbit.golden.network import Dense, Threshold
from fewbit.golden.run import classify, dequantize_output, quantize_input, run
from fewbit.importers.qonnx.reader import load

# integer inputs


def pixels(graph: GraphBuilder) -> Any:
    return np.random.default_rng(2).integers(0, 256, (50, *graph.shape)).astype(np.float32)


def picture(**settings: Any) -> GraphBuilder:
    graph = GraphBuilder(6, **settings)
    if settings.get("element") == TensorProto.UINT8:
        graph.node("Cast", graph.x, to=TensorProto.FLOAT)
    return graph


def finish(graph: GraphBuilder) -> None:
    graph.op("Mul", 2)
    graph.op("Sub", 1)
    graph.quant(1, bits=2, narrow=1)
    graph.dense(np.resize(WEIGHTS, (6, 3)))


@pytest.mark.parametrize("settings", [{"annotation": "UINT8"}, {"element": TensorProto.UINT8}], ids=str)
def test_an_integer_input_starts_with_a_threshold_layer(settings: dict[str, Any], tmp_path: Path) -> None:
    graph = picture(**settings)
    graph.op("Div", 255)
    finish(graph)
    frames = pixels(graph) if "annotation" in settings else pixels(graph).astype(np.uint8)
    network = agrees(graph, tmp_path, frames)
    assert (str(network.input), network.input_quantizer) == ("uint8[6]", None)
    # 2x - 1 rounds to 0 from a quarter to three quarters
    assert network.layers[0] == Threshold(
        name="threshold_0",
        thresholds=np.array([[64, 192]]),
        sign=np.array([1]),
        dtype=network.tensor_types[1].dtype,
        base=-1,
    )


@pytest.mark.parametrize(("option", "factor"), [("uint8/255", "div"), ("uint8*0.00390625", "mul"), ("uint8", None)])
def test_a_float_input_of_which_the_user_says_that_it_is_pixels(
    option: str, factor: str | None, tmp_path: Path
) -> None:
    graph = picture()
    if factor is None:
        graph.op("Div", 255)
    finish(graph)
    network = load(graph.save(tmp_path / "graph.onnx"), input=option)
    frames = pixels(graph)
    real = {"div": frames / np.float32(255), "mul": frames * np.float32(1 / 256), None: frames}[factor]
    assert str(network.input) == "uint8[6]"
    assert np.array_equal(outputs(network, frames), execute(graph, real)[graph.x])


def test_every_pixel_value_is_quantized_as_float32_does(tmp_path: Path) -> None:
    graph = GraphBuilder(256)
    graph.op("Sub", 0.1307)
    graph.op("Div", 0.3081)
    graph.quant(0.0217, bits=8)
    graph.dense(np.eye(256)[:, :128])
    network = load(graph.save(tmp_path / "graph.onnx"), input="uint8/255")
    real = np.stack([np.arange(256), np.roll(np.arange(256), 128)]).astype(np.float32) / np.float32(255)
    got = outputs(network, np.stack([np.arange(256), np.roll(np.arange(256), 128)]))
    assert np.allclose(got, execute(graph, real)[graph.x], rtol=1e-6)


def test_pixels_scaled_a_channel(tmp_path: Path) -> None:
    graph = GraphBuilder(3, 2, 2, annotation="UINT8")
    graph.batch_norm([1, -2, 1.5], [0.1, 0.2, -0.3], [100, 120, 140], [50**2, 60**2, 70**2])
    graph.quant(0.25, bits=4)
    graph.flatten()
    graph.dense(np.resize(WEIGHTS, (12, 5)))
    network = agrees(graph, tmp_path, pixels(graph))
    assert kinds(network) == ["threshold", "flatten", "dense"]


@pytest.mark.parametrize(
    ("annotation", "kind", "low", "high"),
    [
        ("BIPOLAR", "bipolar", -1, 1),
        ("INT4", "int4", -8, 7),
        ("BINARY", "uint1", 0, 1),
        ("TERNARY", "int2", -1, 1),
    ],
)
def test_an_input_of_few_bits_goes_straight_into_a_product(
    annotation: str, kind: str, low: int, high: int, tmp_path: Path
) -> None:
    graph = GraphBuilder(4, annotation=annotation)
    graph.dense(WEIGHTS)
    step = 2 if kind == "bipolar" else 1
    frames = np.random.default_rng(0).choice(np.arange(low, high + 1, step), (50, 4)).astype(np.float32)
    network = agrees(graph, tmp_path, frames)
    assert (str(network.input), kinds(network)) == (f"{kind}[4]", ["dense"])


@pytest.mark.parametrize(("option", "factor"), [("uint8/4", 0.25), ("uint8*0.5", 0.5), ("uint8", 1)])
def test_scaled_pixels_without_a_quantizer(option: str, factor: float, tmp_path: Path) -> None:
    graph = GraphBuilder(4)
    graph.op("Sub", 3)
    graph.dense(WEIGHTS)
    network = load(graph.save(tmp_path / "graph.onnx"), input=option)
    frames = pixels(graph)
    assert np.array_equal(outputs(network, frames), execute(graph, frames * np.float32(factor))[graph.x])


def test_sums_of_an_integer_input_are_quantized_as_sums(tmp_path: Path) -> None:
    graph = GraphBuilder(4, annotation="INT4")
    graph.op("Add", 1.5)
    graph.dense(WEIGHTS)
    graph.quant(2, bits=3)
    frames = np.random.default_rng(0).integers(-8, 8, (50, 4)).astype(np.float32)
    assert kinds(agrees(graph, tmp_path, frames)) == ["dense", "threshold"]


def test_thresholds_a_channel_right_after_an_integer_input(tmp_path: Path) -> None:
    graph = GraphBuilder(4, annotation="INT4")
    graph.thresholds([[-1, 2], [0, 0], [-8, 7], [5, 3]])
    graph.dense(WEIGHTS)
    frames = np.random.default_rng(0).integers(-8, 8, (50, 4)).astype(np.float32)
    assert kinds(agrees(graph, tmp_path, frames)) == ["threshold", "dense"]


def test_batch_normalization_of_the_float_input_is_that_of_onnxruntime(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    graph = GraphBuilder(1, 1, 512)
    graph.batch_norm(1.7, -0.3, 0.13, 0.095)
    graph.quant(0.017, bits=8)
    graph.flatten()
    graph.dense(np.eye(512)[:, :256])
    network = load(graph.save(tmp_path / "graph.onnx"))
    assert network.input_quantizer is not None
    thresholds = network.input_quantizer.thresholds
    beside = [np.nextafter(thresholds, np.float32(end)) for end in (-np.inf, np.inf)]
    values = np.resize(np.concatenate([thresholds, *beside, rng.normal(size=3).astype(np.float32)]), 1024)
    frames = np.concatenate([values.reshape(4, 256), np.zeros((4, 256), np.float32)], 1).reshape(4, 1, 1, 512)
    tensors = execute(graph, frames)
    assert np.allclose(outputs(network, frames), tensors[graph.x], rtol=1e-6)


# chains at random


@st.composite
def dyadic_graphs(draw: st.DrawFn) -> GraphBuilder:
    """Graphs in which every number is a small multiple of a power of two, so that float32 rounds nothing."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32), "seed"))
    width = draw(st.integers(1, 6), "inputs")
    graph = GraphBuilder(width)

    def vector(values: list[float]) -> Any:
        return rng.choice(values, draw(st.sampled_from([1, width]), "vector"))

    def affine() -> None:
        gains = [-2, -1, -0.5, 0, 0.25, 0.5, 1, 2]
        step = draw(
            st.sampled_from(["Mul", "Add", "Sub", "rsub", "Div", "Relu", "Clip", "BatchNormalization"]),
            "step",
        )
        if step == "Mul":
            graph.op("Mul", vector(gains))
        elif step == "Div":
            graph.op("Div", vector([-2, -1, 0.5, 4]))
        elif step in ("Add", "Sub", "rsub"):
            graph.op(step.replace("rsub", "Sub"), vector([-3, -0.5, 0, 0.25, 1, 2.5]), left=step == "rsub")
        elif step == "BatchNormalization":
            parts = [rng.choice(v, width) for v in (gains, [-1, 0, 0.5], [-2, 0, 1.5], [0.25, 1, 4, 16])]
            graph.batch_norm(*parts, epsilon=0.0)
        else:
            graph.op(step, *([] if step == "Relu" else sorted(rng.choice([-4, -1, 0.5, 3], 2, replace=False))))

    def quantizer(common: bool) -> None:
        kind = draw(st.sampled_from(["quant", "quant", "bipolar", "thresholds"]), "quantizer")
        scale = rng.choice([0.25, 0.5, 1, 2], 1 if common else width)
        if kind == "quant":
            bits, signed = draw(st.sampled_from([1, 2, 3, 8]), "bits"), draw(st.integers(0, 1), "signed")
            narrow = draw(st.integers(0, int(bits > 1)), "narrow")
            graph.quant(scale, rng.choice([0, 0, 1, -2]), bits, signed, narrow)
        elif kind == "bipolar":
            graph.bipolar(scale)
        else:
            rows = rng.integers(-12, 13, (1 if common else width, draw(st.integers(1, 4), "thresholds"))) / 4
            graph.thresholds(rows, float(rng.choice([0.5, 1, 2])), float(rng.choice([-1, 0, 0.25])))

    graph.quant(0.25, 0, draw(st.integers(2, 5), "input bits"))
    for _ in range(draw(st.integers(1, 2), "layers")):
        outputs = draw(st.integers(1, 5), "outputs")
        graph.dense(rng.integers(-3, 4, (width, outputs)))
        width = outputs
        for _ in range(draw(st.integers(0, 3), "affine steps")):
            affine()
        quantizer(common=True)
    if draw(st.booleans(), "open end"):
        graph.dense(rng.choice([-1, 1], (width, 3)))
        width = 3
        graph.op("Mul", rng.choice([-1, 0.5, 2], 3))
    return graph


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(graph=dyadic_graphs())
def test_dyadic_chains_are_equal_on_every_tie(graph: GraphBuilder, tmp_path: Path) -> None:
    agrees(graph, tmp_path, frames_of(graph, 60))


@pytest.mark.parametrize("seed", range(12))
def test_chains_with_real_scales(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(2, 9))
    graph = GraphBuilder(20)
    graph.quant(0.173, bits=bits)
    for width, count in ((20, 16), (16, 12)):
        x, w = graph.x, graph.constant(rng.normal(size=(width, count)))
        scale, weight_bits = rng.random((1, count)) + 0.05, int(rng.integers(2, 6))
        graph.node("MatMul", x, graph.quant(scale, bits=weight_bits, narrow=1, x=w))
        graph.batch_norm(*rng.normal(size=(3, count)), rng.random(count) * 9 + 0.1)
        if rng.random() < 0.5:
            graph.op("Relu")
        graph.quant(rng.random() / 2**bits * 8 + 0.01, bits=bits, signed=int(rng.random() < 0.5))
    graph.dense(rng.choice([-1, 1], (12, 5)))
    graph.op("Mul", rng.normal(size=5))
    frames = rng.normal(size=(400, 20)).astype(np.float32)
    network = load(graph.save(tmp_path / "graph.onnx"))
    tensors = execute(graph, frames)
    got = outputs(network, frames)
    # float32 may round a sum that lies within its error of a boundary to the other side: hardly ever
    same = np.isclose(got, tensors[graph.x], rtol=1e-4, atol=1e-4).all(1)
    assert same.mean() > 0.99
    assert np.array_equal(got[same].argmax(1), tensors[graph.x][same].argmax(1))


# the shipped models, which Brevitas exported

MODELS = Path(__file__).parent.parent / "models"


def unpacked(name: str, header: int) -> Any:
    """Bytes of an idx file after its header."""
    return np.frombuffer(gzip.decompress((MODELS / name).read_bytes()), np.uint8, offset=header)


@pytest.mark.parametrize("name", slow_but(["tfc-w1a2"], ["tfc-w1a1", "tfc-w1a2", "tfc-w2a2"]))
def test_brevitas_networks_on_all_test_images(name: str) -> None:
    pytest.importorskip("qonnx")
    path = MODELS / f"{name}.onnx"
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.util.cleanup import cleanup_model

    images = unpacked("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = unpacked("t10k-labels-idx1-ubyte.gz", 8)
    real = images.astype(np.float32) / np.float32(255)
    model = cleanup_model(cleanup_model(ModelWrapper(str(path))).transform(ChangeBatchSize(1000)))
    source, sink = model.graph.input[0].name, model.graph.output[0].name
    wanted = np.concatenate([execute_onnx(model, {source: part})[sink] for part in np.split(real, 10)])

    network = load(path)
    result = run(network, quantize_input(network, real))
    scores = dequantize_output(network, result.output)
    assert np.allclose(scores, wanted, rtol=1e-6, atol=1e-5)
    assert np.array_equal(scores.argmax(1), wanted.argmax(1))
    assert np.array_equal(classify(network, result.scores), wanted.argmax(1))
    by_pixel = load(path, input="uint8/255")
    assert np.array_equal(run(by_pixel, images.astype(np.int64)).output, result.output)
    recorded = json.loads(path.with_suffix(".json").read_text())["test_accuracy"]
    assert 100 * (scores.argmax(1) == labels).mean() == pytest.approx(recorded)
    code = "ternary" if name == "tfc-w2a2" else "binary"
    assert [layer.code.name for layer in network.layers if isinstance(layer, Dense)] == [code] * 4
