"""What the QONNX importer refuses of convolution and pooling, word for word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import QONNX, GraphBuilder

from fewbit.golden.errors import FewbitError
from fewbit.importers.qonnx.reader import load

ONES = np.ones((2, 3, 2, 2))
MAPS = "takes maps of shape (1, channels, height, width), not"


def make(op: str, *constants: Any, **attributes: Any) -> Callable[[GraphBuilder], Any]:
    return lambda graph: graph.op(op, *constants, **attributes)


def pool(op: str, **attributes: Any) -> Callable[[GraphBuilder], Any]:
    return lambda graph: graph.node(op, graph.x, **{"kernel_shape": [2, 2], **attributes})


def flattened(graph: GraphBuilder) -> None:
    graph.flatten()
    graph.op("Mul", np.arange(48) + 1)
    graph.quant()
    graph.node("Reshape", graph.x, graph.constant([1, 3, 4, 4], np.int64))
    graph.conv(ONES)


def dense_first(graph: GraphBuilder) -> None:
    graph.flatten()
    graph.dense(np.ones((48, 12)))
    graph.quant()
    graph.node("Reshape", graph.x, graph.constant([1, 3, 2, 2], np.int64))
    graph.conv(ONES)


def scaled_by_channel(graph: GraphBuilder) -> None:
    graph.op("Mul", np.reshape([1, 0.3, 3], (1, 3, 1, 1)))
    graph.conv(ONES)


def weights_scaled_by_input(graph: GraphBuilder) -> None:
    x = graph.x
    graph.conv(graph.quant(np.reshape([1, 2, 2.0**60], (1, 3, 1, 1)), x=graph.constant(ONES)), x=x)


def offset_a_channel(graph: GraphBuilder) -> None:
    graph.op("Add", np.reshape([1, 2, 3], (1, 3, 1, 1)))
    graph.conv(ONES, pads=[1, 0, 0, 0])


def far_offset(graph: GraphBuilder) -> None:
    graph.op("Add", 10000)
    graph.conv(ONES, pads=[1, 0, 0, 0])


def sums_with_an_offset(graph: GraphBuilder) -> None:
    graph.conv(ONES, [1, 2])
    pool("AveragePool", pads=[0, 0, 1, 1], count_include_pad=1)(graph)


def twice(graph: GraphBuilder) -> None:
    graph.conv(ONES)
    graph.conv(np.ones((1, 2, 1, 1)))


def relu_of_sums(graph: GraphBuilder) -> None:
    graph.conv(ONES)
    graph.op("Relu")
    graph.node("GlobalAveragePool", graph.x)


def falling_levels(graph: GraphBuilder) -> None:
    graph.op("Mul", np.reshape([1, -1, 1], (1, 3, 1, 1)))
    pool("MaxPool")(graph)


def falling_maximum(graph: GraphBuilder) -> None:
    graph.conv(ONES)
    pool("MaxPool")(graph)
    graph.op("Neg")
    pool("MaxPool")(graph)


def use_the_indices(graph: GraphBuilder) -> None:
    graph.node("MaxPool", graph.x, kernel_shape=[2, 2], outputs=2)
    graph.x += "b"


def trunc(*constants: Any, **attributes: Any) -> Callable[[GraphBuilder], Any]:
    return lambda graph: graph.op("Trunc", *constants, domain=QONNX, **attributes)


NUMBERS = "only two dimensions are supported"
REFUSED: list[tuple[Callable[[GraphBuilder], Any], str]] = [
    (
        make("ConvTranspose", ONES),
        "node 'ConvTranspose_1' (ConvTranspose): this op is not supported: hardware makes no map larger; end the "
        "network in front of it and let the host repeat pixels, or train with a convolution on the small map",
    ),
    (
        make("LpPool", kernel_shape=[2, 2]),
        "node 'LpPool_1' (LpPool): this op is not supported: use MaxPool or AveragePool",
    ),
    (
        lambda g: g.conv(ONES / 3),
        "node 'Conv_1' (Conv): its weights are floats: quantize them first, a float network with fewbit quantize",
    ),
    (
        lambda g: g.conv(ONES, dilations=[1, 0]),
        "node 'Conv_1' (Conv): its attribute 'dilations' must be 2 whole numbers from 1 to 64, not [1, 0]",
    ),
    (pool("MaxPool", dilations=[2, 2]), "node 'MaxPool_1' (MaxPool): dilations are not supported, and they are [2, 2]"),
    (
        lambda g: g.conv(np.ones((1, 3, 4))),
        "node 'Conv_1' (Conv): its weights must have four axes, not shape (1, 3, 4)",
    ),
    (
        lambda g: (g.node("Reshape", g.x, g.constant([1, 3, 16], np.int64)), g.conv(ONES)),
        "node 'Conv_2' (Conv): its weights must have three axes, not shape (2, 3, 2, 2)",
    ),
    (
        lambda g: (g.node("Unsqueeze", g.x, g.constant([2], np.int64)), pool("MaxPool")(g)),
        f"node 'MaxPool_2' (MaxPool): {MAPS} (1, 3, 1, 4, 4)",
    ),
    (
        lambda g: (g.flatten(), g.node("GlobalAveragePool", g.x)),
        f"node 'GlobalAveragePool_2' (GlobalAveragePool): {MAPS} (1, 48)",
    ),
    (
        pool("MaxPool", kernel_shape=[2]),
        "node 'MaxPool_1' (MaxPool): "
        f"its attribute 'kernel_shape' must be 2 whole numbers of at least 1, not [2]: {NUMBERS}",
    ),
    (
        lambda g: g.conv(ONES, strides=[0, 1]),
        f"node 'Conv_1' (Conv): its attribute 'strides' must be 2 whole numbers of at least 1, not [0, 1]: {NUMBERS}",
    ),
    (
        lambda g: g.conv(ONES, pads=[0, 0, -1, 0]),
        "node 'Conv_1' (Conv): "
        f"its attribute 'pads' must be 4 whole numbers of at least 0, not [0, 0, -1, 0]: {NUMBERS}",
    ),
    (
        lambda g: g.conv(ONES, pads=1),
        "node 'Conv_1' (Conv): its attribute 'pads' cannot be 1",
    ),
    (
        lambda g: g.node("AveragePool", g.x),
        "node 'AveragePool_1' (AveragePool): lacks the attribute 'kernel_shape'",
    ),
    (
        lambda g: g.conv(ONES, kernel_shape=[3, 3]),
        "node 'Conv_1' (Conv): its kernel_shape [3, 3] is not that of its weights, [2, 2]",
    ),
    (
        lambda g: g.conv(ONES, pads=[0, 2, 0, 0]),
        "node 'Conv_1' (Conv): its padding (0, 2, 0, 0) must be less than its kernel of 2x2",
    ),
    (
        lambda g: g.conv(np.ones((1, 3, 5, 2))),
        "node 'Conv_1' (Conv): layer 'conv_0': a kernel of 5x2 is larger than the map of 4x4",
    ),
    (
        pool("MaxPool", auto_pad="SAME"),
        "node 'MaxPool_1' (MaxPool): its auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not 'SAME'",
    ),
    (
        lambda g: g.conv(ONES, pads=[1, 1, 1, 1], auto_pad="SAME_UPPER"),
        "node 'Conv_1' (Conv): has both pads and auto_pad SAME_UPPER",
    ),
    (
        lambda g: g.conv(np.ones((2, 2, 2, 2))),
        "node 'Conv_1' (Conv): weights of shape (2, 2, 2, 2) do not fit activations of shape (1, 3, 4, 4)",
    ),
    (
        lambda g: g.conv(np.ones((4, 1, 2, 2)), group=3),
        "node 'Conv_1' (Conv): weights of shape (4, 1, 2, 2) in 3 groups do not fit activations of shape (1, 3, 4, 4)",
    ),
    (
        lambda g: g.conv(ONES, group=0),
        "node 'Conv_1' (Conv): weights of shape (2, 3, 2, 2) in 0 groups do not fit activations of shape (1, 3, 4, 4)",
    ),
    (lambda g: g.conv(ONES, [1, 2, 3]), "node 'Conv_1' (Conv): needs a bias of shape (2,), not (3,)"),
    (twice, "node 'Conv_2' (Conv): its activations are not quantized: put a Quant before it"),
    (flattened, "node 'Conv_5' (Conv): takes maps, but its activations lie in a frame of shape (48,) already"),
    (dense_first, "node 'Conv_5' (Conv): takes maps, but its activations lie in a frame of shape (12,) already"),
    (
        scaled_by_channel,
        "node 'Conv_2' (Conv): "
        "the scale of its activations differs between its inputs, which no integer product can take: give them one "
        "scale, or scales that are small integer multiples of one",
    ),
    (
        weights_scaled_by_input,
        "node 'Conv_2' (Conv): the scales of its weights differ between its inputs, by a ratio of integers of 62 bits, "
        "32 are the most: train with one scale an output, or with scales of few bits",
    ),
    (offset_a_channel, "node 'Conv_2' (Conv): its input has an offset, beside which 0, its padding, is no level"),
    (far_offset, "node 'Conv_2' (Conv): its input has an offset, beside which 0, its padding, is no level"),
    (
        sums_with_an_offset,
        "node 'AveragePool_2' (AveragePool): its input has an offset, beside which 0, its padding, is no level",
    ),
    (
        pool("AveragePool", pads=[1, 0, 0, 0]),
        "node 'AveragePool_1' (AveragePool): "
        "its padding is not counted (count_include_pad is 0), so that the divisor differs along the border",
    ),
    (
        pool("AveragePool", auto_pad="SAME_UPPER"),
        "node 'AveragePool_1' (AveragePool): "
        "its padding is not counted (count_include_pad is 0), so that the divisor differs along the border",
    ),
    (
        pool("AveragePool", strides=[3, 3], ceil_mode=1),
        "node 'AveragePool_1' (AveragePool): "
        "its ceil_mode adds windows that reach beyond the padding, with a divisor of their own",
    ),
    (
        relu_of_sums,
        "node 'GlobalAveragePool_3' (GlobalAveragePool): its input is a Relu or Clip that no quantizer follows",
    ),
    (
        falling_levels,
        "node 'MaxPool_2' (MaxPool): its input falls where its integers rise: quantize it first",
    ),
    (
        falling_maximum,
        "node 'MaxPool_4' (MaxPool): its input falls where its integers rise: quantize it first",
    ),
    (use_the_indices, "node 'MaxPool_1' (MaxPool): its output 't1b' is not supported"),
    (
        make("ReduceMean", axes=[1]),
        "node 'ReduceMean_1' (ReduceMean): "
        "takes the mean over height and width of a map, not over axes [1] of shape (1, 3, 4, 4)",
    ),
    (
        make("ReduceMean"),
        "node 'ReduceMean_1' (ReduceMean): "
        "takes the mean over height and width of a map, not over axes None of shape (1, 3, 4, 4)",
    ),
    (
        make("ReduceMean", axes=[2, 4]),
        "node 'ReduceMean_1' (ReduceMean): "
        "takes the mean over height and width of a map, not over axes [2, 4] of shape (1, 3, 4, 4)",
    ),
    (
        lambda g: (g.conv(ONES), g.node("Transpose", g.x, perm=[0, 1, 3, 2])),
        "node 'Transpose_2' (Transpose): reorders the activations of a frame, which only the host can do, at the "
        "input: export the network with channels first",
    ),
    (
        lambda g: (g.thresholds(np.ones((4, 1)) * [[1], [2], [3], [4]], data_layout="NHWC"), g.conv(ONES)),
        "node 'Conv_2' (Conv): reorders the activations of a frame, which only the host can do, at the input: export "
        "the network with channels first",
    ),
    (
        lambda g: g.thresholds([[1], [2], [3], [4]], data_layout="NCHW"),
        "node 'MultiThreshold_1' (MultiThreshold): has thresholds for 4 channels, the activations have 3",
    ),
    (trunc(1, 0, 8), "node 'Trunc_1' (Trunc): cannot have 4 inputs"),
    (trunc(0, 0, 8, 4), "node 'Trunc_1' (Trunc): its scale must be finite and not 0"),
    (trunc(1, 0, 8, 2.5), "node 'Trunc_1' (Trunc): its bit width must be one integer, not [2.5]"),
    (
        trunc(1, 0, 8, 4, rounding_mode="AWAY"),
        "node 'Trunc_1' (Trunc): its rounding mode must be one of "
        "ROUND, HALF_EVEN, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN, not 'AWAY'",
    ),
    (trunc(1, 0, 8, 4, narrow=1), "node 'Trunc_1' (Trunc): its attribute 'narrow' is not supported"),
    (trunc(1, 20, 20, 4), "node 'Trunc_1' (Trunc): its level is the same for every input"),
    (trunc(1, 0, 4, 16), "node 'Trunc_1' (Trunc): has 32769 levels, 4096 are the most"),
    (trunc(1, 0, 8, -1, 4), "node 'Trunc_1' (Trunc): its scales must have one sign"),
    (
        trunc(1, 0, 8, np.reshape([1, 2, 4], (1, 3, 1, 1)), 4),
        "node 'Trunc_1' (Trunc): shifts by a different number of bits in each channel",
    ),
    (lambda g: g.op("Trunc", 1, 0, 8, 4, domain="ai.onnx.ml"), "node 'Trunc_1' (Trunc): this op is not supported"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED, ids=[message.partition(":")[0] for _, message in REFUSED])
def test_a_refusal_names_the_node_and_the_reason(
    spoil: Callable[[GraphBuilder], Any], message: str, tmp_path: Path
) -> None:
    graph = GraphBuilder(3, 4, 4)
    graph.quant(0.5)
    spoil(graph)
    path = graph.save(tmp_path / "model.onnx")
    with pytest.raises(FewbitError) as refusal:
        load(path)
    assert str(refusal.value) == f"{path}: {message}"


FLOAT: list[tuple[Callable[[GraphBuilder], Any], str]] = [
    (lambda g: g.conv(ONES), "node 'Conv_0' (Conv): its activations are not quantized: put a Quant before it"),
    (pool("MaxPool"), "node 'MaxPool_0' (MaxPool): its activations are not quantized: put a Quant before it"),
    (
        lambda g: g.node("GlobalAveragePool", g.x),
        "node 'GlobalAveragePool_0' (GlobalAveragePool): its activations are not quantized: put a Quant before it",
    ),
    (trunc(1, 0, 8, 4), "node 'Trunc_0' (Trunc): its activations are not quantized: put a Quant before it"),
]


@pytest.mark.parametrize(("spoil", "message"), FLOAT, ids=[message.partition(":")[0] for _, message in FLOAT])
def test_a_float_input_is_refused(spoil: Callable[[GraphBuilder], Any], message: str, tmp_path: Path) -> None:
    graph = GraphBuilder(3, 4, 4)
    spoil(graph)
    path = graph.save(tmp_path / "model.onnx")
    with pytest.raises(FewbitError) as refusal:
        load(path)
    assert str(refusal.value) == f"{path}: {message}"
