"""Read-only weight memories, and the arrangement of a folded matrix in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.lib.memory import Memory

from fewbit.golden.dtype import Ints
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.memory.kind import Contents, WeightMemory

BLOCK, LOGIC = "block", "logic"
"""Names of memories: block RAM, and constants in LUTs."""


def rom_words(elements: Ints, bits: int) -> list[int]:
    """Each row of unsigned ``elements`` (words, n) as one number, ``bits`` bits an element, the first in the
    lowest bits."""
    shifts = np.arange(bits, dtype=np.uint64)
    planes = (np.asarray(elements).astype(np.uint64)[..., None] >> shifts & np.uint64(1)).astype(np.uint8)
    rows = np.packbits(planes.reshape(len(elements), -1), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def join_words(parts: Sequence[int], bits: int, together: int) -> list[int]:
    """Words that each consist of ``together`` parts of ``bits`` bits, the first in the lowest bits."""
    return [
        sum(part << place * bits for place, part in enumerate(parts[start : start + together]))
        for start in range(0, len(parts), together)
    ]


def weight_memory(bits: int, words: Sequence[int], style: str) -> Memory:
    """A memory that holds ``words`` of ``bits`` bits, in block RAM or in LUTs as ``style`` says."""
    return Memory(shape=bits, depth=len(words), init=words, attrs={"ram_style": style}, src_loc_at=1)


def rom_cells(depth: int, width: int) -> int:
    """LUT4s of constants without a pattern: a LUT holds one bit of 16 words, and one more selects between two of them.
    If the depth is not a power of two, some are saved."""
    if depth <= 1:
        return 0
    return round(width * max(min(0.9, depth / 8), depth / 8 - 1))


class LogicRom(WeightMemory):
    """Constants in LUTs. Synthesis keeps only one of several equal columns of bits."""

    name, title = LOGIC, "LUTs"

    def offered(self, target: Target) -> bool:
        return True

    def cost(self, contents: Contents, target: Target) -> Cost:
        cells = rom_cells(contents.depth, contents.columns) + rom_cells(*contents.scales)
        return Cost(cells=cells, ffs=contents.columns)

    def component(self, bits: int, words: Sequence[int], target: str) -> Memory:
        return weight_memory(bits, words, LOGIC)


class BlockRom(WeightMemory):
    """Block RAM. A bit that is the same in every word takes no memory."""

    name, title = BLOCK, "block RAM"

    def offered(self, target: Target) -> bool:
        return bool(target.ram_shapes)

    def cost(self, contents: Contents, target: Target) -> Cost:
        return Cost(rams=self.block_rams(contents.depth, contents.vary, target))

    def component(self, bits: int, words: Sequence[int], target: str) -> Memory:
        return weight_memory(bits, words, BLOCK)

    def block_rams(self, depth: int, vary: int, target: Target) -> int:
        return target.block_rams(depth, vary, constant=True) if target.ram_shapes else 0
