"""What the QONNX importer refuses, word for word: a graph it cannot take is never taken wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import QONNX, WEIGHTS, GraphBuilder, TensorProto, helper, started

from fewbit.golden.errors import FewbitError
from fewbit.importers.qonnx.reader import load


def conv(graph: GraphBuilder) -> None:
    graph.op("Conv", np.ones((1, 4, 1)))


def join_of_shapes(graph: GraphBuilder) -> None:
    one = graph.x
    graph.node("Add", graph.node("MatMul", one, graph.constant(WEIGHTS)), one)


def join_of_floats(graph: GraphBuilder) -> None:
    graph.node("Add", graph.x, "x")


def join_of_strange_scales(graph: GraphBuilder) -> None:
    one = graph.x
    graph.dense(np.eye(4))
    graph.op("Mul", 0.3)
    graph.node("Add", graph.op("Mul", 0.7), one)


def concat_of_constants(graph: GraphBuilder) -> None:
    graph.node("Concat", graph.x, graph.constant([[1, 2]]), axis=1)


def concat_of_frames(graph: GraphBuilder) -> None:
    graph.node("Concat", graph.x, graph.node("Relu", graph.x), axis=0)


def concat_with_itself(graph: GraphBuilder) -> None:
    graph.node("Concat", graph.x, graph.node("Neg", graph.x), axis=1)


def two_quantizers_of_the_float_input(graph: GraphBuilder) -> None:
    one = graph.x
    graph.node("Add", one, graph.quant(0.25, x="x"))


def square(graph: GraphBuilder) -> None:
    graph.node("Mul", graph.x, graph.x)


def dynamic_scale(graph: GraphBuilder) -> None:
    graph.node(
        "Quant",
        graph.constant(1),
        graph.x,
        graph.constant(0),
        graph.constant(4),
        domain=QONNX,
        signed=1,
        narrow=0,
    )


def two_products(graph: GraphBuilder) -> None:
    graph.dense(WEIGHTS)
    graph.dense(np.ones((3, 1)))


def weights_scaled_by_input(graph: GraphBuilder) -> None:
    x = graph.x
    graph.node("MatMul", x, graph.quant([[1], [2.0**60], [1], [1]], x=graph.constant(WEIGHTS)))


def activations_scaled_by_channel(graph: GraphBuilder) -> None:
    graph.quant([0.5, 0.3, 2, 4])
    graph.dense(WEIGHTS)


def second_input(graph: GraphBuilder) -> None:
    graph.extra_inputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]))
    graph.dense(WEIGHTS)


def use_the_mask(graph: GraphBuilder) -> None:
    graph.node("Dropout", graph.x, outputs=2)
    graph.x += "b"


def use_the_values(graph: GraphBuilder) -> None:
    graph.dense(WEIGHTS)
    graph.node("TopK", graph.x, graph.constant([1], np.int64), outputs=2)


def wrong_k(graph: GraphBuilder) -> None:
    graph.dense(WEIGHTS)
    graph.node("TopK", graph.x, graph.constant([2], np.int64), outputs=2)
    graph.x += "b"


def after_the_end(graph: GraphBuilder) -> None:
    graph.dense(WEIGHTS)
    graph.node("ArgMax", graph.x, axis=1)
    graph.op("Mul", 2)


def make(op: str, *constants: Any, **attributes: Any) -> Callable[[GraphBuilder], Any]:
    return lambda graph: graph.op(op, *constants, **attributes)


BATCH_NORM = [[1] * 4, [0] * 4, [0] * 4, [1] * 4]
REFUSED: list[tuple[Callable[[GraphBuilder], Any], str]] = [
    (conv, "node 'Conv_1' (Conv): its weights must have four axes, not shape (1, 4, 1)"),
    (make("Cosh"), "node 'Cosh_1' (Cosh): this op is not supported"),
    (make("Cosh", name=""), "node 1 (Cosh): this op is not supported"),
    (
        lambda g: (g.node("Softmax", g.x), g.op("Mul", 2)),
        "node 'Mul_2' (Mul): follows a softmax, which only the end of a network can be: end the network there",
    ),
    (
        make("LeakyRelu", alpha=-0.5),
        "node 'LeakyRelu_1' (LeakyRelu): falls below 0 and rises above it: only slopes of 0 or more can become "
        "thresholds",
    ),
    (
        lambda g: (g.node("Sigmoid", g.x), g.dense(WEIGHTS)),
        "node 'MatMul_2' (MatMul): its input is a sigmoid or tanh that no quantizer follows: put a Quant behind it",
    ),
    (
        join_of_shapes,
        "node 'Add_2' (Add): adds branches of shapes (1, 3) and (1, 4); they must have one shape",
    ),
    (
        join_of_floats,
        "node 'Add_1' (Add): joins the float input, which is not quantized: put a Quant before it",
    ),
    (
        join_of_strange_scales,
        "node 'Add_4' (Add): joins activations of scales 0.105 and 0.5: their ratio needs gains of 50 bits, 32 "
        "are the most; quantize both sides with one scale, or with scales whose ratio is a ratio of small integers; "
        "behind sums of a product, that is a Quant on that side",
    ),
    (
        concat_of_constants,
        "node 'Concat_1' (Concat): joins branches with constants: only tensors that depend on the input can be joined",
    ),
    (
        concat_of_frames,
        "node 'Concat_2' (Concat): joins (1, 4) and (1, 4) along axis 0; only channels can be joined, of maps of one "
        "height and width",
    ),
    (
        concat_with_itself,
        "node 'Concat_2' (Concat): joins a branch with itself: put a Quant on one of the two sides",
    ),
    (
        two_quantizers_of_the_float_input,
        "node 'Quant_1' (Quant): quantizes the float input a second time, otherwise than before: quantize it once for "
        "both branches, or say which integers the input holds: --input uint8/255, or input='uint8/255' in Python",
    ),
    (
        square,
        "node 'Mul_1' (Mul): takes two tensors that both depend on the input, and hardware is made for sums (Add) and "
        "concatenations (Concat) of such only",
    ),
    (dynamic_scale, "node 'Quant_1' (Quant): its scale, zero point and bit width must be constants"),
    (
        make("MatMul", [[0.3], [0.2], [1], [1]]),
        "node 'MatMul_1' (MatMul): its weights are floats: quantize them first, a float network with fewbit quantize",
    ),
    (
        make("MatMul", [[1], [0], [0], [40000]]),
        "node 'MatMul_1' (MatMul): its weights, 0 to 40000, need 17 bits, 16 are the most",
    ),
    (
        make("MatMul", np.ones((3, 2))),
        "node 'MatMul_1' (MatMul): weights of shape (3, 2) do not fit activations of shape (1, 4)",
    ),
    (
        make("MatMul", [1, 1, 1, 1]),
        "node 'MatMul_1' (MatMul): its weights must have two axes, not shape (4,)",
    ),
    (
        make("MatMul", np.ones((1, 1)), left=True),
        "node 'MatMul_1' (MatMul): its first input must be the activations, and the others constants",
    ),
    (
        weights_scaled_by_input,
        "node 'MatMul_2' (MatMul): the scales of its weights differ between its inputs, by a ratio of integers of 62 "
        "bits, 32 are the most: train with one scale an output, or with scales of few bits",
    ),
    (
        activations_scaled_by_channel,
        "node 'MatMul_2' (MatMul): "
        "the scale of its activations differs between its inputs, which no integer product can take: give them one "
        "scale, or scales that are small integer multiples of one",
    ),
    (two_products, "node 'MatMul_2' (MatMul): its activations are not quantized: put a Quant before it"),
    (
        make("Gemm", WEIGHTS, transA=1),
        "node 'Gemm_1' (Gemm): takes activations on two axes, not transposed, not shape (1, 4)",
    ),
    (make("Div", 0), "node 'Div_1' (Div): divides by zero"),
    (make("Div", 1, left=True), "node 'Div_1' (Div): divides by the activations"),
    (make("Add", np.inf), "node 'Add_1' (Add): a constant is not a finite number"),
    (
        make("Add", [1, 2, 3]),
        "node 'Add_1' (Add): a constant of shape (3,) does not fit activations of shape (1, 4)",
    ),
    (
        make("Add", np.ones((2, 4))),
        "node 'Add_1' (Add): a constant of shape (2, 4) does not fit activations of shape (1, 4)",
    ),
    (make("Clip", 2, 1), "node 'Clip_1' (Clip): its lower limit must not be above its upper one"),
    (
        make("BatchNormalization", *BATCH_NORM, training_mode=1),
        "node 'BatchNormalization_1' (BatchNormalization): must be in inference mode, one mean and variance a channel",
    ),
    (
        make("BatchNormalization", *BATCH_NORM[:3], [-1] * 4),
        "node 'BatchNormalization_1' (BatchNormalization): a variance is not positive",
    ),
    (
        make("BatchNormalization", *BATCH_NORM, wrong=1),
        "node 'BatchNormalization_1' (BatchNormalization): its attribute 'wrong' is not supported",
    ),
    (
        make("BatchNormalization", *BATCH_NORM, epsilon=1),
        "node 'BatchNormalization_1' (BatchNormalization): its attribute 'epsilon' cannot be 1",
    ),
    (lambda g: g.quant(0), "node 'Quant_1' (Quant): its scale must be finite and not 0"),
    (lambda g: g.quant(bits=2.5), "node 'Quant_1' (Quant): its bit width must be one integer, not [2.5]"),
    (lambda g: g.quant(bits=13), "node 'Quant_1' (Quant): its bit width must be 1 to 12, not 13"),
    (
        lambda g: g.quant(mode="STOCHASTIC"),
        "node 'Quant_1' (Quant): "
        "its rounding mode must be one of "
        "ROUND, HALF_EVEN, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN, not 'STOCHASTIC'",
    ),
    (lambda g: g.quant(signed=2), "node 'Quant_1' (Quant): its attribute 'signed' must be 0 or 1, not 2"),
    (lambda g: g.quant(saturate=1), "node 'Quant_1' (Quant): its attribute 'saturate' is not supported"),
    (
        lambda g: g.thresholds([1, 2]),
        "node 'MultiThreshold_1' (MultiThreshold): its thresholds must be numbers on two axes",
    ),
    (
        lambda g: g.thresholds([[1], [2]]),
        "node 'MultiThreshold_1' (MultiThreshold): has thresholds for 2 channels, the activations have 4",
    ),
    (
        lambda g: g.thresholds([[1]], out_scale=0.0),
        "node 'MultiThreshold_1' (MultiThreshold): its out_scale must not be 0",
    ),
    (
        lambda g: g.node("Cast", g.x, to=TensorProto.FLOAT16),
        "node 'Cast_1' (Cast): a cast of activations to float16 is not supported, only to float32 or float64",
    ),
    (
        lambda g: g.node("Reshape", g.x, g.constant([4, 1], np.int64)),
        "node 'Reshape_1' (Reshape): shape (4, 1) has no batch axis of 1 in front",
    ),
    (
        lambda g: g.node("Reshape", g.x, g.constant([1, 5], np.int64)),
        "node 'Reshape_1' (Reshape): cannot reshape (1, 4) to (1, 5)",
    ),
    (
        lambda g: (
            g.dense(np.ones((4, 4))),
            g.node("Reshape", g.x, g.constant([1, 2, 2], np.int64)),
            g.node("Transpose", g.x, perm=[0, 2, 1]),
        ),
        "node 'Transpose_3' (Transpose): reorders the activations of a frame, which only the host can do, at the "
        "input: export the network with channels first",
    ),
    (
        lambda g: (
            g.dense(np.ones((4, 4))),
            g.quant(),
            g.node("Reshape", g.x, g.constant([1, 2, 2], np.int64)),
            g.dense(np.ones((2, 1))),
        ),
        "node 'MatMul_4' (MatMul): takes one row of activations a frame, not shape (1, 2, 2): "
        "over a sequence, export it as a Conv with a kernel of 1 and the features as channels",
    ),
    (use_the_mask, "node 'Dropout_1' (Dropout): its output 't1b' is not supported"),
    (use_the_values, "node 'TopK_2' (TopK): its output 't2' is not supported"),
    (wrong_k, "node 'TopK_2' (TopK): only the one largest score (k = 1) is supported"),
    (
        make("ArgMax"),
        "node 'ArgMax_1' (ArgMax): must run over all the scores of a frame, not over axis 0 of shape (1, 4)",
    ),
    (
        make("ArgMax", axis=1, select_last_index=1),
        "node 'ArgMax_1' (ArgMax): must take the first of equal scores",
    ),
    (
        after_the_end,
        "node 'Mul_3' (Mul): nothing can follow the arg-max but a change of shape or integer type",
    ),
    (
        second_input,
        "the graph must have one input, not 2 ('x', 'y'): "
        "cut it down to one with onnx.utils.extract_model, and build one network for each",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED, ids=[message.partition(":")[0] for _, message in REFUSED])
def test_a_refusal_names_the_node_and_the_reason(
    spoil: Callable[[GraphBuilder], Any], message: str, tmp_path: Path
) -> None:
    graph = started()
    spoil(graph)
    path = graph.save(tmp_path / "model.onnx")
    with pytest.raises(FewbitError) as refusal:
        load(path)
    assert str(refusal.value) == f"{path}: {message}"


def float_dense(graph: GraphBuilder) -> None:
    graph.dense(WEIGHTS)


def float_channels(graph: GraphBuilder) -> None:
    graph.op("Mul", [1, 2, 3, 4])
    graph.quant()


def float_output(graph: GraphBuilder) -> None:
    graph.op("Mul", 2)


def no_influence(graph: GraphBuilder) -> None:
    graph.op("Mul", 0)
    graph.quant()


def constant_output(graph: GraphBuilder) -> None:
    graph.op("Identity")
    graph.node("Neg", graph.constant(1))


@pytest.mark.parametrize(
    ("spoil", "settings", "options", "message"),
    [
        (
            float_dense,
            {},
            {},
            "node 'MatMul_0' (MatMul): its activations are not quantized: put a Quant before it",
        ),
        (
            float_channels,
            {},
            {},
            "node 'Quant_1' (Quant): "
            "the float input is scaled or quantized a channel each: make it one scale, or say which integers the input "
            "holds: --input uint8/255, or input='uint8/255' in Python",
        ),
        (no_influence, {}, {}, "node 'Quant_1' (Quant): its level is the same for every input"),
        (float_output, {}, {}, "the output is not quantized anywhere: there is nothing to compute"),
        (constant_output, {}, {}, "the output 't1' does not depend on the input"),
        (float_dense, {"annotation": "FLOAT16"}, {}, "input 'x': the data type FLOAT16 is not supported"),
        (
            float_dense,
            {"element": TensorProto.DOUBLE},
            {},
            "input 'x': must be float32 or an integer of 8 or 16 bits, not float64",
        ),
        (
            float_dense,
            {"element": TensorProto.UINT8},
            {},
            "node 'MatMul_0' (MatMul): its input is of an integer type: cast it to float32 first",
        ),
        (
            float_dense,
            {"annotation": "UINT8"},
            {"input": "uint8/255"},
            "input 'x': is uint8 in the file already, so that it cannot be uint8/255",
        ),
        (
            float_dense,
            {},
            {"input": "float"},
            "input must be uintN or intN of 1 to 16 bits, optionally with /NUMBER or *NUMBER, not 'float'",
        ),
        (
            float_dense,
            {},
            {"input": "uint8/0"},
            "input must be uintN or intN of 1 to 16 bits, optionally with /NUMBER or *NUMBER, not 'uint8/0'",
        ),
        (
            float_dense,
            {},
            {"input": "uint17"},
            "input must be uintN or intN of 1 to 16 bits, optionally with /NUMBER or *NUMBER, not 'uint17'",
        ),
    ],
)
def test_a_refused_input(
    spoil: Callable[[GraphBuilder], Any],
    settings: dict[str, Any],
    options: dict[str, str],
    message: str,
    tmp_path: Path,
) -> None:
    graph = GraphBuilder(4, **settings)
    spoil(graph)
    path = graph.save(tmp_path / "model.onnx")
    with pytest.raises(FewbitError) as refusal:
        load(path, **options)
    assert str(refusal.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("shape", "batch", "message"),
    [
        ((), 1, "input 'x': needs a batch axis and at least one more, not shape (1,)"),
        (("width",), 1, "input 'x': only its batch axis may be symbolic"),
    ],
)
def test_a_refused_shape(shape: tuple[Any, ...], batch: int, message: str, tmp_path: Path) -> None:
    graph = GraphBuilder(*shape)
    graph.quant()
    path = graph.save(tmp_path / "model.onnx", batch)
    with pytest.raises(FewbitError) as refusal:
        load(path)
    assert str(refusal.value) == f"{path}: {message}"
