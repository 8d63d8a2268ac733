"""The integer arithmetic of TensorFlow Lite's reference kernels.

A kernel multiplies a sum by a real number, given as ``multiplier * 2**(shift - 31)`` with a 31-bit multiplier. Most
round twice: the product is rounded to a multiple of ``2**31``, a half up (towards zero where it is negative), and
shifted to the right, a half away from zero. The kernel of dense layers rounds the whole product once, a half away from
zero. Either result never falls when the sum rises, so the output level is a number of thresholds on the sum. Which
kernel rounds how was found by comparison with the reference kernels of LiteRT 2 (``BUILTIN_REF``); the tests hold the
importer to them.

Sources: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv 1712.05877, sections 2.2 and 2.4; TensorFlow Lite's ``quantization_util`` and ``common``
(Apache-2.0) for the rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fewbit.golden.dtype import Ints

_INT32 = (1 << 31) - 1


@dataclass(frozen=True)
class Multiplier:
    """A real number as the kernels have it, of each channel.

    Attributes
    ----------
    multiplier, shift : int64 array (channels,)
        The number is ``multiplier * 2**(shift - 31)``.
    """

    multiplier: Ints
    shift: Ints

    @classmethod
    def of(cls, reals: Ints) -> Multiplier:
        """The nearest to each of ``reals``, float64 and not negative."""
        parts = [_quantized(float(real)) for real in np.atleast_1d(reals)]
        return cls(np.array([part[0] for part in parts], np.int64), np.array([part[1] for part in parts], np.int64))

    def __call__(self, x: Ints) -> Ints:
        """``x`` times the number, rounded twice.  # (channels, ...) int64 -> (channels, ...) int64"""
        multiplier, shift = self._parts(x)
        product = (x << np.maximum(shift, 0)) * multiplier
        total = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
        high = np.where(total >= 0, total >> 31, -(-total >> 31))
        right = np.maximum(-shift, 0)
        mask = (np.int64(1) << right) - 1
        return np.asarray((high >> right) + ((high & mask) > (mask >> 1) + (high < 0)))

    def rounded_once(self, x: Ints) -> Ints:
        """``x`` times the number, rounded once.  # (channels, ...) int64 -> (channels, ...) int64"""
        multiplier, shift = self._parts(x)
        product, places = x * multiplier, 31 - shift
        size = (np.abs(product) + (np.int64(1) << places - 1)) >> places
        return np.asarray(np.where(product < 0, -size, size))

    def _parts(self, x: Ints) -> tuple[Ints, Ints]:
        axes = (-1,) + (1,) * (x.ndim - 1)
        return self.multiplier.reshape(axes), self.shift.reshape(axes)

    def exact_to(self, largest: Ints) -> bool:
        """Whether sums of magnitude ``largest`` (channels,) stay within the 32 bits that the kernels compute in."""
        fits = (np.asarray(largest, object) << np.maximum(self.shift, 0)) <= _INT32
        return bool((fits & (self.shift < 31)).all())


def _quantized(real: float) -> tuple[int, int]:
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    return multiplier, shift
