# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit that processes weights one signed power of two at a time, and skips zeros: shift,
invert, add."""

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
from fewbit.hw.steps import FoldStep, Step
from fewbit.hw.streams import number, shape_of


@lru_cache(maxsize=256)
def group_reads(layer: Dense, pe: int, groups: int = 1) -> tuple[tuple[int, ...], ...]:
    """Cycles of every group of PE outputs, share by share: the most terms that one of its outputs has, at least 1."""
    longest = np.maximum(1, term_counts(layer).reshape(-1, pe).max(1))
    return tuple(tuple(int(count) for count in share) for share in longest.reshape(groups, -1))


def term_cycles(layer: Dense, pe: int, simd: int, groups: int = 1) -> int:
    """Cycles for one vector for each of ``groups``: for the terms or, if more, to take in the vectors."""
    return max(sum(map(sum, group_reads(layer, pe, groups))), groups * (layer.fan_in // simd))


def least_simd(layer: Dense, pe: int, groups: int = 1) -> int:
    """Smallest SIMD with which a vector is taken in no slower than one is processed."""
    reads = term_cycles(layer, pe, layer.fan_in, groups)
    return next(simd for simd in range(1, layer.fan_in + 1) if layer.fan_in % simd == 0 and
                groups * (layer.fan_in // simd) <= reads)  # fmt: skip


def term_memory(layer: Dense, pe: int, simd: int, groups: int = 1) -> tuple[int, int]:
    """Number of words of the term memory, and bits of a word."""
    bits = pe * sum(term_fields(layer, simd).values()) + 1 + (groups > 1)
    return sum(map(sum, group_reads(layer, pe, groups))), bits


def term_fields(layer: Dense, simd: int) -> dict[str, int]:
    """Bits of the fields of a term, in order from the lowest bit: the lowest quality at which it counts (1 without
    signed digits; 0: no term), whether it is negative, the index of its exponent among those of the layer, lane and
    word of its input."""
    return {
        "order": max(1, layer.digits.bit_length()),
        "negative": 1,
        "exponent": (len(term_exponents(layer)) - 1).bit_length(),
        "lane": (simd - 1).bit_length(),
        "word": (layer.fan_in // simd - 1).bit_length(),
    }


class TermSerialMatVec(FoldedMatVec):
    """``y[o] = sum_i w[o, i] * x[i]`` for a dense layer, with ``w`` processed one *term* at a time: its non-zero
    canonic signed digits, which are known at generation time.

    A word of the weight memory holds one term for each of PE outputs: its input, sign and exponent, and the lowest
    quality at which it counts. Each of the PE outputs has a copy of the vector, from which it reads its input. So zero
    weights and zero digits take no cycle and no lane. If the outputs of a group have different numbers of terms, those
    that are finished wait for the one with the most, with their activations gated. A lane shifts, inverts and adds; it
    has no multiplier, whatever the code and the scales::

        sum[o] = sum[o] + (x[input] << exponent xor negative),        y[o] = sum[o] + bias[o]

    where the bias includes the ``+ 1`` of the negations, ``-x = ~x + 1``. A term that does not count at ``quality``
    still takes its cycle, with ``x`` gated to 0 in front of the shifter: a lower quality saves transitions, not time.

    **Throughput**: a frame in ``cycles_per_frame`` cycles, if the input is fast enough: for each group the terms of the
    output with the most or, if that is more, ``inputs / SIMD`` to take in each vector. **Latency**: ``latency`` cycles
    from reading the last term of a group to its beat; the first is read ``buffer.latency`` cycles after the vector is
    complete. A beat that waits for ``o.ready`` stalls the unit. Cost: PE shifters and accumulators, PE copies of the
    vector, and memory of about ``2 + log2(inputs) + log2(exponents)`` bits a term, which is more than a code stores for
    a weight. ``python -m benchmarks.serial`` compares it with :class:`fewbit.hw.matvec.parallel.MatVec`. Source:
    Bit-Pragmatic, arXiv 1610.06920, which processes the non-zero digits of activations one at a time;
    docs/decisions/0022.

    Parameters
    ----------
    layer : Dense
        Any code, any scales.
    simd : int
        Inputs that are taken in at a time.
    buffer : ``"block"`` or ``"distributed"``
    stages : int
        Pipeline stages between vector and accumulator, at least 1: one behind the shifter, a second one in front of it,
        any
        others behind it.
    activation, pe, memory, target, exact, groups
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Attributes
    ----------
    step : int
        Always 1.
    reads : tuple of tuple of int
        Cycles of every group of outputs, vector by vector.
    bias, sum
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Members
    -------
    i, o, quality
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Raises
    ------
    FewbitError
        If PE or SIMD do not divide the layer, or a memory is unknown, not preloaded, or a ring.
    """

    def __init__(self, layer: Dense, activation: DType, *, pe: int, simd: int, buffer: str = "block", **options: Any):
        super().__init__(layer, activation, pe=pe, simd=simd, buffer=buffer, **options)
        self.buffer = VectorBuffer(shape_of(activation), simd, self.words, buffer, readers=pe)
        self.reads = group_reads(layer, pe, self.groups)
        self.cycles_per_frame = term_cycles(layer, pe, simd, self.groups)

    def _taken(self) -> DType:
        check_target("a lane", self.target)
        memory_of(self.layer, self.memory, preloaded=True)  # the first word is read before a host could load any
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
        """A word for each cycle: a term for each output of a group; whether it is the last one of the group and, if
        there are several vectors, whether it is the last one of its vector."""
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
        # The memory is read one word ahead: when `issue` requests activations, their terms are already there. A cycle
        # later they meet; `first` and `last` follow them to the accumulators. All stages advance together, unless a
        # finished beat waits for its receiver.
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
        """The product of the ``term`` of output ``index`` of a group with its activation in ``word``.

        ``word`` comes one cycle after ``term``, and the product ``stages`` cycles after ``word``.
        """

        def register(name: str, value: Value) -> Value:
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
            register(name, value)
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
                register(f"late_{name}", value)
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
            result = register(f"term_{stage}", result)
        return result
