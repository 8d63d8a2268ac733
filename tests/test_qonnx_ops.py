"""Every op in every spelling, held to qonnx' own execution of the same graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import (
    WEIGHTS,
    GraphBuilder,
    TensorProto,
    agrees,
    execute,
    frames_of,
    helper,
    kinds,
    started,
    summed,
)

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Affine, ArgMax, Dense, Flatten, Threshold
from fewbit.golden.run import classify, quantize_input, run
from fewbit.importers.qonnx.reader import load

# what may stand between sums and the next quantizer, with its own qonnx execution


AFFINE: dict[str, Callable[[GraphBuilder], Any]] = {
    "add": lambda g: g.op("Add", 0.75),
    "add a channel": lambda g: g.op("Add", [0.5, -1, 2]),
    "constant + x": lambda g: g.op("Add", [[0.5, -1, 2]], left=True),
    "sub": lambda g: g.op("Sub", [0.5]),
    "constant - x": lambda g: g.op("Sub", [0.5, 0, -3], left=True),
    "mul": lambda g: g.op("Mul", -0.25),
    "mul a channel": lambda g: g.op("Mul", [0.5, -0.5, 0]),
    "constant * x": lambda g: g.op("Mul", [2, 1, 0.5], left=True),
    "div": lambda g: g.op("Div", [[2, -4, 0.5]]),
    "neg": lambda g: g.op("Neg"),
    "relu": lambda g: g.op("Relu"),
    "relu of a falling one": lambda g: (g.op("Mul", [-1, 1, 0]), g.op("Relu"), g.op("Sub", 1)),
    "relu, relu": lambda g: (g.op("Relu"), g.op("Mul", [-0.5, 1, 2]), g.op("Add", 3), g.op("Relu")),
    "clip": lambda g: g.op("Clip", -1.5, 2),
    "clip below": lambda g: g.op("Clip", -0.5),
    "clip above": lambda g: g.node("Clip", g.x, "", g.constant(1)),
    "batch norm": lambda g: g.batch_norm([1, -2, 0.5], [0, 1, -1], [0.5, 2, -3], [1, 4, 0.25], epsilon=0.0),
    "batch norm of gain 0": lambda g: g.batch_norm([0, 0, 0], [0.5, -10, 10], [1, 2, 3], [1, 1, 1], epsilon=0.0),
    "identity": lambda g: g.node("Identity", g.x),
    "dropout": lambda g: g.node("Dropout", g.x, outputs=2),
    "dropout by inputs": lambda g: g.node("Dropout", g.x, g.constant(0.5), g.constant(False, np.bool_)),
    "cast": lambda g: g.node("Cast", g.x, to=TensorProto.FLOAT),
    "reshape": lambda g: g.node("Reshape", g.x, g.constant([-1, 3], np.int64)),
    "unsqueeze, squeeze": lambda g: (
        g.node("Unsqueeze", g.x, g.constant([1, -1], np.int64)),
        g.op("Add", [[[0.5], [1], [2]]]),
        g.node("Squeeze", g.x, g.constant([1, 3], np.int64)),
    ),
    "transpose of one axis": lambda g: (
        g.node("Unsqueeze", g.x, g.constant([1], np.int64)),
        g.node("Transpose", g.x, perm=[0, 2, 1]),
        g.op("Mul", [[1], [-1], [0.5]]),
        g.node("Flatten", g.x),
    ),
}
QUANTIZERS: dict[str, Callable[[GraphBuilder], Any]] = {
    "int4": lambda g: g.quant(0.5),
    "ternary": lambda g: g.quant(1, bits=2, narrow=1),
    "int2": lambda g: g.quant(2, bits=2),
    "uint1": lambda g: g.quant(1, bits=1, signed=0),
    "uint2": lambda g: g.quant(1, bits=2, signed=0),
    "uint3 narrow": lambda g: g.quant(0.5, bits=3, signed=0, narrow=1),
    "uint8": lambda g: g.quant(0.125, bits=8, signed=0),
    "int8": lambda g: g.quant(0.0625, bits=8),
    "one signed bit": lambda g: g.quant(0.5, bits=1),
    "zero point": lambda g: g.quant(0.5, 3, 4, signed=0),
    "zero point of a fraction": lambda g: g.quant(0.5, 1.25, 4),
    "a channel": lambda g: g.quant([[0.5, 1, 2]], [[0, 1, -1]]),
    "negative scale": lambda g: g.quant([-0.5, 0.5, -1]),
    "brevitas domain": lambda g: g.quant(0.5, domain="onnx.brevitas"),
    **{
        mode: lambda g, mode=mode: g.quant(1, bits=3, mode=mode)
        for mode in ("CEIL", "floor", "UP", "DOWN", "HALF_UP", "HALF_DOWN")
    },
    "bipolar": lambda g: g.bipolar(),
    "bipolar, scaled a channel": lambda g: g.bipolar([0.5, -2, 1]),
    "sign": lambda g: g.node("Sign", g.x),
    "thresholds": lambda g: g.thresholds([[-1, 0, 2.5]]),
    "thresholds a channel": lambda g: g.thresholds([[-1, 0, 2.5], [3, 1, -0.5], [-np.inf, 0, np.inf]]),
    "bipolar thresholds": lambda g: g.thresholds([[0], [1], [-1]], 2.0, -1.0, "BIPOLAR"),
    "signed thresholds": lambda g: g.thresholds(np.arange(7)[None] - 3.5, 1.0, -4.0, "INT4"),
    "scaled thresholds": lambda g: g.thresholds([[-1, 1]], 0.25, 0.375, "UINT2"),
    "thresholds of negative scale": lambda g: g.thresholds([[-1, 1]], -0.5, 1.0, "INT3"),
}


@pytest.mark.parametrize("spelling", AFFINE)
def test_every_affine_spelling_folds_into_thresholds(spelling: str, tmp_path: Path) -> None:
    graph = summed()
    AFFINE[spelling](graph)
    graph.quant(0.5, 0, 4)
    assert kinds(agrees(graph, tmp_path)) == ["dense", "threshold"]


@pytest.mark.parametrize("spelling", QUANTIZERS)
def test_every_quantizer_after_sums(spelling: str, tmp_path: Path) -> None:
    graph = summed()
    graph.op("Mul", [0.5, -0.25, 0])
    graph.op("Add", [0.25, 0, 1.5])
    QUANTIZERS[spelling](graph)
    assert kinds(agrees(graph, tmp_path)) == ["dense", "threshold"]


@pytest.mark.parametrize(
    "spelling",
    [q for q in QUANTIZERS if q not in ("a channel", "negative scale", "bipolar, scaled a channel")],
)
def test_every_quantizer_in_front_of_a_product(spelling: str, tmp_path: Path) -> None:
    graph = summed()
    QUANTIZERS[spelling](graph)
    graph.dense(np.array([[1, 2], [-3, 1], [0, 1]]))
    graph.op("Add", [0.5, 1])
    agrees(graph, tmp_path)


BY_CHANNEL = {name for name in QUANTIZERS if "a channel" in name} | {"negative scale", "bipolar thresholds"}


@pytest.mark.parametrize("spelling", [name for name in QUANTIZERS if name not in BY_CHANNEL])
@pytest.mark.parametrize("before", ["add", "neg", "clip", "constant - 2x", "relu"])
def test_every_quantizer_of_the_float_input(spelling: str, before: str, tmp_path: Path) -> None:
    graph = GraphBuilder(3)
    if before == "constant - 2x":
        graph.op("Mul", 2)
        graph.op("Sub", 0.25, left=True)
    else:
        AFFINE[before](graph)
    QUANTIZERS[spelling](graph)
    quantized = graph.x
    graph.dense(np.eye(3))
    levels = execute(graph, frames_of(graph))[quantized]
    if (levels == levels.flat[0]).all():
        with pytest.raises(FewbitError, match="its level is the same for every input"):
            load(graph.save(tmp_path / "graph.onnx"))
        return
    network = agrees(graph, tmp_path)
    assert network.input_quantizer is not None
    assert kinds(network) == ["dense"]


@pytest.mark.parametrize("spelling", AFFINE)
def test_what_no_quantizer_follows_is_the_output_scale(spelling: str, tmp_path: Path) -> None:
    graph = summed()
    AFFINE[spelling](graph)
    if "relu" in spelling or "clip" in spelling:
        with pytest.raises(FewbitError, match="the output is a Relu or Clip that no quantizer follows"):
            load(graph.save(tmp_path / "graph.onnx"))
    else:
        assert kinds(agrees(graph, tmp_path)) == ["dense"]


WEIGHT_SPELLINGS: dict[str, tuple[Callable[[GraphBuilder, str], str], str]] = {
    "binary": (lambda g, w: g.bipolar(x=w), "binary"),
    "binary, scaled": (lambda g, w: g.bipolar(0.5, x=w), "binary"),
    "binary, scaled an output": (lambda g, w: g.bipolar([[0.5, 2, -1]], x=w), "binary"),
    "ternary": (lambda g, w: g.quant(0.5, bits=2, narrow=1, x=w), "ternary"),
    "int4": (lambda g, w: g.quant(0.25, bits=4, x=w), "int(4)"),
    "int4 narrow, scaled an output": (
        lambda g, w: g.quant([[0.25, 0.5, 0.125]], bits=4, narrow=1, x=w),
        "int(4)",
    ),
    "uint4 with a zero point": (lambda g, w: g.quant(0.25, 8, 4, signed=0, x=w), "int(4)"),
    "narrower than said": (lambda g, w: g.quant(4, bits=8, x=w), "ternary"),
}


@pytest.mark.parametrize("form", ["MatMul", "transposed", "Gemm", "Gemm transposed"])
@pytest.mark.parametrize("spelling", WEIGHT_SPELLINGS)
def test_every_spelling_of_weights(spelling: str, form: str, tmp_path: Path) -> None:
    make, code = WEIGHT_SPELLINGS[spelling]
    weights = np.random.default_rng(3).integers(-7, 8, (5, 3)) / 4 + 1 / 16
    graph = started(5)
    x = graph.x
    if "transposed" in form:
        weights = weights.T
    if "scaled an output" in spelling and "transposed" in form:
        scale = {"binary, scaled an output": [[0.5], [2], [-1]]}.get(spelling, [[0.25], [0.5], [0.125]])
        w = graph.constant(weights)
        name = graph.bipolar(scale, x=w) if "binary" in spelling else graph.quant(scale, bits=4, narrow=1, x=w)
    else:
        name = make(graph, graph.constant(weights))
    if form == "transposed":
        name = graph.node("Transpose", name, perm=[1, 0])
    if form.startswith("Gemm"):
        settings = {"transB": 1} if "transposed" in form else {}
        graph.node("Gemm", x, name, graph.constant([0.5, 1, -2]), alpha=0.5, beta=-2.0, **settings)
    else:
        graph.node("MatMul", x, name)
    (dense,) = agrees(graph, tmp_path).layers
    assert isinstance(dense, Dense)
    assert dense.code.name == code


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ([[1], [-1]], "binary"),
        ([[1], [0]], "ternary"),
        ([[0], [0]], "ternary"),
        ([[-2], [1]], "int(2)"),
        ([[7], [2]], "int(4)"),
    ],
)
def test_whole_numbers_are_weights_as_they_are(weights: Any, code: str, tmp_path: Path) -> None:
    graph = started(2)
    graph.dense(weights)
    (dense,) = agrees(graph, tmp_path).layers
    assert isinstance(dense, Dense)
    assert dense.code.name == code


def test_a_weight_of_0_is_plus_one_in_binary(tmp_path: Path) -> None:
    graph = started(2)
    x = graph.x
    graph.node("MatMul", x, graph.bipolar(x=graph.constant([[0, -1], [1, -0.0]])))
    (dense,) = agrees(graph, tmp_path).layers
    assert isinstance(dense, Dense)
    assert dense.weights.tolist() == [[1, 1], [-1, 1]]


@pytest.mark.parametrize("scale", [0.25, [[0.25, 2, -1]]], ids=["one scale", "an output"])
def test_scaled_weights_scale_the_sums_of_the_zero_point(scale: Any, tmp_path: Path) -> None:
    graph = GraphBuilder(4)
    x = graph.quant(0.25, 5, 4, signed=0)
    graph.node("MatMul", x, graph.quant(scale, x=graph.constant(WEIGHTS * [2, 1, 3])))
    graph.quant(0.5)
    agrees(graph, tmp_path)


def test_one_initializer_may_feed_several_quantizers(tmp_path: Path) -> None:
    graph = started(3)
    x, w = graph.x, graph.constant(np.random.default_rng(5).normal(size=(3, 3)))
    graph.node("MatMul", x, graph.bipolar(x=w))
    x = graph.quant(0.5)
    graph.node("MatMul", x, graph.quant(0.25, x=w))
    assert [layer.code.name for layer in agrees(graph, tmp_path).layers if isinstance(layer, Dense)] == [
        "binary",
        "int(4)",
    ]


def test_a_quantized_bias(tmp_path: Path) -> None:
    graph = summed()
    x = graph.x
    graph.node("Add", x, graph.quant(0.125, bits=8, x=graph.constant([0.3, -0.7, 1.1])))
    graph.quant(0.5)
    agrees(graph, tmp_path)


def test_zero_points_add_their_sums_exactly(tmp_path: Path) -> None:
    graph = GraphBuilder(4)
    graph.quant(0.25, 5, 4, signed=0)
    graph.dense([[1, 2], [-3, 1], [2, 2], [0, 1]])
    graph.quant(1, bits=5)
    agrees(graph, tmp_path)


def test_an_offset_that_differs_between_inputs_folds_too(tmp_path: Path) -> None:
    graph = started()
    graph.op("Add", [0.5, -1, 0.25, 3])
    graph.dense(WEIGHTS)
    graph.quant(0.5)
    assert kinds(agrees(graph, tmp_path)) == ["dense", "threshold"]


@pytest.mark.parametrize("after", ["relu", "clip", "relu, scaled", "falling", "between the levels"])
def test_a_relu_after_levels_becomes_levels(after: str, tmp_path: Path) -> None:
    graph = started()
    if after == "clip":
        graph.op("Clip", -1, 1.5)
    elif after == "between the levels":
        graph.op("Add", 0.125)
        graph.op("Clip", 0.125)
    elif after == "falling":
        graph.op("Neg")
        graph.op("Relu")
    else:
        graph.op("Relu")
    if after == "relu, scaled":
        graph.op("Mul", 3)
    graph.dense(WEIGHTS)
    assert kinds(agrees(graph, tmp_path)) == ["threshold", "dense"]


def test_relu_then_quant_is_one_threshold_layer(tmp_path: Path) -> None:
    graph = summed()
    graph.op("Relu")
    graph.quant(0.5, bits=3, signed=0)
    graph.op("Relu")
    graph.dense(np.ones((3, 1)))
    assert kinds(agrees(graph, tmp_path)) == ["dense", "threshold", "threshold", "dense"]


# frames of several axes


def test_channels_of_a_frame_keep_their_own_scale(tmp_path: Path) -> None:
    graph = started(3, 2, 2)
    graph.batch_norm([1, -2, 0.5], [0, 1, -1], [0.5, 2, -3], [1, 4, 0.25], epsilon=0.0)
    graph.quant(0.5, bits=3)
    graph.flatten()
    graph.dense(np.resize(WEIGHTS, (12, 5)))
    network = agrees(graph, tmp_path)
    assert kinds(network) == ["threshold", "flatten", "dense"]
    assert isinstance(network.layers[0], Threshold)
    assert network.layers[0].channels == 3


def test_channels_of_a_frame_survive_its_flattening(tmp_path: Path) -> None:
    graph = started(3, 2, 2)
    graph.op("Add", np.reshape([0.5, -1, 2], (1, 3, 1, 1)))
    graph.flatten()
    graph.dense(np.resize(WEIGHTS, (12, 5)))
    assert kinds(agrees(graph, tmp_path)) == ["flatten", "dense"]


def test_what_differs_along_a_row_is_folded_after_flattening(tmp_path: Path) -> None:
    graph = started(2, 3)
    graph.op("Mul", [1, -0.5, 0.25])
    graph.quant(0.5, bits=3)
    graph.flatten()
    graph.dense(np.ones((6, 2)))
    network = agrees(graph, tmp_path)
    assert kinds(network) == ["flatten", "threshold", "dense"]


@pytest.mark.parametrize(("layout", "channels"), [("NWC", 4), ("NCW", 2), ("", 4)])
def test_thresholds_know_their_channel_axis(layout: str, channels: int, tmp_path: Path) -> None:
    graph = started(2, 4)
    settings = {"data_layout": layout} if layout else {}
    graph.thresholds(np.arange(channels * 2).reshape(channels, 2) / 2 - 1, **settings)
    graph.flatten()
    graph.dense(np.ones((8, 1)))
    agrees(graph, tmp_path)


def test_a_frame_of_one_row_stays_of_its_shape(tmp_path: Path) -> None:
    graph = summed(1, 4)
    network = agrees(graph, tmp_path)
    assert (network.output_shape, kinds(network)) == ((1, 3), ["flatten", "dense"])


def flatten_by_shape(graph: GraphBuilder) -> None:
    """What torch exports for ``x.view(x.shape[0], -1)``."""
    x = graph.x
    shape = graph.node("Shape", x)
    size = graph.node("Gather", shape, graph.constant(0, np.int64), axis=0)
    first = graph.node("Unsqueeze", size, graph.constant([0], np.int64))
    rest = graph.node("Constant", value=helper.make_tensor("rest", TensorProto.INT64, [1], [-1]))
    graph.node("Reshape", x, graph.node("Concat", first, rest, axis=0))


def flatten_by_slice(graph: GraphBuilder) -> None:
    x = graph.x
    shape = graph.node("Shape", x)
    bounds = [graph.constant([number], np.int64) for number in (0, 1)]
    graph.node(
        "Reshape",
        x,
        graph.node("Concat", graph.node("Slice", shape, *bounds), graph.constant([-1], np.int64), axis=0),
    )


FLATTENINGS: dict[str, Callable[[GraphBuilder], Any]] = {
    "flatten": lambda g: g.flatten(),
    "reshape": lambda g: g.node("Reshape", g.x, g.constant([-1, 8], np.int64)),
    "reshape, keeping": lambda g: g.node("Reshape", g.x, g.constant([0, -1], np.int64)),
    "shape, gather, concat": flatten_by_shape,
    "shape, slice, concat": flatten_by_slice,
}


@pytest.mark.parametrize("spelling", FLATTENINGS)
@pytest.mark.parametrize("batch", [1, "N"])
def test_every_spelling_of_flatten(spelling: str, batch: Any, tmp_path: Path) -> None:
    graph = started(2, 2, 2)
    FLATTENINGS[spelling](graph)
    graph.dense(np.ones((8, 2)))
    assert kinds(agrees(graph, tmp_path)) == ["flatten", "dense"]
    network = load(graph.save(tmp_path / "graph.onnx", batch))
    assert (network.input.shape, network.layers[0]) == ((2, 2, 2), Flatten(name="flatten_0"))


# arg-max


def top_k(graph: GraphBuilder) -> None:
    graph.node("TopK", graph.x, graph.constant([1], np.int64), outputs=2, axis=-1)
    graph.x += "b"
    graph.result = TensorProto.INT64


def arg_max(keepdims: int) -> Callable[[GraphBuilder], None]:
    def add(graph: GraphBuilder) -> None:
        graph.node("ArgMax", graph.x, axis=1, keepdims=keepdims)
        graph.result = TensorProto.INT64

    return add


@pytest.mark.parametrize("end", [top_k, arg_max(1), arg_max(0)], ids=["TopK", "ArgMax", "ArgMax without axis"])
@pytest.mark.parametrize("scale", [[0.5], [0.5, 0.25, 1], [-1], [1, 0, -0.5]], ids=str)
def test_arg_max_of_scaled_scores(end: Callable[[GraphBuilder], None], scale: list[float], tmp_path: Path) -> None:
    graph = summed()
    graph.op("Mul", scale)
    if len(scale) > 1:
        graph.op("Add", [1, -0.125, 0.5])
    end(graph)
    network = agrees(graph, tmp_path)
    assert kinds(network) == (["dense", "argmax"] if scale == [0.5] else ["dense", "affine", "argmax"])
    assert isinstance(network.layers[-1], ArgMax)


def test_arg_max_of_scores_with_real_scales(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    graph = started(32)
    graph.dense(rng.choice([-1, 1], (32, 10)))
    graph.batch_norm(*rng.normal(size=(3, 10)), rng.random(10) + 0.1)
    arg_max(0)(graph)
    network = agrees(graph, tmp_path, frames_of(graph, 2000))
    affine = network.layers[1]
    assert isinstance(affine, Affine)
    assert network.scores.dtype.bits <= 32


def test_classes_of_scores_with_a_scale_each(tmp_path: Path) -> None:
    graph = summed()
    graph.op("Mul", [0.5, 0.25, 1])
    network = agrees(graph, tmp_path)
    frames = frames_of(graph)
    scores = run(network, quantize_input(network, frames)).scores
    assert np.array_equal(classify(network, scores), execute(graph, frames)[graph.x].argmax(1))
