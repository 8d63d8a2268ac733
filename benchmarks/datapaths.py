# amaranth: UnusedElaboratable=no
"""Logic cells of every datapath built from the family's cells, compared with plain RTL synthesized by Yosys.

    python -m benchmarks.datapaths              # cells, ratios and goals of all rows; minutes
    python -m benchmarks.datapaths CSD lanes    # rows with one of these words in their name
    python -m benchmarks.datapaths --place      # also clocks after place and route; a quarter of an hour more
    python -m benchmarks.datapaths --json       # only ours, in the format of tests/datapath_cells.json

The plain RTL is synthesized in the same run by the same tools, with the flow of a build and with an area-optimized one,
multipliers also with Yosys' Booth recoding; the smallest result counts. Cells are logic cells as nextpnr packs them
(TRELLIS_COMB on ECP5): per bit for popcounts, per lane for lanes (benchmarks/lanes.py), otherwise for the whole block.
A goal is a required number of cells, an aim a desirable one.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks import activity, folded, lanes
from benchmarks.command import command
from benchmarks.measure import Measured, measure
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.accumulate import accumulate
from fewbit.hw.lanes.shift_decoder import ShiftDecoder
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.csd_serial import CsdMultiplierSerial
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.sums.popcount import XnorPopcount

Block = wiring.Component | str

FAMILIES = {"hx8k": "ice40", "up5k": "ice40", "ecp5-25k": "ecp5"}
DEVICES = ("hx8k", "ecp5-25k")
"""Devices on which cells are counted. UP5K has the cells of HX8K but other delays, so only its clocks are measured."""

FLOW = {"hx8k": "default", "up5k": "default", "ecp5-25k": "abc"}
"""Synthesis flow for our own cells. On ECP5 not abc9, which sometimes drops instantiated carry cells."""

PLAIN, PRODUCT = ("default", "area"), ("default", "area", "booth")
"""Synthesis flows for plain RTL, of which the smallest result counts; PRODUCT for multipliers."""

WIDTHS = (16, 64, 256, 1024)
STAGES = {"hx8k": (3, 4), "up5k": (3, 4), "ecp5-25k": (4, 8)}
"""Numbers of pipeline stages for which the clock of a 256-bit popcount is measured."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A datapath on a device.

    Attributes
    ----------
    name, device : str
    ours, plain : Component or str
        Our implementation, and plain RTL of the same function; as Verilog with the top module ``top``, if str.
    flows : tuple of str
        Synthesis flows for the plain RTL, from :data:`benchmarks.measure.FLOWS`.
    unit, plain_unit : int
        Divisors of the cell counts of both: the bits of a popcount, the lanes of all outputs.
    goal, aim : float, optional
        Required and desirable number of cells, divided by ``unit``.
    clock : int, optional
        Required clock in MHz, if the row is placed.
    """

    name: str
    device: str
    ours: Block
    plain: Block
    flows: tuple[str, ...] = PLAIN
    unit: int = 1
    plain_unit: int = 1
    goal: float | None = None
    aim: float | None = None
    clock: int | None = None

    @property
    def key(self) -> str:
        """Key of the row in ``tests/datapath_cells.json``."""
        return f"{self.name}, {self.device}"


class WithItsThreshold(wiring.Component):
    """A 12-bit accumulator of 6-bit counts whose start value includes the threshold; its sign is the comparison."""

    def __init__(self, target: str) -> None:
        self.target = target
        super().__init__({"count": In(6), "first": In(1), "preset": In(6), "sign": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(12)
        m.d.sync += total.eq(accumulate(m, "sum", self.target, total, self.count, self.first, list(self.preset)))
        m.d.comb += self.sign.eq(total[-1])
        return m


class Compared(wiring.Component):
    """A 12-bit accumulator of 6-bit counts with a comparator for the threshold, in plain RTL."""

    def __init__(self) -> None:
        super().__init__({"count": In(6), "first": In(1), "bound": In(12), "sign": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(12)
        m.d.sync += total.eq(Mux(self.first, 0, total) + self.count)
        m.d.comb += self.sign.eq(total >= self.bound)
        return m


class PlainSerial(wiring.Component):
    """A serial shift-and-add multiplier in plain RTL, with one bit of ``b`` per cycle, lowest first."""

    def __init__(self, width: int) -> None:
        self.width = width
        ports: Any = {"a": In(width), "b": In(width), "start": In(1), "done": Out(1), "product": Out(2 * width)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m, width = Module(), self.width
        a, high, low = Signal(width), Signal(width + 1), Signal(width)
        left, busy = Signal(range(width + 1)), Signal()
        term = Mux(low[0], a.as_signed(), 0)
        total = Signal(width + 1)
        m.d.comb += [
            total.eq(Mux(left == 1, high.as_signed() - term, high.as_signed() + term)),
            self.done.eq(busy & (left == 0)),
            self.product.eq((high << width) | low),
        ]
        with m.If(self.start):
            m.d.sync += [a.eq(self.a), low.eq(self.b), high.eq(0), left.eq(width), busy.eq(1)]
        with m.Elif(left != 0):
            m.d.sync += [high.eq(total.as_signed() >> 1), low.eq((low >> 1) | (total[0] << width - 1))]
            m.d.sync += left.eq(left - 1)
        return m


def plain_decoder(width: int) -> str:
    """Verilog of the shift decoder as a table of the levels (Table II of the quality-scalable multiplier paper)."""
    levels = (0, 1, 2, 4, -1, -2, -4, 0)
    cases = "".join(f"    {code}: weight = {'-' if level < 0 else ''}s * {abs(level)};\n" for code, level in
                    enumerate(levels))  # fmt: skip
    return f"""\
