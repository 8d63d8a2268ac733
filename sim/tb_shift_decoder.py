"""cocotb bench of the shift-and-invert decoder: every code with every scale, or with corners and random wide scales."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Timer

from fewbit.golden.shift import decode_weight


@cocotb.test()
async def every_code(dut: Any) -> None:
    """All decoded weights are right. Coverage: each code with scale 0, the largest scale, and one between."""
    width = len(dut.scale)
    assert len(dut.weight) == width + 3, f"weight has {len(dut.weight)} bits for a scale of {width}"
    largest = (1 << width) - 1
    scales = range(largest + 1) if width <= 8 else [0, 1, largest, *(random.randrange(largest) for _ in range(200))]
    covered = set()
    for code in range(8):
        for scale in scales:
            dut.code.value = code
            dut.scale.value = scale
            await Timer(1, "ns")
            weight, illegal = decode_weight(np.array(code), np.array(scale))
            got = dut.weight.value.to_signed(), int(dut.illegal.value)
            assert got == (int(weight), int(illegal)), f"code {code:03b}, scale {scale}: {got}, not {weight}, {illegal}"
            covered.add((code, "zero" if scale == 0 else "largest" if scale == largest else "between"))
    kinds = ("zero", "largest", "between") if width > 1 else ("zero", "largest")
    assert covered == {(code, kind) for code in range(8) for kind in kinds}
