"""Exact folding of scales, shifts, clips and rounding between two integer tensors into integer thresholds.

All numbers are ``fractions.Fraction``, so thresholds are exact, also where a value lies on a rounding boundary. The
irrational numbers, of square roots in batch normalizations and of sigmoids, are computed to 60 decimal digits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

Reals = NDArray[Any]
"""Object array of Fraction, (channels,), or (1,) if all channels have the same value."""

_ROOT_DIGITS = 10**60
_SCORE_BITS = 62
_MOST_STEPS = 128
_MOST_DIGITS = 1 << 13
"""Largest number of bits of a numerator or denominator. A batch normalization adds about 500."""
_MOST_THRESHOLDS = 1 << 21
"""Largest number of thresholds of a layer that are computed one by one."""
_MOST_ROUNDED = 1 << 23
"""Largest number of thresholds of a layer that are computed all at once."""
_SCORE_PROOF = 1 << 20
"""Largest number of comparisons of scores with which :func:`comparable_scores` proves that fewer bits suffice."""


def exact(values: Any) -> Reals:
    """Convert a float or integer array to Fractions of the same shape."""
    array = np.asarray(values)
    fractions = np.empty(array.size, object)
    fractions[:] = [Fraction(value) for value in array.ravel().tolist()]
    return fractions.reshape(array.shape)


def square_root(value: Fraction) -> Fraction:
    """Square root of ``value`` >= 0: exact if it is rational, otherwise with a relative error below 10**-60.

    >>> square_root(Fraction(9, 4))
    Fraction(3, 2)
    """
    square = value.numerator * value.denominator
    root = math.isqrt(square)
    if root * root != square:
        return Fraction(math.isqrt(square * _ROOT_DIGITS**2), value.denominator * _ROOT_DIGITS)
    return Fraction(root, value.denominator)


@dataclass(frozen=True)
class Boundary:
    """The lower bound of a level: ``x >= value``, or ``x > value`` if ``strict``."""

    value: Fraction
    strict: bool = False

    def reached(self, x: Fraction) -> bool:
        """Whether ``x`` is at or above the bound."""
        return x > self.value if self.strict else x >= self.value


ROUNDINGS = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


def rounding_boundary(mode: str, level: int) -> Boundary:
    """Lower bound of the reals that rounding mode ``mode``, one of :data:`ROUNDINGS`, rounds to ``level`` or above.

    ``UP`` rounds away from zero and ``DOWN`` towards zero; ``ROUND`` rounds half to even.
    """
    positive = level > 0
    if mode in ("CEIL", "FLOOR", "UP", "DOWN"):
        upwards = mode == "CEIL" or mode == ("UP" if positive else "DOWN")
        return Boundary(Fraction(level - 1), True) if upwards else Boundary(Fraction(level))
    included = {"HALF_UP": positive, "HALF_DOWN": not positive}.get(mode, level % 2 == 0)
    return Boundary(Fraction(2 * level - 1, 2), not included)


@dataclass(frozen=True)
class Gain:
    """The function ``x -> gain * x + shift`` for each channel."""

    gain: Reals
    shift: Reals


@dataclass(frozen=True)
class Clip:
    """The function ``x -> min(max(x, low), high)``; None is no limit. A ReLU is ``Clip(0, None)``."""

    low: Fraction | None
    high: Fraction | None

    def of(self, x: Fraction) -> Fraction:
        """The clipped value of ``x``."""
        x = x if self.low is None else max(x, self.low)
        return x if self.high is None else min(x, self.high)


@dataclass(frozen=True)
class Bend:
    """The function ``x -> x`` for x >= 0, else ``slope * x`` with a slope above 0 for each channel: a leaky ReLU."""

    slope: Reals


@dataclass(frozen=True)
class Smooth:
    """A smooth rising function: ``sigmoid`` or ``tanh``."""

    name: str

    @property
    def ends(self) -> tuple[int, int]:
        """The reals between which its values lie."""
        return (0, 1) if self.name == "sigmoid" else (-1, 1)

    def of(self, x: Fraction) -> Fraction:
        """The value at ``x``, to 60 digits."""
        doubled = x if self.name == "sigmoid" else 2 * x
        power = _DIGITS.exp(_decimal(max(-_FAR, min(_FAR, -doubled))))
        share = Fraction(_DIGITS.divide(Decimal(1), _DIGITS.add(Decimal(1), power)))
        return share if self.name == "sigmoid" else 2 * share - 1

    def inverse(self, value: Fraction) -> Fraction:
        """Where the function has a ``value`` between its ends, to 60 digits; exact where that is 0."""
        share = value if self.name == "sigmoid" else (value + 1) / 2
        root = Fraction(_DIGITS.ln(_decimal(share / (1 - share))))
        return root if self.name == "sigmoid" else root / 2


_DIGITS = Context(prec=60)
_FAR = Fraction(1000)


def _decimal(value: Fraction) -> Decimal:
    return _DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))


@dataclass(frozen=True)
class Curve:
    """For each channel, a monotonic function from integers to reals: a sequence of gains, clips, bends and sigmoids.

    Methods that extend the function raise FewbitError if it has more than 128 steps, or numbers of more than 8,192 bits
    arise. This limits the memory and time that a hostile file can take.
    """

    steps: tuple[Gain | Clip | Bend | Smooth, ...] = ()

    def scaled(self, gain: Reals, shift: Reals) -> Curve:
        """The function ``gain * self(x) + shift``."""
        if self.steps and isinstance(last := self.steps[-1], Gain):
            return Curve((*self.steps[:-1], _bounded(Gain(last.gain * gain, last.shift * gain + shift))))
        return self._then(Gain(gain, shift))

    def bent(self, slope: Reals) -> Curve:
        """The function ``self(x)`` where that is 0 or above, else ``slope * self(x)``."""
        return self._then(Bend(slope))

    def smooth(self, name: str) -> Curve:
        """The ``sigmoid`` or the ``tanh`` of ``self(x)``."""
        return self._then(Smooth(name))

    @property
    def end(self) -> str | None:
        """The smooth function that comes last, or None."""
        return last.name if self.steps and isinstance(last := self.steps[-1], Smooth) else None

    def before_end(self) -> Curve:
        """The function without its last step."""
        return Curve(self.steps[:-1])

    def _then(self, step: Gain | Clip | Bend | Smooth) -> Curve:
        if len(self.steps) >= _MOST_STEPS:
            raise FewbitError(f"there are more than {_MOST_STEPS} scales and limits before a quantizer")
        return Curve((*self.steps, step))

    def of_multiple(self, gain: Reals) -> Curve:
        """The function ``self(gain * x)``."""
        if self.steps and isinstance(first := self.steps[0], Gain):
            return Curve((Gain(first.gain * gain, first.shift), *self.steps[1:]))
        return Curve((Gain(gain, exact([0])), *self.steps))

    def clipped(self, low: Fraction | None, high: Fraction | None) -> Curve:
        """The function ``min(max(self(x), low), high)``; None is no limit."""
        return self._then(Clip(low, high))

    def of_channels(self, channels: Ints) -> Curve:
        """The curves of ``channels``, an index each: flattening a frame makes a channel of each of its elements."""
        return Curve(
            tuple(
                Gain(_of_channels(step.gain, channels), _of_channels(step.shift, channels))
                if isinstance(step, Gain)
                else Bend(_of_channels(step.slope, channels))
                if isinstance(step, Bend)
                else step
                for step in self.steps
            )
        )

    @property
    def gains(self) -> Gain | None:
        """The whole function as one gain and shift, or None if it clips."""
        if not self.steps:
            return Gain(exact([1]), exact([0]))
        first = self.steps[0]
        return first if len(self.steps) == 1 and isinstance(first, Gain) else None

    @property
    def channels(self) -> int:
        """Number of channels; 1 if all channels have the same function."""
        sizes = [max(s.gain.size, s.shift.size) for s in self.steps if isinstance(s, Gain)]
        return max([1, *sizes, *(s.slope.size for s in self.steps if isinstance(s, Bend))])

    def sign(self, channel: int) -> int:
        """-1 if the function of ``channel`` is decreasing, else +1."""
        signs = [_pick(step.gain, channel) < 0 for step in self.steps if isinstance(step, Gain)]
        return -1 if sum(signs) % 2 else 1

    def value(self, channel: int, x: int) -> Fraction:
        """The function of ``channel`` at ``x``."""
        real = Fraction(x)
        for step in self.steps:
            if isinstance(step, Gain):
                real = _pick(step.gain, channel) * real + _pick(step.shift, channel)
            elif isinstance(step, Bend):
                real = real if real >= 0 else _pick(step.slope, channel) * real
            else:
                real = step.of(real)
        return real

    def integer_threshold(self, channel: int, boundary: Boundary) -> int | bool:
        """The integer t for which ``sign(channel) * x >= t`` if and only if ``value(channel, x)`` reaches ``boundary``.

        Returns True if every x reaches it, and False if none does.
        """
        value, strict, rising = boundary.value, boundary.strict, True

        def holds(x: Fraction) -> bool:
            return (x > value if strict else x >= value) if rising else (x < value if strict else x <= value)

        for step in reversed(self.steps):
            if isinstance(step, Clip):
                least, most = (step.low, step.high) if rising else (step.high, step.low)
                if least is not None and holds(least):
                    return True
                if most is not None and not holds(most):
                    return False
                continue
            if isinstance(step, Bend):
                value = value if value >= 0 else value / _pick(step.slope, channel)
                continue
            if isinstance(step, Smooth):
                if value <= step.ends[0]:
                    return rising
                if value >= step.ends[1]:
                    return not rising
                value = step.inverse(value)
                continue
            gain, shift = _pick(step.gain, channel), _pick(step.shift, channel)
            if gain == 0:
                return holds(shift)
            value = (value - shift) / gain
            rising = rising == (gain > 0)
        value = value if rising else -value
        return math.floor(value) + 1 if strict else math.ceil(value)


def _bounded(step: Gain) -> Gain:
    for value in (*step.gain, *step.shift):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_DIGITS:
            raise FewbitError(f"a product of scales needs more than {_MOST_DIGITS} bits to be exact")
    return step


def _pick(values: Reals, channel: int) -> Fraction:
    return values[channel if values.size > 1 else 0]  # type: ignore[no-any-return]


def _of_channels(values: Reals, channels: Ints) -> Reals:
    return values[channels] if values.size > 1 else values


def check_thresholds(channels: int, levels: int, most: int = _MOST_THRESHOLDS) -> None:
    """Raises FewbitError if a layer has more than ``most`` thresholds."""
    if channels * levels > most:
        raise FewbitError(f"needs {levels} thresholds in {channels} channels, more than {most:,} in all")


def fold_thresholds(curve: Curve, boundaries: list[list[Boundary]], low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Integer thresholds t and signs such that the number of t with ``sign * x >= t`` is the level of ``curve(x)``.

    Parameters
    ----------
    curve : Curve
    boundaries : list of lists
        Lower bounds of the levels in ascending order: a list for each channel, or one for all channels.
    low, high : int arrays (1,) or (channels,)
        Range of x. A level that every x reaches has its threshold at the minimum of ``sign * x``; a level that no x
        reaches has it one above the maximum.

    Returns
    -------
    thresholds, sign : int64 arrays (rows, levels) and (rows,)
        A row for each channel, or a single row if all channels have the same.
    """
    channels = max(curve.channels, len(boundaries))
    check_thresholds(channels, len(boundaries[0]))
    rows: list[list[int | bool]] = []
    for channel in range(channels):
        channel_boundaries = boundaries[channel if len(boundaries) > 1 else 0]
        rows.append([curve.integer_threshold(channel, boundary) for boundary in channel_boundaries])
    signs = [curve.sign(channel) for channel in range(channels)]
    # Compare the types too, since True == 1 in Python: True is a level that is always reached, not a threshold of 1.
    kinds = [[isinstance(threshold, bool) for threshold in row] for row in rows]
    alike = all((row, sign, kind) == (rows[0], signs[0], kinds[0]) for row, sign, kind in zip(rows, signs, kinds))
    if alike:
        rows, signs = rows[:1], signs[:1]
        low, high = np.array([low.min()]), np.array([high.max()])
    ends = [
        (int(lo), int(hi)) if sign > 0 else (-int(hi), -int(lo))
        for sign, lo, hi in zip(signs, np.resize(low, len(rows)), np.resize(high, len(rows)))
    ]
    clipped = [
        [(lo if t else hi + 1) if isinstance(t, bool) else min(max(t, lo), hi + 1) for t in row]
        for row, (lo, hi) in zip(rows, ends)
    ]
    return np.array(clipped, np.int64), np.array(signs, np.int64)


