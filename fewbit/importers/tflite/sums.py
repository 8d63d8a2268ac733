"""Sums of two activations with different scales, by small integer gains that give the levels of the kernel exactly.

The kernel of ADD scales both inputs to a common unit in fixed point, each with a rounding of its own, adds them, and
scales the sum to the output. Its level is a function of two bytes at most: integer gains are accepted only if one row
of thresholds on ``gain_0 * x_0 + gain_1 * x_1`` gives that level for every pair.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from fewbit.golden.dtype import Ints

_MOST_GAIN = 1 << 16


def integer_gains(
    first: tuple[Ints, Ints], second: tuple[Ints, Ints], borders: Ints
) -> tuple[tuple[int, int], Ints] | None:
    """Integer gains of both inputs, and thresholds on their sum.

    Parameters
    ----------
    first, second : (x, scaled)
        Every integer of an input, ascending, and what the kernel makes of it.
    borders : int64 array (T,)
        Sums of scaled inputs from which on each next level is given, ascending.

    Returns
    -------
    gains and thresholds, (T,) int64; None if no gains up to 65,536 give every level
    """
    levels = np.searchsorted(borders, first[1][:, None] + second[1][None], side="right")
    for gains in _candidates(_slope(*first), _slope(*second)):
        sums = gains[0] * first[0][:, None] + gains[1] * second[0][None]
        order = np.argsort(sums, axis=None, kind="stable")
        ordered, reached = sums.ravel()[order], levels.ravel()[order]
        last = np.maximum.accumulate(reached)
        # Equal sums must have one level, and a larger sum no lower one.
        ends_of_equal = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        starts = np.append(0, ends_of_equal[:-1] + 1)
        if (reached < last).any() or (reached[starts] != reached[ends_of_equal]).any():
            continue
        places = np.searchsorted(reached, np.arange(1, len(borders) + 1), side="left")
        beyond = int(ordered[-1]) + 1
        thresholds = np.where(places < len(ordered), ordered[np.minimum(places, len(ordered) - 1)], beyond)
        return gains, thresholds
    return None


def _slope(x: Ints, scaled: Ints) -> Fraction:
    return Fraction(int(scaled[-1] - scaled[0]), max(1, int(x[-1] - x[0])))


def _candidates(first: Fraction, second: Fraction) -> list[tuple[int, int]]:
    """Gains in about the ratio of the slopes, the smallest first."""
    ratio = first / second
    seen: list[tuple[int, int]] = []
    for bits in range(17):
        part = ratio.limit_denominator(1 << bits) if ratio >= 1 else 1 / (1 / ratio).limit_denominator(1 << bits)
        gains = part.numerator, part.denominator
        if 0 < max(gains) <= _MOST_GAIN and min(gains) > 0 and gains not in seen:
            seen.append(gains)
    return seen
