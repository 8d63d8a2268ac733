"""Mutants of quantized ONNX files, QDQ and operators on integers, and what onnx's reference evaluator makes of them."""

from __future__ import annotations

import random
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from fuzz_onnx import MUTATIONS, ROOT, Mutation, Seeds, array_of, bypass, checked_as, mutated
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_quantize_linear import QuantizeLinear_25
from qdq_reference import MICROSOFT, OPSET, executed, in_double
from test_qdq import Quantized

from fewbit.engines import network_inputs
from fewbit.golden.network import Network
from fewbit.golden.run import dequantize_output, run
from fewbit.readers import load

_FILES = (
    "lenet-int8", "lenet-uint8", "lenet-int4", "lenet-int16", "resnet-uint8", "resnet-channels",
    "lenet-uint8-operators", "resnet-channels-operators",
)  # fmt: skip
"""By name, so that a mutant's number means the same when there are more."""
_OPS = (
    "QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearConcat",
    "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearMul",
    "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "Add", "Sub", "Concat", "Conv", "Gemm", "MatMul", "Relu",
    "Clip", "MaxPool", "Flatten",
)  # fmt: skip
_TYPES = (
    np.int8, np.uint8, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, ml_dtypes.int4, ml_dtypes.uint4,
    ml_dtypes.int2, np.float32, np.bool_, ml_dtypes.float8_e4m3fn,
)  # fmt: skip
_NARROW = tuple(np.dtype(kind) for kind in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2))
_SCALES = (0.0, -0.0, -0.05, float("nan"), float("inf"), 1e-45, 1e-38, 1e-6, 1e6, 3e38, 1.0, 0.5, 0.037)


def _dense(kind: Any, op: str, axis: int | None) -> Quantized:
    g = Quantized(6, seed=1, kind=kind)
    g.opset = 21 if kind == np.int16 else 13
    g.q()
    g.node(op, g.x, g.weights((6, 5), axis), *([g.bias(5)] if op == "Gemm" else []))
    g.q()
    g.op("Relu")
    g.q()
    g.node("MatMul", g.x, g.weights((5, 3)))
    g.q()
    return g


def _narrow(kind: Any) -> Quantized:
    """Weights of 4 bits."""
    g = Quantized(6, seed=2)
    g.opset = 21
    g.q()
    levels = g.rng.integers(0 if kind == ml_dtypes.uint4 else -8, 8, (6, 3))
    parameters = g.constant(g.rng.uniform(0.05, 0.2, 3)), g.constant(np.full(3, 2), kind)
    start = g.x
    g.node("Gemm", start, g.node("DequantizeLinear", g.constant(levels, kind), *parameters, axis=1), g.bias(3))
    g.q()
    return g


