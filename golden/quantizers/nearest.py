"""Nearest level, with the scale that suits the levels best, in turn until neither changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import Ints
from fewbit.golden.quantizers.least_squares import least_squares_scales, squared_errors
from fewbit.golden.quantizers.weight_vectors import Floats, Groups

STARTS = tuple(2 ** (-step / 4) for step in range(13))
"""Scales to start from, in the least that no weight of the group overflows."""
_LEAST_GAIN = 1e-6
_MOST_TURNS = 32


def nearest_levels(weights: Floats, scales: Floats, code: Code) -> Ints:
    """The level of ``code`` that comes nearest to ``weight / scale``; of two equally near, the one nearer to 0.

    Without a scale (0) every level is as good, and it is the one nearest to 0, of binary +1.

    # (W,), (W,) -> (W,) int64
    """
    ratio = np.divide(weights, scales, out=np.zeros(len(weights)), where=scales != 0)
    levels = code.levels
    middles = (levels[1:] + levels[:-1]) / 2
    down, up = (np.searchsorted(middles, ratio, side) for side in ("left", "right"))
    return np.asarray(levels[np.where(ratio > 0, down, up)])


def alternate(weights: Floats, levels: Ints, groups: Groups, code: Code) -> Iterator[tuple[Ints, Floats]]:
    """Levels and their least-squares scales, from ``levels`` on: each turn takes the levels nearest to the scales.

    Neither step can raise the squared error of any group. Ends where levels stay as they are, or all gain less than
    a millionth.
    """
    before = np.inf
    for _ in range(_MOST_TURNS):
        scales = least_squares_scales(weights, levels, groups)
        yield levels, scales
        error = float(squared_errors(weights, levels, scales, groups).sum())
        nearer = nearest_levels(weights, groups.each(scales), code)
        nearer = np.where(groups.each(scales) == 0, levels, nearer)
        if error >= before * (1 - _LEAST_GAIN) or np.array_equal(nearer, levels):
            return
        levels, before = nearer, error


def nearest(weights: Floats, groups: Groups, code: Code, starts: Iterable[Ints] = ()) -> tuple[Ints, Floats]:
    """Levels and scales of least squared error that the alternation finds, for each group by itself.

    It begins with the best of several scales, the least that no weight overflows and smaller ones, and of the levels in
    ``starts``: the error of no group is greater than theirs. Weights that are whole numbers, and levels but for a
    common divisor, become these.

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
    """The greatest common divisor of each group, for every weight, where all weights are whole numbers."""
    if (weights == np.rint(weights)).all() and np.abs(weights).max(initial=0) < 1 << 53:
        divisors = np.zeros(groups.count, np.int64)
        np.gcd.at(divisors, groups.index, np.abs(weights).astype(np.int64))
        yield groups.each(divisors.astype(np.float64))
