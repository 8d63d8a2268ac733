"""Nearest levels and least-squares scales, alternating until neither changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import Ints
from fewbit.golden.quantizers.least_squares import least_squares_scales, squared_errors
from fewbit.golden.quantizers.weight_vectors import Floats, Groups

STARTS = tuple(2 ** (-step / 4) for step in range(13))
"""Initial scales, relative to the smallest scale at which no weight of the group is beyond the largest level."""
_MINIMUM_GAIN = 1e-6
_MAXIMUM_TURNS = 32


def nearest_levels(weights: Floats, scales: Floats, code: Code) -> Ints:
    """The level of ``code`` nearest to ``weight / scale``; of two equally near, the one nearer to 0.

    Where the scale is 0, every level gives 0; the result is the level nearest to 0, which is +1 for binary.

    # (W,), (W,) -> (W,) int64
    """
    ratio = np.divide(weights, scales, out=np.zeros(len(weights)), where=scales != 0)
    levels = code.levels
    middles = (levels[1:] + levels[:-1]) / 2
    down, up = (np.searchsorted(middles, ratio, side) for side in ("left", "right"))
    return np.asarray(levels[np.where(ratio > 0, down, up)])


def alternate(weights: Floats, levels: Ints, groups: Groups, code: Code) -> Iterator[tuple[Ints, Floats]]:
    """Alternates between the least-squares scales of the levels and the levels nearest to ``weight / scale``, starting
    from ``levels``; yields levels and scales of each turn.

    Neither step can increase the squared error of any group. It ends when the levels do not change, or the total error
    decreases by less than a millionth.
    """
    before = np.inf
    for _ in range(_MAXIMUM_TURNS):
        scales = least_squares_scales(weights, levels, groups)
        yield levels, scales
        error = float(squared_errors(weights, levels, scales, groups).sum())
        nearer = nearest_levels(weights, groups.each(scales), code)
        nearer = np.where(groups.each(scales) == 0, levels, nearer)
        if error >= before * (1 - _MINIMUM_GAIN) or np.array_equal(nearer, levels):
            return
        levels, before = nearer, error


def nearest(weights: Floats, groups: Groups, code: Code, starts: Iterable[Ints] = ()) -> tuple[Ints, Floats]:
    """Levels and scales of least squared error that the alternation finds, for each group separately.

    It starts from the best of several candidates: scales, from the smallest that does not overflow downwards, and the
    levels in ``starts``; so no group has a larger error than with those. Whole numbers that are a common multiple of
    levels become exactly these levels.

    # (W,) -> (W,) int64, (groups,)
    """
    largest = np.zeros(groups.count)
    ends = np.where(weights > 0, max(int(code.levels[-1]), 1), -int(code.levels[0]))
    np.maximum.at(largest, groups.index, np.abs(weights) / ends)
    unit = groups.each(largest)
    best, least = np.zeros(len(weights), np.int64), np.full(groups.count, np.inf)
    scales = chain(_divisors(weights, groups), (unit * share for share in STARTS))
    for levels in chain(starts, (nearest_levels(weights, scale, code) for scale in scales)):
        errors = squared_errors(weights, levels, least_squares_scales(weights, levels, groups), groups)
        best = np.where((errors < least)[groups.index], levels, best)
        least = np.minimum(errors, least)
    *_, last = alternate(weights, best, groups, code)
    return last


def _divisors(weights: Floats, groups: Groups) -> Iterator[Floats]:
    """For every weight the greatest common divisor of its group, if all weights are whole numbers."""
    if (weights == np.rint(weights)).all() and np.abs(weights).max(initial=0) < 1 << 53:
        divisors = np.zeros(groups.count, np.int64)
        np.gcd.at(divisors, groups.index, np.abs(weights).astype(np.int64))
        yield groups.each(divisors.astype(np.float64))
