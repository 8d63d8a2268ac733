"""Many lanes between two streams, run as plain RTL or as the netlist of a family, and held to the golden product."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from streaming import pass_through

from benchmarks.measure import netlist as mapped_json
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.matvec import matvec
from fewbit.hw.emit import verilog
from fewbit.hw.lanes.choose import lane_kind
from fewbit.hw.memory.rom import rom_words
from fewbit.sim.compile import compile_design
from fewbit.sim.netlist import netlist
from fewbit.sim.toggles import Mapped

EXHAUSTIVE = 5000
"""Up to that many combinations of activations and weights, all are tried."""


@dataclass(frozen=True)
class Case:
    """One block of a rig."""

    activation: str
    code: str
    simd: int
    exact: bool = False

    def make(self, stages, target, kind=lane_kind):
        activation, code = DType.parse(self.activation), Code.parse(self.code)
        return kind(activation, code, target, exact=self.exact)(self.simd, activation, code, stages)

    def operands(self, number, rng):
        """Rows of activations and of weights: all of them where they are few, else random ones and the extremes."""
        activation, code = DType.parse(self.activation), Code.parse(self.code)
        values = np.arange(activation.min, activation.max + 1, activation.step)
        if (len(values) * len(code.levels)) ** self.simd <= EXHAUSTIVE:
            rows = np.array(list(product(*[values] * self.simd, *[code.levels] * self.simd)))
            return rows[:, : self.simd], rows[:, self.simd :]
        x, w = rng.choice(values, (number, self.simd)), rng.choice(code.levels, (number, self.simd))
        ends = [rng.choice([activation.min, activation.max], (number, self.simd)),
                rng.choice([code.levels[0], code.levels[-1]], (number, self.simd))]  # fmt: skip
        choice = rng.integers(0, 4, number)[:, None]
        x, w = np.where(choice & 1, ends[0], x), np.where(choice & 2, ends[1], w)
        corners = list(product((activation.min, activation.max), (code.levels[0], code.levels[-1])))
        for row, (one, other) in enumerate(corners):
            x[row], w[row] = one, other
            x[row + 4], w[row + 4] = one, np.where(rng.integers(0, 2, self.simd), other, -other)
        return x, w


def expected(case, x, w):
    """Row by row, in steps that keep the product of all with all small."""
    activation, code = DType.parse(case.activation), Code.parse(case.code)
    parts = [matvec(x[k : k + 500], w[k : k + 500], code, activation).diagonal() for k in range(0, len(x), 500)]
    return np.concatenate(parts)


class Rig(wiring.Component):
    """Lanes, each with its front if it has one, all of them in step."""

    def __init__(self, blocks, stages):
        self.blocks, self.stages = blocks, stages
        ins = sum(block.simd * block.activation.bits + block.w_bits for block in blocks)
        super().__init__(
            {"i": In(stream.Signature(ins)), "o": Out(stream.Signature(sum(len(block.o) for block in blocks)))}
        )

    def elaborate(self, platform):
        m = Module()
        move = pass_through(m, self, self.stages)
        place = 0
        for index, block in enumerate(self.blocks):
            m.submodules[f"block_{index}"] = block
            bits = block.simd * block.activation.bits
            x = self.i.payload[place : place + bits]
            place += bits
            front = block.front
            if front is not None:
                m.submodules[f"front_{index}"] = front
                m.d.comb += front.x.eq(x)
                x = front.o
            w = self.i.payload[place : place + block.w_bits]
            m.d.comb += [block.x.eq(x), block.w.eq(w), block.en.eq(move)]
            place += block.w_bits
        m.d.comb += self.o.payload.eq(Cat(block.o for block in self.blocks))
        return m


def bits_of(words, width):
    """# rows integers -> (rows, width) bits"""
    size = -(-width // 8)
    octets = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), np.uint8)
    return np.unpackbits(octets.reshape(len(words), size), axis=1, bitorder="little")[:, :width]


def mismatches(cases, stages, target, number=600, mapped=True, wide=False, kind=lane_kind, **patterns):
    """How many sums are wrong, case by case, as synthesis maps the lanes to their family, or as plain RTL.

    ``wide``: the netlist is evaluated in NumPy, valid and ready always high; a C++ compiler takes minutes and gigabytes
    for ports of a thousand bits.
    """
    rng = np.random.default_rng(1)
    blocks = [case.make(stages, target, kind) for case in cases]
    operands = [case.operands(number, rng) for case in cases]
    longest = max(len(x) for x, _ in operands)
    columns = []
    for block, (x, w) in zip(blocks, operands):
        assert block.words(w[:1])[0] >> block.w_bits == 0
        x_words = rom_words(block.activation.encode(x), block.activation.bits)
        for words, width in ((x_words, block.simd * block.activation.bits), (block.words(w), block.w_bits)):
            columns.append(np.resize(bits_of(words, width), (longest, width)) if width else np.zeros((longest, 0)))
    bits = np.concatenate(columns, 1).astype(np.uint8)
    text = verilog(Rig(blocks, stages), "rig")
    got = _evaluated(text, bits, stages, target) if wide else _run(text, bits, target, mapped, patterns)
    wrong, place = {}, 0
    for case, block, (x, w) in zip(cases, blocks, operands):
        size = len(block.o)
        value = got[: len(x), place : place + size] @ (1 << np.arange(size))
        if block.o.shape().signed:
            value -= (value >> size - 1) << size
        place += size
        total = block.step * value + block.offset + block.correction(w)
        wrong[case] = int(np.count_nonzero(total != expected(case, x, w)))
    return wrong


def _run(text, bits, target, mapped, patterns):
    """Bits of the results, a row of them for every row that goes in, by compiled simulation between streams."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    padded = np.pad(packed, [(0, 0), (0, -packed.shape[1] % 8)])
    design = compile_design(netlist(text, top="rig", family=target) if mapped else text, top="rig")
    words = np.ascontiguousarray(padded).view("<u8").astype(np.uint64)
    trace = design.run(words, len(bits), max_cycles=30 * len(bits) + 100, **patterns)
    return np.unpackbits(trace.outputs.view(np.uint8), axis=1, bitorder="little").astype(np.int64)


def _evaluated(text, bits, stages, target):
    """The same by evaluating the mapped netlist, every row in a stream of its own until it comes out."""
    design = Mapped(mapped_json(text, {"ice40": "hx8k", "ecp5": "ecp5-25k"}[target], top="rig"), "rig")
    streams = np.resize(bits, (-(-len(bits) // 64) * 64, bits.shape[1])).T
    high = np.ones((stages + 1, streams.shape[1]), np.int64)
    payload = np.broadcast_to(streams, (stages + 1, *streams.shape))
    given = {"i__payload": payload, "i__valid": high, "o__ready": high}
    settled = design.settle(given)
    assert settled.port("o__valid")[-1].all()
    return settled.bits("o__payload")[-1].T.astype(np.int64)
