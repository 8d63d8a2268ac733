"""Thresholds as a multiplication, an addition and a shift, where these give the same level for every possible input.

``floor((m * x + b) / 2**s) >= k`` if and only if ``m * x + b >= k * 2**s``. So level k begins at the threshold t_k if

    m * t_k + b >= k * 2**s,    m * (t_k - 1) + b < k * 2**s

The first condition is not needed if no input reaches t_k, the second one if every input does. For a given multiplier m
they leave an interval of addends b: from the maximum of some linear functions of m to the minimum of others. The length
of the interval is a concave function of m, so the multipliers for which there is an addend are consecutive.

A multiplier at one shift corresponds to twice that at the next shift; and if m is even, ``(m * x + b) >> s`` equals
``(m / 2 * x + b // 2) >> (s - 1)``. So one search at a large shift also covers all smaller ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fewbit.golden.codes import csd_digits
from fewbit.golden.dtype import Ints
from fewbit.golden.layer import Record
from fewbit.golden.network import Threshold

MOST_DIGITS = 8
"""Most signed digits of a multiplier that all channels share."""

SHIFTS = 3
"""Number of shifts to try if each channel has its own multiplier."""

_BITS = 61
"""Width of the numbers in the search, so that their differences fit ``int64``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiplyShift(Record):
    """``level = min(max((multiplier * x + addend) >> shift, 0), levels)``, with a multiplier and an addend for each
    channel.

    Parameters
    ----------
    multiplier, addend : int array (channels,)
        The multiplier is 0 or negative for a channel whose thresholds have a sign of -1.
    shift : int
    levels : int
        The highest level.
    """

    multiplier: Ints
    addend: Ints
    shift: int
    levels: int

    def __post_init__(self) -> None:
        self._freeze("multiplier", np.int64, 1)
        self._freeze("addend", np.int64, 1)

    def level(self, x: Ints) -> Ints:
        """The level of each input.  # (N, C, ...) -> (N, C, ...) int64; with one channel, (N, ...) -> (N, ...)"""
        shape = (-1, *[1] * (x.ndim - 2)) if self.multiplier.size > 1 else ()
        total = self.multiplier.reshape(shape) * x.astype(np.int64) + self.addend.reshape(shape)
        level: Ints = np.clip(total >> self.shift, 0, self.levels)
        return level

    def equals(self, layer: Threshold, low: Ints, high: Ints) -> bool:
        """Whether this gives the levels of ``layer`` for every x from ``low`` to ``high``, (channels,) each.

        Both levels are monotonic in x. So it is enough to compare them at the two ends, and on both sides of every
        change of the level of ``layer``.
        """
        edges = layer.thresholds * layer.sign[:, None].astype(np.int64)  # the inputs x at which sign * x is a threshold
        before = edges - layer.sign[:, None]
        ends = np.stack([low, high], 1)
        x = np.clip(np.concatenate([edges, before, ends], 1), low[:, None], high[:, None]).T
        if layer.channels == 1:
            x = x[:, 0]
        return bool((self.level(x) == layer.levels(x)).all())


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Thresholds of ``sign * x`` in an input range and, for each channel, the smallest and the largest multiplier at
    ``shift`` for which there is an addend."""

    thresholds: Ints
    low: Ints
    high: Ints
    shift: int
    least: Ints
    most: Ints

    @classmethod
    def of(cls, thresholds: Ints, low: Ints, high: Ints) -> _Slopes | None:
        """The search result; None if some channel has no multiplier."""
        count = thresholds.shape[1]
        ends = [*low.tolist(), *high.tolist()]
        span = max(
            *map(abs, ends), *(most - least + 1 for least, most in zip(low.tolist(), high.tolist()))
        ).bit_length()
        # The valid slopes are between two fractions with denominators of at most the span; this shift resolves them.
        shift = min(2 * span + 1, _BITS - span - count.bit_length())
        if shift < 0:
            return None
        search = cls(np.clip(thresholds, low[:, None], high[:, None] + 1), low, high, shift, low, high)
        least = search._first(np.zeros(len(low), np.int64), 1)
        most = search._first(np.full(len(low), count << shift), -1)
        if least is None or most is None or (least > most).any():
            return None
        return cls(search.thresholds, low, high, shift, least, most)

    def addends(self, multiplier: Ints, shift: int) -> tuple[Ints, Ints, Ints]:
        """The smallest and largest addend to ``multiplier * (x - low)`` for each channel (smallest > largest if there
        is none), and the derivative of their difference, smallest - largest, with respect to the multiplier."""
        level = np.arange(1, self.thresholds.shape[1] + 1, dtype=np.int64)
        begin = self.thresholds - self.low[:, None]
        unbounded = np.int64(1) << _BITS
        bounds = (level << shift) - multiplier[:, None] * begin
        below = np.where(self.thresholds <= self.high[:, None], bounds, -unbounded)
        above = np.where(self.thresholds > self.low[:, None], bounds + multiplier[:, None] - 1, unbounded)
        lower, upper = below.argmax(1)[:, None], above.argmin(1)[:, None]
        slope = np.take_along_axis(begin, upper, 1) - 1 - np.take_along_axis(begin, lower, 1)
        return np.take_along_axis(below, lower, 1)[:, 0], np.take_along_axis(above, upper, 1)[:, 0], slope[:, 0]

    def _first(self, start: Ints, direction: int) -> Ints | None:
        """For each channel the first multiplier from ``start`` on, in ``direction``, with an addend; None if some
        channel has none.

        Newton's method: smallest - largest addend is a convex function of the multiplier, so no multiplier in front of
        the zero of its tangent has an addend.
        """
        multiplier = start
        while True:
            least, most, slope = self.addends(multiplier, self.shift)
            gap = np.maximum(least - most, 0)
            if not gap.any():
                return multiplier
            if (slope[gap > 0] * direction >= 0).any():
                return None
            multiplier = multiplier + direction * -(-gap // np.maximum(np.abs(slope), 1))

    def at(self, shift: int) -> tuple[Ints, Ints]:
        """Smallest and largest multiplier of each channel at a smaller ``shift``; smallest > largest if there is
        none."""
        fewer = self.shift - shift
        return -(-self.least >> fewer), self.most >> fewer

    def addend(self, multiplier: Ints, shift: int) -> Ints:
        """For each channel, the addend to ``multiplier * x`` with the most trailing zeros."""
        least, most, _ = self.addends(multiplier, shift)
        # An unbounded side gets an interval of one level, from the bound on the other side.
        least = np.where(least == -(1 << _BITS), most - (1 << shift) + 1, least)
        most = np.where(most == 1 << _BITS, least + (1 << shift) - 1, most)
        return _roundest(least - multiplier * self.low, most - multiplier * self.low)


def fits(layer: Threshold, low: Ints, high: Ints) -> Iterator[MultiplyShift]:
    """The useful forms that give the levels of ``layer`` for x from ``low`` to ``high``; none if no form does.

    First come multipliers that all channels share, except for the sign, with the fewest signed digits, up to
    :data:`MOST_DIGITS`; then a multiplier for each channel, at the smallest shift at which all channels have one, and
    at the next ones.

    Parameters
    ----------
    layer : Threshold
    low, high : int array (channels,) or (1,)
        Input range of each row of thresholds.
    """
    low, high = (np.resize(end, layer.channels).astype(np.int64) for end in (low, high))
    negative = layer.sign < 0
    slopes = _Slopes.of(layer.thresholds, np.where(negative, -high, low), np.where(negative, -low, high))
    if slopes is None:
        return
    for multiplier, shift in [*_shared(slopes), *_own(slopes)]:
        form = MultiplyShift(
            multiplier=np.where(negative, -multiplier, multiplier),
            addend=slopes.addend(multiplier, shift),
            shift=shift,
            levels=int(layer.thresholds.shape[1]),
        )
        if form.equals(layer, low, high):
            yield form


def _shared(slopes: _Slopes) -> Iterator[tuple[Ints, int]]:
    """A multiplier that all channels can use, and its shift; nothing if there is none."""
    count = slopes.thresholds.shape[1]
    least, most = int(slopes.least.max()), int(slopes.most.min())
    # If thresholds allow many slopes, one just steep enough to reach all levels needs little clipping.
    level = min((count << slopes.shift) // int((slopes.high - slopes.low).max() + 1), most)
    multiplier = fewest_digits(max(least, level) if least > 0 else least, most, MOST_DIGITS)
    if multiplier is not None:
        zeros = slopes.shift if multiplier == 0 else min(slopes.shift, trailing_zeros(multiplier))
        yield np.full(len(slopes.low), multiplier >> zeros), slopes.shift - zeros


def _own(slopes: _Slopes) -> Iterator[tuple[Ints, int]]:
    """A multiplier for each channel, at the smallest shifts at which every channel has one."""
    if len(slopes.low) == 1:
        return
    ranges = ((shift, *slopes.at(shift)) for shift in range(slopes.shift + 1))
    serving = ((shift, least, most) for shift, least, most in ranges if (least <= most).all())
    for shift, least, most in islice(serving, SHIFTS):
        yield _roundest(least, most), shift


def trailing_zeros(number: int) -> int:
    """Trailing zero bits of a number that is not 0."""
    return (number & -number).bit_length() - 1


def fewest_digits(least: int, most: int, limit: int) -> int | None:
    """The number from ``least`` to ``most`` with the fewest signed digits; among those, the one whose digits span the
    fewest positions, then the smallest. None if all have more digits than ``limit``.

    Between two consecutive powers of two, the leading canonic digit of every number is one of the two.

    >>> fewest_digits(11, 15, 3), fewest_digits(11, 13, 3), fewest_digits(11, 11, 2)
    (12, 12, None)
    """
    if least <= 0 <= most:
        return 0
    if limit == 0 or least > most:
        return None
    if most < 0:
        mirrored = fewest_digits(-most, -least, limit)
        return None if mirrored is None else -mirrored
    power = 1 << (least - 1).bit_length()
    if power <= most:
        return power
    best: tuple[int, int, int] | None = None
    for first in (power // 2, power):
        rest = fewest_digits(least - first, most - first, limit - 1)
        if rest is not None:
            number = first + rest
            rank = (len(csd_digits(number)), number >> trailing_zeros(number), number)
            best = rank if best is None else min(best, rank)
            limit = min(limit, rank[0])
    return None if best is None else best[2]


def _roundest(least: Ints, most: Ints) -> Ints:
    """The numbers from ``least`` to ``most`` with the most trailing zeros."""
    rounder = most
    for zeros in range(1, _BITS):
        fewer = most >> zeros << zeros
        rounder = np.where(fewer >= least, fewer, rounder)
    return rounder
