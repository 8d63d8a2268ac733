"""Weight codes: which levels a weight may take, the bits that stand for it, and the shifts and signs it is made of.

Every level is a short sum of signed powers of two, so that a hardware lane only shifts, inverts, gates and adds.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

_BLOCK = 1 << 16
"""Weights that are unpacked at a time: a multiple of 8, so that a block begins with a byte."""


def csd_digits(value: int) -> list[tuple[int, int]]:
    """Canonic signed digits of ``value`` as ``(sign, exponent)``, least significant first; no two are neighbours.

    >>> csd_digits(7)
    [(-1, 0), (1, 3)]
    """
    digits, exponent = [], 0
    while value:
        if value & 1:
            sign = 2 - (value & 3)
            digits.append((sign, exponent))
            value -= sign
        value >>= 1
        exponent += 1
    return digits


class Code(ABC):
    """A weight code. Codes are equal when their names are.

    Attributes
    ----------
    name : str
        What :meth:`parse` takes: ``binary``, ``ternary``, ``quinary``, ``shift3`` (or ``shift3(2)``, ``shift3(1)``),
        ``csd(K,E)``, ``int(B)``.
    bits : int
        Stored bits a weight.
    """

    name: str
    bits: int

    @staticmethod
    def parse(name: str) -> Code:
        """The code called ``name``.

        Raises
        ------
        FewbitError
            If no code has that name, or a parameter is out of its range.
        """
        match = re.fullmatch(r"(\w+?)(?:\(([0-9]+)(?:,([0-9]+))?\))?", name.replace(" ", ""))
        family, *numbers = match.groups() if match else ("", None, None)
        parameters = tuple(int(number) for number in numbers if number is not None)
        maker = _FAMILIES.get((family, len(parameters)))
        if maker is None:
            raise FewbitError(
                "weight code must be binary, ternary, quinary, shift3, shift3(PHI), csd(TERMS,EXPONENTS) or int(BITS), "
                f"not {name!r}"
            )
        return maker(*parameters)

    @property
    @abstractmethod
    def levels(self) -> Ints:
        """The levels a weight may take, ascending, ``int64``."""

    @abstractmethod
    def encode(self, weights: Ints) -> Ints:
        """The stored bits of ``weights`` (any shape), as ``uint64``. Raises FewbitError on a level the code lacks."""

    @abstractmethod
    def decode(self, stored: Ints) -> Ints:
        """The weights behind ``stored``, ``int64``. Raises FewbitError on an illegal word."""

    @cached_property
    def symmetric(self) -> bool:
        """Whether the negative of each level is a level too."""
        return bool(np.array_equal(self.levels, -self.levels[::-1]))

    def contains(self, weights: Ints) -> bool:
        return bool(np.isin(weights, self.levels).all())

    def sign_flipped(self, weights: Ints) -> Ints:
        """The levels that stored words give when their sign is flipped: the negative; the largest level in place of a
        zero, and of a level without a negative.  # (...) -> (...) int64"""
        negative = -np.asarray(weights, np.int64)
        known = self.levels
        place = np.minimum(np.searchsorted(known, negative), len(known) - 1)
        return np.where((known[place] == negative) & (negative != 0), negative, known[-1])

    def terms(self, weight: int) -> list[tuple[int, int]]:
        """``weight`` as a shortest sum of ``sign * 2**exponent``, least significant first."""
        return csd_digits(weight)

    def pack(self, weights: Ints) -> Ints:
        """``weights`` in C order as bytes, ``bits`` a weight, least significant bit first, zero-filled at the end."""
        stored = self.encode(weights).reshape(-1, 1) >> np.arange(self.bits, dtype=np.uint64)
        return np.packbits((stored & np.uint64(1)).astype(np.uint8), bitorder="little")

    def unpack(self, packed: Ints, shape: tuple[int, ...]) -> Ints:
        """Weights of ``shape`` from the bytes that :meth:`pack` made. Raises FewbitError on too few bytes."""
        weights = math.prod(shape)
        count = weights * self.bits
        if packed.dtype != np.uint8 or packed.ndim != 1:
            raise FewbitError(f"packed weights are uint8 on one axis, not {packed.dtype} {packed.shape}")
        if packed.size != -(-count // 8):
            raise FewbitError(f"{shape} {self.name} weights take {-(-count // 8)} bytes, not {packed.size}")
        unpacked = np.empty(weights, np.int64)
        for start in range(0, weights, _BLOCK):  # a bit takes 64 while it is unpacked
            stop = min(start + _BLOCK, weights)
            block = packed[start * self.bits // 8 : -(-stop * self.bits // 8)]
            bits = np.unpackbits(block, bitorder="little", count=(stop - start) * self.bits)
            words = bits.reshape(-1, self.bits).astype(np.uint64) << np.arange(self.bits, dtype=np.uint64)
            unpacked[start:stop] = self.decode(words.sum(-1, dtype=np.uint64))
        return unpacked.reshape(shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


class TableCode(Code):
    """A code given by a table from stored word to level; a word that the table lacks is illegal."""

    def __init__(self, name: str, bits: int, table: Mapping[int, int]) -> None:
        self.name, self.bits = name, bits
        self._legal = np.zeros(1 << bits, bool)
        self._level_of = np.zeros(1 << bits, np.int64)
        for word, level in table.items():
            self._legal[word], self._level_of[word] = True, level
        words = np.flatnonzero(self._legal)
        self._sorted_words = words[np.argsort(self._level_of[words])]

    @property
    def levels(self) -> Ints:
        return self._level_of[self._sorted_words]

    def encode(self, weights: Ints) -> Ints:
        index = np.minimum(np.searchsorted(self.levels, weights), len(self.levels) - 1)
        wrong = self.levels[index] != weights
        if wrong.any():
            raise FewbitError(
                f"{self.name} has no level {np.asarray(weights)[wrong].flat[0]}, only {_short(self.levels)}"
            )
        return self._sorted_words[index].astype(np.uint64)

    def decode(self, stored: Ints) -> Ints:
        index = stored.astype(np.int64)
        wrong = (index >> self.bits != 0) | ~self._legal[index & ((1 << self.bits) - 1)]
        if wrong.any():
            raise FewbitError(f"{self.name} has no code word {int(index[wrong].flat[0]):0{self.bits}b}")
        return self._level_of[index]


class IntegerCode(TableCode):
    """Two's complement of ``width`` bits."""

    def __init__(self, width: int) -> None:
        half = 1 << width - 1
        super().__init__(f"int({width})", width, {level % (1 << width): level for level in range(-half, half)})

    def sign_flipped(self, weights: Ints) -> Ints:
        return self.decode(self.encode(weights) ^ np.uint64(1 << self.bits - 1))


class CsdCode(Code):
    """At most ``terms`` canonic signed digits, each with an exponent below ``exponents``.

    A word is one field a term, most significant digit in the lowest field: exponent + 1 (0: no term), then the sign.
    """

    def __init__(self, terms: int, exponents: int) -> None:
        if not 1 <= terms <= 8 or not 1 <= exponents <= 16:
            raise FewbitError(f"csd takes 1 to 8 terms and 1 to 16 exponents, not {terms} and {exponents}")
        self.name = f"csd({terms},{exponents})"
        self.max_terms, self.exponents = terms, exponents
        self._field = 1 + exponents.bit_length()
        self.bits = terms * self._field

    @cached_property
    def _words(self) -> dict[int, int]:
        words = {}
        limit = 1 << self.exponents
        for level in range(-limit + 1, limit):
            digits = csd_digits(level)[::-1]
            if len(digits) <= self.max_terms and all(exponent < self.exponents for _, exponent in digits):
                fields = [exponent + 1 | (sign < 0) << self._field - 1 for sign, exponent in digits]
                words[level] = sum(field << index * self._field for index, field in enumerate(fields))
        return words

    @cached_property
    def _table(self) -> tuple[Ints, Ints]:
        levels = np.array(sorted(self._words), np.int64)
        return levels, np.array([self._words[int(level)] for level in levels], np.uint64)

    @property
    def levels(self) -> Ints:
        return self._table[0]

    def encode(self, weights: Ints) -> Ints:
        levels, words = self._table
        index = np.minimum(np.searchsorted(levels, weights), len(levels) - 1)
        wrong = levels[index] != weights
        if wrong.any():
            raise FewbitError(f"{self.name} has no level {np.asarray(weights)[wrong].flat[0]}")
        return words[index]

    def decode(self, stored: Ints) -> Ints:
        levels, words = self._table
        order = np.argsort(words)
        index = np.minimum(np.searchsorted(words[order], stored), len(words) - 1)
        wrong = words[order][index] != stored
        if wrong.any():
            raise FewbitError(f"{self.name} has no code word {int(np.asarray(stored)[wrong].flat[0]):0{self.bits}b}")
        return levels[order][index]


def _short(levels: Ints) -> str:
    return ", ".join(map(str, levels)) if len(levels) <= 8 else f"{levels[0]} to {levels[-1]}"


def shift3(phi: int = 4) -> Code:
    """The 3-bit shift-and-invert code of the quality-scalable multiplier paper, Table II, levels up to ``phi``.

    000 is 0, 001 +1, 010 +2, 011 +4, 100 -1, 101 -2, 110 -4; 111 is illegal.
    """
    if phi not in (1, 2, 4):
        raise FewbitError(f"shift3 takes PHI 1, 2 or 4, not {phi}")
    table = {0b000: 0, 0b001: 1, 0b010: 2, 0b011: 4, 0b100: -1, 0b101: -2, 0b110: -4}
    name = "shift3" if phi == 4 else f"shift3({phi})"
    return TableCode(name, 3, {word: level for word, level in table.items() if abs(level) <= phi})


def integer(bits: int) -> Code:
    """Two's complement of ``bits`` bits, the yardstick that the few-bit codes are measured against."""
    if not 1 <= bits <= 16:
        raise FewbitError(f"int takes 1 to 16 bits, not {bits}")
    return IntegerCode(bits)


BINARY: Code = TableCode("binary", 1, {0: -1, 1: 1})
TERNARY: Code = TableCode("ternary", 2, {0b00: 0, 0b01: 1, 0b11: -1})
QUINARY: Code = TableCode("quinary", 3, {0b000: 0, 0b001: 1, 0b010: 2, 0b100: -1, 0b101: -2})

_FAMILIES: dict[tuple[str, int], Callable[..., Code]] = {
    ("binary", 0): lambda: BINARY,
    ("ternary", 0): lambda: TERNARY,
    ("quinary", 0): lambda: QUINARY,
    ("shift3", 0): shift3,
    ("shift3", 1): shift3,
    ("csd", 2): CsdCode,
    ("int", 1): integer,
}

FAMILIES = tuple(dict.fromkeys(name for name, _ in _FAMILIES))
"""Names of codes, those with parameters without them."""
