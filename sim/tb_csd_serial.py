"""cocotb bench of the serial CSD multiplier.

``$FEWBIT_CASES`` names a JSON file with the result of :func:`fewbit.sim.csd_cases.cases`.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, Timer

from fewbit.sim.bench import PATTERNS, Pattern, start_clock

CASES: dict[str, Any] = json.loads(Path(os.environ["FEWBIT_CASES"]).read_text(encoding="utf-8"))


async def _start(dut: Any) -> None:
    for port in CASES["inputs"]:
        getattr(dut, port).value = 0
    dut.start.value = 0
    await start_clock(dut)


def _drive(dut: Any, case: int, start: bool) -> None:
    dut.start.value = int(start)
    for port, values in CASES["inputs"].items():
        getattr(dut, port).value = values[case]


@cocotb.test()
@cocotb.parametrize(gaps=PATTERNS)
async def every_case(dut: Any, gaps: str) -> None:
    """``done`` rises in the predicted cycle. The product holds until the next start, whatever the inputs are."""
    seed = int(os.environ.get("FEWBIT_SEED") or random.getrandbits(31))
    dut._log.info("fewbit bench: seed %d, gaps %s", seed, gaps)
    rng = random.Random(seed)
    pattern = Pattern(gaps, rng)
    await _start(dut)
    await Timer(1, unit="ns")
    assert not int(dut.done.value), "done after a reset"
    count = len(CASES["expected"]) if gaps == "always" else min(400, len(CASES["expected"]))
    met: set[int] = set()
    for case in range(count):
        await FallingEdge(dut.clk)
        _drive(dut, case, True)
        for cycle in range(1, CASES["cycles"][case] + 1):
            await FallingEdge(dut.clk)
            _drive(dut, rng.randrange(count), False)
            await Timer(1, unit="ns")
            due = cycle == CASES["cycles"][case]
            assert int(dut.done.value) == due, f"case {case}, cycle {cycle}: done is {dut.done.value} (seed {seed})"
        while True:
            got, right = dut.product.value.to_unsigned(), CASES["expected"][case]
            assert got == right, f"case {case}: got {got:#x}, expected {right:#x} (seed {seed})"
            assert int(dut.done.value), f"case {case}: done fell before the next start (seed {seed})"
            if pattern.next():
                break
            await FallingEdge(dut.clk)
            _drive(dut, rng.randrange(count), False)
            await Timer(1, unit="ns")
        met.update(CASES["covers"][case])
    if count == len(CASES["expected"]):
        missed = [point for place, point in enumerate(CASES["points"]) if place not in met]
        assert not missed, f"coverage: {len(missed)} of {len(CASES['points'])} points missed, first {missed[0]}"


@cocotb.test()
async def restarts(dut: Any) -> None:
    """A start or a reset in the middle of a multiplication discards it completely."""
    rng = random.Random(1)
    await _start(dut)
    for case in range(min(300, len(CASES["expected"]))):
        await FallingEdge(dut.clk)
        _drive(dut, rng.randrange(len(CASES["expected"])), True)
        for _ in range(rng.randrange(4)):
            await FallingEdge(dut.clk)
            dut.start.value = 0
        if case % 7 == 0:
            await FallingEdge(dut.clk)
            dut.start.value = 0
            dut.rst.value = 1
            await FallingEdge(dut.clk)
            dut.rst.value = 0
            await Timer(1, unit="ns")
            assert not int(dut.done.value), "done after a reset"
        await FallingEdge(dut.clk)
        _drive(dut, case, True)
        for _ in range(CASES["cycles"][case]):
            await FallingEdge(dut.clk)
            dut.start.value = 0
        await Timer(1, unit="ns")
        got, right = dut.product.value.to_unsigned(), CASES["expected"][case]
        assert int(dut.done.value), f"case {case}: not done"
        assert got == right, f"case {case}: got {got:#x}, expected {right:#x}"
