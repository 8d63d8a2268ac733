"""XNOR-popcounts in the cells of each family against what Yosys makes of a sum of bits, in logic cells a bit.

    python -m benchmarks.popcount_table              # 16 to 1024 bits, and 256 bits pipelined
    python -m benchmarks.popcount_table 64 100       # these widths, without registers
    python -m benchmarks.popcount_table --json 64    # the cells as tests/popcount_cells.json keeps them

The ratio is of our cells to the generic form's, which is mapped in the same run by the same tools.
"""

from __future__ import annotations

import json
import sys

from benchmarks.measure import Measured, measure
from fewbit.hw.popcount import XnorPopcount

FAMILIES = {"hx8k": "ice40", "ecp5-25k": "ecp5"}
FLOW = {"hx8k": "default", "ecp5-25k": "abc"}
"""What our own cells are mapped with; abc9 is told to drop ECP5 carry cells in places."""

WIDTHS = (16, 64, 256, 1024)
PIPELINED = {"hx8k": (256, (3, 4)), "ecp5-25k": (256, (4, 8))}
CLOCK_WANTED = 180


def ours(width: int, stages: int, device: str, place: bool = False) -> Measured:
    """Cells of an XNOR-popcount made for the family of ``device``."""
    block = XnorPopcount(width, stages, FAMILIES[device])
    return measure(block, device, flow=FLOW[device], place=place, mhz=CLOCK_WANTED)


def theirs(width: int, stages: int, device: str, place: bool = False) -> Measured:
    """Cells of the generic one, smaller of a build's flow and of the one that trades speed for area."""
    block = XnorPopcount(width, stages)
    flows = ("default", "area") if device != "hx8k" else ("default",)
    return min((measure(block, device, flow=flow, place=place, mhz=CLOCK_WANTED) for flow in flows),
               key=lambda cells: cells["lc"])  # fmt: skip


def _line(width: int, stages: int, device: str, place: bool) -> str:
    one, other = ours(width, stages, device, place), theirs(width, stages, device, place)
    clock = f"{one['fmax']:7.0f} MHz {other['fmax']:7.0f} MHz" if place else ""
    return (
        f"{device:9} {width:5} {stages:6} {one['lut']:6} {one['carry']:6} {one['ff']:5} {one['lc']:6} "
        f"{one['lc'] / width:6.2f} {other['lc'] / width:8.2f} {one['lc'] / other['lc']:6.2f} {clock}"
    )


def main(arguments: list[str]) -> None:
    as_json = "--json" in arguments
    widths = [int(argument) for argument in arguments if argument.isdigit()]
    if as_json:
        table = {device: {str(width): ours(width, 0, device)["lc"] for width in widths} for device in FAMILIES}
        print(json.dumps(table, indent=2))
        return
    print("device    width stages    LUT  carry    FF     LC  a bit  generic  ratio  clock, and the generic one's")
    for device in FAMILIES:
        for width in widths or WIDTHS:
            print(_line(width, 0, device, False), flush=True)
        if not widths:
            width, ranks = PIPELINED[device]
            for stages in ranks:
                print(_line(width, stages, device, True), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
