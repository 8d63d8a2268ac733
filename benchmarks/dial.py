# amaranth: UnusedElaboratable=no
"""What the quality dial and zero weights keep still: transitions of nets, in netlists as a build maps them.

    python -m benchmarks.dial                       # a layer of lenet5-shift3 at every quality, and zeros in every lane
    python -m benchmarks.dial dense3 --simd 16      # another layer, as many inputs at a time
    python -m benchmarks.dial --zeros               # only the zeros

The layer has its own weights and scales, and the activations that test images give it, one image a stream. Memories
are not counted: block RAMs have no nets to look into. Transitions are those of :mod:`benchmarks.activity`, glitches
among them; every sum is held to the golden model before anything is counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks.activity import DEVICES, OWN_FLOW
from benchmarks.measure import netlist
from benchmarks.models import shipped
from fewbit import models
from fewbit.arrays import read
from fewbit.golden import csd
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.linear import Dense, Linear
from fewbit.golden.matvec import product
from fewbit.golden.network import Network
from fewbit.golden.run import run
from fewbit.hw.fabric.accumulate import accumulate
from fewbit.hw.fabric.carry import Target
from fewbit.hw.lanes.base import Lanes
from fewbit.hw.lanes.choose import lane_kind
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.memory.rom import rom_words
from fewbit.report import table
from fewbit.sim.toggles import Activity, Mapped, Settled

STREAMS = 64
CODES = ("ternary", "quinary", "shift3")
ACTIVATIONS = ("bipolar", "uint1", "uint2", "int4", "uint8")


class Datapath(wiring.Component):
    """What stands behind the memories of a matrix-vector unit: lanes, multipliers by scales, and accumulators.

    Members
    -------
    x, w : In
        A word of activations; of weights and scales.
    first : In(1)
        With the last rank of the lanes: a sum begins.
    quality : In
    o_0, o_1, ... : Out
        The sums.
    """

    def __init__(self, unit: MatVec) -> None:
        self.unit = unit
        lanes, kind = unit.lanes[0], unit.sum
        ports: dict[str, Any] = {"x": In(len(lanes.x)), "w": In(unit.pe * lanes.w_bits), "first": In(1)}
        ports |= {"quality": In(lanes.quality_bits)}
        super().__init__(ports | {f"o_{index}": Out(kind.bits) for index in range(unit.pe)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index, lanes in enumerate(self.unit.lanes):
            m.submodules[f"lanes_{index}"] = lanes
            word = self.w.word_select(index, lanes.w_bits)
            m.d.comb += [lanes.x.eq(self.x), lanes.w.eq(word), lanes.en.eq(1), lanes.quality.eq(self.quality)]
            total = Signal(self.unit.sum.bits, name=f"sum_{index}")
            m.d.sync += total.eq(accumulate(m, f"add_{index}", self.unit.target, total, lanes.o, self.first))
            m.d.comb += getattr(self, f"o_{index}").eq(total)
        return m


@dataclass(frozen=True, kw_only=True)
class Count:
    """Transitions of a datapath at one quality, by what they are of, and how many products were counted.

    ``kept`` and ``gated`` are rows of the multipliers in the cycles in which they count and in those in which they are
    gated, and were before; rows that have just come or gone are in ``kept``.
    """

    quality: int
    products: int
    gated_cycles: int
    row_cycles: int
    kept: int
    gated: int
    adders: int
    all: int


class Bench:
    """A layer with scales along its inputs, mapped, and what goes through it.

    Parameters
    ----------
    layer : Dense
    activation : DType
    x : int array (streams, inputs)
    pe, simd : int
    family : ``"ice40"`` or ``"ecp5"``
    cycles : int
        About how many; whole outputs.
    """

    def __init__(
        self, layer: Dense, activation: DType, x: Ints, *, pe: int, simd: int, family: Target, cycles: int = 400
    ) -> None:
        if layer.scales is None or layer.across or layer.negative_scales is not None:
            raise FewbitError(f"layer {layer.name!r}: the dial is shown on one scale a vector along the inputs")
        self.layer, self.activation, self.x = layer, activation, x
        self.unit = MatVec(layer, activation, pe=pe, simd=simd, target=family, exact=False)
        self.groups = max(1, min(self.unit.folds, cycles // self.unit.words))
        self.mapped = Mapped(netlist(Datapath(self.unit), DEVICES[family], flow=OWN_FLOW[family]), "top")

    def settle(self, quality: int) -> Settled:
        """A run at this quality, once it was found right.

        Raises
        ------
        FewbitError
            If a sum is not the golden one.
        """
        unit, layer = self.unit, self.layer
        lanes, depth = unit.lanes[0], self.groups * unit.words
        weights = bits_of(unit._memory_words()[:depth], unit.pe * lanes.w_bits)
        stored = self.activation.encode(self.x).reshape(-1, unit.simd)
        parts = bits_of(rom_words(stored, self.activation.bits), len(lanes.x))
        parts = parts.reshape(len(self.x), unit.words, -1).transpose(1, 2, 0)
        tail = lanes.latency + 1
        last = np.arange(depth + tail) % depth
        first = (np.arange(depth + tail) - lanes.latency) % unit.words == 0
        settled = self.mapped.settle(
            {
                "x": parts[last % unit.words],
                "w": np.repeat(weights[last, :, None], len(self.x), 2),
                "first": np.repeat(first[:, None], len(self.x), 1).astype(np.int64),
                "quality": np.full((depth + tail, len(self.x)), quality),
            }
        )
        golden = product(self.x, layer.factors(quality), self.activation)
        for index in range(unit.pe):
            got = settled.port(f"o_{index}", signed=unit.sum.signed)[tail + unit.words - 1 :: unit.words]
            expected = golden[:, index : self.groups * unit.pe : unit.pe].T
            if not np.array_equal(got, expected[: len(got)]):
                raise FewbitError(f"layer {layer.name!r}: output {index} at quality {quality} is not the golden sum")
        return settled

    def gated(self, quality: int) -> Ints:
        """Which rows of which multiplier are gated in which cycle: (cycles, PE, rows) bool."""
        unit, layer = self.unit, self.layer
        assert layer.scales is not None
        assert layer.scale_kind is not None
        scales = layer.scales[:, np.arange(0, layer.fan_in, unit.simd) // layer.vector]
        order = csd.order(csd.recode(scales, layer.scale_kind.bits))
        order = np.concatenate([order, 0 * order[..., :1]], -1) if order.shape[-1] % 2 else order
        rows = order.reshape(*scales.shape, -1, 2).max(-1)
        off = (rows == 0) | (rows > quality)
        folded = off.reshape(-1, unit.pe, unit.words, off.shape[-1]).transpose(0, 2, 1, 3)
        return np.asarray(folded.reshape(-1, unit.pe, off.shape[-1])[: self.groups * unit.words])

    def count(self, quality: int) -> Count:
        """Transitions of a run at this quality, from the second group on."""
        unit = self.unit
        delay, first = unit.stages + 1, unit.words + unit.lanes[0].latency
        settled = self.settle(quality)
        transitions = settled.transitions()
        cycles = slice(first - 1, self.groups * unit.words)  # column c is the way into cycle c + 1
        off = self.gated(quality)
        still = np.zeros((transitions.shape[1], *off.shape[1:]), bool)
        reach = min(len(off) - 1, len(still) - delay)
        still[delay : delay + reach] = (off[1:] & off[:-1])[:reach]
        kept = gated = gated_cycles = row_cycles = 0
        for index in range(off.shape[1]):
            for row in range(off.shape[2]):
                nets = self.mapped.driven_by(rf"lanes_{index}\.multiplier_0\.row{row}_")
                each, quiet = transitions[nets].sum(0)[cycles], still[cycles, index, row]
                gated, kept = gated + int(each[quiet].sum()), kept + int(each[~quiet].sum())
                gated_cycles, row_cycles = gated_cycles + int(quiet.sum()), row_cycles + len(quiet)
        adders = int(transitions[self.mapped.driven_by(r"multiplier_0\.chain"), cycles].sum())
        columns = transitions[:, cycles]
        return Count(
            quality=quality,
            products=columns.shape[1] * unit.pe * unit.simd * len(self.x),
            gated_cycles=gated_cycles,
            row_cycles=row_cycles,
            kept=kept,
            gated=gated,
            adders=adders,
            all=settled.activity(columns.sum(1)).total,
        )


def bits_of(words: Sequence[int], width: int) -> Ints:
    """# rows integers -> (rows, width) bits"""
    return np.array([[word >> bit & 1 for bit in range(width)] for word in words], np.uint8)


