"""Thresholds as a multiplication, an addition and a shift, where these give the same level for every possible input.

``floor((m * x + b) / 2**s) >= k`` just when ``m * x + b >= k * 2**s``. So level k begins at the threshold t_k where

    m * t_k + b >= k * 2**s,    m * (t_k - 1) + b < k * 2**s

of which the first falls away where no input reaches t_k, and the second where every input does. For a multiplier m
these leave an interval of addends b: from the greatest of some linear functions of m to the least of others. Its length
is a concave function of m, so that the multipliers that leave one are neighbours.

A multiplier at one shift is twice that at the next, and where m is even, ``(m * x + b) >> s`` is
``(m / 2 * x + b // 2) >> (s - 1)``: one search at a large shift answers for all smaller ones.
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
"""Shifts tried for multipliers of their own."""

_BITS = 61
"""Of the numbers in the search, so that their differences fit ``int64``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiplyShift(Record):
    """``level = min(max((multiplier * x + addend) >> shift, 0), levels)``, a multiplier and an addend a channel.

    Parameters
    ----------
    multiplier, addend : int array (channels,)
        Of a channel whose thresholds have a sign of -1 the multiplier is not positive.
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
        """# (N, C, ...) -> (N, C, ...) int64; of one channel, (N, ...) -> (N, ...)"""
        shape = (-1, *[1] * (x.ndim - 2)) if self.multiplier.size > 1 else ()
        total = self.multiplier.reshape(shape) * x.astype(np.int64) + self.addend.reshape(shape)
        level: Ints = np.clip(total >> self.shift, 0, self.levels)
        return level

    def equals(self, layer: Threshold, low: Ints, high: Ints) -> bool:
        """Whether it gives the levels of ``layer`` for every x from ``low`` to ``high``, (channels,) each.

        Neither form turns back on the way from ``low`` to ``high``. So it is enough to look where the level of the
        thresholds changes, on both sides, and at the two ends: in between both stand still.
        """
        edges = layer.thresholds * layer.sign[:, None].astype(np.int64)  # where sign * x is the threshold
        before = edges - layer.sign[:, None]
        ends = np.stack([low, high], 1)
        x = np.clip(np.concatenate([edges, before, ends], 1), low[:, None], high[:, None]).T
        if layer.channels == 1:
            x = x[:, 0]
        return bool((self.level(x) == layer.levels(x)).all())


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Thresholds of ``sign * x`` in an input range, and for each channel the multipliers at ``shift`` that leave an
    addend."""

    thresholds: Ints
    low: Ints
    high: Ints
    shift: int
    least: Ints
    most: Ints

    @classmethod
    def of(cls, thresholds: Ints, low: Ints, high: Ints) -> _Slopes | None:
        """None where a channel has no multiplier."""
        count = thresholds.shape[1]
        ends = [*low.tolist(), *high.tolist()]
        span = max(
            *map(abs, ends), *(most - least + 1 for least, most in zip(low.tolist(), high.tolist()))
        ).bit_length()
        # Where any slope will do, one does between two fractions whose denominators are at most the span.
        shift = min(2 * span + 1, _BITS - span - count.bit_length())
        if shift < 0:
            return None
        wanted = cls(np.clip(thresholds, low[:, None], high[:, None] + 1), low, high, shift, low, high)
        least = wanted._first(np.zeros(len(low), np.int64), 1)
        most = wanted._first(np.full(len(low), count << shift), -1)
        if least is None or most is None or (least > most).any():
            return None
        return cls(wanted.thresholds, low, high, shift, least, most)

    def addends(self, multiplier: Ints, shift: int) -> tuple[Ints, Ints, Ints]:
        """Least and greatest addend to ``multiplier * (x - low)`` for each channel, least > greatest where there is
        none, and what a larger multiplier does to least - greatest: its slope at the multiplier."""
        level = np.arange(1, self.thresholds.shape[1] + 1, dtype=np.int64)
        begin = self.thresholds - self.low[:, None]
        none = np.int64(1) << _BITS
        wanted = (level << shift) - multiplier[:, None] * begin
        below = np.where(self.thresholds <= self.high[:, None], wanted, -none)
        above = np.where(self.thresholds > self.low[:, None], wanted + multiplier[:, None] - 1, none)
        one, other = below.argmax(1)[:, None], above.argmin(1)[:, None]
        slope = np.take_along_axis(begin, other, 1) - 1 - np.take_along_axis(begin, one, 1)
        return np.take_along_axis(below, one, 1)[:, 0], np.take_along_axis(above, other, 1)[:, 0], slope[:, 0]

    def _first(self, start: Ints, direction: int) -> Ints | None:
        """The first multiplier of each channel from ``start`` on that leaves an addend; None where one has none.

        Newton's method: least - greatest is convex, so that no multiplier before the zero of its tangent leaves one.
        """
        multiplier = start
        while True:
            least, most, slope = self.addends(multiplier, self.shift)
            lacking = np.maximum(least - most, 0)
            if not lacking.any():
                return multiplier
            if (slope[lacking > 0] * direction >= 0).any():
                return None
            multiplier = multiplier + direction * -(-lacking // np.maximum(np.abs(slope), 1))

    def at(self, shift: int) -> tuple[Ints, Ints]:
        """Least and greatest multiplier of each channel at a smaller shift, least > greatest where there is none."""
        fewer = self.shift - shift
        return -(-self.least >> fewer), self.most >> fewer

    def addend(self, multiplier: Ints, shift: int) -> Ints:
        """The roundest addend to ``multiplier * x`` of each channel."""
        least, most, _ = self.addends(multiplier, shift)
        # Where one side is free, the other one's level is as many as it takes.
        least = np.where(least == -(1 << _BITS), most - (1 << shift) + 1, least)
        most = np.where(most == 1 << _BITS, least + (1 << shift) - 1, most)
        return _roundest(least - multiplier * self.low, most - multiplier * self.low)


def fits(layer: Threshold, low: Ints, high: Ints) -> Iterator[MultiplyShift]:
    """Every form worth building that equals ``layer`` for x from ``low`` to ``high``; none where there is none.

    First multipliers that differ at most in their sign, of the fewest signed digits, up to :data:`MOST_DIGITS`; then
    each channel's own, at the smallest shift that serves all and at some above.

    Parameters
    ----------
    layer : Threshold
    low, high : int array (channels,) or (1,)
        Input range of each row of thresholds.
    """
    low, high = (np.resize(end, layer.channels).astype(np.int64) for end in (low, high))
    turned = layer.sign < 0
    slopes = _Slopes.of(layer.thresholds, np.where(turned, -high, low), np.where(turned, -low, high))
    if slopes is None:
        return
    for multiplier, shift in [*_shared(slopes), *_own(slopes)]:
        made = MultiplyShift(
            multiplier=np.where(turned, -multiplier, multiplier),
            addend=slopes.addend(multiplier, shift),
            shift=shift,
            levels=int(layer.thresholds.shape[1]),
        )
        if made.equals(layer, low, high):
            yield made


def _shared(slopes: _Slopes) -> Iterator[tuple[Ints, int]]:
    """A multiplier that serves all channels and its shift, if there is one."""
    count = slopes.thresholds.shape[1]
    least, most = int(slopes.least.max()), int(slopes.most.min())
    # A slope of which little is asked is best just steep enough for all levels: then little is left to clip.
    level = min((count << slopes.shift) // int((slopes.high - slopes.low).max() + 1), most)
    multiplier = fewest_digits(max(least, level) if least > 0 else least, most, MOST_DIGITS)
    if multiplier is not None:
        zeros = slopes.shift if multiplier == 0 else min(slopes.shift, trailing_zeros(multiplier))
        yield np.full(len(slopes.low), multiplier >> zeros), slopes.shift - zeros


def _own(slopes: _Slopes) -> Iterator[tuple[Ints, int]]:
    """Multipliers, one a channel, at some shifts from the smallest on at which every channel has one."""
    if len(slopes.low) == 1:
        return
    ranges = ((shift, *slopes.at(shift)) for shift in range(slopes.shift + 1))
    serving = ((shift, least, most) for shift, least, most in ranges if (least <= most).all())
    for shift, least, most in islice(serving, SHIFTS):
        yield _roundest(least, most), shift


def trailing_zeros(number: int) -> int:
    """Of a number that is not 0."""
    return (number & -number).bit_length() - 1


def fewest_digits(least: int, most: int, limit: int) -> int | None:
    """The number from ``least`` to ``most`` of the fewest signed digits; of such the one whose digits lie the closest
    together, and of such the smallest. None where all have more digits than ``limit``.

    Between two neighbouring powers of two the canonic digits of every number begin with one of the two.

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
    """The numbers from ``least`` to ``most`` that end in the most zeros."""
    rounder = most
    for zeros in range(1, _BITS):
        fewer = most >> zeros << zeros
        rounder = np.where(fewer >= least, fewer, rounder)
    return rounder
