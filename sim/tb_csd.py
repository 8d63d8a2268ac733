"""cocotb bench of the parallel CSD multiplier, in any of its forms.

``$FEWBIT_CASES`` names a JSON file with the result of :func:`fewbit.sim.csd_cases.cases`, and ``latency``. The quality
changes from case to case, while earlier cases are still in the pipeline.
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


def check_coverage(met: set[int]) -> None:
    """Check that ``met`` has all coverage points, by their indices."""
    missed = [point for place, point in enumerate(CASES["points"]) if place not in met]
    assert not missed, f"coverage: {len(missed)} of {len(CASES['points'])} points missed, first {missed[0]}"
    cocotb.log.info("fewbit bench: coverage full, %d points", len(CASES["points"]))


@cocotb.test()
@cocotb.parametrize(enable=PATTERNS if CASES["latency"] else ("always",))
async def every_case(dut: Any, enable: str) -> None:
    """The product of each case is valid ``latency`` enabled cycles later, and holds while ``en`` is low."""
    seed = int(os.environ.get("FEWBIT_SEED") or random.getrandbits(31))
    dut._log.info("fewbit bench: seed %d, enable %s", seed, enable)
    rng, latency, expected = random.Random(seed), CASES["latency"], CASES["expected"]
    pattern = Pattern(enable, rng)
    if latency:
        dut.en.value = 0
        await start_clock(dut)
    met: set[int] = set()
    position = 0
    count = len(expected) if enable in ("always", "random") else min(len(expected), 500)
    while position < count + latency:
        await (FallingEdge(dut.clk) if latency else Timer(10, unit="ns"))
        enabled = pattern.next() or not latency
        if latency:
            dut.en.value = int(enabled)
        # While `en` is low the inputs are random, since nothing may depend on them.
        case = position if enabled and position < count else rng.randrange(len(expected))
        for port, values in CASES["inputs"].items():
            getattr(dut, port).value = values[case]
        await Timer(1, unit="ns")
        if position >= latency and (latency or enabled):
            right, got = expected[position - latency], dut.product.value.to_unsigned()
            where = {port: values[position - latency] for port, values in CASES["inputs"].items()}
            assert got == right, f"{where}: got {got:#x}, expected {right:#x} (seed {seed})"
            met.update(CASES["covers"][position - latency])
        position += enabled
    if count == len(expected):
        check_coverage(met)