def activations(network: Network, layer: Linear, images: Ints) -> Ints:
    """What reaches a dense ``layer`` for each image.  # (N, inputs)"""
    return np.asarray(run(network, images).of(network.before(layer)[0])).reshape(len(images), -1)


def bench(name: str, simd: int, pe: int, family: Target) -> Bench:
    """A dense layer of lenet5-shift3 with what test images give it."""
    network = shipped("lenet5-shift3")
    layer = next((one for one in network.layers if isinstance(one, Dense) and one.name == name), None)
    if layer is None:
        known = ", ".join(one.name for one in network.layers if isinstance(one, Dense))
        raise FewbitError(f"the layer must be one of {known}, not {name!r}")
    images = read(models.TEST_IMAGES)[:STREAMS].reshape(STREAMS, *network.input.shape)
    source = network.source(layer).dtype
    return Bench(layer, source, activations(network, layer, images), pe=pe, simd=simd, family=family)


def dial_table(counts: Sequence[Count]) -> str:
    """A line a quality: transitions a product of the lanes."""
    most = counts[-1].all / counts[-1].products
    rows = []
    for one in counts:
        each = [f"{count / one.products:.3f}" for count in (one.kept, one.gated, one.adders, one.all)]
        share = f"{100 * one.gated_cycles / one.row_cycles:.0f} %"
        rows.append((one.quality, share, *each, f"{100 * one.all / one.products / most:.0f} %"))
    columns = ("quality", "rows gated", "rows", "gated rows", "row adders", "all", "of full quality")
    return table(columns, rows, left=0)


