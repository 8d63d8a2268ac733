"""The quantizers of QONNX: where each level begins, which real it represents, and how it is executed in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fewbit.exact import (
    ROUNDINGS,
    Boundary,
    check_thresholds,
    exact,
    rounding_boundary,
)
from fewbit.golden.budget import Budget
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.importers.lowering.builder import float32
from fewbit.importers.lowering.float_steps import Floats
from fewbit.importers.lowering.quantizer import QuantizedConstant, Quantizer
from fewbit.importers.onnx_constants import broadcasts
from fewbit.importers.onnx_graph import Array, Node, Refusal

ACTIVATION_BITS = 12
_ENDLESS = Fraction(2) ** 1000
"""Replaces an infinite threshold: larger than any float32 times any sum of integers."""

Vector = Callable[[Array], Floats]
"""Reads a constant as float32 (1,) or (channels,) for the tensor that is quantized; refuses other shapes."""


@dataclass(frozen=True)
class QuantSettings:
    low: int
    high: int
    bits: int
    signed: bool
    bipolar: bool
    mode: str

    def level32(self, y: Floats) -> Array:
        """float32 values, scaled and with the zero point, to integers. # (…) -> (…)"""
        if self.bipolar:
            return np.where(y >= 0, 1, -1)
        rounded = ROUND_FLOAT32[self.mode](np.minimum(np.maximum(y, np.float32(self.low)), np.float32(self.high)))
        return np.nan_to_num(rounded).astype(np.int64)


ROUND_FLOAT32: dict[str, Callable[[Floats], Floats]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda y: np.sign(y) * np.ceil(np.abs(y)),
    "DOWN": np.trunc,
    "HALF_UP": lambda y: np.sign(y) * np.floor(np.abs(y) + np.float32(0.5)),
    "HALF_DOWN": lambda y: np.sign(y) * np.ceil(np.abs(y) - np.float32(0.5)),
}


def rounding_mode(text: str) -> str:
    """``text`` as one of :data:`~fewbit.exact.ROUNDINGS`."""
    if text.upper() not in ROUNDINGS:
        raise Refusal(f"its rounding mode must be one of {', '.join(ROUNDINGS)}, not {text!r}")
    return text.upper()


def bit_width(bitwidth: Array, most_bits: int) -> int:
    """The one bit width in ``bitwidth``."""
    values = np.unique(bitwidth).tolist()
    if len(values) != 1 or not float(values[0]).is_integer():
        raise Refusal(f"its bit width must be one integer, not {values[:8]}")
    bits = int(values.pop())
    if not 1 <= bits <= most_bits:
        raise Refusal(f"its bit width must be 1 to {most_bits}, not {bits}")
    return bits


def quant_settings(node: Node, bitwidth: Array, most_bits: int, **defaults: Any) -> QuantSettings:
    """Range and rounding from the attributes of ``node``; ``defaults`` holds the values of optional attributes."""
    settings = {"signed": None, "narrow": None, "rounding_mode": "ROUND"} | defaults
    signed, narrow, mode = node.settings(**settings)
    for name, value in (("signed", signed), ("narrow", narrow)):
        if value not in (0, 1):
            raise Refusal(f"its attribute {name!r} must be 0 or 1, not {value}")
    mode, bits = rounding_mode(mode), bit_width(bitwidth, most_bits)
    if bits == 1 and narrow and not signed:
        raise Refusal("an unsigned narrow range of one bit holds only 0")
    low = -(1 << bits - 1) + narrow if signed else 0
    high = (1 << bits - 1) - 1 if signed else (1 << bits) - 1 - narrow
    return QuantSettings(low, high, bits, bool(signed), bits == 1 and bool(signed), mode)


def quant(node: Node, parameters: list[Array], vector: Vector) -> Quantizer:
    """Quant: ``q = clip(round(x / scale + zero))`` is ``scale * (q - zero)``; one signed bit is -1 and +1."""
    scale, zero = nonzero_scale(vector(parameters[0])), vector(parameters[1])
    settings = quant_settings(node, parameters[2], ACTIVATION_BITS)
    if settings.bipolar:
        dtype, base, boundaries = BIPOLAR, -1, [Boundary(Fraction(0))]
    else:
        dtype, base = DType("int" if settings.signed else "uint", settings.bits), settings.low
        boundaries = [rounding_boundary(settings.mode, level) for level in range(base + 1, settings.high + 1)]
    real = exact(scale)
    return Quantizer(
        scale=scale,
        zero=zero,
        boundaries=[boundaries],
        level=lambda y: (settings.level32(y) - base) // dtype.step,
        dtype=dtype,
        base=base,
        out_scale=real,
        out_shift=-exact(zero) * real,
    )


