# amaranth: UnusedElaboratable=no
"""Switching activity that a lower quality and zero weights save: net transitions, in netlists mapped as for a board.

    python -m benchmarks.dial                       # a layer of lenet5-shift3 at every quality, and zeros
    python -m benchmarks.dial dense3 --simd 16      # another layer, 16 inputs at a time
    python -m benchmarks.dial --zeros               # only the zero weights

The layer has its trained weights and scales; its activations come from test images, one image per stream. Memories are
not part of the netlist. Transitions include glitches and are counted as in :mod:`benchmarks.activity`. Before that,
every sum is compared with the golden model.
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
    """A matrix-vector unit without its memories: lanes, scale multipliers and accumulators.

    Members
    -------
    x, w : In
        A word of activations, and a word of weights and scales.
    first : In(1)
        A new sum begins; valid together with the last pipeline stage of the lanes.
    quality : In
        Number of signed digits that count in the scale multipliers.
    o_0, o_1, ... : Out
        The accumulated sums.
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
    """Transitions of a datapath at one quality.

    Attributes
    ----------
    quality, products : int
        The quality, and the number of products that were computed.
    gated_cycles, row_cycles : int
        Cycles of partial-product rows: those in which the row is gated and was gated before, and all.
    kept, gated : int
        Transitions of rows outside the gated cycles, and within them.
    adders : int
        Transitions of the adders between the rows.
    all : int
        Transitions of the whole datapath.
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
    """The mapped datapath of a layer with scales along its inputs, and the activations for it.

    Parameters
    ----------
    layer : Dense
    activation : DType
        Type of the layer's inputs.
    x : int array (streams, inputs)
        Activations, one vector per stream.
    pe, simd : int
        Outputs and inputs at a time.
    family : ``"ice40"`` or ``"ecp5"``
    cycles : int
        Approximate number of cycles to simulate; rounded so that outputs are complete.
    """

    def __init__(
        self, layer: Dense, activation: DType, x: Ints, *, pe: int, simd: int, family: Target, cycles: int = 400
    ) -> None:
        if layer.scales is None or layer.across or layer.negative_scales is not None:
            raise FewbitError(f"layer {layer.name!r}: the benchmark needs one scale per vector along the inputs")
        self.layer, self.activation, self.x = layer, activation, x
        self.unit = MatVec(layer, activation, pe=pe, simd=simd, target=family, exact=False)
        self.groups = max(1, min(self.unit.folds, cycles // self.unit.words))
        self.mapped = Mapped(netlist(Datapath(self.unit), DEVICES[family], flow=OWN_FLOW[family]), "top")

    def settle(self, quality: int) -> Settled:
        """Simulate the layer at this quality, and compare every sum with the golden model.

        Raises
        ------
        FewbitError
            If a sum differs from the golden one.
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
        """Mask (cycles, PE, rows) of the multiplier rows that are gated."""
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
        """Count the transitions of a run at this quality, from the second group of outputs on."""
        unit = self.unit
        delay, first = unit.stages + 1, unit.words + unit.lanes[0].latency
        settled = self.settle(quality)
        transitions = settled.transitions()
        cycles = slice(first - 1, self.groups * unit.words)  # column c has the transitions into cycle c + 1
        off = self.gated(quality)
        still = np.zeros((transitions.shape[1], *off.shape[1:]), bool)
        covered = min(len(off) - 1, len(still) - delay)
        still[delay : delay + covered] = (off[1:] & off[:-1])[:covered]
        kept_transitions = gated_transitions = gated_cycles = row_cycles = 0
        for index in range(off.shape[1]):
            for row in range(off.shape[2]):
                nets = self.mapped.driven_by(rf"lanes_{index}\.multiplier_0\.row{row}_")
                each, quiet = transitions[nets].sum(0)[cycles], still[cycles, index, row]
                gated_transitions += int(each[quiet].sum())
                kept_transitions += int(each[~quiet].sum())
                gated_cycles, row_cycles = gated_cycles + int(quiet.sum()), row_cycles + len(quiet)
        adders = int(transitions[self.mapped.driven_by(r"multiplier_0\.chain"), cycles].sum())
        columns = transitions[:, cycles]
        return Count(
            quality=quality,
            products=columns.shape[1] * unit.pe * unit.simd * len(self.x),
            gated_cycles=gated_cycles,
            row_cycles=row_cycles,
            kept=kept_transitions,
            gated=gated_transitions,
            adders=adders,
            all=settled.activity(columns.sum(1)).total,
        )


def bits_of(words: Sequence[int], width: int) -> Ints:
    """Bits of integers, lowest first.  # (rows,) -> (rows, width)"""
    return np.array([[word >> bit & 1 for bit in range(width)] for word in words], np.uint8)


def activations(network: Network, layer: Linear, images: Ints) -> Ints:
    """Inputs of a dense ``layer`` for each image.  # (N, inputs)"""
    return np.asarray(run(network, images).of(network.before(layer)[0])).reshape(len(images), -1)