@dataclass(frozen=True, kw_only=True)
class Zeros:
    """Transitions in lanes while only activations change whose weights are zero; ``moving``, while these are not."""

    lanes: str
    luts: int
    carries: int
    flip_flops: int
    moving: int


def zeros(code: Code, activation: DType, family: Target, *, exact: bool, make: Any = None, simd: int = 8) -> Zeros:
    """Half of the lanes have a weight of zero and another activation in every cycle; those of the others are held. Then
    the other half."""
    rng = np.random.default_rng(1)
    lanes = (make or (exact_lanes_of if exact else known_lanes_of))(activation, code, simd, family)
    mapped = Mapped(netlist(Alone(lanes), DEVICES[family], flow=OWN_FLOW[family]), "top")
    cycles = 16
    values = np.arange(activation.min, activation.max + 1, activation.step)
    nonzero = rng.choice(code.levels[code.levels != 0], simd)

    def count(weights: Ints, moving: Ints) -> Activity:
        x = np.where(moving[:, None], rng.choice(values, (cycles, simd, STREAMS)), rng.choice(values, (simd, STREAMS)))
        planes = activation.encode(x).astype(np.int64)[:, :, None] >> np.arange(activation.bits)[:, None] & 1
        word = bits_of(lanes.words(weights[None]), lanes.w_bits)[0]
        given = {
            "x": planes.reshape(cycles, -1, STREAMS),
            "w": np.broadcast_to(word[None, :, None], (cycles, lanes.w_bits, STREAMS)),
            "en": np.ones((cycles, STREAMS), np.int64),
        }
        if lanes.quality_bits:
            given["quality"] = np.full((cycles, STREAMS), (1 << lanes.quality_bits) - 1)
        return mapped.settle(given).glitches(first=4)

    odd = np.arange(simd) % 2 == 1
    still = [count(np.where(moving, 0, nonzero), moving) for moving in (odd, ~odd)]
    return Zeros(
        lanes=type(lanes).__name__,
        luts=sum(one.luts for one in still),
        carries=sum(one.carries for one in still),
        flip_flops=sum(one.flip_flops for one in still),
        moving=sum(count(nonzero, moving).total for moving in (odd, ~odd)),
    )


