"""cocotb bench of the shift-and-invert lanes: every code word on every lane, with activations of every kind.

Kinds of activations are the least and greatest value, zero, and those between.

``$FEWBIT_ACTIVATION``, ``$FEWBIT_CODE``, ``$FEWBIT_SIMD`` and ``$FEWBIT_STAGES`` are the parameters of the block.
"""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, Timer

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.matvec import matvec
from fewbit.sim.bench import start_clock

ACTIVATION = DType.parse(os.environ["FEWBIT_ACTIVATION"])
CODE = Code.parse(os.environ["FEWBIT_CODE"])
SIMD, STAGES = int(os.environ["FEWBIT_SIMD"]), int(os.environ.get("FEWBIT_STAGES", "0"))
VALUES = list(range(ACTIVATION.min, ACTIVATION.max + 1, ACTIVATION.step))
LEVELS = {int(word): int(level) for word, level in zip(CODE.encode(CODE.levels), CODE.levels)}
WORDS = range(1 << CODE.bits)

Row = tuple[list[int], list[int]]
"""Activations and code words of all lanes."""


def kind(value: int) -> str:
    """Kind of an activation, for the coverage: least, greatest, zero or between."""
    if value in (ACTIVATION.min, ACTIVATION.max):
        return "least" if value == ACTIVATION.min else "greatest"
    return "zero" if value == 0 else "between"


KINDS = sorted({kind(value) for value in VALUES})


def rows(rng: random.Random) -> list[Row]:
    """Test rows: all combinations, if there is one lane and they are few.

    Otherwise each word on each lane with an activation of each of :data:`KINDS` and random values on the other lanes;
    all lanes at an end of the range together; and random rows.
    """
    if SIMD == 1 and len(VALUES) * len(WORDS) <= 4096:
        return [([value], [word]) for value in VALUES for word in WORDS]
    some = []
    for lane in range(SIMD):
        for word in WORDS:
            for activation_kind in KINDS:
                x, code = [rng.choice(VALUES) for _ in range(SIMD)], [rng.choice(WORDS) for _ in range(SIMD)]
                x[lane], code[lane] = rng.choice([value for value in VALUES if kind(value) == activation_kind]), word
                some.append((x, code))
    ends = [([value] * SIMD, [word] * SIMD) for value in (VALUES[0], VALUES[-1]) for word in WORDS]
    more = [([rng.choice(VALUES) for _ in range(SIMD)], [rng.choice(WORDS) for _ in range(SIMD)]) for _ in range(300)]
    return some + ends + more


def expected(x: list[int], code: list[int]) -> tuple[int, int]:
    """The golden sum, with illegal words counted as 0; and 1 if there is an illegal word, else 0."""
    illegal = any(word not in LEVELS for word in code)
    legal = [(value, LEVELS[word]) for value, word in zip(x, code) if word in LEVELS]
    if not legal:
        return 0, int(illegal)
    activations, weights = (np.array([column]) for column in zip(*legal))
    return int(matvec(activations, weights, CODE, ACTIVATION)[0, 0]), int(illegal)


def packed(values: list[int], bits: int) -> int:
    """Pack values of ``bits`` bits into a word, the first in the lowest bits."""
    return sum((value & (1 << bits) - 1) << place * bits for place, value in enumerate(values))


@cocotb.test()
async def every_code(dut: Any) -> None:
    """One row per cycle; its sum is valid ``STAGES`` cycles later. All coverage points must be met."""
    seed = int(os.environ.get("FEWBIT_SEED") or random.getrandbits(31))
    dut._log.info("fewbit bench: seed %d", seed)
    cases = rows(random.Random(seed))
    right = [expected(*case) for case in cases]
    flagged = len(LEVELS) < len(WORDS)
    assert len(dut.x) == SIMD * ACTIVATION.bits, f"x has {len(dut.x)} bits"
    assert len(dut.code) == SIMD * CODE.bits, f"code has {len(dut.code)} bits"
    if STAGES:
        await start_clock(dut, cycles=1)
    covered = set()
    for position in range(len(cases) + STAGES):
        x, code = cases[min(position, len(cases) - 1)]
        stored = ACTIVATION.encode(np.array(x)).astype(np.int64).tolist()
        dut.x.value, dut.code.value = packed(stored, ACTIVATION.bits), packed(code, CODE.bits)
        await (FallingEdge(dut.clk) if STAGES else Timer(10, unit="ns"))
        place = position - max(STAGES - 1, 0)
        if 0 <= place < len(cases):
            got = dut.sum.value.to_signed(), int(dut.illegal.value) if flagged else 0
            assert got == right[place], f"row {place}, {cases[place]}: {got}, not {right[place]} (seed {seed})"
            covered |= {(lane, word, kind(value)) for lane, (value, word) in enumerate(zip(*cases[place]))}
    points = {(lane, word, activation_kind) for lane in range(SIMD) for word in WORDS for activation_kind in KINDS}
    assert covered == points, f"coverage: {len(points - covered)} of {len(points)} points missed"
    dut._log.info("fewbit bench: coverage full, %d points", len(points))
