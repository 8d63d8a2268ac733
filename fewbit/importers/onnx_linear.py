"""Weights and biases that ONNX files hold as integers: constants behind QuantizeLinear or DequantizeLinear."""

from __future__ import annotations

import numpy as np

from fewbit.golden.dtype import DType
from fewbit.importers.lowering.builder import float32
from fewbit.importers.lowering.float_steps import Floats
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.onnx_call import Call, Constant, plain
from fewbit.importers.onnx_constants import broadcasts
from fewbit.importers.onnx_graph import Array, Graph, Node, Refusal


def constant(call: Call, graph: Graph) -> Constant | None:
    """Weights and biases through QuantizeLinear or DequantizeLinear; None for other operators."""
    node = call.node
    if node.op not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    if not 2 <= len(call.inputs) <= 3 or call.inputs[0] is None or call.inputs[1] is None:
        raise Refusal(f"cannot have {len(call.inputs)} inputs")
    value, scale = plain(call.inputs[0]), plain(call.inputs[1])
    zero = plain(call.inputs[2]) if len(call.inputs) > 2 and call.inputs[2] is not None else None
    graph.budget.take(value.shape, np.dtype(np.int64).itemsize, "its result")
    if node.op == "QuantizeLinear":
        return _quantized_constant(call, value, scale, zero)
    return dequantized_constant(node, value, scale, zero)


def dequantized_constant(node: Node, levels: Array, scale: Array, zero: Array | None = None) -> QuantizedConstant:
    """DequantizeLinear of stored integers: weights that stay integers."""
    if levels.dtype.kind not in "iu":
        raise Refusal(f"takes integers, not {levels.dtype}")
    axis, block = dequantizer_settings(node)
    zero = np.zeros((), levels.dtype) if zero is None else zero
    scales, zeros = parameters_of(levels.shape, scale, zero, axis, block)
    return QuantizedConstant(levels.astype(np.int64), scales, zeros)


def parameters_of(shape: tuple[int, ...], scale: Array, zero: Array, axis: int, block: int) -> list[Floats]:
    """``scale`` and ``zero`` of weights of ``shape``, one or one for each entry of ``axis``, as views of that shape."""
    if block:
        raise Refusal("has weights with scales for blocks; one scale, or one for each output, is supported")
    check_scale(scale)
    if not np.isfinite(scale).all() or (scale == 0).any():
        raise Refusal("its scale must be finite and not 0")
    spread = []
    for parameter in (scale, zero):
        if parameter.size == 1:
            parameter = parameter.reshape(())
        elif parameter.ndim > 1:
            raise Refusal(f"has parameters of shape {parameter.shape}; one, or one axis of them, is supported")
        elif len(shape) > 1 and -len(shape) <= axis < len(shape):
            column = [1] * len(shape)
            column[axis] = parameter.size
            parameter = parameter.reshape(column)
        if not broadcasts(parameter, shape):
            raise Refusal(f"its parameters do not fit weights of shape {shape}")
        spread.append(np.broadcast_to(float32(parameter), shape))
    return spread


def quantizer_settings(node: Node) -> tuple[int, int]:
    """``axis`` and ``block_size`` of a QuantizeLinear. Refuses one that does not compute in float32."""
    axis, block, _, _, precision = node.settings(axis=1, block_size=0, saturate=1, output_dtype=0, precision=0)
    _check_float32("precision", precision)
    return axis, block


def dequantizer_settings(node: Node) -> tuple[int, int]:
    """``axis`` and ``block_size`` of a DequantizeLinear. Refuses one that does not give float32."""
    axis, block, kind = node.settings(axis=1, block_size=0, output_dtype=0)
    _check_float32("output_dtype", kind)
    return axis, block


def _check_float32(name: str, kind: int) -> None:
    from onnx import TensorProto

    if kind not in (TensorProto.UNDEFINED, TensorProto.FLOAT):
        raise Refusal(f"its attribute {name!r} is {kind}: export the network in float32")


def check_scale(scale: Array) -> None:
    """Raises Refusal unless ``scale`` is float32, in which this importer computes."""
    if scale.dtype != np.float32:
        raise Refusal(f"its scale is {scale.dtype}: export the network with scales of float32")


def _quantized_constant(call: Call, value: Array, scale: Array, zero: Array | None) -> Array:
    axis, block = quantizer_settings(call.node)
    zero = np.zeros((), np.uint8) if zero is None else zero
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        raise Refusal("quantizes what is not a finite float")
    if zero.dtype.kind not in "iu":
        raise Refusal(f"its zero point must be an integer, not {zero.dtype}")
    dtype = zero_type(call)
    low, high = (dtype.min, dtype.max) if dtype else (np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max)
    spread, offset = parameters_of(value.shape, scale, zero, axis, block)
    with np.errstate(all="ignore"):
        levels = np.clip(np.rint(float32(value) / spread).astype(np.float64) + offset, low, high)
    return np.asarray(np.nan_to_num(levels).astype(zero.dtype))


def zero_type(call: Call, place: int = 2) -> DType | None:
    """Type of the zero point, input ``place``, where its array is wider: 2 or 4 bits, or that of ``output_dtype``."""
    from onnx import TensorProto

    kind = call.node.attributes.get("output_dtype", 0)
    if (len(call.inputs) > place and call.inputs[place] is not None) or not kind:
        name = call.node.inputs[place] if len(call.node.inputs) > place else ""
        return call.narrow.get(name)
    name = TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else ""
    if name.strip("u0123456789") != "int":
        raise Refusal(f"its output_dtype {kind} is not an integer type")
    return DType.parse(name)
