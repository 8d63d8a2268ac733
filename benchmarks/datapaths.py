# amaranth: UnusedElaboratable=no
"""Every datapath in the cells of its family against what Yosys makes of plain RTL, in logic cells.

    python -m benchmarks.datapaths              # cells, ratios, goals: all rows, in minutes
    python -m benchmarks.datapaths CSD lanes    # rows with one of these words in their name
    python -m benchmarks.datapaths --place      # and clocks, placed and routed; a quarter of an hour more
    python -m benchmarks.datapaths --json       # ours only, as tests/datapath_cells.json keeps them

The plain form is mapped in the same run by the same tools, with the flow of a build and the one that trades speed for
area, multipliers also with Yosys' Booth recoding, and the smallest is taken. Cells are logic cells as nextpnr packs
them, LUT4 places on ECP5: of a bit for popcounts, of a lane for lanes (benchmarks/lanes.py), of the whole block for the
rest. A goal is what a row has to come to, an aim what it would be good to come to.
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
"""Where cells are counted; a clock is that of a device, so UP5K has one of its own."""

FLOW = {"hx8k": "default", "up5k": "default", "ecp5-25k": "abc"}
"""What our own cells are mapped with; abc9 is told to drop ECP5 carry cells in places."""

PLAIN, PRODUCT = ("default", "area"), ("default", "area", "booth")
"""Flows from which the smallest plain form is taken."""

WIDTHS = (16, 64, 256, 1024)
STAGES = {"hx8k": (3, 4), "up5k": (3, 4), "ecp5-25k": (4, 8)}
"""Pipeline stages in a popcount of 256 bits whose clock is measured."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A datapath on a device.

    Attributes
    ----------
    name, device : str
    ours, plain : Component or str
        What we make, and plain RTL of the same, top module ``top`` where they are Verilog.
    flows : tuple of str
        Which of :data:`benchmarks.measure.FLOWS` the plain form is mapped with.
    unit, plain_unit : int
        Cells of each are given over this: the bits of a popcount, the lanes of all outputs.
    goal, aim : float, optional
        Cells, over ``unit``.
    clock : int, optional
        MHz that go with the goal where the row is placed.
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
        """What it is called in the committed table."""
        return f"{self.name}, {self.device}"


