"""Weight codes: which values (levels) a weight may take, the bits that encode it, and the shifts and signs it consists
of.

Every level is a short sum of signed powers of two, so a hardware lane only shifts, inverts, gates and adds. Hardware,
quantizers and cost models read the properties of a code; they never depend on its name.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

_BLOCK = 1 << 16
"""Weights that are unpacked at a time: a multiple of 8, so each block begins at a byte."""


def csd_digits(value: int) -> list[tuple[int, int]]:
    """Canonic signed digits of ``value`` as ``(sign, exponent)``, least significant first; no two have neighbouring
    exponents.

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
    """A weight code. Two codes are equal if their names are.

    Attributes
    ----------
    name : str
        The argument of :meth:`parse`: ``binary``, ``ternary``, ``quinary``, ``shift3`` (or ``shift3(2)``,
        ``shift3(1)``),
        ``csd(K,E)``, ``int(B)``, ``codebook(L,L,...)``.
    bits : int
        Stored bits a weight.
    signed_word : bool
        Whether the stored word is the two's complement of the level.
    digit_width : int or None
        For codes that limit the number of canonic signed digits of a weight: width of a signed number that holds every
        level. None for all other codes.
    """

    name: str
    bits: int
    signed_word: bool = False
    digit_width: int | None = None

    @staticmethod
    def parse(name: str) -> Code:
        """The code called ``name``.

        Raises
        ------
        FewbitError
            If no code has that name, or a parameter is out of range.
        """
        match = re.fullmatch(r"(\w+?)(?:\((-?[0-9]{1,9}(?:,-?[0-9]{1,9})*)\))?", name.replace(" ", ""))
        family, numbers = match.groups() if match else ("", None)
        parameters = [int(number) for number in numbers.split(",")] if numbers else []
        maker = _FAMILIES.get(family)
        if maker is None or (maker.parameters is not None and len(parameters) not in maker.parameters):
            *known, last = (codes.form for codes in _FAMILIES.values())
            raise FewbitError(f"weight code must be {', '.join(known)} or {last}, not {name!r}")
        return maker.make(*parameters)

    @property
    @abstractmethod
    def levels(self) -> Ints:
        """The levels a weight may take, ascending, ``int64``."""

    @abstractmethod
    def encode(self, weights: Ints) -> Ints:
        """The stored words of ``weights`` (any shape), ``uint64``. Raises FewbitError if a weight is not a level of the
        code."""

    @abstractmethod
    def decode(self, stored: Ints) -> Ints:
        """The weights of the words ``stored`` (any shape), ``int64``. Raises FewbitError if a word is illegal."""

    @cached_property
    def has_zero(self) -> bool:
        """Whether a weight may be 0."""
        return bool((self.levels == 0).any())

    @cached_property
    def powers_of_two(self) -> bool:
        """Whether every level is 0 or ± a power of two."""
        size = np.abs(self.levels)
        return bool((size & (size - 1) == 0).all())

    @cached_property
    def largest_shift(self) -> int:
        """Exponent of the largest power of two that is at most the largest magnitude of a level."""
        return int(np.abs(self.levels).max()).bit_length() - 1

    @cached_property
    def signs_only(self) -> bool:
        """Whether the levels are -1 and +1, stored as 0 and 1."""
        return self.bits == 1 and np.array_equal(self.levels, [-1, 1]) and int(self.encode(np.array(1))) == 1

    @cached_property
    def sign_bit(self) -> bool:
        """Whether the highest bit of a stored word is 1 exactly if the level is negative."""
        return np.array_equal(self.encode(self.levels) >> np.uint64(self.bits - 1) == 1, self.levels < 0)

    @cached_property
    def gate_bit(self) -> bool:
        """Whether the lowest bit of a stored word is 1 exactly if the level is not 0."""
        return np.array_equal(self.encode(self.levels) & np.uint64(1) == 1, self.levels != 0)

    @cached_property
    def symmetric(self) -> bool:
        """Whether the negative of each level is a level too."""
        return bool(np.array_equal(self.levels, -self.levels[::-1]))

    def contains(self, weights: Ints) -> bool:
        return bool(np.isin(weights, self.levels).all())

    def sign_flipped(self, weights: Ints) -> Ints:
        """The levels after an error in the sign of each stored weight.  # (...) -> (...) int64

        A level becomes its negative. Where that is no level, or the level is 0, it becomes the largest level.
        """
        negative = -np.asarray(weights, np.int64)
        known = self.levels
        place = np.minimum(np.searchsorted(known, negative), len(known) - 1)
        return np.where((known[place] == negative) & (negative != 0), negative, known[-1])

    def terms(self, weight: int) -> list[tuple[int, int]]:
        """``weight`` as a shortest sum of signed powers of two: ``(sign, exponent)`` pairs, least significant first."""
        return csd_digits(weight)

    def pack(self, weights: Ints) -> Ints:
        """``weights`` in C order as bytes: ``bits`` bits a weight, least significant first, zero bits at the end."""
        stored = self.encode(weights).reshape(-1, 1) >> np.arange(self.bits, dtype=np.uint64)
        return np.packbits((stored & np.uint64(1)).astype(np.uint8), bitorder="little")

    def unpack(self, packed: Ints, shape: tuple[int, ...]) -> Ints:
        """Weights of ``shape`` from bytes that :meth:`pack` made. Raises FewbitError if the number of bytes is
        wrong."""
        weights = math.prod(shape)
        count = weights * self.bits
        if packed.dtype != np.uint8 or packed.ndim != 1:
            raise FewbitError(f"packed weights are uint8 on one axis, not {packed.dtype} {packed.shape}")
        if packed.size != -(-count // 8):
            raise FewbitError(f"{shape} {self.name} weights take {-(-count // 8)} bytes, not {packed.size}")
        unpacked = np.empty(weights, np.int64)
        for start in range(0, weights, _BLOCK):  # in blocks: each bit takes 64 bits while it is unpacked
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
    """A code given by a table from stored word to level; words that are not in the table are illegal."""

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
    """Two's complement with ``width`` bits."""

    signed_word = True

    def __init__(self, width: int) -> None:
        half = 1 << width - 1
        super().__init__(f"int({width})", width, {level % (1 << width): level for level in range(-half, half)})

    def sign_flipped(self, weights: Ints) -> Ints:
        return self.decode(self.encode(weights) ^ np.uint64(1 << self.bits - 1))


class CsdCode(Code):
    """Weights with at most ``terms`` canonic signed digits, each with an exponent below ``exponents``.

    A word has one field for each digit, the most significant digit in the lowest field. From its lowest bit, a field
    holds exponent + 1 (0: no digit) and the sign.
    """

    def __init__(self, terms: int, exponents: int) -> None:
        if not 1 <= terms <= 8 or not 1 <= exponents <= 16:
            raise FewbitError(f"csd takes 1 to 8 terms and 1 to 16 exponents, not {terms} and {exponents}")
        self.name = f"csd({terms},{exponents})"
        self.max_terms, self.exponents = terms, exponents
        self.digit_width = exponents + 1
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
    """A set of levels as text for a message."""
    return ", ".join(map(str, levels)) if len(levels) <= 8 else f"{levels[0]} to {levels[-1]}"


def shift3(phi: int = 4) -> Code:
    """The 3-bit shift-and-invert code of the quality-scalable multiplier paper, Table II, with levels up to ``phi``.

    000 is 0, 001 +1, 010 +2, 011 +4, 100 -1, 101 -2, 110 -4; 111 is illegal.
    """
    if phi not in (1, 2, 4):
        raise FewbitError(f"shift3 takes PHI 1, 2 or 4, not {phi}")
    table = {0b000: 0, 0b001: 1, 0b010: 2, 0b011: 4, 0b100: -1, 0b101: -2, 0b110: -4}
    name = "shift3" if phi == 4 else f"shift3({phi})"
    return TableCode(name, 3, {word: level for word, level in table.items() if abs(level) <= phi})


def integer(bits: int) -> Code:
    """Two's complement with 1 to 16 bits: the baseline for the few-bit codes."""
    if not 1 <= bits <= 16:
        raise FewbitError(f"int takes 1 to 16 bits, not {bits}")
    return IntegerCode(bits)


def codebook(*levels: int) -> Code:
    """2 to 256 different integers of at most 16 bits; the word of a level is its index in ascending order.

    Source: Han, Mao and Dally, Deep Compression, arXiv 1510.00149, section 3: the weights of a layer share the
    centroids found by k-means.
    """
    known = sorted(set(levels))
    if not 2 <= len(known) <= 256 or known[0] < -(1 << 15) or known[-1] >= 1 << 15:
        raise FewbitError(
            f"codebook takes 2 to 256 different levels from -32768 to 32767, not {_short(np.array(known))}"
        )
    if len(known) != len(levels):
        raise FewbitError(f"codebook takes every level once, not {', '.join(map(str, sorted(levels)))}"[:500])
    name = f"codebook({','.join(map(str, known))})"
    return TableCode(name, (len(known) - 1).bit_length(), dict(enumerate(known)))


BINARY: Code = TableCode("binary", 1, {0: -1, 1: 1})
TERNARY: Code = TableCode("ternary", 2, {0b00: 0, 0b01: 1, 0b11: -1})
QUINARY: Code = TableCode("quinary", 3, {0b000: 0, 0b001: 1, 0b010: 2, 0b100: -1, 0b101: -2})


@dataclass(frozen=True)
class Family:
    """The codes with one name and any parameters.

    Parameters
    ----------
    form : str
        How a code is written, for messages.
    make : callable
        Makes a code from its parameters; raises FewbitError if they are out of range.
    parameters : tuple of int or None
        How many parameters are allowed; None for any number.
    """

    form: str
    make: Callable[..., Code]
    parameters: tuple[int, ...] | None = (0,)


_FAMILIES = {
    "binary": Family("binary", lambda: BINARY),
    "ternary": Family("ternary", lambda: TERNARY),
    "quinary": Family("quinary", lambda: QUINARY),
    "shift3": Family("shift3(PHI)", shift3, (0, 1)),
    "csd": Family("csd(TERMS,EXPONENTS)", CsdCode, (2,)),
    "int": Family("int(BITS)", integer, (1,)),
    "codebook": Family("codebook(LEVEL,LEVEL,...)", codebook, None),
}

FAMILIES = tuple(_FAMILIES)
"""Names of the codes, without parameters."""
