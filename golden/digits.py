"""The word in which hardware receives the canonic signed digits of a number that is recoded at generation time.

A signed number of ``width`` bits has ``width`` digits, of which no two neighbours are non-zero. So a row, the digits 2j
and 2j + 1, has one of five values. The word has a field for each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fewbit.golden.codes import csd_digits


@dataclass(frozen=True, kw_only=True)
class RowField:
    """The field of one row, from bit ``offset`` of the word on. From its lowest bit, it holds

    - ``order``: 0 where both digits are zero, else 1 + the number of non-zero digits above, which is the lowest quality
      at which the row counts;
    - ``negative``, one bit: the digit is -1; 0 where both are zero;
    - ``upper``, one bit: the non-zero digit is the upper one, 2j + 1; 0 where both are zero. Absent in a row that has
      only the digit 2j.
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
    """Largest number of non-zero digits of a signed number of ``width`` bits; also its number of rows."""
    return -(-width // 2)


def quality_bits(width: int) -> int:
    """Bits of a ``quality`` port: enough for the largest number of non-zero digits."""
    return largest_count(width).bit_length()


def row_fields(width: int) -> list[RowField]:
    """The fields of a word, lowest row first, from the lowest bits on."""
    fields, offset = [], 0
    for row in range(largest_count(width)):
        order_bits = (largest_count(width) - row).bit_length()
        upper_bits = int(2 * row + 1 < width)
        fields.append(RowField(offset=offset, order_bits=order_bits, upper_bits=upper_bits))
        offset += order_bits + 1 + upper_bits
    return fields


def word_bits(width: int) -> int:
    """Bits of a digit word: 16 for a width of 8."""
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
