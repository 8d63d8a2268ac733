"""Float ONNX networks as they are read and executed, against onnx's own evaluator, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from float_models import random_graph, read, reference
from onnx import TensorProto
from onnx_models import GraphBuilder
from tiers import slow_but

from fewbit.golden.errors import FewbitError
from fewbit.importers.float_onnx.layers import Best, Flat, FloatPool, Product, Relu

CONV = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3) / 9 - 1
DENSE = np.arange(8, dtype=np.float32).reshape(4, 2) / 4 - 1


def frames_of(graph, count=5):
    return np.random.default_rng(2).random((count, *graph.shape)).astype(np.float32)


def agrees(graph, folder):
    frames = frames_of(graph)
    network = read(graph, folder)
    wanted = reference(graph, frames)
    got = network.run(frames.reshape(len(frames), *network.shape))
    assert got == pytest.approx(wanted.reshape(got.shape), rel=1e-4, abs=1e-4)
    assert network.output_shape == wanted.shape[1:]
    return network


@pytest.mark.parametrize("seed", slow_but(range(8), range(60)))
def test_random_networks(seed, tmp_path):
    agrees(random_graph(np.random.default_rng(seed)), tmp_path)


def test_products_are_named_as_their_nodes(tmp_path):
    graph = GraphBuilder(1, 5, 5)
    graph.node("Conv", graph.x, graph.constant(CONV), name="/body/conv1/Conv")
    graph.flatten()
    graph.node("MatMul", graph.x, graph.constant(np.ones((18, 2))), name="")
    network = agrees(graph, tmp_path)
    assert [product.name for product in network.products] == ["body_conv1_Conv", "dense_1"]


@pytest.mark.parametrize("auto_pad", ["VALID", "SAME_UPPER", "SAME_LOWER"])
def test_auto_pad(auto_pad, tmp_path):
    graph = GraphBuilder(1, 6, 5)
    graph.conv(CONV, strides=[2, 2], auto_pad=auto_pad)
    agrees(graph, tmp_path)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pool_with_padding(op, tmp_path):
    graph = GraphBuilder(1, 6, 5)
    graph.conv(CONV)
    counted = {"count_include_pad": 1} if op == "AveragePool" else {}
    graph.op(op, kernel_shape=[2, 3], pads=[1, 0, 0, 2], strides=[1, 2], **counted)
    agrees(graph, tmp_path)


def test_max_pool_with_ceil_mode(tmp_path):
    graph = GraphBuilder(1, 7, 6)
    graph.conv(CONV)
    graph.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    agrees(graph, tmp_path)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pool(op, tmp_path):
    graph = GraphBuilder(1, 7, 6)
    graph.conv(CONV)
    graph.op(op)
    graph.flatten()
    assert isinstance(agrees(graph, tmp_path).layers[-2], FloatPool)


def test_normalized_input(tmp_path):
    """A gain and shift of the input go into the first product, which has no padding."""
    graph = GraphBuilder(2, 5, 5)
    graph.op("Div", np.float32(255))
    graph.op("Sub", np.array([[[0.5]], [[0.25]]], np.float32))
    graph.op("Mul", np.array([[[2]], [[-4]]], np.float32))
    graph.conv(np.concatenate([CONV, -2 * CONV], 1))
    assert [type(layer) for layer in agrees(graph, tmp_path).layers] == [Product]


def test_batch_norm_behind_a_relu_goes_into_the_next_product(tmp_path):
    graph = GraphBuilder(1, 5, 5)
    graph.conv(CONV, [0.1, -0.2])
    graph.op("Relu")
    graph.batch_norm([1.5, 0.5], [0.1, 0.2], [0.3, 0.4], [1, 2])
    graph.flatten()
    graph.op("Mul", np.arange(1, 19, dtype=np.float32).reshape(1, 18))
    graph.dense(np.random.default_rng(1).random((18, 3)).astype(np.float32))
    assert [type(layer) for layer in agrees(graph, tmp_path).layers] == [Product, Relu, Flat, Product]


def test_reshapes(tmp_path):
    """PyTorch's view(x.size(0), -1), and a flat input made a map."""
    graph = GraphBuilder(25)
    graph.node("Reshape", graph.x, graph.constant([-1, 1, 5, 5], np.int64))
    graph.conv(CONV)
    start = graph.x
    extent = graph.node("Gather", graph.node("Shape", start), graph.constant(0, np.int64))
    first = graph.node("Unsqueeze", extent, graph.constant([0], np.int64))
    shape = graph.node("Concat", first, graph.constant([-1], np.int64), axis=0)
    graph.node("Reshape", start, shape)
    graph.dense(np.ones((18, 2), np.float32))
    assert agrees(graph, tmp_path).shape == (1, 5, 5)