def _conv(seed: int, kind: Any) -> Quantized:
    g = Quantized(2, 5, 4, seed=seed, kind=kind)
    g.q()
    groups, axis = (1, 0) if seed % 2 else (2, None)
    asymmetric = {} if seed % 2 else {"zero": 117, "kind": np.uint8}
    g.node(
        "Conv", g.x, g.weights((4, 2 // groups, 3, 2), axis, **asymmetric), g.bias(4), pads=[1, 0, 1, 1],
        strides=[1, 1 + seed % 2], group=groups,
    )  # fmt: skip
    g.q()
    g.op("Relu")
    g.q()
    g.node("MaxPool", g.x, kernel_shape=[2, 2], strides=[2, 1])
    g.node("Flatten", g.x, axis=1)
    return g


def _joined(op: str) -> Quantized:
    g = Quantized(2, 3, 3, seed=4, kind=np.int8)
    start = g.q()
    first = g.q(x=start)
    second = g.q(x=g.node("Conv", start, g.weights((2, 2, 3, 3), 0), pads=[1, 1, 1, 1]))
    g.node(op, first, second, **({"axis": 1} if op == "Concat" else {}))
    g.op("Relu")
    g.q()
    return g


def _pools() -> Quantized:
    g = Quantized(2, 6, 6, kind=np.int8)
    g.q(0.05, -17)
    g.node("MaxPool", g.x, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    g.q(0.05, -17)
    g.node("AveragePool", g.x, kernel_shape=[2, 2], strides=[2, 2])
    g.q()
    g.node("GlobalAveragePool", g.x)
    g.q()
    g.node("Flatten", g.x, axis=1)
    g.node("Gemm", g.x, g.weights((3, 2)), g.bias(3), transB=1)
    return g


def _steps(seed: int) -> Quantized:
    """Elementwise operators between quantizers."""
    g = Quantized(8, seed=seed, kind=(np.int8, np.uint8)[seed % 2])
    g.q()
    for op in (("LeakyRelu", "Sigmoid"), ("Tanh", "HardSigmoid"), ("Clip", "Neg"))[seed]:
        if op == "Clip":
            g.op("Clip", -0.7, 1.3)
        else:
            g.node(op, g.x)
        g.q(0.02)
    g.op("Mul", 0.37)
    g.q(0.01)
    return g


def _few_levels_of_weights() -> Quantized:
    """Weights that the file has as floats, in front of a QuantizeLinear; integers at the input."""
    g = Quantized(4, seed=5)
    g.element = TensorProto.UINT8
    start = g.node("DequantizeLinear", g.x, *g.codes(0.05, 100))
    parameters = g.constant(np.float32(0.013)), g.constant(3, np.int8)
    weights = g.node("QuantizeLinear", g.constant(g.rng.normal(0, 0.5, (4, 3))), *parameters)
    g.node("MatMul", start, g.node("DequantizeLinear", weights, *parameters))
    g.q()
    g.node("ArgMax", g.x, axis=1, keepdims=0)
    g.result = TensorProto.INT64
    return g


def _levels(g: Quantized, shape: tuple[int, ...], axis: int | None = None) -> list[str]:
    """Names of weights, their scale and their zero point."""
    size = () if axis is None else (shape[axis],)
    values = (g.rng.integers(-127, 128, shape), g.rng.uniform(0.002, 0.01, size), np.zeros(size))
    return [g.constant(value, kind) for value, kind in zip(values, (np.int8, np.float32, np.int8))]


def _operators_on_maps(kind: Any) -> Quantized:
    """QLinearConv, QLinearAdd, QLinearAveragePool, QLinearConcat and QLinearGlobalAveragePool."""
    g = Quantized(2, 4, 4, seed=6, kind=kind)
    codes = g.codes()
    start = g.node("QuantizeLinear", g.x, *codes)
    bias, made = g.constant(g.rng.integers(-900, 900, 2), np.int32), g.codes()
    conv = g.node("QLinearConv", start, *codes, *_levels(g, (2, 2, 3, 3), 0), *made, bias, pads=[1, 1, 1, 1])
    summed = g.codes()
    g.node("QLinearAdd", conv, *made, start, *codes, *summed, domain=MICROSOFT)
    mean = g.codes()
    pooled = g.node(
        "QLinearAveragePool", g.x, *summed, *mean, domain=MICROSOFT, kernel_shape=[2, 2], strides=[2, 2]
    )  # fmt: skip
    side, joined, last = g.node("MaxPool", conv, kernel_shape=[2, 2], strides=[2, 2]), g.codes(), g.codes()
    g.node("QLinearConcat", *joined, pooled, *mean, side, *made, domain=MICROSOFT, axis=1)
    g.node("QLinearGlobalAveragePool", g.x, *joined, *last, domain=MICROSOFT)
    g.node("DequantizeLinear", g.x, *last)
    return g


def _operators_on_rows() -> Quantized:
    """QLinearMatMul, QLinearLeakyRelu, QLinearSigmoid and QGemm."""
    g = Quantized(6, seed=7)
    codes, made, bent, curved = (g.codes() for _ in range(4))
    g.node("QuantizeLinear", g.x, *codes)
    g.node("QLinearMatMul", g.x, *codes, *_levels(g, (6, 4)), *made)
    g.node("QLinearLeakyRelu", g.x, *made, *bent, domain=MICROSOFT, alpha=0.1)
    g.node("QLinearSigmoid", g.x, *bent, *curved, domain=MICROSOFT)
    bias, last = g.constant(g.rng.integers(-900, 900, 3), np.int32), g.codes()
    g.node("QGemm", g.x, *curved, *_levels(g, (3, 4), 0), bias, *last, domain=MICROSOFT, transB=1)
    g.node("DequantizeLinear", g.x, *last)
    return g


@cache
def seeds() -> Seeds:
    """Name and content of the whole files that are mutated; the small ones several times, since they are soon run."""
    small = {
        "gemm": _dense(np.int8, "Gemm", 1), "matmul": _dense(np.uint8, "MatMul", None),
        "wide": _dense(np.int16, "Gemm", None),
        "int4": _narrow(ml_dtypes.int4), "uint4": _narrow(ml_dtypes.uint4),
        "conv0": _conv(0, np.uint8), "conv1": _conv(1, np.int8), "pools": _pools(),
        "weights": _few_levels_of_weights(), "rows": _operators_on_rows(),
        "maps": _operators_on_maps(np.uint8), "signed maps": _operators_on_maps(np.int8),
    }  # fmt: skip
    small |= {op: _joined(op) for op in ("Add", "Sub", "Concat")} | {f"steps{seed}": _steps(seed) for seed in range(3)}
    found = [(name, graph.model().SerializeToString()) for name, graph in small.items()] * 3
    return found + [(name, (ROOT / f"tests/qdq/{name}.onnx").read_bytes()) for name in _FILES]


def mutant(number: int) -> bytes:
    """The mutant of this number, always the same."""
    return mutated(random.Random(f"qdq {number}"), seeds(), _MUTATIONS)


def _quantizer(model: Any, rng: random.Random) -> Any:
    """A node with scales and zero points; None if there is none."""
    found = [node for node in model.graph.node if node.op_type.startswith("Q") or node.op_type == "DequantizeLinear"]
    return rng.choice(found) if found else None


def _parameter(model: Any, rng: random.Random, kinds: str) -> Any:
    """A scalar or vector initializer that a quantizer reads, of NumPy's ``kinds``, and its array."""
    node = _quantizer(model, rng)
    named = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for name in node.input if node else ():
        array = array_of(named[name]) if name in named else None
        if array is None:
            continue
        kind = "i" if array.dtype in _NARROW else array.dtype.kind
        if array.ndim < 2 and array.size and kind in kinds:
            found.append((named[name], array))
    return rng.choice(found) if found else (None, None)


def _put(tensor: Any, array: Any) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))


def _scale(model: Any, rng: random.Random) -> None:
    tensor, array = _parameter(model, rng, "f")
    if tensor is None:
        return
    how = rng.randrange(6)
    with np.errstate(all="ignore"):
        if how == 0:
            array = array.copy()
            array.flat[rng.randrange(array.size)] = rng.choice(_SCALES)
        elif how == 1:
            array = (array * rng.choice((0.5, 2, 0.9, 1.1, 3, -1, 1 / 64, 64))).astype(array.dtype)
        elif how == 2:
            array = np.resize(array, rng.choice((1, 2, 3, 4, 5, 6, 0)))
            array = array * np.linspace(1, 2, array.size, dtype=array.dtype)
        elif how == 3:
            array = array.astype(rng.choice((np.float16, np.float64, ml_dtypes.bfloat16, np.int32)))
        elif how == 4:
            array = np.full_like(array, rng.choice(_SCALES))
        else:
            array = array.reshape(rng.choice(((), (1,), (1, 1), (-1, 1), (1, -1)) if array.size == 1 else ((-1, 1),)))
    _put(tensor, array)


def _zero_point(model: Any, rng: random.Random) -> None:
    tensor, array = _parameter(model, rng, "iu")
    if tensor is None:
        return
    kind = array.dtype
    ends = ml_dtypes.iinfo(kind) if kind.kind == "V" else np.iinfo(kind)
    values, how = array.astype(np.int64), rng.randrange(5)
    if how == 0:
        values = values + rng.choice((-1, 1))
    elif how == 1:
        values = np.full_like(values, rng.choice((ends.min, ends.max, 0, 1)))
    elif how == 2:
        values = np.resize(values, rng.choice((1, 2, 3, 4, 5, 6, 0)))
    elif how == 3:
        kind = np.dtype(rng.choice(_TYPES))
        ends = None
    else:
        values = values.reshape(rng.choice(((), (1,), (1, 1)))) if values.size == 1 else values[:-1]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _put(tensor, (values if ends is None else values.clip(int(ends.min), int(ends.max))).astype(kind))


def _attribute(model: Any, rng: random.Random) -> None:
    node = _quantizer(model, rng)
    if node is None:
        return
    name = rng.choice(("axis", "axis", "axis", "block_size", "output_dtype", "saturate", "precision", "channels_last"))
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if rng.random() < 0.9:
        node.attribute.append(helper.make_attribute(name, rng.choice((-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 12, 21, 22))))


def _types(model: Any, rng: random.Random) -> None:
    """All zero points of a type become ones of another, or a constant of levels does."""
    kind = np.dtype(rng.choice(_TYPES))
    tensors = list(model.graph.initializer)
    rng.shuffle(tensors)
    old = None
    for tensor in tensors:
        array = array_of(tensor)
        if array is None:
            continue
        if array.dtype.kind in "iuV" and array.dtype != np.int32 and (old is None or array.dtype == old):
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _put(tensor, array.astype(np.int64).astype(kind))
            old = array.dtype
            if rng.random() < 0.3:
                return


def _levels_of_weights(model: Any, rng: random.Random) -> None:
    """Stored integers at the ends of their type, or of another length."""
    named = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    if not named:
        return
    tensor, how = rng.choice(named), rng.randrange(4)
    if how == 0 and tensor.raw_data:
        tensor.raw_data = tensor.raw_data[:-1] if rng.random() < 0.5 else tensor.raw_data + b"\x80"
    elif how == 1 and tensor.raw_data:
        byte = bytes([rng.choice((0x80, 0x7F, 0xFF, 0x88, 0x77, 0x00))])
        tensor.raw_data = byte * len(tensor.raw_data)
    elif how == 2:
        place = rng.randrange(len(tensor.dims))
        tensor.dims[place] = max(0, tensor.dims[place] + rng.choice((-1, 1)))
    else:
        tensor.data_type = rng.choice((TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4))


def _missing(model: Any, rng: random.Random) -> None:
    """A quantizer, or two that follow each other, are left out."""
    node = _quantizer(model, rng)
    if node is None:
        return
    behind = [other for other in model.graph.node if node.output and node.output[0] in other.input]
    bypass(model, node)
    if behind and behind[0].op_type == "DequantizeLinear" and rng.random() < 0.5:
        bypass(model, behind[0])


def _more(model: Any, rng: random.Random) -> None:
    """Another pair of quantizers behind a node, with the parameters of one that is there."""
    node = _quantizer(model, rng)
    places = [place for place, other in enumerate(model.graph.node) if other.input and other.output]
    if node is None or len(node.input) < 2 or not places:
        return
    place, name = rng.choice(places), f"more{rng.randrange(1000)}"
    parameters, reader = list(node.input[1:3]), model.graph.node[place]
    which = rng.randrange(len(reader.input))
    made = [
        helper.make_node("QuantizeLinear", [reader.input[which], *parameters], [f"{name}q"]),
        helper.make_node("DequantizeLinear", [f"{name}q", *parameters], [name]),
    ]
    if rng.random() < 0.3:
        made = made[:1]
    reader.input[which] = made[-1].output[0]
    for index, one in enumerate(made):
        model.graph.node.insert(place + index, one)


def _inputs(model: Any, rng: random.Random) -> None:
    """Two inputs of a quantizer change places, or one is left out."""
    node = _quantizer(model, rng)
    if node is None or len(node.input) < 2:
        return
    first, second = rng.sample(range(len(node.input)), 2)
    how = rng.randrange(3)
    if how == 0:
        node.input[first], node.input[second] = node.input[second], node.input[first]
    elif how == 1:
        node.input[first] = ""
    else:
        del node.input[-1]


def _operator(model: Any, rng: random.Random) -> None:
    if model.graph.node:
        node = rng.choice(model.graph.node)
        if rng.random() < 0.7:
            node.op_type = rng.choice(_OPS)
        else:
            node.domain = rng.choice(("", MICROSOFT))


_OWN: tuple[Mutation, ...] = (
    _scale, _scale, _scale, _zero_point, _zero_point, _zero_point, _attribute, _types, _levels_of_weights, _missing,
    _more, _inputs, _operator,
)  # fmt: skip
_MUTATIONS = (*_OWN, *MUTATIONS)


def check(path: Path) -> str:
    """Loads the mutant and, where the reference evaluator runs it too, compares. Raises AssertionError on a difference.

    A small one as integers in place of floats as well, which takes other ways through the importer.
    """
    small = path.stat().st_size < 8000
    return checked_as(path, (None, "uint8/255") if small else (None,), _checked)


def _checked(path: Path, option: str | None) -> str:
    network = load(path, input=option)
    if network.input.size > 4000:
        return "a large one"
    model, rng = onnx.load(path), np.random.default_rng(1)
    given = {tensor.name for tensor in model.graph.initializer}
    source = next(value for value in model.graph.input if value.name not in given).type.tensor_type
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(source.elem_type))
    if option is not None:
        inputs = rng.integers(0, 256, (3, *network.input.shape))
        frames = inputs / np.float32(255)
    elif kind.kind == "f":
        frames = (3 * rng.standard_normal((3, *network.input.shape))).astype(np.float32)
        inputs = network_inputs(network, frames)
    else:
        ends = np.iinfo(kind)
        frames = rng.integers(ends.min, ends.max, (3, *network.input.shape), endpoint=True).astype(kind)
        inputs = network_inputs(network, frames)
    found = np.asarray(dequantize_output(network, run(network, inputs).output), np.float64)
    shape = [1, *(extent.dim_value for extent in source.shape.dim[1:])]
    return compared(network, found.reshape(3, -1), model, [frame.reshape(shape) for frame in frames])


