# amaranth: UnusedElaboratable=no
"""Folded binary units with weights and thresholds in block RAM, after place and route.

    python -m benchmarks.folded              # for each device, a unit that uses its full block RAM bandwidth
    python -m benchmarks.folded hx8k 3 2     # one device, 3 pipeline stages in the popcount, seed 2

Clocks are those of a single seed, 1 by default, and vary with it. They vary most on ECP5, where long wires limit the
clock: 91 MHz with seed 1, 120 MHz with seed 2.

The unit is :class:`fewbit.hw.matvec.fused_sign.SignUnit`, without a vector buffer, since it uses all block RAMs. The
baseline is the same array in plain RTL: ``sum(x ~^ w)`` as Yosys synthesizes it, summed in one stage, with an
accumulator and a comparator for each sum.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from benchmarks.measure import Measured, measure
from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import BIPOLAR
from fewbit.golden.network import Dense, Threshold
from fewbit.hw.matvec.fused_sign import STARTS, SignUnit
from fewbit.hw.sums.popcount import Popcount


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A folding that uses the full block RAM bandwidth of a device.

    ``words`` are the weight words per sum, ``folds`` the groups of outputs. ``goal`` and ``aim`` are the required and
    the desirable logic cells and MHz.
    """

    family: str
    pe: int
    simd: int
    words: int
    folds: int
    stages: int
    read_register: int
    goal: tuple[int, int]
    aim: tuple[int, int]


UNITS = {
    "up5k": Unit(family="ice40", pe=10, simd=48, words=14, folds=16, stages=3, read_register=0,
                 goal=(1421, 65), aim=(1250, 80)),
    "hx8k": Unit(family="ice40", pe=8, simd=64, words=14, folds=16, stages=3, read_register=0,
                 goal=(1485, 110), aim=(1400, 150)),
    "ecp5-25k": Unit(family="ecp5", pe=28, simd=72, words=14, folds=32, stages=4, read_register=2,
                     goal=(4511, 120), aim=(4300, 150)),
}  # fmt: skip
FLOW = {"up5k": "default", "hx8k": "default", "ecp5-25k": "abc"}


def ours(device: str, stages: int | None = None, *, place: bool = True, seed: int = 1) -> Measured:
    """Measure cells and clock of our unit on ``device``, with random weights and thresholds."""
    unit = UNITS[device]
    rng = np.random.default_rng(1)
    inputs, outputs = unit.words * unit.simd, unit.folds * unit.pe
    layer = Dense(name="dense", weights=rng.choice([-1, 1], (outputs, inputs)), code=BINARY)
    bounds = rng.normal(0, np.sqrt(inputs), (outputs, 1)).astype(int)
    sign = Threshold(name="sign", thresholds=bounds, sign=np.ones(outputs, int), dtype=BIPOLAR, base=-1)
    block = SignUnit(
        layer, sign, pe=unit.pe, simd=unit.simd, stages=stages or unit.stages, target=unit.family,
        read_register=unit.read_register,
    )  # fmt: skip
    return measure(block, device, flow=FLOW[device], place=place, seed=seed, mhz=unit.aim[1])


class Plain(wiring.Component):
    """The baseline in plain RTL: a popcount in one stage, an accumulator, a comparator, thresholds in a memory."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        super().__init__({"word": In(unit.simd), "advance": In(1), "o": Out(unit.pe), "valid": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m, unit = Module(), self.unit
        depth, rng = unit.words * unit.folds, np.random.default_rng(1)
        bits = (unit.words * unit.simd).bit_length()
        memory = Memory(
            shape=unit.pe * unit.simd, depth=depth, attrs={"ram_style": "block"},
            init=[int.from_bytes(rng.bytes(unit.pe * unit.simd // 8), "little") for _ in range(depth)],
        )  # fmt: skip
        bounds = Memory(
            shape=unit.pe * bits, depth=unit.folds, attrs={"ram_style": "logic"},
            init=[int(rng.integers(1 << 62)) * 0x9E3779B97F4A7C15 % (1 << unit.pe * bits) for _ in range(unit.folds)],
        )  # fmt: skip
        m.submodules.weights, m.submodules.bounds = memory, bounds
        read, bound = memory.read_port(), bounds.read_port(domain="comb")
        word, fold = Signal(range(unit.words)), Signal(range(unit.folds))
        address = Signal(range(depth))
        m.d.comb += [read.addr.eq(address), read.en.eq(self.advance), bound.addr.eq(fold)]
        x = Signal(unit.simd)
        first, last = Signal(3), Signal(3)
        with m.If(self.advance):
            m.d.sync += [x.eq(self.word), address.eq(Mux(address == depth - 1, 0, address + 1))]
            m.d.sync += [first.eq(first << 1 | (word == 0)), last.eq(last << 1 | (word == unit.words - 1))]
            m.d.sync += [word.eq(Mux(word == unit.words - 1, 0, word + 1)), self.valid.eq(last[2])]
            with m.If(last[2]):
                m.d.sync += fold.eq(Mux(fold == unit.folds - 1, 0, fold + 1))
        for pe in range(unit.pe):
            m.submodules[f"popcount_{pe}"] = popcount = Popcount(unit.simd, 1)
            total = Signal(bits, name=f"total_{pe}")
            m.d.comb += [
                popcount.i.eq(~(x ^ read.data.word_select(pe, unit.simd))),
                popcount.en.eq(self.advance),
                self.o[pe].eq(total >= bound.data.word_select(pe, bits)),
            ]
            with m.If(self.advance):
                m.d.sync += total.eq(Mux(first[2], 0, total) + popcount.o)
        return m


def theirs(device: str, *, place: bool = True, seed: int = 1) -> Measured:
    """Measure cells and clock of the baseline on ``device``; on ECP5 with the flow that gives fewer cells."""
    flows = ("default", "area") if device.startswith("ecp5") else ("default",)
    block = Plain(UNITS[device])
    return min(
        (measure(block, device, flow=flow, place=place, seed=seed, mhz=100) for flow in flows),
        key=lambda cells: cells["lc"],
    )


def main(arguments: list[str]) -> None:
    devices = [argument for argument in arguments if argument in UNITS] or list(UNITS)
    numbers = [int(argument) for argument in arguments if argument.isdigit()]
    stages, seed = (numbers[0] if numbers else None), (numbers[1] if len(numbers) > 1 else 1)
    print("device     bits stages    LC    FF  RAM  MHz  GOPS      goal       aim  plain LC  MHz  ratio LC  MHz")
    for device in devices:
        unit = UNITS[device]
        cells, base = ours(device, stages, seed=seed), theirs(device, seed=seed)
        mhz, plain_mhz = cells["fmax"] or 0, base["fmax"] or 0
        operations = 2 * unit.pe * unit.simd * unit.words / (unit.words + STARTS) * mhz / 1e3
        print(
            f"{device:10} {unit.pe * unit.simd:4} {stages or unit.stages:6} {cells['lc']:5} {cells['ff']:5} "
            f"{cells['ram']:4} {mhz:4.0f} {operations:5.0f} {unit.goal[0]:5}@{unit.goal[1]:3} "
            f"{unit.aim[0]:5}@{unit.aim[1]:3} {base['lc']:9} {plain_mhz:4.0f} "
            f"{cells['lc'] / base['lc']:9.2f} {mhz / plain_mhz:4.2f}",
            flush=True,
        )
    print(f"GOPS: two operations per weight bit; {STARTS} reads per sum load its start value and do not count")


if __name__ == "__main__":
    main(sys.argv[1:])
