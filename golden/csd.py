"""Canonic signed digits: recoding, keeping the most significant ones, products, and encoding as words.

Digits are on the last axis, least significant first. A signed number of ``width`` bits has ``width`` digit positions:
``value = sum_i digits[i] * 2**i``, with every digit -1, 0 or +1 and no two neighbours non-zero. No sum of signed powers
of two for the value is shorter, and no other one has no neighbours. There are at most ``ceil(width / 2)`` non-zero
digits.

Source: G. W. Reitwiesner, "Binary arithmetic", Advances in Computers 1, 1960.
"""

from __future__ import annotations

import numpy as np

from fewbit.golden.digits import row_fields
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

WIDEST = 32
"""Widest operand, in bits: every product fits ``int64``."""


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
    """The value of digits, canonic or not.  # (..., positions) -> (...) int64"""
    return np.asarray((digits.astype(np.int64) << np.arange(digits.shape[-1])).sum(-1))


def order(digits: Ints) -> Ints:
    """Rank of every non-zero digit, 1 for the most significant; 0 for a zero digit.  # (..., n) -> (..., n)"""
    nonzero = digits[..., ::-1] != 0
    return np.asarray((np.cumsum(nonzero, -1) * nonzero)[..., ::-1])


def keep(digits: Ints, quality: int | Ints) -> Ints:
    """Only the ``quality`` most significant non-zero digits; the others become 0.  # (..., n), () or (...) -> (..., n)

    >>> keep(np.array([1, 0, -1, 0, 1]), 2)
    array([ 0,  0, -1,  0,  1])
    """
    return np.where(order(digits) <= np.asarray(quality)[..., None], digits, 0)


def multiply(a: Ints, b: Ints, quality: int | Ints, *, width: int) -> Ints:
    """``a`` times the ``quality`` most significant digits of ``b``, a signed number of ``width`` bits.

    A quality of 0 gives 0; at or above the number of digits the product is exact.  # (...), (...), () or (...) -> (...)
    int64
    """
    return np.asarray(a, np.int64) * value(keep(recode(b, width), quality))


def nearest(values: Ints, width: int, quality: int) -> Ints:
    """Canonic digits of the nearest number with at most ``quality`` non-zero digits.  # (...) -> (..., width) int8

    If two are equally near, the one nearer to 0. A multiplier gives the same product for them at any quality from
    ``quality`` on. Rounding changes only which digits are stored, so it takes no hardware.

    >>> value(nearest(np.array([11, 6]), 5, 1)), value(keep(recode(np.array([11, 6]), 5), 1))
    (array([8, 4]), array([16,  8]))
    """
    numbers = _signed(values, width)
    return _digits(_nearest(numbers, quality, numbers > 0), width)


def _nearest(left: Ints, quality: int, lower: Ints) -> Ints:
    """The best sum begins with the power of two below the number or with the one above it; both are tried.

    Of two equally near sums, the lower one where ``lower``, else the higher one.
    """
    if quality == 0 or not left.any():
        return np.zeros_like(left)
    sign, magnitude = np.where(left < 0, -1, 1), np.abs(left)
    lower = lower == (sign > 0)
    power = np.where(magnitude == 0, 0, 1 << np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64))
    from_below = power + _nearest(magnitude - power, quality - 1, lower)
    from_above = 2 * power + _nearest(magnitude - 2 * power, quality - 1, lower)
    error_below, error_above = np.abs(from_below - magnitude), np.abs(from_above - magnitude)
    above_is_better = (error_above < error_below) | (
        (error_above == error_below) & ((from_above < from_below) == lower)
    )
    return sign * np.where(above_is_better, from_above, from_below)


def bound(width: int, quality: int) -> int:
    """Largest possible magnitude of the digits that are dropped from a number of ``width`` bits: ``|b - kept| <=
    bound``.

    Digits are at least two positions apart, so behind the ``quality`` kept ones there are at most ``width - 2 *
    quality`` positions, and the largest value of n positions is ``...10101`` in binary. A product is off by at most
    ``|a| * bound``.

    >>> [bound(8, quality) for quality in range(5)]
    [170, 42, 10, 2, 0]
    """
    return (2 << max(width - 2 * quality, 0)) // 3


def encode(digits: Ints) -> Ints:
    """Canonic digits as words with the layout of :class:`fewbit.golden.digits.RowField`.  # (..., width) -> (...) of
    int

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
    """The digits of ``words``.  # (...) -> (..., width) int8

    Raises
    ------
    FewbitError
        If a word is not the one that :func:`encode` makes from its digits.
    """
    words = np.asarray(words, object)
    digits = np.zeros((*words.shape, width), np.int8)
    for row, field in enumerate(row_fields(width)):
        nonzero = (words >> field.offset & (1 << field.order_bits) - 1) != 0
        sign = 1 - 2 * (words >> field.negative & 1)
        upper = words >> field.upper & field.upper_bits
        digits[..., 2 * row] = nonzero * sign * (1 - upper)
        if field.upper_bits:
            digits[..., 2 * row + 1] = nonzero * sign * upper
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
