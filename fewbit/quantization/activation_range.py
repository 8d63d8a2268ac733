"""Quantization of activations: the integer type, and the scale, which is the real value of the integer 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fewbit.exact import Boundary, rounding_boundary
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.importers.float_onnx.layers import Floats

_SAMPLES = 1 << 18
"""Largest number of reals from which a scale is chosen."""
_SHARES = tuple(2 ** (-step / 8) for step in range(49))
"""Candidates for the real value of the largest level, relative to the largest real."""


def activation_kind(bits: int, signed: bool) -> DType:
    """Type of an activation: ``uint``; if ``signed``, ``int`` or, with one bit, ``bipolar``."""
    if not signed:
        return DType("uint", bits)
    return BIPOLAR if bits == 1 else DType("int", bits)


@dataclass(frozen=True)
class Activation:
    """Quantizer of an activation: ``real / scale``, rounded half to even and clipped to ``dtype``.

    For a bipolar type it is the sign of the real, with +1 for 0.
    """

    dtype: DType
    scale: float | Fraction

    @property
    def boundaries(self) -> list[Boundary]:
        """Lower bounds, in reals, of all levels above the lowest."""
        if self.dtype.kind == "bipolar":
            return [Boundary(Fraction(0))]
        scale = Fraction(self.scale)
        bounds = (rounding_boundary("ROUND", level) for level in range(self.dtype.min + 1, self.dtype.max + 1))
        return [Boundary(bound.value * scale, bound.strict) for bound in bounds]

    def apply(self, reals: Floats) -> Floats:
        """Quantize ``reals`` and return the real values of the resulting integers."""
        scale = float(self.scale)
        if self.dtype.kind == "bipolar":
            return np.where(reals >= 0, scale, -scale)
        return np.asarray(scale * np.clip(np.rint(reals / scale), self.dtype.min, self.dtype.max))


def choose_activation(
    reals: Floats, bits: int, signed: bool, margin: float = 1.0, unit: float | Fraction | None = None
) -> Activation:
    """Choose the scale with the least squared error on ``reals``, then multiply it by ``margin``.

    There are 49 candidates, whose largest level has a real value from the largest magnitude of ``reals`` down to 1/64
    of it. With ``unit``, the result is ``unit`` times a power of two, of which there are 7 candidates.

    Accuracy of LeNet-5 with float weights and activations of 8, 4, 2 and 1 bits, calibrated on 1,000 training images,
    on 5,000 test images: 99.18, 99.14, 98.76 and 95.32 %. With the largest real as the largest level: 99.18,
    99.08, 96.78 and 19.38 %; with the 99.9th percentile: 99.20, 99.10, 98.14 and 76.56 %.

    Raises FewbitError if a real is not finite.
    """
    dtype = activation_kind(bits, signed)
    reals = sample(reals).astype(np.float64)
    largest = float(np.abs(reals).max(initial=0))
    if not largest:
        return Activation(dtype, 1.0 if unit is None else unit)
    if unit is None:
        scales = [largest * share / dtype.max for share in _SHARES]
        return Activation(dtype, margin * scales[_nearest(reals, dtype, scales)])
    most = math.ceil(math.log2(largest * margin / dtype.max / float(unit)))
    powers = [Fraction(2) ** (most - step) for step in range(len(_SHARES) // 8 + 1)]
    place = _nearest(reals, dtype, [float(Fraction(unit) * power) / margin for power in powers])
    return Activation(dtype, Fraction(unit) * powers[place])


def _nearest(reals: Floats, dtype: DType, scales: list[float]) -> int:
    """The place of that of ``scales`` with the least squared error on ``reals``."""
    errors = [float(np.sum((Activation(dtype, scale).apply(reals) - reals) ** 2)) for scale in scales]
    return int(np.argmin(errors))


def sample(reals: Floats, before: int = 0, count: int | None = None) -> Floats:
    """Every n-th of ``reals``, so many that a scale can be chosen from them.

    ``reals`` may be a part of ``count`` reals, behind ``before`` of them.

    Raises FewbitError if a real is not finite.
    """
    reals = reals.ravel()
    if not np.isfinite(reals).all():
        raise FewbitError("activations overflow float32: the weights, biases or inputs before them are too large")
    step = -(-(reals.size if count is None else count) // _SAMPLES) or 1
    return reals[-before % step :: step]
