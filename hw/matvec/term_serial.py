# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit that takes its weights a term at a time, and no zeros: shift, invert, add."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.network import Dense
from fewbit.golden.terms import TermStream, term_counts, term_exponents
from fewbit.hw.fabric.carry import check_target
from fewbit.hw.lanes.base import Lanes
from fewbit.hw.matvec.base import FoldedMatVec, start_values
from fewbit.hw.memory.kinds import memory_of, place
from fewbit.hw.memory.vector_buffer import VectorBuffer
from fewbit.hw.schedule import FoldStep, Step
from fewbit.hw.streams import number, shape_of


@lru_cache(maxsize=256)
def group_reads(layer: Dense, pe: int, groups: int = 1) -> tuple[tuple[int, ...], ...]:
    """Cycles of every group of PE outputs, share by share: the terms of that output that has most, at least 1."""
    longest = np.maximum(1, term_counts(layer).reshape(-1, pe).max(1))
    return tuple(tuple(int(count) for count in share) for share in longest.reshape(groups, -1))


def term_cycles(layer: Dense, pe: int, simd: int, groups: int = 1) -> int:
    """Cycles that a unit takes for a vector a group: for the terms, or to take in the vectors."""
    return max(sum(map(sum, group_reads(layer, pe, groups))), groups * (layer.fan_in // simd))


def least_simd(layer: Dense, pe: int, groups: int = 1) -> int:
    """Fewest inputs at a time that bring in a vector while one is worked on."""
    reads = term_cycles(layer, pe, layer.fan_in, groups)
    return next(one for one in range(1, layer.fan_in + 1) if layer.fan_in % one == 0 and
                groups * (layer.fan_in // one) <= reads)  # fmt: skip


def term_memory(layer: Dense, pe: int, simd: int, groups: int = 1) -> tuple[int, int]:
    """Words of the memory of terms, and their bits."""
    bits = pe * sum(term_fields(layer, simd).values()) + 1 + (groups > 1)
    return sum(map(sum, group_reads(layer, pe, groups))), bits


def term_fields(layer: Dense, simd: int) -> dict[str, int]:
    """Bits of the fields of a term, in order from the lowest bit on: the least quality that keeps it (or 1; 0: no
    term), whether it is negative, its place among the layer's exponents, lane and word of its input."""
    return {
        "order": max(1, layer.digits.bit_length()),
        "negative": 1,
        "exponent": (len(term_exponents(layer)) - 1).bit_length(),
        "lane": (simd - 1).bit_length(),
        "word": (layer.fan_in // simd - 1).bit_length(),
    }


class TermSerialMatVec(FoldedMatVec):
    """``y[o] = sum_i w[o, i] * x[i]`` for a dense layer, ``w`` a signed power of two at a time: its *terms*, the
    non-zero canonic signed digits, which are known beforehand.

    A word of memory holds for each of PE outputs one term: which input, sign, exponent, and the least quality that
    keeps it. Every output has a copy of the vector to read its input from. So a zero weight, and a zero digit, takes no
    cycle and no lane; where the outputs of a group have unlike numbers of terms, those that are through wait for the
    longest, their activation gated. A lane shifts, inverts and adds: no multiplier, whatever code and scales::

        sum[o] = sum[o] + (x[input] << exponent xor negative),        y[o] = sum[o] + bias[o]

    with the ones of the negations, ``-x = ~x + 1``, in the bias. A term beyond ``quality`` is gated in front of the
    shift, ``x`` 0 there, and its cycle passes: a lower quality saves transitions, not time.

    **Throughput**: a frame in ``cycles_per_frame`` cycles, the longest outputs' terms of all groups, or where these are
    fewer the ``inputs / SIMD`` that bring a vector in, if the input keeps up. **Latency**: ``latency`` cycles from
    reading the last term of a group to its beat; the first is read ``buffer.latency`` cycles after the vector is whole.
    A beat that waits for ``o.ready`` stops the unit.
    Cost: PE shifters and accumulators, PE copies of the vector, and memory of about ``2 + log2(inputs) +
    log2(exponents)`` bits a term, which is more than a code stores for a weight. ``python -m benchmarks.serial`` prints
    it beside :class:`fewbit.hw.matvec.parallel.MatVec`. Source: non-zero digits one after the other, of activations,
    are Bit-Pragmatic's, arXiv 1610.06920; docs/decisions/0022.

    Parameters
    ----------
    layer : Dense
        Any code, any scales.
    simd : int
        Inputs that come in at a time.
    buffer : ``"block"`` or ``"distributed"``
    stages : int
        Pipeline stages between vector and sum: behind the shifter; the second in front of it.
    activation, pe, memory, target, exact, groups
        As of :class:`fewbit.hw.matvec.parallel.MatVec`.

    Attributes
    ----------
    step : int
        Always 1.
    reads : tuple of tuple of int
        Cycles of every group of outputs, vector by vector.
    bias, sum
        As of :class:`fewbit.hw.matvec.parallel.MatVec`.

    Members
    -------
    i, o, quality
        As of :class:`fewbit.hw.matvec.parallel.MatVec`.

    Raises
    ------
    FewbitError
        If the folding does not divide the layer, or a memory is unknown or a ring.
    """

    def __init__(self, layer: Dense, activation: DType, *, pe: int, simd: int, buffer: str = "block", **options: Any):
        super().__init__(layer, activation, pe=pe, simd=simd, buffer=buffer, **options)
        self.buffer = VectorBuffer(shape_of(activation), simd, self.words, buffer, readers=pe)
        self.reads = group_reads(layer, pe, self.groups)
        self.cycles_per_frame = term_cycles(layer, pe, simd, self.groups)

    def _taken(self) -> DType:
        check_target("a lane", self.target)
        memory_of(self.layer, self.memory, preloaded=True)  # the first word is read before anything can be filled in
        return self.activation

    def _datapath(self, taken: DType) -> tuple[Any, list[Lanes]]:
        self.stream = TermStream.of(self.layer)
        self.fields = term_fields(self.layer, self.simd)
        self.exponents = term_exponents(self.layer)
        return None, []

    def _left_out(self) -> tuple[int, Ints]:
        return 1, np.asarray((self.stream.sign < 0).sum(1))

    @property
    def latency(self) -> int:
        return 1 + self.stages + 1

    def timing(self) -> list[Step]:
        folds = self.folds // self.groups
        return [FoldStep(words=self.words, folds=folds, depth=self.latency, rings=False, reads=self.reads)]

    def _memory_bits(self) -> int:
        return term_memory(self.layer, self.pe, self.simd, self.groups)[1]

    def _memory_words(self) -> list[int]:
        """A word a cycle: a term of each output of a group, whether it is the group's last, and with groups of inputs
        whether it is the vector's last."""
        stream, result = self.stream, []
        values = {
            "order": stream.order,
            "negative": stream.sign < 0,
            "exponent": np.searchsorted(self.exponents, stream.exponent) * (stream.sign != 0),
            "lane": stream.input % self.simd,
            "word": stream.input // self.simd,
        }
        terms = np.zeros_like(stream.sign)
        place = 0
        for name, bits in self.fields.items():
            terms |= values[name].astype(np.int64) << place
            place += bits
        for share, reads in enumerate(self.reads):
            for fold, count in enumerate(reads):
                first = (share * len(reads) + fold) * self.pe
                for index in range(count):
                    column = terms[first : first + self.pe, index] if index < len(terms[0]) else [0] * self.pe
                    word = sum(int(term) << lane * place for lane, term in enumerate(column))
                    ends = index == count - 1
                    word |= ends << self.pe * place
                    if self.groups > 1:
                        word |= (ends and fold == len(reads) - 1) << self.pe * place + 1
                    result.append(word)
        return result

    def elaborate(self, platform: object) -> Module:
        # The memory is read a word ahead: the terms that `issue` sends for their activations stand there already. They
        # meet a cycle later; `first` and `last` travel beside them to the accumulators. Everything advances together,
        # unless a finished beat waits for its receiver.
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        read = place(m, self, self.target)
        wiring.connect(m, wiring.flipped(self.i), buffer.i)

        advance, issue, ahead, begins = Signal(), Signal(), Signal(), Signal(init=1)
        depth = sum(map(sum, self.reads))
        address = Signal(range(depth))
        size = sum(self.fields.values())
        flags = read.data[self.pe * size :]
        m.d.sync += ahead.eq(1)
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            issue.eq(advance & buffer.available),
            read.addr.eq(address),
            read.en.eq(issue | ~ahead),
            buffer.next.eq(issue),
            buffer.last.eq(flags[1] if self.groups > 1 else address == 0),
        ]
        with m.If(read.en):
            m.d.sync += address.eq(Mux(address == depth - 1, 0, address + 1))
        with m.If(issue):
            m.d.sync += begins.eq(flags[0])

        valid, first, last = issue, begins, flags[0]
        for stage in range(1 + self.stages):
            travelling = Signal(3, name=f"travelling_{stage}")
            with m.If(advance):
                m.d.sync += travelling.eq(Cat(valid, first, last))
            valid, first, last = travelling[0], travelling[1], travelling[2]

        starts = start_values(m, self.bias, 1, self.pe, advance & valid & last) if self.exact else None
        for index in range(self.pe):
            term = read.data.word_select(index, size)
            if buffer.address_bits:
                places = buffer.address.word_select(index, buffer.address_bits)
                m.d.comb += places.eq(term[size - buffer.address_bits :])
            operand = self._term(m, index, term, buffer.word.word_select(index, buffer.width), advance)
            self._accumulate(m, index, operand, first, advance & valid, starts)
        with m.If(advance):
            m.d.sync += self.o.valid.eq(valid & last)
        return m

    def _term(self, m: Module, index: int, term: Value, word: Value, advance: Value) -> Value:
        """The term of output ``index`` of a group, ``stages`` cycles after its ``word`` of activations came, which does
        so a cycle after the ``term``."""

        def rank(name: str, value: Value) -> Value:
            held = Signal(value.shape(), name=f"{name}_{index}", reset_less=True)
            with m.If(advance):
                m.d.sync += held.eq(value)
            return held

        parts, place = {}, 0
        for name, bits in self.fields.items():
            parts[name] = term[place : place + bits]
            place += bits
        order = parts["order"]
        on = order != 0
        if self.layer.digits:
            on &= order <= self.quality
        on, negative, exponent, lane = (
            rank(name, value)
            for name, value in [("on", on), *((k, parts[k]) for k in ("negative", "exponent", "lane"))]
        )
        bits = self.activation.bits
        stored: Value = Signal(bits, name=f"stored_{index}")
        m.d.comb += stored.eq(word.word_select(lane, bits) if self.simd > 1 else word)
        x = Cat(number(stored.as_signed() if self.activation.signed else stored, self.activation))
        x &= on.replicate(len(x))
        if not self.activation.signed and self.activation.kind != "bipolar":
            x = Cat(x, Const(0, 1))
        if self.stages > 1:
            x, negative, exponent = (
                rank(f"late_{name}", value)
                for name, value in (("x", x), ("negative", negative), ("exponent", exponent))
            )
        low, high = self.exponents[0], self.exponents[-1]
        shifted = Signal(len(x) + high - low, name=f"shifted_{index}")
        if low == high:
            m.d.comb += shifted.eq(x)
        else:
            with m.Switch(exponent):
                for choice, power in enumerate(self.exponents):
                    with m.Case(choice):
                        m.d.comb += shifted.eq(x.as_signed() << power - low)
        result = (shifted ^ negative.replicate(len(shifted))).as_signed()
        result = Cat(negative.replicate(low), result).as_signed() if low else result
        for stage in range(max(1, self.stages - 1)):
            result = rank(f"term_{stage}", result)
        return result
