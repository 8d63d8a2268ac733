# amaranth: UnusedElaboratable=no
"""Multipliers in cells and in DSP blocks: what a lane of plain integer weights takes, and a scale.

    python -m benchmarks.dsp

Logic cells on iCE40, LUT4s on ECP5, of products of two numbers: by Yosys' ``*`` without DSP blocks, by our cells
(:class:`fewbit.hw.multiply.exact.Multiplier`), and of the digits of a scale known beforehand by rows
(:class:`fewbit.hw.multiply.csd.CsdMultiplier`) and by a DSP block
(:class:`fewbit.hw.multiply.dsp.FactorMultiplier`), with the blocks that it takes. Registers are left out.
"""

from __future__ import annotations

from benchmarks.measure import measure
from fewbit.hw.fabric.carry import Target
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.dsp import FactorMultiplier
from fewbit.hw.multiply.exact import Multiplier
from fewbit.report import table

FAMILIES: dict[str, Target] = {"up5k": "ice40", "ecp5-25k": "ecp5"}
FLOW = {"up5k": "default", "ecp5-25k": "abc"}

PRODUCTS = ((8, 2), (8, 3), (4, 4), (8, 4), (8, 5), (5, 5), (8, 8), (9, 8), (12, 9), (16, 12))
"""Bits of the operands."""

SCALES = ((6, 4), (10, 6), (10, 8), (14, 8), (16, 12))
"""Bits of what a scale multiplies, and of the scale."""


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
            factor = measure(FactorMultiplier(a, b), device, flow="dsp")
            rows.append((device, f"{a}x{b}", csd, factor["lc"], factor["dsp"]))
    print(table(("device", "scale", "CSD rows", "with DSP block", "blocks"), rows, left=2))


if __name__ == "__main__":
    main()
