"""cocotb bench of a vector buffer: each vector that is written is read several times.

``$FEWBIT_CASES`` names a JSON file with ``vectors``, a list of lists of hexadecimal words, and ``reads``, the number of
times that each vector is read before it is released.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer

from fewbit.sim.bench import PATTERNS, Pattern, StreamDriver

CASES: dict[str, Any] = json.loads(Path(os.environ["FEWBIT_CASES"]).read_text(encoding="utf-8"))
VECTORS = [[int(word, 16) for word in vector] for vector in CASES["vectors"]]
READS = list(CASES["reads"])


async def _start(dut: Any, fill: str, seed: int) -> StreamDriver:
    driver = StreamDriver(dut, "i", fill, random.Random(f"{seed} driver"))
    for port in (dut.next, dut.last, dut.i__valid, dut.i__payload):
        port.value = 0
    dut.rst.value = 1
    dut.clk.value = 0
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    cocotb.start_soon(driver.run())
    await _release(dut)
    return driver


async def _release(dut: Any) -> None:
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


async def _read(dut: Any, pattern: Pattern, vectors: list[list[int]], reads: list[int]) -> None:
    """Read every vector ``reads`` times. A requested word is valid from the next cycle until the next request."""
    expected = [
        (word, turn == times - 1 and place == len(vector) - 1)
        for vector, times in zip(vectors, reads)
        for turn in range(times)
        for place, word in enumerate(vector)
    ]
    standing: int | None = None
    position = quiet = 0
    while position < len(expected) or standing is not None:
        await FallingEdge(dut.clk)
        if standing is not None:
            got = int(dut.word.value)
            assert got == standing, f"read {position - 1}: got {got:#x}, expected {standing:#x}"
        if position == len(expected):
            break
        asks = bool(int(dut.available.value)) and pattern.next()
        dut.next.value = int(asks)
        dut.last.value = int(expected[position][1]) if asks else random.getrandbits(1)
        if asks:
            standing, position, quiet = expected[position][0], position + 1, 0
        quiet += 1
        assert quiet < 2000, f"stalled: {position} of {len(expected)} words were read"
    dut.next.value = 0


@cocotb.test()
@cocotb.parametrize(fill=PATTERNS, take=PATTERNS)
async def vectors(dut: Any, fill: str, take: str) -> None:
    """All vectors are read as written, under every pair of patterns of writing and reading."""
    seed = int(os.environ.get("FEWBIT_SEED") or random.getrandbits(31))
    dut._log.info("fewbit bench: seed %d, fill %s, take %s", seed, fill, take)
    driver = await _start(dut, fill, seed)
    driver.queue.extend(word for vector in VECTORS for word in vector)
    await _read(dut, Pattern(take, random.Random(f"{seed} reader")), VECTORS, READS)
    await Timer(100, unit="ns")
    assert int(dut.available.value) == 0, "a vector too many"


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """A reset in mid-vector discards the vectors written so far."""
    driver = await _start(dut, "always", 1)
    for cycles in (1, 2, 3, 5, 8, 13):
        driver.queue.extend(word for vector in VECTORS[::-1] for word in vector)
        for _ in range(cycles):
            await FallingEdge(dut.clk)
        dut.rst.value = 1
        driver.clear()
        await _release(dut)
        driver.clear()
        assert int(dut.available.value) == 0, "a vector outlived the reset"
        driver.queue.extend(word for vector in VECTORS for word in vector)
        await _read(dut, Pattern("random", random.Random(cycles)), VECTORS, READS)
