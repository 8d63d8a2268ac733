"""Weight memories: how a folded matrix lies in the words of a memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Member

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.memory.spram import SPRAM, Spram, fill_signature

BLOCK, LOGIC = "block", "logic"
"""Where weights lie: block RAM, or constants in LUTs."""

PLACES = (BLOCK, LOGIC, SPRAM)
"""All places."""


def rom_words(elements: Ints, bits: int) -> list[int]:
    """Each row of unsigned ``elements`` (words, n) as one number, ``bits`` an element, the first lowest."""
    shifts = np.arange(bits, dtype=np.uint64)
    planes = (np.asarray(elements).astype(np.uint64)[..., None] >> shifts & np.uint64(1)).astype(np.uint8)
    rows = np.packbits(planes.reshape(len(elements), -1), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def join_words(parts: Sequence[int], bits: int, together: int) -> list[int]:
    """Words of ``together`` parts of ``bits`` bits each, the first lowest."""
    return [
        sum(part << place * bits for place, part in enumerate(parts[start : start + together]))
        for start in range(0, len(parts), together)
    ]


def weight_memory(bits: int, words: Sequence[int], style: str) -> Memory:
    """The memory that holds ``words`` of ``bits`` bits each, in block RAM or in LUTs."""
    return Memory(shape=bits, depth=len(words), init=words, attrs={"ram_style": style}, src_loc_at=1)


Stored = tuple[int, list[int]]
"""Bits of a word, and the words of a memory."""


def fill_member(layer: Dense, memory: str, stored: Callable[[], Stored]) -> dict[str, Member]:
    """The port through which weights in ``memory`` are filled in; none where they are there from the start.

    Raises FewbitError if what is ``stored`` does not fit such a memory.
    """
    if memory != SPRAM:
        return {}
    bits, words = stored()
    try:
        Spram(bits, len(words))
    except FewbitError as error:
        raise FewbitError(f"layer {layer.name!r}: {error}") from None
    return {"fill": In(fill_signature())}


def place(m: Module, unit: Any, target: str) -> Any:
    """A read port of what ``unit`` stores, in the memory that it says: the submodule ``weights`` of ``m``."""
    bits, words = unit.stored()
    memory: Any
    if unit.memory == SPRAM:
        m.submodules.weights = memory = Spram(bits, len(words), target)
        wiring.connect(m, wiring.flipped(unit.fill), memory.fill)
    else:
        m.submodules.weights = memory = weight_memory(bits, words, unit.memory)
    return memory.read_port()