def known_lanes_of(activation: DType, code: Code, simd: int, family: Target) -> Lanes:
    return lane_kind(activation, code, family, exact=False)(simd, activation, code, 1)


def exact_lanes_of(activation: DType, code: Code, simd: int, family: Target) -> Lanes:
    return lane_kind(activation, code, family)(simd, activation, code, 1)


class Alone(wiring.Component):
    """Lanes as a top module."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        super().__init__(dict(lanes.signature.members))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.lanes = lanes = self.lanes
        for name, member in lanes.signature.members.items():
            one, other = getattr(self, name), getattr(lanes, name)
            m.d.comb += one.eq(other) if member.flow == Out else other.eq(one)
        return m


def zeros_table(families: Sequence[Target]) -> str:
    """A line for each form of lanes."""
    rows = []
    for family in families:
        for exact, codes in ((False, CODES), (True, (*CODES, "csd(2,4)"))):
            for code in codes:
                for activation in ACTIVATIONS:
                    one = zeros(Code.parse(code), DType.parse(activation), family, exact=exact)
                    share = f"{100 * (one.luts + one.carries + one.flip_flops) / one.moving:.1f} %"
                    rows.append((family, one.lanes, code, activation, one.luts, one.carries, one.flip_flops, share))
    columns = ("family", "lanes", "weights", "activations", "LUTs", "carries", "flip-flops", "of moving")
    return table(columns, rows, left=4)


NOTE = """\
A row is gated where its digit is zero or beyond the quality; "gated rows" are transitions of rows that are gated and
were so a cycle before. "row adders" hand on what the rows below come to. "all" has lanes, registers and sums as well.
"of full quality" is where the dial saves, and how much: below 100 % only. Weights and scales change as a folded unit
changes them, which is what moves the rows even at a low quality.
"""

ZEROS_NOTE = """\
Transitions while only activations change whose weight is zero; "of moving": of those while these weights are not zero.
All zeros where the gate is in front of everything. Where it is not: on iCE40 some lanes of TreeLanes are gated in the
cell of the adder that they enter, so that their carries move, and with shifts the LUT before it, though no sum does;
CsdLanes turn a bipolar bit into -1 or +1 in front of the gated rows, a LUT a lane. None has an input left for a gate.
"""


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dial", description=__doc__.split("\n", 1)[0])
    parser.add_argument("layer", nargs="?", default="dense4", help="a dense layer of lenet5-shift3 (default: dense4)")
    parser.add_argument("--simd", type=int, default=8, help="inputs at a time (default: 8)")
    parser.add_argument("--pe", type=int, default=2, help="outputs at a time (default: 2)")
    parser.add_argument("--family", choices=DEVICES, help="default: both")
    parser.add_argument("--zeros", action="store_true", help="only the lanes with weights of zero")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = _arguments(arguments)
    families: list[Target] = [options.family] if options.family else list(DEVICES)
    for family in () if options.zeros else families:
        shown = bench(options.layer, options.simd, options.pe, family)
        counts = [shown.count(quality) for quality in range(shown.layer.digits + 1)]
        print(f"{options.layer} of lenet5-shift3, {options.pe} outputs by {options.simd} inputs, {family}:")
        print(f"transitions a product, of {counts[0].products:,} products of {STREAMS} images\n")
        print(dial_table(counts), end="\n\n", flush=True)
        still = sum(one.gated for one in counts)
        print(f"gated rows: {still:,} transitions in {sum(one.gated_cycles for one in counts):,} cycles\n")
    if not options.zeros:
        print(NOTE)
    print(zeros_table(families), end="\n\n")
    print(ZEROS_NOTE, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