class WithItsThreshold(wiring.Component):
    """A sum of 12 bits from counts of 6, and whether it reached its threshold: the sign of what began with less."""

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
    """A sum of 12 bits from counts of 6, compared with its threshold when it is there."""

    def __init__(self) -> None:
        super().__init__({"count": In(6), "first": In(1), "bound": In(12), "sign": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(12)
        m.d.sync += total.eq(Mux(self.first, 0, total) + self.count)
        m.d.comb += self.sign.eq(total >= self.bound)
        return m


class PlainSerial(wiring.Component):
    """The schoolbook's serial multiplier: a bit of ``b`` a cycle, lowest first, the last one taken away."""

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
    """Verilog of the table of Table II's levels."""
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
    """XNOR-popcounts, combinational."""
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
    """Products of two factors of one width, combinational, then a digit a cycle."""
    ecp5 = FAMILIES[device] == "ecp5"
    goals = {
        (8, True): (105, 95) if ecp5 else (116, 105),
        (8, False): (161, 120) if ecp5 else (161, 150),
    }
    star = {width: activity.plain(width, "none") for width in (8, 16)}
    for width in (8, 16):
        for recoded, said in ((True, "digits beforehand"), (False, "run-time recoder")):
            goal, aim = goals.get((width, recoded), (None, None))
            yield Row(
                name=f"CSD {width}x{width}, {said}", device=device, ours=_csd(device, width, recoded),
                plain=star[width], flows=PRODUCT, goal=goal, aim=aim,
            )  # fmt: skip
    target: Any = FAMILIES[device]
    for width in (8, 16):
        yield Row(
            name=f"exact {width}x{width}", device=device, ours=Multiplier(width, width, target), plain=star[width],
            flows=PRODUCT, goal=80 if ecp5 and width == 8 else None,
        )  # fmt: skip
    for width in (8, 16):
        for recoded, said in ((True, "digits beforehand"), (False, "run-time recoder")):
            yield Row(
                name=f"CSD {width}x{width} serial, {said}", device=device,
                ours=CsdMultiplierSerial(width, width, recoded=recoded), plain=PlainSerial(width),
            )  # fmt: skip


def sums_of_lanes(device: str) -> Iterator[Row]:
    """Lanes of weights known beforehand, of every code and kind of activation."""
    for code in lanes.CODES:
        for kind in lanes.ACTIVATIONS:
            goal, aim = lanes.GOALS.get((device, code, kind), (None, None))
            yield Row(
                name=f"lanes, {code} x {kind}", device=device, ours=lanes.ours(code, kind, device),
                plain=lanes.plain(code, kind), unit=lanes.SIMD * lanes.outputs(code, kind), plain_unit=lanes.SIMD,
                goal=goal, aim=aim,
            )  # fmt: skip


def rows(device: str) -> Iterator[Row]:
    """All rows whose cells are counted."""
    yield from popcounts(device)
    yield Row(
        name="accumulate and threshold, 12 bits", device=device, ours=WithItsThreshold(FAMILIES[device]),
        plain=Compared(), goal=15,
    )  # fmt: skip
    yield from multipliers(device)
    yield Row(name="shift decoder, scale of 8 bits", device=device, ours=ShiftDecoder(8), plain=plain_decoder(8))
    yield from sums_of_lanes(device)


def clocked(device: str) -> Iterator[Row]:
    """Rows whose clocks are measured: each beside plain RTL with registers in the same places."""
    width, goal = 256, {"hx8k": (2.52, 150), "ecp5-25k": (2.05, 160)}.get(device)
    family = FAMILIES[device]
    for stages in (0, *STAGES[device]):
        each, clock = goal if goal and stages == STAGES[device][-1] else (None, None)
        yield Row(
            name=f"XNOR-popcount, {width} bits, {stages} ranks", device=device,
            ours=XnorPopcount(width, stages, family), plain=XnorPopcount(width, stages), unit=width, plain_unit=width,
            goal=each, clock=clock,
        )  # fmt: skip
    for recoded, said in ((True, "digits beforehand"), (False, "run-time recoder")):
        for tree, registers in (("ripple", "none"), ("balanced", "none"), ("balanced", "all")):
            yield Row(
                name=f"CSD 8x8, {said}, {tree}" + (", registers" if registers == "all" else ""), device=device,
                ours=_csd(device, 8, recoded, tree, registers), flows=PRODUCT,
                plain=activity.plain(8, "ports" if registers == "all" else "none"),
            )  # fmt: skip
        yield Row(
            name=f"CSD 8x8 serial, {said}", device=device, ours=CsdMultiplierSerial(8, 8, recoded=recoded),
            plain=PlainSerial(8),
        )  # fmt: skip
    target: Any = family
    yield Row(
        name="exact 8x8", device=device, ours=Multiplier(8, 8, target), plain=activity.plain(8, "none"), flows=PRODUCT
    )


Both = tuple[Row, Measured, Measured]


def measured(wanted: Sequence[Row], *, place: bool = False) -> Iterator[Both]:
    """Rows in order, ours and the smallest plain form; what several rows have in common is mapped once.

    The tools run beside one another on as many cores as there are; what comes out does not depend on that.
    """
    known: dict[tuple[str, str, str], Future[Measured]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def start(text: str, device: str, flow: str, mhz: int) -> Future[Measured]:
            key = (text, device, flow)
            if key not in known:
                known[key] = pool.submit(measure, text, device, flow=flow, place=place, mhz=mhz)
            return known[key]

        started = []
        for row in wanted:
            mhz = round(1.2 * row.clock) if row.clock else 100
            texts = [block if isinstance(block, str) else verilog(block, "top") for block in (row.ours, row.plain)]
            one = start(texts[0], row.device, FLOW[row.device], mhz)
            started.append((row, one, [start(texts[1], row.device, flow, mhz) for flow in row.flows]))
        for row, one, others in started:
            yield row, one.result(), min((other.result() for other in others), key=lambda cells: cells["lc"])


def ours(row: Row) -> Measured:
    """Our cells alone."""
    return measure(row.ours, row.device, flow=FLOW[row.device])


def entry(cells: Measured) -> dict[str, int]:
    """What the committed table keeps of a row."""
    return {"lut": cells["lut"], "carry": cells["carry"], "lc": cells["lc"]}


def verdict(value: float, wanted: float | None) -> str:
    """A limit and whether it is met."""
    return "" if wanted is None else f"{wanted:g} {'met' if value <= wanted else 'MISSED'}"


def line(row: Row, one: Measured, other: Measured) -> str:
    """A printed row of cells."""
    each, plain = one["lc"] / row.unit, other["lc"] / row.plain_unit
    digits = 2 if row.unit > 1 else 0
    return (
        f"{row.device:8} {row.name:34} {one['lut']:5} {one['carry']:6} {one['ff']:4} {one['lc']:5} "
        f"{each:7.{digits}f} {plain:7.{digits}f} {each / plain:6.2f}  {verdict(each, row.goal):12} "
        f"{verdict(each, row.aim)}"
    ).rstrip()


def clock_line(row: Row, one: Measured, other: Measured) -> str:
    """A printed row of clocks; the goal is one of cells and clock together."""
    mhz, plain_mhz = one["fmax"] or 0, other["fmax"] or 0
    each, plain = one["lc"] / row.unit, other["lc"] / row.plain_unit
    digits = 2 if row.unit > 1 else 0
    met = row.goal is not None and row.clock is not None and each <= row.goal and mhz >= row.clock
    wanted = f"{row.goal:g} @ {row.clock} {'met' if met else 'MISSED'}" if row.clock else ""
    return (
        f"{row.device:8} {row.name:42} {one['ff']:5} {each:7.{digits}f} @ {mhz:3.0f} {plain:7.{digits}f} @ "
        f"{plain_mhz:3.0f} {each / plain:6.2f} {mhz / plain_mhz if plain_mhz else 0:6.2f}  {wanted}"
    ).rstrip()


def _chosen(words: Sequence[str], found: Iterator[Row]) -> list[Row]:
    return [row for row in found if not words or any(word in row.key for word in words)]


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datapaths", description=__doc__.split("\n", 1)[0])
    parser.add_argument("word", nargs="*", help="only rows with one of these in their name (default: all)")
    parser.add_argument("--device", choices=list(FAMILIES), help="default: all")
    parser.add_argument("--place", action="store_true", help="clocks as well, with the folded units")
    parser.add_argument("--json", action="store_true", help="our cells, as tests/datapath_cells.json keeps them")
    return parser.parse_args(arguments)


def _print(head: str, said: Callable[[Row, Measured, Measured], str], found: Iterator[Both]) -> None:
    print(head)
    for both in found:
        print(said(*both), flush=True)


HEAD = "device   datapath                             LUT  carry   FF cells    each   plain  ratio  goal         aim"
CLOCK_HEAD = "device   datapath                                      FF each @ MHz   plain @ MHz       ratios     goal"


def main(arguments: Sequence[str]) -> None:
    options = _arguments(arguments)
    counted = [device for device in DEVICES if options.device in (None, device)]
    wanted = [row for device in counted for row in _chosen(options.word, rows(device))]
    if options.json:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            cells = list(pool.map(ours, wanted))
        print(json.dumps({row.key: entry(one) for row, one in zip(wanted, cells)}, indent=2))
        return
    _print(HEAD, line, measured(wanted))
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
