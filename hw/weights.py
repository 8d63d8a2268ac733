"""Weight memories: how a folded matrix lies in the words of a read-only memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.lib.memory import Memory

from fewbit.golden.dtype import Ints

BLOCK, LOGIC = "block", "logic"
"""Where weights lie: block RAM, or constants in LUTs."""


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