def compared(network: Network, found: Any, model: Any, frames: list[Any]) -> str:
    """Whether ``found`` is what the reference gives in float32, or in float64 between quantizers, frame by frame.

    Where a quotient is so near a tie that float32 decides, neither needs to be.
    """
    wanted = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for prepare in (_modern, lambda model: _doubled(_modern(model))):
            try:
                wanted.append(_executed(prepare(model), frames))
            except Exception:
                continue
    if not wanted:
        return "a network that the reference does not run"
    if any(not np.isfinite(one).all() for one in wanted):
        return "a network that overflows"
    for one in wanted:
        assert one.shape == found.shape, f"outputs of a frame: {found.shape[1:]} here, {one.shape[1:]} there"
    alike = [
        np.isclose(found, one, rtol=1e-5, atol=2e-6 * max(1e-30, float(np.abs(one).max(initial=0)))).all(1)
        for one in wanted
    ]
    differs = ~np.logical_or.reduce(alike)
    if not differs.any():
        return "equal"
    frame = int(np.flatnonzero(differs)[0])
    differing = ~np.isclose(found[frame], wanted[0][frame], rtol=1e-5, atol=0)
    raise AssertionError(f"outputs differ: {found[frame][differing][:4]} here, {wanted[0][frame][differing][:4]} there")


