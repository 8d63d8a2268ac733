"""Real numbers as integers of a given width, all in units of one power of two."""

from __future__ import annotations

from math import frexp

import numpy as np

from fewbit.golden import csd
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.weight_vectors import Floats


def fixed_point(reals: Floats, bits: int, fraction: int | None = None) -> tuple[Ints, int]:
    """Integers of ``bits`` signed bits, and the number of fraction bits.

    ``integers * 2**-fraction`` differs from ``reals`` by at most half a unit, ``2**-(fraction + 1)``; ties round to
    even.

    Parameters
    ----------
    reals : float array
    bits : int
        2 to 32, including the sign: the width of a canonic-signed-digit multiplier.
    fraction : int, optional
        Fraction bits; may be negative or larger than ``bits``. By default the most with which the largest real fits.

    Raises
    ------
    FewbitError
        If a real overflows ``bits`` bits with ``fraction`` fraction bits.
    """
    if not 2 <= bits <= csd.WIDEST:
        raise FewbitError(f"a scale has 2 to {csd.WIDEST} bits, not {bits}")
    kind = DType("int", bits)
    if fraction is None:
        largest = float(np.abs(reals).max(initial=0))
        fraction = bits - 1 - frexp(largest)[1] if largest else 0
        if not kind.contains(_rounded(reals, fraction)):  # the largest real rounds up to the next power of two
            fraction -= 1
    integers = _rounded(reals, fraction)
    if not kind.contains(integers):
        largest, most = float(np.abs(reals).max()), kind.max * 2.0**-fraction
        raise FewbitError(
            f"a scale of {largest:.6g} overflows {bits} bits with {fraction} after the point, at most {most:.6g}: "
            f"give scales more bits, or fewer after the point"
        )
    return integers.astype(np.int64), fraction


def _rounded(reals: Floats, fraction: int) -> Floats:
    return np.rint(np.ldexp(np.asarray(reals, np.float64), fraction))