def bench(name: str, simd: int, pe: int, family: Target) -> Bench:
    """Bench of a dense layer of lenet5-shift3, with activations from test images."""
    network = shipped("lenet5-shift3")
    layer = next(
        (candidate for candidate in network.layers if isinstance(candidate, Dense) and candidate.name == name), None
    )
    if layer is None:
        known = ", ".join(candidate.name for candidate in network.layers if isinstance(candidate, Dense))
        raise FewbitError(f"the layer must be one of {known}, not {name!r}")
    images = read(models.TEST_IMAGES)[:STREAMS].reshape(STREAMS, *network.input.shape)
    source = network.source(layer).dtype
    return Bench(layer, source, activations(network, layer, images), pe=pe, simd=simd, family=family)


def dial_table(counts: Sequence[Count]) -> str:
    """Table with a line for each quality: transitions per product."""
    most = counts[-1].all / counts[-1].products
    rows = []
    for result in counts:
        each = [f"{count / result.products:.3f}" for count in (result.kept, result.gated, result.adders, result.all)]
        share = f"{100 * result.gated_cycles / result.row_cycles:.0f} %"
        rows.append((result.quality, share, *each, f"{100 * result.all / result.products / most:.0f} %"))
    columns = ("quality", "rows gated", "rows", "gated rows", "row adders", "all", "of full quality")
    return table(columns, rows, left=0)


@dataclass(frozen=True, kw_only=True)
class Zeros:
    """Transitions in lanes while only activations with zero weights change.

    ``moving`` is the number of transitions while the same activations change and their weights are not zero.
    """

    lanes: str
    luts: int
    carries: int
    flip_flops: int
    moving: int


def zeros(code: Code, activation: DType, family: Target, *, exact: bool, make: Any = None, simd: int = 8) -> Zeros:
    """Count transitions caused by activations with zero weights.

    In one half of the lanes the weight is zero and the activation changes in every cycle; in the other half the
    activation is constant. This is done twice, for either half. ``make`` constructs the lanes; by default they are
    chosen by ``exact``.
    """
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
        inputs = {
            "x": planes.reshape(cycles, -1, STREAMS),
            "w": np.broadcast_to(word[None, :, None], (cycles, lanes.w_bits, STREAMS)),
            "en": np.ones((cycles, STREAMS), np.int64),
        }
        if lanes.quality_bits:
            inputs["quality"] = np.full((cycles, STREAMS), (1 << lanes.quality_bits) - 1)
        return mapped.settle(inputs).glitches(first=4)

    odd = np.arange(simd) % 2 == 1
    still = [count(np.where(moving, 0, nonzero), moving) for moving in (odd, ~odd)]
    return Zeros(
        lanes=type(lanes).__name__,
        luts=sum(activity.luts for activity in still),
        carries=sum(activity.carries for activity in still),
        flip_flops=sum(activity.flip_flops for activity in still),
        moving=sum(count(nonzero, moving).total for moving in (odd, ~odd)),
    )


def known_lanes_of(activation: DType, code: Code, simd: int, family: Target) -> Lanes:
    """Lanes for weights that are known at synthesis."""
    return lane_kind(activation, code, family, exact=False)(simd, activation, code, 1)


def exact_lanes_of(activation: DType, code: Code, simd: int, family: Target) -> Lanes:
    """Lanes whose sum is exact, without a constant that is corrected later."""
    return lane_kind(activation, code, family)(simd, activation, code, 1)


class Alone(wiring.Component):
    """Wraps lanes as a top module."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        super().__init__(dict(lanes.signature.members))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.lanes = lanes = self.lanes
        for name, member in lanes.signature.members.items():
            outer, inner = getattr(self, name), getattr(lanes, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        return m


def zeros_table(families: Sequence[Target]) -> str:
    """Table with a line for each kind of lanes, weight code and activation type."""
    rows = []
    for family in families:
        for exact, codes in ((False, CODES), (True, (*CODES, "csd(2,4)"))):
            for code in codes:
                for activation in ACTIVATIONS:
                    result = zeros(Code.parse(code), DType.parse(activation), family, exact=exact)
                    share = f"{100 * (result.luts + result.carries + result.flip_flops) / result.moving:.1f} %"
                    rows.append(
                        (family, result.lanes, code, activation, result.luts, result.carries, result.flip_flops, share)
                    )
    columns = ("family", "lanes", "weights", "activations", "LUTs", "carries", "flip-flops", "of moving")
    return table(columns, rows, left=4)


NOTE = """\
A row is a partial product. It is gated if its digit is zero or beyond the quality. "gated rows" are transitions of rows
that are gated and were gated in the cycle before. "row adders" are the adders that sum the rows. "all" also includes
lanes, registers and accumulators. "of full quality" compares with the full quality: a lower quality saves switching
activity where it is below 100 %. Weights and scales change as in a folded unit, so rows switch even at a low quality.
"""

ZEROS_NOTE = """\
Transitions while only activations with zero weights change. "of moving" is their share of the transitions when the
same activations change and their weights are not zero. There are none where the gate comes first in the lane. On iCE40
some lanes of TreeLanes are gated only in the adder cell that they enter: carries switch and, with shifts, the LUT
before the adder, but no sum does. CsdLanes convert a bipolar bit to -1 or +1 before the gated rows, in one LUT per
lane. The LUTs in these places have no free input for a gate.
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
        still = sum(count.gated for count in counts)
        print(f"gated rows: {still:,} transitions in {sum(count.gated_cycles for count in counts):,} cycles\n")
    if not options.zeros:
        print(NOTE)
    print(zeros_table(families), end="\n\n")
    print(ZEROS_NOTE, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
