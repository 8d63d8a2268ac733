"""QONNX' Trunc: drops low bits of an integer, such as the sum that an average of few-bit numbers needs."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from fewbit.exact import Boundary, Reals, exact, rounding_boundary
from fewbit.golden.dtype import DType
from fewbit.importers.lowering.float_steps import Floats
from fewbit.importers.lowering.quantizer import Quantizer
from fewbit.importers.onnx_graph import Array, Node, Refusal
from fewbit.importers.qonnx.quantizer import (
    ACTIVATION_BITS,
    ROUND_FLOAT32,
    Vector,
    bit_width,
    nonzero_scale,
    quant_settings,
    rounding_mode,
)

_SUM_BITS = 32


def trunc(node: Node, parameters: list[Array], vector: Vector, real_range: tuple[Reals, Reals]) -> Quantizer:
    """Trunc: ``n = round(x / scale + zero)`` becomes the level ``round_by_mode(n / 2**shift)``.

    Version 1 takes ``scale, zero, input bits, output bits`` and shifts by input bits minus output bits; a level is the
    real ``scale * (level - zero)``, and the range of levels is not limited.

    Version 2 takes an output scale before the output bits. It shifts by the ratio of the two scales, rounded to a power
    of two, and clips; a level represents the real ``output scale * (level - zero / 2**shift)``.

    Parameters
    ----------
    real_range : Fractions (1,) or (channels,), twice
        Lowest and highest x; the levels cover the range between them.
    """
    scale, zero = nonzero_scale(vector(parameters[0])), vector(parameters[1])
    least, most = -math.inf, math.inf
    if len(parameters) == 4:
        (mode,) = node.settings(rounding_mode="FLOOR")
        mode = rounding_mode(mode)
        shift = bit_width(parameters[2], _SUM_BITS) - bit_width(parameters[3], _SUM_BITS)
        out_scale, out_zero = exact(scale), exact(zero)
    else:
        settings = quant_settings(node, parameters[4], ACTIVATION_BITS, signed=1, narrow=0, rounding_mode="FLOOR")
        mode, least, most = settings.mode, settings.low, settings.high
        ratio = nonzero_scale(vector(parameters[3]))
        with np.errstate(all="ignore"):
            shift = _shift(np.asarray(ratio / scale, np.float32))
        out_scale, out_zero = exact(ratio), exact(zero) / Fraction(2) ** shift
    factor = Fraction(2) ** shift

    ends = [np.atleast_1d(x / exact(scale) + exact(zero)) for x in real_range]
    reached = [_level(mode, round(value) / factor) for values in ends for value in values]
    base, top = max(min(reached), least), min(max(reached), most)
    if base >= top:
        raise Refusal("its level is the same for every input")
    base, top = int(base), int(top)
    if top - base >= 1 << ACTIVATION_BITS:
        raise Refusal(f"has {top - base + 1} levels, {1 << ACTIVATION_BITS} are the most")

    def level32(y: Floats) -> Array:
        rounded = ROUND_FLOAT32[mode](np.round(y) / np.float32(factor))
        return np.clip(np.nan_to_num(rounded), base, top).astype(np.int64) - base

    return Quantizer(
        scale=scale,
        zero=zero,
        boundaries=[[_boundary(mode, level, factor) for level in range(base + 1, top + 1)]],
        level=level32,
        dtype=DType.spanning(base, top),
        base=base,
        out_scale=out_scale,
        out_shift=-out_zero * out_scale,
    )


def _shift(ratio: Floats) -> int:
    if not np.isfinite(ratio).all() or (ratio == 0).any():
        raise Refusal("its output scale is too far from its scale")
    if (ratio < 0).any():
        raise Refusal("its scales must have one sign")
    shifts = set(np.round(np.log2(ratio)).tolist())
    if len(shifts) > 1:
        raise Refusal("shifts by a different number of bits in each channel")
    shift = int(shifts.pop())
    if abs(shift) > _SUM_BITS:
        raise Refusal(f"shifts by {shift} bits, {_SUM_BITS} are the most")
    return shift


def _boundary(mode: str, level: int, factor: Fraction) -> Boundary:
    """Where ``round(y) / factor`` begins to round to ``level``."""
    boundary = rounding_boundary(mode, level)
    value = boundary.value * factor
    return rounding_boundary("ROUND", math.floor(value) + 1 if boundary.strict else math.ceil(value))


def _level(mode: str, value: Fraction) -> int:
    """``value`` rounded by ``mode``."""
    near = math.floor(value)
    return near + rounding_boundary(mode, near + 1).reached(value)
