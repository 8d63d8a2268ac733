"""The word that carries the canonic signed digits of a number, recoded beforehand, to the hardware.

A signed number of ``width`` bits has ``width`` digits, at most every other one not zero. So row j, which stands for the
digits 2j and 2j + 1, has one of five values, and the word has a field for every row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fewbit.golden.codes import csd_digits


@dataclass(frozen=True, kw_only=True)
class RowField:
    """The field of one row, at bit ``offset`` of the word. From its lowest bit on:

    - ``order``: 0 where both digits are zero, else 1 + the number of non-zero digits above: the least quality that
      keeps the row;
    - ``negative``, one bit: the digit is -1; 0 where both are zero;
    - ``upper``, one bit: it is the upper digit, 2j + 1; 0 where both are zero, absent where the digits end at 2j.
    """

    offset: int
    order_bits: int
    upper_bits: int

    @property
    def negative(self) -> int:
        """Position of ``negative`` in the word."""
        return self.offset + self.order_bits

    @property
    def upper(self) -> int:
        """Position of ``upper`` in the word."""
        return self.negative + 1


def largest_count(width: int) -> int:
    """Most non-zero digits that a signed number of ``width`` bits can have; also its rows."""
    return -(-width // 2)


def quality_bits(width: int) -> int:
    """Bits of a ``quality`` port: just enough for the largest number of digits."""
    return largest_count(width).bit_length()


def row_fields(width: int) -> list[RowField]:
    """The fields of a word, that of the lowest row first and in the lowest bits."""
    fields, offset = [], 0
    for row in range(largest_count(width)):
        order_bits = (largest_count(width) - row).bit_length()
        upper_bits = int(2 * row + 1 < width)
        fields.append(RowField(offset=offset, order_bits=order_bits, upper_bits=upper_bits))
        offset += order_bits + 1 + upper_bits
    return fields


def word_bits(width: int) -> int:
    """Bits of a word: 16 for a width of 8."""
    last = row_fields(width)[-1]
    return last.upper + last.upper_bits


@lru_cache(maxsize=1 << 16)
def digit_word(value: int, width: int) -> int:
    """The word of the canonic signed digits of ``value``, a signed number of ``width`` bits.

    >>> f"{digit_word(-3, 4):b}"
    '110010'
    """
    fields = row_fields(width)
    word = 0
    for order, (sign, exponent) in enumerate(reversed(csd_digits(value)), 1):
        field = fields[exponent // 2]
        word |= order << field.offset | (sign < 0) << field.negative | (exponent % 2) << field.upper
    return word
