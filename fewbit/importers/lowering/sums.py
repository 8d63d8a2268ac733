"""Sums of two activations with different scales, by small integer gains that give the levels of the source exactly.

What follows a sum in the source (a rounding of each side, a scale, a rounding to a level) makes the level a function of
two small integers. Integer gains are accepted only if one row of thresholds on ``gain_0 * x_0 + gain_1 * x_1`` gives
that level for every pair.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from fewbit.golden.dtype import Ints

_MOST_GAIN = 1 << 16


def integer_gains(
    first: Ints, second: Ints, levels: Ints, count: int, ratio: Fraction
) -> tuple[tuple[int, int], Ints] | None:
    """Integer gains of both inputs, and thresholds on their sum.

    Parameters
    ----------
    first, second : int64 arrays (A,), (B,)
        Every integer of an input, ascending.
    levels : int64 array (A, B)
        The level of each pair, 0 to ``count``.
    count : int
    ratio : Fraction
        About how much more an integer of the first input counts than one of the second.

    Returns
    -------
    gains and thresholds, (count,) int64; None if no gains up to 65,536 give every level
    """
    for gains in _candidates(ratio):
        sums = gains[0] * first[:, None] + gains[1] * second[None]
        order = np.argsort(sums, axis=None, kind="stable")
        ordered, reached = sums.ravel()[order], levels.ravel()[order]
        last = np.maximum.accumulate(reached)
        # Equal sums must have one level, and a larger sum no lower one.
        ends_of_equal = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        starts = np.append(0, ends_of_equal[:-1] + 1)
        if (reached < last).any() or (reached[starts] != reached[ends_of_equal]).any():
            continue
        places = np.searchsorted(reached, np.arange(1, count + 1), side="left")
        beyond = int(ordered[-1]) + 1
        thresholds = np.where(places < len(ordered), ordered[np.minimum(places, len(ordered) - 1)], beyond)
        return gains, thresholds
    return None


def _candidates(ratio: Fraction) -> list[tuple[int, int]]:
    """Gains in about the ratio, the smallest first."""
    seen: list[tuple[int, int]] = []
    for bits in range(17):
        part = ratio.limit_denominator(1 << bits) if ratio >= 1 else 1 / (1 / ratio).limit_denominator(1 << bits)
        gains = part.numerator, part.denominator
        if 0 < max(gains) <= _MOST_GAIN and min(gains) > 0 and gains not in seen:
            seen.append(gains)
    return seen