module top(
  input [2:0] code, input [{width - 1}:0] scale, output reg signed [{width + 2}:0] weight, output illegal
);
  wire signed [{width + 2}:0] s = scale;
  assign illegal = code == 7;
  always @* case (code)
{cases}  endcase
endmodule"""


def popcounts(device: str, widths: Sequence[int] = WIDTHS) -> Iterator[Row]:
    """Rows of combinational XNOR-popcounts."""
    goal, aim = {"ice40": (2.37, 2.2), "ecp5": (2.05, 1.9)}[FAMILIES[device]]
    for width in widths:
        yield Row(
            name=f"XNOR-popcount, {width} bits", device=device, ours=XnorPopcount(width, 0, FAMILIES[device]),
            plain=XnorPopcount(width), unit=width, plain_unit=width, goal=goal, aim=aim if width == 1024 else None,
        )  # fmt: skip


def _csd(device: str, width: int, recoded: bool, tree: Any = "ripple", registers: Any = "none") -> CsdMultiplier:
    target: Any = FAMILIES[device]
    return CsdMultiplier(width, width, recoded=recoded, target=target, tree=tree, registers=registers)


def multipliers(device: str) -> Iterator[Row]:
    """Rows of multipliers of two operands of the same width: first combinational, then serial ones."""
    ecp5 = FAMILIES[device] == "ecp5"
    goals = {
        (8, True): (105, 95) if ecp5 else (116, 105),
        (8, False): (161, 120) if ecp5 else (161, 150),
    }
    star = {width: activity.plain(width, "none") for width in (8, 16)}
    for width in (8, 16):
        for recoded, description in ((True, "digits beforehand"), (False, "run-time recoder")):
            goal, aim = goals.get((width, recoded), (None, None))
            yield Row(
                name=f"CSD {width}x{width}, {description}", device=device, ours=_csd(device, width, recoded),
                plain=star[width], flows=PRODUCT, goal=goal, aim=aim,
            )  # fmt: skip
    target: Any = FAMILIES[device]
    for width in (8, 16):
        yield Row(
            name=f"exact {width}x{width}", device=device, ours=Multiplier(width, width, target), plain=star[width],
            flows=PRODUCT, goal=80 if ecp5 and width == 8 else None,
        )  # fmt: skip
    for width in (8, 16):
        for recoded, description in ((True, "digits beforehand"), (False, "run-time recoder")):
            yield Row(
                name=f"CSD {width}x{width} serial, {description}", device=device,
                ours=CsdMultiplierSerial(width, width, recoded=recoded), plain=PlainSerial(width),
            )  # fmt: skip


def sums_of_lanes(device: str) -> Iterator[Row]:
    """Rows of lanes for weights that are known at synthesis, for every code and activation type."""
    for code in lanes.CODES:
        for kind in lanes.ACTIVATIONS:
            goal, aim = lanes.GOALS.get((device, code, kind), (None, None))
            yield Row(
                name=f"lanes, {code} x {kind}", device=device, ours=lanes.ours(code, kind, device),
                plain=lanes.plain(code, kind), unit=lanes.SIMD * lanes.outputs(code, kind), plain_unit=lanes.SIMD,
                goal=goal, aim=aim,
            )  # fmt: skip


def rows(device: str) -> Iterator[Row]:
    """All rows of ``device`` whose cells are counted."""
    yield from popcounts(device)
    yield Row(
        name="accumulate and threshold, 12 bits", device=device, ours=WithItsThreshold(FAMILIES[device]),
        plain=Compared(), goal=15,
    )  # fmt: skip
    yield from multipliers(device)
    yield Row(name="shift decoder, scale of 8 bits", device=device, ours=ShiftDecoder(8), plain=plain_decoder(8))
    yield from sums_of_lanes(device)


def clocked(device: str) -> Iterator[Row]:
    """All rows of ``device`` whose clocks are measured. The plain RTL has registers in the same places."""
    width, goal = 256, {"hx8k": (2.52, 150), "ecp5-25k": (2.05, 160)}.get(device)
    family = FAMILIES[device]
    for stages in (0, *STAGES[device]):
        each, clock = goal if goal and stages == STAGES[device][-1] else (None, None)
        yield Row(
            name=f"XNOR-popcount, {width} bits, {stages} stages", device=device,
            ours=XnorPopcount(width, stages, family), plain=XnorPopcount(width, stages), unit=width, plain_unit=width,
            goal=each, clock=clock,
        )  # fmt: skip
    for recoded, description in ((True, "digits beforehand"), (False, "run-time recoder")):
        for tree, registers in (("ripple", "none"), ("balanced", "none"), ("balanced", "all")):
            yield Row(
                name=f"CSD 8x8, {description}, {tree}" + (", registers" if registers == "all" else ""), device=device,
                ours=_csd(device, 8, recoded, tree, registers), flows=PRODUCT,
                plain=activity.plain(8, "ports" if registers == "all" else "none"),
            )  # fmt: skip
        yield Row(
            name=f"CSD 8x8 serial, {description}", device=device, ours=CsdMultiplierSerial(8, 8, recoded=recoded),
            plain=PlainSerial(8),
        )  # fmt: skip
    target: Any = family
    yield Row(
        name="exact 8x8", device=device, ours=Multiplier(8, 8, target), plain=activity.plain(8, "none"), flows=PRODUCT
    )


Both = tuple[Row, Measured, Measured]


def measured(rows_to_measure: Sequence[Row], *, place: bool = False) -> Iterator[Both]:
    """Measure rows; yield each with our figures and those of the smallest plain form, in order.

    The tools run in parallel on all cores; the results do not depend on that. A block that several rows have in common
    is measured once.
    """
    known: dict[tuple[str, str, str], Future[Measured]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def start(text: str, device: str, flow: str, mhz: int) -> Future[Measured]:
            key = (text, device, flow)
            if key not in known:
                known[key] = pool.submit(measure, text, device, flow=flow, place=place, mhz=mhz)
            return known[key]

        started = []
        for row in rows_to_measure:
            mhz = round(1.2 * row.clock) if row.clock else 100
            texts = [block if isinstance(block, str) else verilog(block, "top") for block in (row.ours, row.plain)]
            own_result = start(texts[0], row.device, FLOW[row.device], mhz)
            started.append((row, own_result, [start(texts[1], row.device, flow, mhz) for flow in row.flows]))
        for row, own_result, plain_results in started:
            yield (
                row,
                own_result.result(),
                min((plain_result.result() for plain_result in plain_results), key=lambda cells: cells["lc"]),
            )


def ours(row: Row) -> Measured:
    """Measure only our implementation of a row."""
    return measure(row.ours, row.device, flow=FLOW[row.device])


def entry(cells: Measured) -> dict[str, int]:
    """The entry of a row in ``tests/datapath_cells.json``."""
    return {"lut": cells["lut"], "carry": cells["carry"], "lc": cells["lc"]}


def verdict(value: float, limit: float | None) -> str:
    """Text of a limit and whether ``value`` meets it; empty if there is no limit."""
    return "" if limit is None else f"{limit:g} {'met' if value <= limit else 'MISSED'}"


def line(row: Row, cells: Measured, base: Measured) -> str:
    """Table line of a row's cells, ours and plain."""
    each, plain = cells["lc"] / row.unit, base["lc"] / row.plain_unit
    digits = 2 if row.unit > 1 else 0
    return (
        f"{row.device:8} {row.name:34} {cells['lut']:5} {cells['carry']:6} {cells['ff']:4} {cells['lc']:5} "
        f"{each:7.{digits}f} {plain:7.{digits}f} {each / plain:6.2f}  {verdict(each, row.goal):12} "
        f"{verdict(each, row.aim)}"
    ).rstrip()