@pytest.mark.parametrize("keep", [0, 1])
def test_arg_max_behind_softmax(keep, tmp_path):
    graph = GraphBuilder(4)
    graph.dense(DENSE)
    graph.op("Softmax", axis=1)
    graph.op("ArgMax", axis=1, keepdims=keep)
    graph.result = TensorProto.INT64
    network = agrees(graph, tmp_path)
    assert isinstance(network.layers[-1], Best)
    assert network.classify(np.eye(4)).tolist() == DENSE.argmax(1).tolist()


def test_softmax_at_the_end_is_left_out(tmp_path):
    graph = GraphBuilder(4)
    graph.dense(DENSE)
    graph.node("Dropout", graph.x)
    graph.op("LogSoftmax", axis=-1)
    network = read(graph, tmp_path)
    assert network.run(np.eye(4)) == pytest.approx(DENSE)


def dense(graph):
    graph.dense(DENSE)


def conv(graph, **attributes):
    graph.conv(CONV, **attributes)


def product_of_branches(graph):
    start = graph.x
    graph.node("Mul", graph.dense(np.ones((4, 4), np.float32)), start)


@pytest.mark.parametrize(
    "shape, make, message",
    [
        ((4,), lambda g: g.op("Cosh"), "node 'Cosh_0' (Cosh): this op is not supported in a float network"),
        (
            (4,),
            lambda g: g.op("Gelu"),
            "node 'Gelu_0' (Gelu): this op is not supported in a float network: no thresholds give it, since it falls "
            "and rises; train with Relu, LeakyRelu or Clip",
        ),
        (
            (4,),
            lambda g: (dense(g), g.quant()),
            "node 'Quant_1' (Quant): this op is not supported in a float network",
        ),
        (
            (4,),
            product_of_branches,
            "node 'Mul_1' (Mul): takes two tensors that both depend on the input, and hardware is made for sums (Add) "
            "and concatenations (Concat) of such only",
        ),
        ((4,), lambda g: g.op("Relu"), "has no convolution and no dense layer: there is nothing to quantize"),
        (
            (1, 2, 5),
            conv,
            "node 'Conv_0' (Conv): its kernel of 3x3 is larger than its input of shape (1, 1, 2, 5)",
        ),
        (
            (1, 5, 5),
            lambda g: (conv(g), g.op("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 0, 0])),
            "node 'AveragePool_1' (AveragePool): its padding is not counted (count_include_pad is 0), "
            "so that the divisor differs along the border",
        ),
        (
            (3, 5, 5),
            conv,
            "node 'Conv_0' (Conv): weights of shape (2, 1, 3, 3) in 1 groups do not fit activations of (1, 3, 5, 5)",
        ),
        (
            (1, 2, 2),
            lambda g: g.dense(np.ones((4, 2), np.float32)),
            "node 'MatMul_0' (MatMul): 4 inputs do not fit activations of shape (1, 1, 2, 2): flatten them first",
        ),
        (
            (4,),
            lambda g: g.dense(np.full((4, 2), np.nan, np.float32)),
            "node 'MatMul_0' (MatMul): its weights must be finite float32 numbers on 2 axes, not float32 (4, 2)",
        ),
        (
            (4,),
            lambda g: (dense(g), g.op("Softmax", axis=1), g.dense(DENSE[:2])),
            "node 'MatMul_2' (MatMul): follows a softmax, which only the end of a network can do",
        ),
        (
            (1, 5, 5),
            lambda g: (conv(g), g.node("Reshape", g.x, g.constant([1, 1, 6, 3], np.int64)), conv(g)),
            "node 'Conv_2' (Conv): takes maps, but its activations lie in a frame of shape (2, 3, 3) already, "
            "as behind a reshape or a constant that differs within a channel: only the input may be reshaped to "
            "(1, 1, 6, 3)",
        ),
    ],
)
def test_refused(shape, make, message, tmp_path):
    graph = GraphBuilder(*shape)
    make(graph)
    with pytest.raises(FewbitError, match=f"float.onnx: {re.escape(message)}$"):
        read(graph, tmp_path)


def test_an_integer_input_is_refused(tmp_path):
    graph = GraphBuilder(4, element=TensorProto.UINT8)
    graph.op("Relu")
    with pytest.raises(FewbitError, match="input 'x': must be float32, not uint8$"):
        read(graph, tmp_path)
