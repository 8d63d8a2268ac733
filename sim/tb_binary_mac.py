"""cocotb bench of the binary MAC array. ``$FEWBIT_STAGES`` is the number of pipeline stages in its popcounts."""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from fewbit.golden.matvec import pack_bits, xnor_popcount
from fewbit.sim.bench import start_clock

STAGES = int(os.environ.get("FEWBIT_STAGES", "1"))
_CASES = 600


def bits_of(word: int, width: int) -> list[int]:
    """Bits of ``word``, lowest first."""
    return [word >> bit & 1 for bit in range(width)]


@cocotb.test()
async def every_word(dut: Any) -> None:
    """One word per cycle, in sums of different lengths. Each sum and sign is compared in each cycle.

    All coverage points must be met: sums of one word and of several; presets of 0, of all ones and between; for every
    sum, a count of 0 and of all bits, and both signs.
    """
    pe, simd, rng = len(dut.sign), len(dut.x), random.Random(1)
    bits = len(dut.sum) // pe
    upper = len(dut.preset) // pe if hasattr(dut, "preset") else 0
    full = (1 << simd) - 1
    words: list[tuple[int, list[int], bool, list[int]]] = []
    left = 0
    for case in range(_CASES):
        first = left == 0
        left = rng.choice((1, 2, 3, 9, 40)) if first else left
        left -= 1
        x = rng.getrandbits(simd)
        kind = case % 8
        w = [x if kind == 1 else x ^ full if kind == 2 else rng.getrandbits(simd) for _ in range(pe)]
        presets = [rng.choice((0, (1 << upper) - 1, rng.getrandbits(upper) if upper else 0)) for _ in range(pe)]
        words.append((x, w, first, presets))
    counts = [
        xnor_popcount(
            pack_bits(np.array([bits_of(x, simd)])), pack_bits(np.array([bits_of(w_word, simd) for w_word in w])), simd
        )[0].tolist()
        for x, w, _, _ in words
    ]
    dut.first.value = 0
    await start_clock(dut)
    met: set[object] = set()
    sums = [0] * pe
    for position in range(_CASES + STAGES):
        x, w, first, _ = words[min(position, _CASES - 1)]
        dut.x.value = x
        dut.w.value = sum(w_word << index * simd for index, w_word in enumerate(w))
        dut.first.value = int(first)
        if upper:
            late = words[position - STAGES][3] if position >= STAGES else [0] * pe
            dut.preset.value = sum(preset << index * upper for index, preset in enumerate(late))
        await FallingEdge(dut.clk)
        place = position - STAGES
        if place < 0:
            continue
        _, _, began, presets = words[place]
        for index in range(pe):
            start = presets[index] << bits - upper if began else sums[index]
            sums[index] = (start + counts[place][index]) % (1 << bits)
            met.add(("sign", index, sums[index] >> bits - 1))
            met.update({("count", index, counts[place][index])} if counts[place][index] in (0, simd) else ())
            if began:
                ends = {(1 << upper) - 1: "ones", 0: "zero"}
                met.add(("preset", ends.get(presets[index], "between")))
        met.add(("length", "one" if began and (place + 1 == _CASES or words[place + 1][2]) else "more"))
        got = int(dut.sum.value)
        expected_sums = sum(total << index * bits for index, total in enumerate(sums))
        assert got == expected_sums, f"word {place}: sums {got:#x}, not {expected_sums:#x}"
        signs = sum((total >> bits - 1) << index for index, total in enumerate(sums))
        assert int(dut.sign.value) == signs, f"word {place}: signs {int(dut.sign.value):#x}, not {signs:#x}"
    points: set[object] = {("length", "one"), ("length", "more"), ("preset", "zero")}
    points |= {("preset", "ones")} if upper else set()
    points |= {("preset", "between")} if upper > 1 else set()
    points |= {("count", index, count) for index in range(pe) for count in (0, simd)}
    points |= {("sign", index, sign) for index in range(pe) for sign in (0, 1)}
    missed = points - met
    assert not missed, f"coverage: {len(missed)} of {len(points)} points missed: {sorted(map(str, missed))[0]}"
    cocotb.log.info("fewbit bench: coverage full, %d points", len(points))