def clock_line(row: Row, cells: Measured, base: Measured) -> str:
    """Table line of a row's cells and clocks, ours and plain. The goal is met if both cells and clock meet theirs."""
    mhz, plain_mhz = cells["fmax"] or 0, base["fmax"] or 0
    each, plain = cells["lc"] / row.unit, base["lc"] / row.plain_unit
    digits = 2 if row.unit > 1 else 0
    met = row.goal is not None and row.clock is not None and each <= row.goal and mhz >= row.clock
    goal_text = f"{row.goal:g} @ {row.clock} {'met' if met else 'MISSED'}" if row.clock else ""
    return (
        f"{row.device:8} {row.name:42} {cells['ff']:5} {each:7.{digits}f} @ {mhz:3.0f} {plain:7.{digits}f} @ "
        f"{plain_mhz:3.0f} {each / plain:6.2f} {mhz / plain_mhz if plain_mhz else 0:6.2f}  {goal_text}"
    ).rstrip()


def _chosen(words: Sequence[str], all_rows: Iterator[Row]) -> list[Row]:
    return [row for row in all_rows if not words or any(word in row.key for word in words)]


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datapaths", description=__doc__.split("\n", 1)[0])
    parser.add_argument("word", nargs="*", help="only rows with one of these in their name (default: all)")
    parser.add_argument("--device", choices=list(FAMILIES), help="default: all")
    parser.add_argument("--place", action="store_true", help="clocks as well, with the folded units")
    parser.add_argument("--json", action="store_true", help="our cells, as tests/datapath_cells.json keeps them")
    return parser.parse_args(arguments)