def rounding_thresholds(gain: Gain, levels: range, low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """As :func:`fold_thresholds` for ``gain * x + shift`` rounded half to even, which reaches each of ``levels``.

    They are computed in float64 for all levels at once. Where its error could matter, they are computed exactly.

    Parameters
    ----------
    gain : Gain
        Not 0 in any channel.
    levels : range
        Consecutive integers.
    low, high : int arrays (1,) or (channels,)
        Range of x.

    Returns
    -------
    thresholds, sign : int64 arrays (rows, levels) and (rows,)
    """
    rows = max(gain.gain.size, gain.shift.size)
    check_thresholds(rows, len(levels), _MOST_ROUNDED)
    curve, at = Curve((gain,)), np.arange(levels.start, levels.stop) - 0.5
    thresholds, signs = np.empty((rows, len(levels)), np.int64), np.empty(rows, np.int64)
    for channel in range(rows):
        factor, shift = _pick(gain.gain, channel), _pick(gain.shift, channel)
        signs[channel] = sign = 1 if factor > 0 else -1
        ends = (low[channel], high[channel]) if low.size == rows else (low.min(), high.max())
        least, most = sorted(sign * int(end) for end in ends)
        slope, offset = abs(float(factor)), float(shift)
        with np.errstate(all="ignore"):
            reals = (at - offset) / slope
            error = ((np.abs(at) + abs(offset)) / slope + np.abs(reals)) * 2.0**-50
            near = np.abs(reals - np.rint(reals)) <= error
        row = np.ceil(np.clip(np.nan_to_num(reals), least, most + 1)).astype(np.int64)
        unsure = ~np.isfinite(reals) | (near & (reals > least - 1) & (reals < most + 2))
        for place in np.flatnonzero(unsure):
            row[place] = curve.integer_threshold(channel, rounding_boundary("ROUND", levels[int(place)]))
        thresholds[channel] = np.clip(row, least, most + 1)
    return thresholds, signs


def comparable_scores(gain: Reals, shift: Reals, low: Ints, high: Ints) -> tuple[list[int], list[int]]:
    """Integers A, B such that ``A[c] * x[c] + B[c]`` has the same arg-max as ``gain[c] * x[c] + shift[c]``.

    If there are few scores to compare, A and B have the fewest bits for which the arg-max is proven equal for every x
    in the range. Otherwise they are exact multiples of the gains and shifts if the scores fit 62 bits; if not, they are
    rounded with the finest power of two for which the scores fit.

    Parameters
    ----------
    gain, shift : Fractions (channels,)
    low, high : int arrays (channels,)
        Range of x for each channel.

    Returns
    -------
    A, B : lists of int
    """
    shift = shift - shift.min()
    largest = max(
        max(abs(g * int(x) + s) for x in (lo, hi)) for g, s, lo, hi in zip(gain, shift, low, high)
    ) or Fraction(1)
    denominator = math.lcm(*(value.denominator for value in (*gain, *shift)))
    whole = [int(value * denominator) for value in (*gain, *shift)]
    divisor = math.gcd(*whole) or 1
    exactly = (
        [value // divisor for value in whole[: gain.size]],
        [value // divisor for value in whole[gain.size :]],
    )
    fits = largest * denominator / divisor < 1 << _SCORE_BITS
    finest = _SCORE_BITS - 1 - _bits(largest)
    pairs = gain.size * (gain.size - 1) // 2 * int((high - low).max() + 1)
    coarsest = 4 - _bits(max(map(abs, gain))) if any(gain) else 0
    if pairs * 16 <= _SCORE_PROOF:
        exact_rivals = list(_rivals(*exactly, low, high))
        for exponent in range(min(coarsest, finest), finest + 1):
            if fits and Fraction(2) ** exponent >= Fraction(denominator, divisor):
                break
            rounded = _round(gain, exponent), _round(shift, exponent)
            if all(map(operator.eq, exact_rivals, _rivals(*rounded, low, high))):
                return rounded
    return exactly if fits else (_round(gain, finest), _round(shift, finest))


def _bits(value: Fraction) -> int:
    """The exponent e with ``2**(e-1) <= value < 2**(e+1)``."""
    return value.numerator.bit_length() - value.denominator.bit_length()


def _round(values: Reals, exponent: int) -> list[int]:
    return [round(value * Fraction(2) ** exponent) for value in values]


def _rivals(gain: list[int], shift: list[int], low: Ints, high: Ints) -> Iterator[tuple[int, int]]:
    """For each channel, each of its x and each later channel: the range of x of the later one with no larger score.

    Ranges are given by their ends, within ``low`` and ``high``. The arg-max depends only on these ranges.
    """
    for earlier in range(len(gain)):
        for x in range(int(low[earlier]), int(high[earlier]) + 1):
            score = gain[earlier] * x + shift[earlier]
            for later in range(earlier + 1, len(gain)):
                room, slope, lo, hi = score - shift[later], gain[later], int(low[later]), int(high[later])
                if slope > 0:
                    ends = (lo, min(hi, max(lo - 1, room // slope)))
                elif slope < 0:
                    ends = (max(lo, min(hi + 1, -(room // -slope))), hi)
                else:
                    ends = (lo, hi if room >= 0 else lo - 1)
                yield ends if ends[0] <= ends[1] else (1, 0)
