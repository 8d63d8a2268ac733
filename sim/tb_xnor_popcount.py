"""cocotb bench of the XNOR-popcount. ``$FEWBIT_STAGES`` is its number of pipeline stages."""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, Timer

from fewbit.golden.matvec import pack_bits, xnor_popcount
from fewbit.sim.bench import start_clock

STAGES = int(os.environ.get("FEWBIT_STAGES", "0"))


def operands(width: int, rng: random.Random) -> list[tuple[int, int]]:
    """All pairs if they are few; otherwise corner cases, pairs that differ in one bit, and random pairs."""
    full = (1 << width) - 1
    if width <= 5:
        return [(a, b) for a in range(full + 1) for b in range(full + 1)]
    corners = [(a, b) for a in (0, full, full // 3) for b in (0, full, full // 3)]
    single = [(a, a ^ rest ^ 1 << place) for place in range(width) for a in (0, full) for rest in (0, full)]
    return [*corners, *single, *((rng.getrandbits(width), rng.getrandbits(width)) for _ in range(500))]


def counts(pairs: list[tuple[int, int]], width: int) -> list[int]:
    """The golden count of each pair."""
    rows = [np.array([[word >> bit & 1 for bit in range(width)] for word in words]) for words in zip(*pairs)]
    a, b = (pack_bits(row) for row in rows)
    return [int(xnor_popcount(a[place : place + 1], b[place : place + 1], width)[0, 0]) for place in range(len(a))]


@cocotb.test()
async def every_pair(dut: Any) -> None:
    """One pair per cycle; its count is valid ``STAGES`` cycles later. The two least and two largest counts occur."""
    width = len(dut.a)
    pairs = operands(width, random.Random(1))
    expected = counts(pairs, width)
    if STAGES:
        await start_clock(dut, cycles=1)
    for position in range(len(pairs) + STAGES):
        a, b = pairs[min(position, len(pairs) - 1)]
        dut.a.value, dut.b.value = a, b
        await (FallingEdge(dut.clk) if STAGES else Timer(10, unit="ns"))
        place = position - max(STAGES - 1, 0)
        if 0 <= place < len(pairs):
            got = int(dut.count.value)
            assert got == expected[place], f"pair {place}: {got}, not {expected[place]}"
    assert {0, 1, width - 1, width} <= set(expected)
