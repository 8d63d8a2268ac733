"""QuantizeLinear, an optional Clip, and DequantizeLinear: together they are one quantizer.

``q = clip(round(x / scale) + zero)`` is the real ``scale * (q - zero)``. Rounding is half to even, before the zero
point is added. The three nodes become one Threshold layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fewbit.exact import exact, rounding_boundary
from fewbit.golden.dtype import DType
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.float_steps import Floats
from fewbit.importers.lowering.quantizer import QuantizedConstant, Quantizer
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_constants import broadcasts
from fewbit.importers.onnx_graph import Array, Node, Refusal
from fewbit.importers.qonnx.call import Call
from fewbit.importers.qonnx.quantizer import ACTIVATION_BITS, nonzero_scale


@dataclass(frozen=True)
class Codes:
    """The integers ``low`` to ``high`` of a QuantizeLinear, with its constants."""

    scale: Array
    zero: Array
    low: int
    high: int


def quantize_linear(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """QuantizeLinear: the quantizer waits for its DequantizeLinear."""
    call.node.settings(axis=1, saturate=1)
    scale, zero = call.parameters(1, 2)
    assert scale is not None
    zero = np.zeros((), np.uint8) if zero is None else zero
    if zero.dtype.kind not in "iu":
        raise Refusal(f"its zero point must be an integer, not {zero.dtype}")
    if scale.size != 1 or zero.size != 1:
        raise Refusal("quantizes activations with a scale a channel: only one scale is supported; use a Quant for more")
    kind = np.iinfo(zero.dtype)
    return replace(tensor, pending=Codes(scale, zero, int(kind.min), int(kind.max)), integral=True)


def clip_codes(tensor: Tensor, low: Array | float | None, high: Array | float | None) -> Tensor:
    """Clip of the integers that a QuantizeLinear gives."""
    codes = tensor.pending
    ends = [float(np.asarray(end).ravel()[0]) if end is not None else None for end in (low, high)]
    least = codes.low if ends[0] is None else max(codes.low, int(np.ceil(ends[0])))
    most = codes.high if ends[1] is None else min(codes.high, int(np.floor(ends[1])))
    if least >= most:
        raise Refusal("its lower limit must be below its upper one")
    return replace(tensor, pending=replace(codes, low=least, high=most))


def dequantize_linear(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """DequantizeLinear: completes the quantizer."""
    call.node.settings(axis=1)
    scale, zero = call.parameters(1, 2)
    assert scale is not None
    codes = tensor.pending
    if codes is None:
        raise Refusal("takes integers that no QuantizeLinear before it gives")
    zero = np.zeros((), np.uint8) if zero is None else zero
    if not np.array_equal(scale.ravel(), codes.scale.ravel()) or not np.array_equal(zero.ravel(), codes.zero.ravel()):
        raise Refusal("has another scale or zero point than the QuantizeLinear before it")
    offset = int(codes.zero.ravel()[0])
    levels = range(codes.low + 1, codes.high + 1)
    if len(levels) >= 1 << ACTIVATION_BITS:
        raise Refusal(
            f"has {len(levels) + 1} levels, {1 << ACTIVATION_BITS} are the most: quantize to 12 bits or fewer"
        )
    tensor, (step,) = builder.vectors(replace(tensor, pending=None, integral=False), nonzero_scale(codes.scale))

    def level(y: Floats) -> Array:
        levels = np.clip(np.nan_to_num(np.round(y)) + offset, codes.low, codes.high) - codes.low
        return np.asarray(levels, np.int64)

    real = exact(step)
    return builder.quantize(
        tensor,
        Quantizer(
            boundaries=[[rounding_boundary("ROUND", n - offset) for n in levels]],
            level=level,
            dtype=DType.spanning(codes.low, codes.high),
            base=codes.low,
            out_scale=real,
            out_shift=-offset * real,
            scale=step,
        ),
    )


def dequantized_constant(node: Node, values: list[Array]) -> QuantizedConstant:
    """DequantizeLinear of stored integers: weights that stay integers."""
    (axis,) = node.settings(axis=1)
    levels, scale, *rest = values
    zero = rest[0] if rest else np.zeros((), levels.dtype)
    spread = []
    for parameter in (nonzero_scale(scale), zero):
        if parameter.size > 1 and levels.ndim > 1 and -levels.ndim <= axis < levels.ndim:
            column = [1] * levels.ndim
            column[axis] = parameter.size
            parameter = parameter.reshape(column)
        if not broadcasts(parameter, levels.shape):
            raise Refusal(f"its parameters do not fit weights of shape {levels.shape}")
        spread.append(np.broadcast_to(parameter.astype(np.float32), levels.shape))
    return QuantizedConstant(levels.astype(np.int64), spread[0], spread[1])
