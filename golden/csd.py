"""Canonic signed digits: recoding, keeping the most significant ones, their products, and the words that carry them.

Digits stand on the last axis, least significant first: a signed number of ``width`` bits has ``width`` positions, and
``value = sum_i digits[i] * 2**i`` with every digit -1, 0 or +1 and no two neighbours non-zero. Of all sums of signed
powers of two it is one of the shortest, and the only one without neighbours: at most ``ceil(width / 2)`` digits.

Source: G. W. Reitwiesner, "Binary arithmetic", Advances in Computers 1, 1960.
"""

from __future__ import annotations

import numpy as np

from fewbit.golden.digits import row_fields
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

WIDEST = 32
"""Widest operand, so that every product fits ``int64``."""


def recode(values: Ints, width: int) -> Ints:
    """Canonic signed digits of ``values``.  # (...) -> (..., width) int8

    >>> recode(np.array(7), 4)
    array([-1,  0,  0,  1], dtype=int8)

    Raises
    ------
    FewbitError
        If the width is not 1 to 32, or a value is not a signed number of that width.
    """
    return _digits(_signed(values, width), width)


def _digits(left: Ints, width: int) -> Ints:
    digits = np.zeros((*left.shape, width), np.int8)
    for position in range(width):
        digit = np.where(left & 1, 2 - (left & 3), 0)
        digits[..., position] = digit
        left = left - digit >> 1
    return digits


def value(digits: Ints) -> Ints:
    """What digits, canonic or not, stand for.  # (..., positions) -> (...) int64"""
    return np.asarray((digits.astype(np.int64) << np.arange(digits.shape[-1])).sum(-1))


def order(digits: Ints) -> Ints:
    """Place of every non-zero digit among them, the most significant 1; 0 for a zero digit.  # (..., n) -> (..., n)"""
    nonzero = digits[..., ::-1] != 0
    return np.asarray((np.cumsum(nonzero, -1) * nonzero)[..., ::-1])


def keep(digits: Ints, quality: int | Ints) -> Ints:
    """The ``quality`` most significant non-zero digits, zeros elsewhere.  # (..., n), () or (...) -> (..., n)

    >>> keep(np.array([1, 0, -1, 0, 1]), 2)
    array([ 0,  0, -1,  0,  1])
    """
    return np.where(order(digits) <= np.asarray(quality)[..., None], digits, 0)


def multiply(a: Ints, b: Ints, quality: int | Ints, *, width: int) -> Ints:
    """``a`` times the ``quality`` most significant digits of ``b``, a signed number of ``width`` bits, exactly.

    0 gives 0; at or above the number of digits the product is exact.  # (...), (...), () or (...) -> (...) int64
    """
    return np.asarray(a, np.int64) * value(keep(recode(b, width), quality))


def nearest(values: Ints, width: int, quality: int) -> Ints:
    """Canonic digits of the number of at most ``quality`` of them that is nearest.  # (...) -> (..., width) int8

    Of two that are equally near, the one nearer to 0. They multiply without further loss at any quality from
    ``quality`` on: rounding is a matter of which digits are stored, and costs the hardware nothing.

    >>> value(nearest(np.array([11, 6]), 5, 1)), value(keep(recode(np.array([11, 6]), 5), 1))
    (array([8, 4]), array([16,  8]))
    """
    numbers = _signed(values, width)
    return _digits(_nearest(numbers, quality, numbers > 0), width)


def _nearest(left: Ints, quality: int, lower: Ints) -> Ints:
    """Between a power of two and the next lies the best sum, and it begins with one of the two.

    Of two equally near, the lower one where ``lower``, else the higher one.
    """
    if quality == 0 or not left.any():
        return np.zeros_like(left)
    sign, magnitude = np.where(left < 0, -1, 1), np.abs(left)
    lower = lower == (sign > 0)
    power = np.where(magnitude == 0, 0, 1 << np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64))
    best = power + _nearest(magnitude - power, quality - 1, lower)
    other = 2 * power + _nearest(magnitude - 2 * power, quality - 1, lower)
    error, other_error = np.abs(best - magnitude), np.abs(other - magnitude)
    better = (other_error < error) | ((other_error == error) & ((other < best) == lower))
    return sign * np.where(better, other, best)


def bound(width: int, quality: int) -> int:
    """Most that the dropped digits of any number of ``width`` bits weigh together: ``|b - kept| <= bound``.

    Digits are at least two positions apart, so the ``quality`` kept ones leave ``width - 2 * quality`` positions, and
    the most that n positions can weigh is ``...10101`` in binary. A product is off by at most ``|a| * bound``.

    >>> [bound(8, quality) for quality in range(5)]
    [170, 42, 10, 2, 0]
    """
    return (2 << max(width - 2 * quality, 0)) // 3


def encode(digits: Ints) -> Ints:
    """Canonic digits as words; :class:`fewbit.golden.digits.RowField` is the layout.  # (..., width) -> (...) of int

    >>> f"{encode(recode(np.array(-3), 4)):b}"
    '110010'
    """
    width = digits.shape[-1]
    orders = order(digits)
    words = np.zeros(digits.shape[:-1], object)
    for row, field in enumerate(row_fields(width)):
        pair = slice(2 * row, 2 * row + 2)
        words = words + (orders[..., pair].sum(-1).astype(object) << field.offset)
        words = words + ((digits[..., pair] < 0).any(-1).astype(object) << field.negative)
        if field.upper_bits:
            words = words + ((digits[..., 2 * row + 1] != 0).astype(object) << field.upper)
    return np.asarray(words)


def decode(words: Ints, width: int) -> Ints:
    """The digits behind ``words``.  # (...) -> (..., width) int8

    Raises
    ------
    FewbitError
        If a word is not the one that :func:`encode` gives for its digits.
    """
    words = np.asarray(words, object)
    digits = np.zeros((*words.shape, width), np.int8)
    for row, field in enumerate(row_fields(width)):
        some = (words >> field.offset & (1 << field.order_bits) - 1) != 0
        sign = 1 - 2 * (words >> field.negative & 1)
        upper = words >> field.upper & field.upper_bits
        digits[..., 2 * row] = some * sign * (1 - upper)
        if field.upper_bits:
            digits[..., 2 * row + 1] = some * sign * upper
    wrong = encode(digits) != words
    if np.any(wrong):
        raise FewbitError(f"{int(np.asarray(words)[wrong].flat[0]):#x} is no word of {width} canonic signed digits")
    return digits


def _signed(values: Ints, width: int) -> Ints:
    if not 1 <= width <= WIDEST:
        raise FewbitError(f"signed digits take a width of 1 to {WIDEST}, not {width}")
    numbers = np.asarray(values).astype(np.int64)
    if wrong := [int(number) for number in numbers.flat if not -(1 << width - 1) <= number < 1 << width - 1][:1]:
        raise FewbitError(f"{wrong[0]} is not a signed number of {width} bits")
    return numbers
