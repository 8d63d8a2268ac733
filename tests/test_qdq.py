"""Files of onnxruntime's quantizer, in both of its formats: the integers of onnx's reference evaluator, everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import GraphBuilder
from qdq_reference import MICROSOFT, in_double, integers
from test_qonnx_joins import rtl_agrees
from tiers import each_value, slow_but

from fewbit import arrays, models
from fewbit.engines import network_inputs
from fewbit.golden.network import Add, Network
from fewbit.golden.run import run
from fewbit.importers.obstacles import Obstacles
from fewbit.importers.qdq.reader import recognizes
from fewbit.readers import load

FILES = Path(__file__).parent / "qdq"
QDQ = ["lenet-int8", "lenet-uint8", "lenet-int4", "lenet-int16", "resnet-uint8", "resnet-channels"]
OPERATORS = ["lenet-uint8-operators", "resnet-channels-operators"]


def images(count: int) -> np.ndarray:
    """Images of MNIST from 0 to 1 that set no scale of the files.  # (count, 1, 28, 28)"""
    pixels = arrays.read(models.TEST_IMAGES)[1000 : 1000 + count, None]
    return np.asarray(pixels / np.float32(255), np.float32)


def first_scale(model: onnx.ModelProto) -> np.ndarray:
    name = next(node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear")
    return next(onnx.numpy_helper.to_array(one) for one in model.graph.initializer if one.name == name)


def differing(network: Network, x: np.ndarray, wanted: dict[str, np.ndarray]) -> dict[str, int]:
    """How many integers of each reference tensor differ from those of the layer that gives it."""
    inputs = network_inputs(network, x)
    result = run(network, inputs)
    given = [inputs, *(result.of(layer) for layer in network.layers)]
    differ = {}
    for name, tensor in wanted.items():
        alike = [values for values in given if values.shape == tensor.shape]
        assert alike, f"no layer gives {name} of shape {tensor.shape}"
        differ[name] = min(int((values != tensor).sum()) for values in alike)
    return differ


def agrees_in_double(path: Path, x: np.ndarray) -> Network:
    """The network of a file, whose layers give every tensor of the reference in float64."""
    network, model = load(path), onnx.load(path)
    inputs = network_inputs(network, x)
    wanted = integers(in_double(model), inputs * first_scale(model).astype(np.float64))
    assert not sum(differing(network, x, wanted).values())
    return network


def agrees(path: Path, x: np.ndarray) -> Network:
    """The network of a file, whose layers give every tensor of the reference."""
    network = load(path)
    assert not sum(differing(network, x, integers(onnx.load(path), x)).values())
    return network


@pytest.mark.parametrize(
    "name, count",
    slow_but(
        [("resnet-uint8", 200), ("lenet-int4", 10)], [*((name, 200) for name in QDQ), ("lenet-int4", 10)]
    ),
)  # fmt: skip
def test_files_in_every_tensor(name: str, count: int) -> None:
    network = agrees_in_double(FILES / f"{name}.onnx", images(count))
    assert sum(isinstance(layer, Add) for layer in network.layers) == (2 if "resnet" in name else 0)


@pytest.mark.parametrize(
    "name", slow_but(["resnet-uint8"], ["resnet-uint8", "resnet-channels", "lenet-uint8", "lenet-int4"])
)
def test_files_in_every_tensor_of_float32(name: str) -> None:
    agrees(FILES / f"{name}.onnx", images(200))


@pytest.mark.parametrize("name", slow_but(["resnet-uint8"], QDQ))
def test_float32_differs_by_its_rounding_alone(name: str) -> None:
    """A float32 sum depends on the order of its terms, so that a quotient near a tie may become either level.

    With 16-bit activations, 24 bits of mantissa hold few bits beyond the levels, and the difference is seen more often.
    """
    path, x = FILES / f"{name}.onnx", images(200)
    network, model = load(path), onnx.load(path)
    single = integers(model, x)
    double = integers(in_double(model), network_inputs(network, x) * first_scale(model).astype(np.float64))
    share, most = (5e-2, 3) if "int16" in name else (1e-5, 1)
    for tensor, wanted in double.items():
        difference = np.abs(wanted - single[tensor])
        assert (difference > 0).mean() <= share, tensor
        assert difference.max() <= most, tensor


@pytest.mark.parametrize(
    "name, count",
    slow_but([("resnet-channels-operators", 10)], [(name, count) for name in OPERATORS for count in (10, 200)]),
)
def test_operators_on_integers_in_every_tensor(name: str, count: int) -> None:
    agrees(FILES / f"{name}.onnx", images(count))


def test_files_with_quantizers_of_onnxruntime(tmp_path: Path) -> None:
    """Before opset 21, onnxruntime writes quantizers of 4 and 16 bits in its own domain."""
    model = onnx.load(FILES / "lenet-int4.onnx")
    for node in model.graph.node:
        if node.op_type.endswith("tizeLinear"):
            node.domain = MICROSOFT
    model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    onnx.save(model, tmp_path / "m.onnx")
    given, wanted = load(tmp_path / "m.onnx"), load(FILES / "lenet-int4.onnx")
    x = images(3)
    assert np.array_equal(run(given, network_inputs(given, x)).output, run(wanted, network_inputs(wanted, x)).output)


class Quantized(GraphBuilder):
    """A graph of quantizers and what lies between them; ``codes`` are scale and zero point of the newest integers."""

    def __init__(self, *shape: int, seed: int = 0, kind: Any = np.uint8) -> None:
        super().__init__(*shape)
        self.rng, self.kind = np.random.default_rng(seed), kind

    def codes(self, scale: float | None = None, zero: int | None = None) -> list[str]:
        """Names of a scale and a zero point, random where they are not given."""
        ends = np.iinfo(self.kind)
        scale = self.rng.uniform(0.02, 0.08) if scale is None else scale
        zero = int(self.rng.integers(ends.min, ends.max + 1)) if zero is None else zero
        return [self.constant(scale), self.constant(zero, self.kind)]

    def q(self, scale: float | None = None, zero: int | None = None, x: str | None = None) -> str:
        """QuantizeLinear and DequantizeLinear."""
        codes = self.codes(scale, zero)
        self.node("QuantizeLinear", x or self.x, *codes)
        return self.node("DequantizeLinear", self.x, *codes)

    def weights(self, shape: tuple[int, ...], axis: int | None = None, zero: Any = 0, kind: Any = np.int8) -> str:
        """Weights with one scale, or one for each entry of ``axis``."""
        size = () if axis is None else (shape[axis],)
        levels = self.constant(self.rng.integers(-127 if kind == np.int8 else 0, 128, shape), kind)
        scale = self.constant(self.rng.uniform(0.002, 0.01, size))
        attributes = {} if axis is None else {"axis": axis}
        here = self.x
        made = self.node(
            "DequantizeLinear", levels, scale, self.constant(np.broadcast_to(zero, size), kind), **attributes
        )
        self.x = here
        return made

    def bias(self, size: int) -> str:
        here = self.x
        made = self.node(
            "DequantizeLinear", self.constant(self.rng.integers(-4000, 4000, size), np.int32),
            self.constant(3e-4), self.constant(0, np.int32),
        )  # fmt: skip
        self.x = here
        return made

    def file(self, folder: Path) -> Path:
        return self.save(folder / "graph.onnx")


def inputs(graph: Quantized, count: int = 40) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 3, (count, *graph.shape)).astype(np.float32)


