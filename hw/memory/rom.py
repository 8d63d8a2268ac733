"""Weight memories: how a folded matrix lies in the words of a memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.lib.memory import Memory

from fewbit.golden.dtype import Ints
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.memory.kind import Contents, WeightMemory

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


def rom_cells(depth: int, width: int) -> int:
    """LUT4s of constants that have no pattern: one holds 16 words of a bit, and of two halves one is picked by one
    more. A depth that is no power of two leaves some out."""
    if depth <= 1:
        return 0
    return round(width * max(min(0.9, depth / 8), depth / 8 - 1))


class LogicRom(WeightMemory):
    """Constants in LUTs. Of equal columns synthesis keeps one."""

    name, title = LOGIC, "LUTs"

    def offered(self, target: Target) -> bool:
        return True

    def cost(self, contents: Contents, target: Target) -> Cost:
        cells = rom_cells(contents.depth, contents.columns) + rom_cells(*contents.scales)
        return Cost(cells=cells, ffs=contents.columns)

    def component(self, bits: int, words: Sequence[int], target: str) -> Memory:
        return weight_memory(bits, words, LOGIC)


class BlockRom(WeightMemory):
    """Block RAM. A bit that is the same in every word takes none."""

    name, title = BLOCK, "block RAM"

    def offered(self, target: Target) -> bool:
        return bool(target.ram_shapes)

    def cost(self, contents: Contents, target: Target) -> Cost:
        return Cost(rams=self.block_rams(contents.depth, contents.vary, target))

    def component(self, bits: int, words: Sequence[int], target: str) -> Memory:
        return weight_memory(bits, words, BLOCK)

    def block_rams(self, depth: int, vary: int, target: Target) -> int:
        return target.block_rams(depth, vary, constant=True) if target.ram_shapes else 0