def bipolar_quant(node: Node, parameters: list[Array], vector: Vector) -> Quantizer:
    """BipolarQuant: -1 or +1 (for 0 too) times ``scale``."""
    node.settings()
    return Quantizer([[Boundary(Fraction(0))]], lambda y: y >= 0, BIPOLAR, -1, exact(vector(parameters[0])))


def sign(node: Node, parameters: list[Array], vector: Vector) -> Quantizer:
    """Sign: -1, 0 or +1."""
    node.settings()
    boundaries = [Boundary(Fraction(0)), Boundary(Fraction(0), True)]
    return Quantizer([boundaries], lambda y: np.add(y >= 0, y > 0, dtype=np.int64), DType("int", 2), -1, exact([1]))


def multi_threshold(thresholds: Floats, out_scale: float, out_bias: float) -> Quantizer:
    """MultiThreshold: ``out_scale * (number of t with x >= t) + out_bias``, a row of thresholds a channel.

    Where ``out_bias`` is a whole number of ``out_scale``, the integers start there; at minus a half with one
    threshold they are bipolar.
    """
    if out_scale == 0:
        raise Refusal("its out_scale must not be 0")
    check_thresholds(*thresholds.shape)
    rows = np.sort(thresholds, axis=1)
    count, scale, ratio = rows.shape[1], Fraction(out_scale), Fraction(out_bias) / Fraction(out_scale)
    if count >= 1 << ACTIVATION_BITS:
        raise Refusal(f"has {count} thresholds, {(1 << ACTIVATION_BITS) - 1} are the most")
    shift = Fraction(0)
    if count == 1 and ratio == Fraction(-1, 2):
        dtype, base, scale = BIPOLAR, -1, scale / 2
    elif ratio.denominator == 1 and abs(ratio) < 1 << ACTIVATION_BITS:
        base = int(ratio)
        top = base + count
        dtype = DType.spanning(base, top)
    else:
        dtype, base, shift = DType("uint", count.bit_length()), 0, Fraction(out_bias)
    boundaries = [
        [Boundary(Fraction(t) if np.isfinite(t) else (_ENDLESS if t > 0 else -_ENDLESS)) for t in row.tolist()]
        for row in rows
    ]
    return Quantizer(boundaries, lambda y: _reached(rows, y), dtype, base, exact([scale]), exact([shift]))


def _reached(rows: Floats, y: Floats) -> Array:
    """How many thresholds each value reaches.  # (R, T), (K, C) -> (K, max(R, C))"""
    if len(rows) == 1:
        return np.searchsorted(rows[0], y, side="right")
    columns = np.broadcast_to(y, (len(y), len(rows))).T
    return np.stack([np.searchsorted(row, column, side="right") for row, column in zip(rows, columns)], axis=1)


def nonzero_scale(scale: Array) -> Array:
    if not np.isfinite(scale).all() or (scale == 0).any():
        raise Refusal("its scale must be finite and not 0")
    return scale


def quantize_constant(node: Node, value: Array, parameters: list[Array], budget: Budget) -> QuantizedConstant:
    """Weights through Quant or BipolarQuant, in float32, as qonnx executes it."""
    value, parameters = float32(value), [float32(parameter) for parameter in parameters]
    if not np.isfinite(value).all():
        raise Refusal("a weight is not a finite number")
    if not all(broadcasts(parameter, value.shape) for parameter in parameters):
        raise Refusal(f"its parameters do not fit weights of shape {value.shape}")
    budget.take(value.shape, np.dtype(np.int64).itemsize, "its result")
    if node.op == "BipolarQuant":
        node.settings()
        levels, scale, zero = np.where(value >= 0, 1, -1), parameters[0], np.zeros((), np.float32)
    else:
        scale, zero, bitwidth = parameters
        if not np.isfinite(zero).all():
            raise Refusal("its zero point must be finite")
        settings = quant_settings(node, bitwidth, 16)
        with np.errstate(all="ignore"):
            levels = settings.level32(np.asarray(value / nonzero_scale(scale) + zero, np.float32))
    scale, zero = (np.broadcast_to(parameter, levels.shape) for parameter in (nonzero_scale(scale), zero))
    return QuantizedConstant(levels.astype(np.int64), scale, zero)