def _print(head: str, format_line: Callable[[Row, Measured, Measured], str], measured_rows: Iterator[Both]) -> None:
    print(head)
    for both in measured_rows:
        print(format_line(*both), flush=True)


HEAD = "device   datapath                             LUT  carry   FF cells    each   plain  ratio  goal         aim"
CLOCK_HEAD = "device   datapath                                      FF each @ MHz   plain @ MHz       ratios     goal"


def main(arguments: Sequence[str]) -> None:
    options = _arguments(arguments)
    counted = [device for device in DEVICES if options.device in (None, device)]
    chosen_rows = [row for device in counted for row in _chosen(options.word, rows(device))]
    if options.json:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            cells = list(pool.map(ours, chosen_rows))
        print(json.dumps({row.key: entry(row_cells) for row, row_cells in zip(chosen_rows, cells)}, indent=2))
        return
    _print(HEAD, line, measured(chosen_rows))
    if options.place:
        placed = [device for device in FAMILIES if options.device in (None, device)]
        print("\nPlaced and routed, one seed, between registers at every port:")
        _print(CLOCK_HEAD, clock_line, measured(
            [row for device in placed for row in _chosen(options.word, clocked(device))], place=True
        ))  # fmt: skip
        if not options.word:
            print("\nFolded binary units, everything included (benchmarks/folded.py):")
            folded.main(placed)


if __name__ == "__main__":
    command("datapaths", main)