@pytest.mark.parametrize("seed, kind", slow_but([(0, np.int8), (3, np.uint8)], product(range(4), [np.int8, np.uint8])))
def test_convolutions(seed: int, kind: Any, tmp_path: Path) -> None:
    """Zero points everywhere, scales a channel, padding, strides, dilation and groups."""
    g = Quantized(4, 7, 6, seed=seed, kind=kind)
    g.q()
    groups, axis = (1, 0) if seed % 2 else (2, None)
    asymmetric = {"zero": 117, "kind": np.uint8} if seed == 2 else {}
    g.node(
        "Conv", g.x, g.weights((6, 4 // groups, 3, 2), axis, **asymmetric), g.bias(6), pads=[1, 0, 2, 1],
        strides=[1, 1 + seed % 2], dilations=[1 + seed // 3] * 2, group=groups,
    )  # fmt: skip
    g.q()
    if seed:
        g.op("Relu")
        g.q()
    agrees_in_double(g.file(tmp_path), inputs(g))


@pytest.mark.parametrize("op, axis", each_value(["Gemm", "MatMul"], [None, 1]))
def test_dense_layers(op: str, axis: int | None, tmp_path: Path) -> None:
    g = Quantized(12)
    g.q()
    g.node(op, g.x, g.weights((12, 5), axis), *([g.bias(5)] if op == "Gemm" else []))
    g.q()
    agrees_in_double(g.file(tmp_path), inputs(g))


STEPS: dict[str, Callable[[Quantized], Any]] = {
    "the same integers": lambda g: None,
    "relu": lambda g: g.op("Relu"),
    "clip": lambda g: g.op("Clip", -0.7, 1.3),
    "leaky relu": lambda g: g.node("LeakyRelu", g.x, alpha=0.1),
    "hard sigmoid": lambda g: g.node("HardSigmoid", g.x),
    "sigmoid": lambda g: g.node("Sigmoid", g.x),
    "tanh": lambda g: g.node("Tanh", g.x),
    "scale": lambda g: g.op("Mul", 0.37),
    "negative": lambda g: g.node("Neg", g.x),
}


@pytest.mark.parametrize(
    "step, kind",
    slow_but(
        [("the same integers", np.int8), ("relu", np.int16), ("clip", np.uint8), ("sigmoid", np.uint8),
         ("negative", np.int8)],
        product(STEPS, [np.int8, np.uint8, np.int16]),
    ),
)  # fmt: skip
def test_steps_between_two_quantizers(step: str, kind: Any, tmp_path: Path) -> None:
    """Every integer of an activation, in float32."""
    g = Quantized(1 << 8 if kind != np.int16 else 1 << 14, kind=kind)
    g.opset = 21
    g.q(0.02, 3)
    STEPS[step](g)
    g.q(0.013, 7)
    size = g.shape[0]
    x = (np.arange(size, dtype=np.float32) - size // 2)[None] * np.float32(0.02)
    network = agrees(g.file(tmp_path), x)
    assert len(network.layers) == 1


@pytest.mark.parametrize("op, seed", slow_but([("Add", 0), ("Sub", 1)], product(["Add", "Sub"], range(6))))
def test_sums_of_two_scales(op: str, seed: int, tmp_path: Path) -> None:
    """Every pair of integers, in float32."""
    g = Quantized(2, 1 << 8, 1 << 8, seed=seed, kind=np.int8)
    g.q(1.0, 0)
    start = g.x
    first = g.q(x=start)
    second = g.q(x=start)
    g.node(op, first, second)
    if seed % 2:
        g.op("Relu")
    g.q()
    values = np.random.default_rng(seed).integers(-128, 128, (1, *g.shape)).astype(np.float32)
    agrees(g.file(tmp_path), values)


def test_three_branches_and_a_sum_that_no_quantizer_follows(tmp_path: Path) -> None:
    g = Quantized(2, 3, 3, kind=np.int8)
    g.q(0.5, 0)
    start = g.x
    sides = [g.q(scale, 0, x=start) for scale in (0.5, 0.25, 1.0)]
    g.node("Add", g.node("Add", *sides[:2]), sides[2])
    g.node("Conv", g.q(0.5, 0), g.weights((2, 2, 1, 1)))
    g.q()
    agrees_in_double(g.file(tmp_path), inputs(g))


@pytest.mark.parametrize("scales", [(0.03, 0.05, 0.04), (0.04, 0.04, 0.04)])
def test_concatenation(scales: tuple[float, ...], tmp_path: Path) -> None:
    """In float32: quotients of such scales are ties that its rounding decides."""
    g = Quantized(3, 4, 4)
    start = g.q(0.04, 30)
    sides = [g.q(scale, zero, x=start) for scale, zero in zip(scales, (9, 100))]
    g.node("Concat", *sides, axis=1)
    g.q(scales[2], 30)
    agrees(g.file(tmp_path), inputs(g))


def test_concatenation_before_a_product(tmp_path: Path) -> None:
    g = Quantized(3, 4, 4)
    start = g.q()
    g.node("Concat", g.q(0.0317, 9, x=start), g.q(0.0523, 100, x=start), axis=1)
    g.q(0.0411, 30)
    g.node("Conv", g.x, g.weights((4, 6, 2, 2)), pads=[1, 1, 0, 0])
    g.q()
    agrees_in_double(g.file(tmp_path), inputs(g))


def test_pools(tmp_path: Path) -> None:
    """The divisors are powers of two, so that float64 is exact at ties, too."""
    g = Quantized(2, 9, 9, kind=np.int8)
    g.q(0.05, -17)
    g.node("MaxPool", g.x, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    g.q(0.05, -17)
    g.node("AveragePool", g.x, kernel_shape=[2, 2], strides=[2, 2])
    g.q(0.05, -17)
    g.node("GlobalAveragePool", g.x)
    g.q()
    agrees_in_double(g.file(tmp_path), inputs(g))


@pytest.mark.parametrize("op", ["QLinearConv", "QLinearMatMul", "QGemm"])
def test_weights_with_a_common_divisor_in_operators_on_integers(op: str, tmp_path: Path) -> None:
    """The network divides such weights; the sums that are rounded are those of the file."""
    g = Quantized(*((2, 3, 3) if op == "QLinearConv" else (6,)))
    codes, made = g.codes(0.05, 100), g.codes(0.9, 120)
    shape = (4, 2, 2, 2) if op == "QLinearConv" else (6, 4)
    weights = [g.constant(6 * g.rng.integers(-20, 21, shape), np.int8), g.constant(0.01), g.constant(0, np.int8)]
    bias = {"QLinearConv": [], "QLinearMatMul": [], "QGemm": [g.constant([5, -77, 900, 1], np.int32)]}[op]
    g.node("QuantizeLinear", g.x, *codes)
    g.node(op, g.x, *codes, *weights, *bias, *made, domain=MICROSOFT if op == "QGemm" else "")
    agrees(g.file(tmp_path), inputs(g))


@pytest.mark.parametrize("way", ["Squeeze", "Constant", "Concat", "ConstantOfShape"])
def test_zero_points_of_4_bits_that_operators_give(way: str, tmp_path: Path) -> None:
    """The type of a zero point is that of the levels, also where the zero point is no initializer."""
    g = Quantized(8)
    g.opset = 21
    start = g.q(0.05, 100)
    scale, kind = g.constant(0.29), np.dtype(ml_dtypes.uint4)
    if way == "Squeeze":
        zero = g.node("Squeeze", g.constant([3], kind))
    elif way == "Concat":
        zero = g.node("Concat", g.constant([3], kind), g.constant([], kind), axis=0)
    else:
        value = onnx.numpy_helper.from_array(np.array([3], kind))
        zero = g.node(way, *([] if way == "Constant" else [g.constant([1], np.int64)]), value=value)
    g.node("QuantizeLinear", start, scale, zero)
    g.node("DequantizeLinear", g.x, scale, zero)
    network = load(g.file(tmp_path))
    x = inputs(g)
    first = np.clip(np.rint(x / np.float32(0.05)), -100, 155)
    wanted = np.clip(np.rint(first * 0.05 / 0.29) + 3, 0, 15) - 3
    assert np.array_equal(run(network, network_inputs(network, x)).output, wanted)


def small_network(folder: Path) -> Path:
    """A convolution, and its input added to it."""
    g = Quantized(1, 4, 4, seed=2)
    skip = g.q(0.05, 100)
    g.node("Conv", g.x, g.weights((1, 1, 3, 3)), g.bias(1), pads=[1, 1, 1, 1])
    g.node("Add", g.q(0.09, 120), skip)
    g.op("Relu")
    g.q(0.06, 0)
    return g.file(folder)


@pytest.mark.parametrize("name", slow_but(["small"], ["small", "resnet-uint8", "resnet-channels-operators"]))
def test_networks_in_hardware(name: str, tmp_path: Path) -> None:
    network = load(small_network(tmp_path) if name == "small" else FILES / f"{name}.onnx")
    frames = np.random.default_rng(4).normal(0, 3, (6, 1, 4, 4)).astype(np.float32) if name == "small" else images(3)
    rtl_agrees(network, frames)


def test_a_small_network(tmp_path: Path) -> None:
    path = small_network(tmp_path)
    agrees_in_double(path, np.random.default_rng(4).normal(0, 3, (40, 1, 4, 4)).astype(np.float32))


def test_which_files_are_of_this_kind(tmp_path: Path) -> None:
    from fewbit.importers.onnx_graph import read

    g = Quantized(4)
    g.q()
    assert recognizes(read(g.file(tmp_path)))
    g.quant(0.5)
    assert not recognizes(read(g.file(tmp_path)))
    few_bit = Quantized(4)
    codes = few_bit.codes(0.5, 0)
    few_bit.node("QuantizeLinear", few_bit.x, *codes)
    few_bit.node("Clip", few_bit.x, *(few_bit.constant(end, np.uint8) for end in (0, 15)))
    few_bit.node("DequantizeLinear", few_bit.x, *codes)
    assert not recognizes(read(few_bit.file(tmp_path)))


def _blocks(g: Quantized) -> None:
    g.q()
    levels, scale = g.constant(np.ones((8, 2)), np.int8), g.constant(np.ones((2, 2)))
    here = g.x
    blocked = g.node("DequantizeLinear", levels, scale, axis=0, block_size=4)
    g.node("MatMul", here, blocked)


def _product_of_integers(g: Quantized) -> None:
    g.node("QuantizeLinear", g.x, *g.codes())
    g.node("MatMul", g.x, g.constant(np.ones((8, 2))))


REFUSED: dict[str, tuple[Callable[[Quantized], Any], str]] = {
    "scales a channel": (
        lambda g: g.node("QuantizeLinear", g.x, g.constant(np.ones(8)), g.constant(np.zeros(8), np.int8)),
        "node 'QuantizeLinear_0' (QuantizeLinear): has 8 scales for its activations; one scale for all is supported: "
        "quantize weights a channel, activations as a whole",
    ),
    "a negative scale": (
        lambda g: g.node("QuantizeLinear", g.x, g.constant(-1.0), g.constant(0, np.int8)),
        "node 'QuantizeLinear_0' (QuantizeLinear): its scale must be finite and above 0",
    ),
    "a scale of float16": (
        lambda g: g.node("QuantizeLinear", g.x, g.constant(1.0, np.float16), g.constant(0, np.int8)),
        "node 'QuantizeLinear_0' (QuantizeLinear): its scale is float16: export the network with scales of float32",
    ),
    "an integer as a scale": (
        lambda g: g.node("QuantizeLinear", g.x, g.constant(1, np.int32), g.constant(0, np.int8)),
        "node 'QuantizeLinear_0' (QuantizeLinear): its scale is int32: export the network with scales of float32",
    ),
    "weights with a scale of float16": (
        lambda g: (
            g.q(),
            g.node("DequantizeLinear", g.constant(np.ones((8, 2)), np.int8), g.constant(1.0, np.float16)),
        ),
        "node 'DequantizeLinear_2' (DequantizeLinear): its scale is float16: export the network with scales of float32",
    ),
    "a division in float64": (
        lambda g: g.node("QuantizeLinear", g.x, *g.codes(), precision=TensorProto.DOUBLE),
        "node 'QuantizeLinear_0' (QuantizeLinear): its attribute 'precision' is 11: export the network in float32",
    ),
    "reals of float16": (
        lambda g: g.node(
            "DequantizeLinear", g.node("QuantizeLinear", g.x, *g.codes()), *g.codes(), output_dtype=TensorProto.FLOAT16
        ),
        "node 'DequantizeLinear_1' (DequantizeLinear): its attribute 'output_dtype' is 10: export the network in "
        "float32",
    ),
    "no zero point in an operator on integers": (
        lambda g: g.node(
            "QLinearSigmoid", g.node("QuantizeLinear", g.x, *g.codes()), *g.codes(), g.codes()[0], domain=MICROSOFT
        ),
        "node 'QLinearSigmoid_1' (QLinearSigmoid): lacks a zero point, which says of which type its integers are",
    ),
    "16 bits in an operator on integers": (
        lambda g: g.node(
            "QLinearSigmoid",
            g.node("QuantizeLinear", g.x, *g.codes()),
            *g.codes(),
            g.constant(0.1),
            g.constant(0, np.int16),
            domain=MICROSOFT,
        ),
        "node 'QLinearSigmoid_1' (QLinearSigmoid): takes and gives integers of 8 bits only: export the network in the "
        "QDQ format for others",
    ),
    "weights on one axis": (
        lambda g: g.node(
            "QLinearMatMul",
            g.node("QuantizeLinear", g.x, *g.codes()),
            *g.codes(),
            g.constant(np.ones(8), np.int8),
            g.constant(0.1),
            g.constant(0, np.int8),
            *g.codes(),
        ),
        "node 'QLinearMatMul_1' (QLinearMatMul): its weights must have two axes, not shape (8,)",
    ),
    "a scale for each input": (
        lambda g: g.node(
            "QLinearMatMul",
            g.node("QuantizeLinear", g.x, *g.codes()),
            *g.codes(),
            g.constant(np.ones((8, 8)), np.int8),
            g.constant(np.ones((8, 1))),
            g.constant(0, np.int8),
            *g.codes(),
        ),
        "node 'QLinearMatMul_1' (QLinearMatMul): needs one scale above 0 for its weights, or one for each output",
    ),
    "scales on two axes": (
        lambda g: (
            g.q(),
            g.node("DequantizeLinear", g.constant(np.ones((8, 8)), np.int8), g.constant(np.ones((8, 1)))),
        ),
        "node 'DequantizeLinear_2' (DequantizeLinear): has parameters of shape (8, 1); one, or one axis of them, is "
        "supported",
    ),
    "scales too far apart": (
        lambda g: g.node(
            "QGemm",
            g.node("QuantizeLinear", g.x, *g.codes(1.0)),
            *g.codes(1e30),
            g.constant(np.ones((8, 2)), np.int8),
            g.constant(1e30),
            g.constant(0, np.int8),
            "",
            *g.codes(1.0),
            domain=MICROSOFT,
        ),
        "node 'QGemm_1' (QGemm): its scales are so far apart that their quotient is beyond float32",
    ),
    "32 bits": (
        lambda g: g.node("QuantizeLinear", g.x, g.constant(1.0), g.constant(0, np.int32)),
        "node 'QuantizeLinear_0' (QuantizeLinear): gives int32 activations; 16 bits are the most",
    ),
    "blocks": (
        _blocks,
        "node 'DequantizeLinear_2' (DequantizeLinear): has weights with scales for blocks; one scale, or one for each "
        "output, is supported",
    ),
    "integers in a product": (
        _product_of_integers,
        "node 'MatMul_1' (MatMul): takes floats, and one of its inputs is of an integer type: put a DequantizeLinear "
        "before it",
    ),
    "floats in an operator on integers": (
        lambda g: g.node("QLinearConv", g.x, *g.codes(), g.constant(1, np.int8), *g.codes(), *g.codes()),
        "node 'QLinearConv_0' (QLinearConv): takes integers, and one of its inputs is not: put a QuantizeLinear before "
        "it",
    ),
    "no quantizer before a product": (
        lambda g: g.node("MatMul", g.x, g.weights((8, 2))),
        "node 'MatMul_1' (MatMul): its activations are not quantized: put a Quant before it",
    ),
    "dynamic quantization": (
        lambda g: (g.q(), g.node("DynamicQuantizeLinear", g.x)),
        "node 'DynamicQuantizeLinear_2' (DynamicQuantizeLinear): this op is not supported: its scale depends on the "
        "frame; quantize statically (quantize_static)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what: str, tmp_path: Path) -> None:
    make, message = REFUSED[what]
    g = Quantized(8)
    g.opset = 21
    make(g)
    path = g.file(tmp_path)
    with pytest.raises(Obstacles, match=f"^{re.escape(f'{path}: {message}')}$"):
        load(path)


def test_every_obstacle_is_told_at_once(tmp_path: Path) -> None:
    g = Quantized(8)
    g.q()
    g.node("Erf", g.x)
    g.q()
    g.node("QLinearMul", g.x, domain=MICROSOFT)
    path = g.file(tmp_path)
    with pytest.raises(Obstacles) as error:
        load(path)
    assert len(error.value.lines) == 3
    assert error.value.lines[0] == f"{path}: 2 obstacles:"


def test_integers_at_the_input(tmp_path: Path) -> None:
    g = Quantized(2, 4, 4)
    g.element = TensorProto.UINT8
    g.node("DequantizeLinear", g.x, *g.codes(0.05, 100))
    g.node("Conv", g.x, g.weights((3, 2, 3, 3)), pads=[1, 1, 1, 1])
    g.q()
    x = np.random.default_rng(1).integers(0, 256, (20, 2, 4, 4)).astype(np.uint8)
    network = load(g.file(tmp_path))
    wanted = integers(in_double(g.model()), x)
    assert not sum(differing(network, x, wanted).values())
