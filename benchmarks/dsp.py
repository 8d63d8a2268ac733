# amaranth: UnusedElaboratable=no
"""Cost of multipliers in logic cells and in DSP blocks, for plain integer weights and for scales.

    python -m benchmarks.dsp

The first table has logic cells (LUT4s on ECP5) of products of two integers: Yosys' ``*`` without DSP blocks, and our
cells (:class:`fewbit.hw.multiply.exact.Multiplier`). The second table has products by a scale whose signed digits are
known at synthesis: in logic cells (:class:`fewbit.hw.multiply.csd.CsdMultiplier`), and in a DSP block
(:class:`fewbit.hw.multiply.dsp.DspMultiplier`) with the number of blocks. All are combinational.
"""

from __future__ import annotations

from benchmarks.measure import measure
from fewbit.hw.fabric.carry import Target
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.dsp import DspMultiplier
from fewbit.hw.multiply.exact import Multiplier
from fewbit.report import table

FAMILIES: dict[str, Target] = {"up5k": "ice40", "ecp5-25k": "ecp5"}
FLOW = {"up5k": "default", "ecp5-25k": "abc"}

PRODUCTS = ((8, 2), (8, 3), (4, 4), (8, 4), (8, 5), (5, 5), (8, 8), (9, 8), (12, 9), (16, 12))
"""Bits of the two operands of products of integers."""

SCALES = ((6, 4), (10, 6), (10, 8), (14, 8), (16, 12))
"""Bits of the operand that is scaled, and of the scale."""


def main() -> None:
    rows = []
    for device, family in FAMILIES.items():
        for a, b in PRODUCTS:
            plain = measure(Multiplier(a, b), device, flow=FLOW[device])["lc"]
            ours = measure(Multiplier(a, b, family), device, flow=FLOW[device])["lc"]
            rows.append((device, f"{a}x{b}", plain, ours))
    print(table(("device", "product", "Yosys *", "our cells"), rows, left=2))
    print()
    rows = []
    for device, family in FAMILIES.items():
        for a, b in SCALES:
            csd = measure(CsdMultiplier(a, b, recoded=True, target=family), device, flow=FLOW[device])["lc"]
            factor = measure(DspMultiplier(a, b), device, flow="dsp")
            rows.append((device, f"{a}x{b}", csd, factor["lc"], factor["dsp"]))
    print(table(("device", "scale", "CSD rows", "with DSP block", "blocks"), rows, left=2))


if __name__ == "__main__":
    main()
