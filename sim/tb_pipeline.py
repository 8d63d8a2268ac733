"""cocotb bench of a pipeline with plain inputs, an enable ``en`` and an output ``o``, such as popcounts and lanes.

``$FEWBIT_CASES`` names a JSON file with ``inputs``, a list of values for each input port; ``expected``, the value of
``o`` for each of them; and ``latency``, the number of cycles with ``en`` high from input to output.
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

from fewbit.sim.bench import PATTERNS, Pattern

CASES: dict[str, Any] = json.loads(Path(os.environ["FEWBIT_CASES"]).read_text(encoding="utf-8"))


@cocotb.test()
@cocotb.parametrize(enable=PATTERNS)
async def every_case(dut: Any, enable: str) -> None:
    """All cases in order. Each result is valid ``latency`` enabled cycles later, and holds while ``en`` is low."""
    seed = int(os.environ.get("FEWBIT_SEED") or random.getrandbits(31))
    dut._log.info("fewbit bench: seed %d, enable %s", seed, enable)
    pattern, latency = Pattern(enable, random.Random(seed)), CASES["latency"]
    if latency:
        dut.clk.value = 0
        Clock(dut.clk, 10, unit="ns").start(start_high=False)
    position = 0
    while position < len(CASES["expected"]) + latency:
        await (FallingEdge(dut.clk) if latency else Timer(10, unit="ns"))
        enabled = pattern.next() or not latency
        if hasattr(dut, "en"):
            dut.en.value = int(enabled)
        # While `en` is low the inputs are random, since nothing may depend on them.
        case = position if enabled and position < len(CASES["expected"]) else random.randrange(len(CASES["expected"]))
        for port, values in CASES["inputs"].items():
            getattr(dut, port).value = values[case]
        await Timer(1, unit="ns")
        if position >= latency:
            right = CASES["expected"][position - latency]
            if latency or enabled:
                got = dut.o.value.to_unsigned()
                assert got == right, f"case {position - latency}: got {got:#x}, expected {right:#x} (seed {seed})"
        position += enabled