class QuantizeLinear(QuantizeLinear_25):
    """That of the reference evaluator, which leaves undefined which level a quotient beyond 32 bits has.

    Here it is the first or last one, as in ONNX.
    """

    def _run(self, x: Any, scale: Any, *parameters: Any, **attributes: Any) -> Any:
        most = np.abs(scale).astype(np.float64).max() * (1 << 30)
        return super()._run(np.clip(x, -most, most).astype(x.dtype), scale, *parameters, **attributes)


def _executed(model: Any, frames: list[Any]) -> Any:
    """Output of every frame, flat.  # (frames, n) float64"""
    given = {tensor.name for tensor in model.graph.initializer}
    name = next(value.name for value in model.graph.input if value.name not in given)
    added = [executed(op) for op in sorted({node.op_type for node in model.graph.node if node.domain == MICROSOFT})]
    evaluator = ReferenceEvaluator(model, new_ops=[QuantizeLinear, *added])
    made = [evaluator.run([model.graph.output[0].name], {name: frame})[0] for frame in frames]
    return np.stack([np.asarray(one).astype(np.float64).ravel() for one in made])


def _modern(model: Any) -> Any:
    """``model`` in the version that the reference evaluator has, with a zero point wherever one may be."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version < OPSET:
            if entry.version < 13:
                raise ValueError("operators of before version 13 differ")
            entry.version = OPSET
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = ""
    return model


def _doubled(model: Any) -> Any:
    kinds = {tensor.name: helper.tensor_dtype_to_np_dtype(tensor.data_type) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in kinds and not "".join(node.input[2:]):
            zero = numpy_helper.from_array(np.zeros((), kinds[node.input[0]]), f"zero of {node.output[0]}")
            model.graph.initializer.append(zero)
            node.input[:] = [*node.input[:2], zero.name]
    return in_double(model)
