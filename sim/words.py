"""Packs integer lanes into the words that :meth:`fewbit.sim.compile.CompiledDesign.run` streams, and unpacks them.

A word of B bits is a row of ``ceil(B / 64)`` uint64, least significant 64 bits first. Lane ``k``, of ``bits`` bits, is
in bits ``k * bits`` to ``(k + 1) * bits - 1``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.errors import FewbitError

Words = NDArray[np.uint64]


def words64(width: int) -> int:
    """Number of uint64 that hold ``width`` bits.

    >>> words64(64), words64(65)
    (1, 2)
    """
    return -(-width // 64)


def pack_words(values: NDArray[Any], bits: int) -> Words:
    """Pack the lanes of each row into a word.  # (n, lanes) integers -> (n, ceil(lanes * bits / 64)) uint64

    Negative values are stored in two's complement.

    >>> pack_words(np.array([[1, -1, 0]]), 4)
    array([[241]], dtype=uint64)

    Raises
    ------
    FewbitError
        If ``values`` is not a table of integers, ``bits`` is not 1 to 64, or a value does not fit ``bits`` bits.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise FewbitError(f"lanes must be a table (n, lanes) of integers, not {values.dtype} {values.shape}")
    _check_width(bits)
    if values.size and values.dtype.kind != "b":
        low, high = int(values.min()), int(values.max())
        if low < -(1 << bits - 1) or high >= 1 << bits or (low < 0 and high >= 1 << bits - 1):
            raise FewbitError(f"lanes of {bits} bits cannot hold the values {low} to {high}")
    n, lanes = values.shape
    words = np.zeros((n, words64(lanes * bits)), np.uint64)
    if words.size == 0:
        return words
    if 64 % bits == 0:
        return _pack_aligned(values, bits, words)
    stored = values.astype(np.uint64) & np.uint64((1 << bits) - 1 & (1 << 64) - 1)
    for lane in range(lanes):
        index, shift = divmod(lane * bits, 64)
        words[:, index] |= stored[:, lane] << np.uint64(shift)
        if shift + bits > 64:
            words[:, index + 1] |= stored[:, lane] >> np.uint64(64 - shift)
    return words


def unpack_words(words: Words, lanes: int, bits: int, signed: bool = False) -> NDArray[np.int64]:
    """Unpack the lanes of each word, the inverse of :func:`pack_words`.  # (n, words) uint64 -> (n, lanes) int64

    >>> unpack_words(np.array([[241]], np.uint64), 3, 4, signed=True)
    array([[ 1, -1,  0]])

    Raises
    ------
    FewbitError
        If the words are narrower than ``lanes * bits``, ``bits`` is not 1 to 64, or an unsigned lane of 64 bits is
        too large for int64.
    """
    _check_width(bits)
    words = _checked(words, lanes * bits)
    if 64 % bits == 0 and bits < 64:
        stored = _unpack_aligned(words, lanes, bits)
    else:
        stored = np.empty((len(words), lanes), np.uint64)
        for lane in range(lanes):
            stored[:, lane] = _field(words, lane * bits, bits)
    return _signed(stored, bits, signed)


def extract(words: Words, offset: int, width: int, signed: bool = False) -> NDArray[np.int64]:
    """Extract the field of ``width`` bits from bit ``offset`` on.  # (n, words) uint64 -> (n,) int64

    >>> extract(np.array([[0xF30]], np.uint64), 4, 4)
    array([3])

    Raises
    ------
    FewbitError
        If the words do not have that many bits, ``width`` is not 1 to 64, or an unsigned field of 64 bits is too large
        for int64.
    """
    _check_width(width)
    if offset < 0:
        raise FewbitError(f"a field begins at bit 0 or above, not {offset}")
    return _signed(_field(_checked(words, offset + width), offset, width), width, signed)


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 64:
        raise FewbitError(f"lanes and fields have 1 to 64 bits, not {bits}")


def _checked(words: Words, width: int) -> Words:
    words = np.ascontiguousarray(words)
    if words.ndim != 2 or words.dtype != np.uint64:
        raise FewbitError(f"words must be uint64 (n, words), not {words.dtype} {words.shape}")
    if words.shape[1] * 64 < width:
        raise FewbitError(f"words must have at least {width} bits, not {words.shape[1] * 64}")
    return words


def _field(words: Words, offset: int, width: int) -> Words:
    index, shift = divmod(offset, 64)
    stored = words[:, index] >> np.uint64(shift)
    if shift + width > 64:
        stored = stored | words[:, index + 1] << np.uint64(64 - shift)
    return stored & np.uint64((1 << width) - 1)


def _signed(stored: Words, bits: int, signed: bool) -> NDArray[np.int64]:
    values = stored.view(np.int64)
    if signed:
        spare = 64 - bits
        return values << spare >> spare
    if bits == 64 and values.size and values.min() < 0:
        raise FewbitError("an unsigned field of 64 bits holds a value too large for int64")
    return values


def _pack_aligned(values: NDArray[Any], bits: int, words: Words) -> Words:
    """Pack lanes whose width divides 64, so that no lane crosses a uint64."""
    n, lanes = values.shape
    if bits >= 8:
        unit = np.zeros((n, words.shape[1] * (64 // bits)), f"<u{bits // 8}")
        unit[:, :lanes] = values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).astype(unit.dtype)
        return unit.view("<u8").astype(np.uint64)
    if bits == 1:
        ones = np.packbits(values.astype(np.uint8) & 1, axis=1, bitorder="little")
    else:
        per_byte = 8 // bits
        full = np.zeros((n, -(-lanes // per_byte) * per_byte), np.uint8)
        full[:, :lanes] = values.astype(np.uint8) & (1 << bits) - 1
        ones = full[:, ::per_byte].copy()
        for slot in range(1, per_byte):
            ones |= full[:, slot::per_byte] << (slot * bits)
    padded = np.zeros((n, words.shape[1] * 8), np.uint8)
    padded[:, : ones.shape[1]] = ones
    return padded.view("<u8").astype(np.uint64)


def _unpack_aligned(words: Words, lanes: int, bits: int) -> Words:
    raw = words.astype("<u8")
    if bits >= 8:
        return raw.view(f"<u{bits // 8}")[:, :lanes].astype(np.uint64)
    octets = raw.view(np.uint8)
    if bits == 1:
        return np.unpackbits(octets, axis=1, count=lanes, bitorder="little").astype(np.uint64)
    per_byte = 8 // bits
    split = np.empty((len(octets), octets.shape[1] * per_byte), np.uint8)
    for slot in range(per_byte):
        split[:, slot::per_byte] = octets >> (slot * bits) & (1 << bits) - 1
    return split[:, :lanes].astype(np.uint64)
