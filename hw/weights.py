"""Weight memories: how a folded matrix lies in the words of a read-only memory."""

from __future__ import annotations

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import Ints

BLOCK, LOGIC = "block", "logic"
"""Where weights lie: block RAM, or constants in LUTs."""


def rom_words(elements: Ints, bits: int) -> list[int]:
    """Each row of unsigned ``elements`` (words, n) as one number, ``bits`` an element, the first lowest."""
    shifts = np.arange(bits, dtype=np.uint64)
    planes = (np.asarray(elements).astype(np.uint64)[..., None] >> shifts & np.uint64(1)).astype(np.uint8)
    rows = np.packbits(planes.reshape(len(elements), -1), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def weight_words(weights: Ints, code: Code, pe: int, simd: int) -> list[int]:
    """The words of the memory, in the order in which they are read.

    Word ``f * (inputs // simd) + s`` holds, for outputs ``f * pe`` onwards, inputs ``s * simd`` onwards: the code words
    of one output together, outputs ascending upwards.

    # (outputs, inputs) -> (outputs / pe) * (inputs / simd) words of pe * simd code words
    """
    outputs, inputs = weights.shape
    folded = code.encode(weights).reshape(outputs // pe, pe, inputs // simd, simd).transpose(0, 2, 1, 3)
    return rom_words(folded.reshape(-1, pe * simd), code.bits)
