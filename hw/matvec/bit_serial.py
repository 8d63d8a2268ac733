# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit that processes activations as bit planes, one a cycle, with lanes for one-bit
activations."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.accumulate import accumulate
from fewbit.hw.lanes.one_bit import CountLanes, GateLanes
from fewbit.hw.matvec.base import FoldedMatVec, start_values
from fewbit.hw.memory.kinds import place

BIT = DType("uint", 1)
"""Kind of the part of an activation that a lane takes at a time."""


def serves(activation: DType, code: Code) -> bool:
    """Whether these activations have bit planes, and lanes for one-bit activations take these weights."""
    return (
        activation.kind in ("uint", "int")
        and activation.bits > 1
        and any(lanes.serves(code, BIT) for lanes in (CountLanes, GateLanes))
    )


class BitSerialMatVec(FoldedMatVec):
    """``y[o] = sum_i w[o, i] * x[i]`` for a dense layer; ``x`` is processed one bit plane at a time.

    With ``x[i] = sum_p 2**p * b[p, i]``, the planes of a word are processed from the most significant one on::

        plane = 2 * plane + count(w, b[p]),        sum = sum + plane after the last plane of a word

    where ``count`` is the sum of the lanes, for example ``popcount(b xnor w)`` for weights of ±1. The sign bit of two's
    complement is inverted, which turns ``x`` into ``x + 2**(bits - 1)``. What these sums lack is known at generation
    time: ``y[o] = sum[o] + bias[o]``. If ``exact``, the unit adds the bias; else the thresholds behind it include it.

    Vector and weights are read once for all planes of a word, and the adders of the lanes only add single bits. The
    planes of a word are processed together, rather than a plane of all words, since then nothing is shifted between
    words, and both accumulators take one cell a bit.

    **Throughput**: a frame in ``cycles_per_frame = (outputs / PE) * (inputs / SIMD) * activation.bits`` cycles, if the
    input is fast enough. **Latency**: ``latency`` cycles from the last plane of a group to its beat; the first word is
    read ``buffer.latency`` cycles after the vector is complete. A beat that waits for ``o.ready`` stalls the unit.
    Cost: for each of PE outputs the lanes, an accumulator of planes and, unless one word is the whole vector, one of
    words; a multiplexer with ``activation.bits`` inputs for each of SIMD inputs; the buffer, and the weights. ``python
    -m benchmarks.bit_serial`` compares it with :class:`fewbit.hw.matvec.parallel.MatVec`. Source: docs/decisions/0011.

    Parameters
    ----------
    layer : Dense
        Binary or ternary weights.
    activation : DType
        ``uint`` or ``int`` with at least 2 bits.
    pe, simd, memory, buffer, stages, target, exact, groups
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Attributes
    ----------
    step : int
        Always 1.
    bias, sum
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Members
    -------
    i, o
        See :class:`fewbit.hw.matvec.parallel.MatVec`.

    Raises
    ------
    FewbitError
        If PE or SIMD do not divide the layer, a memory is unknown, or the unit does not support the weights or the
        activations.
    """

    @property
    def planes(self) -> int:
        return self.activation.bits

    @property
    def joins(self) -> bool:
        """Whether the results of several words are added, or the bias is."""
        return self.exact or self.words > 1

    @property
    def latency(self) -> int:
        return 2 + self.lanes[0].latency + 1 + self.joins

    def _taken(self) -> DType:
        if not serves(self.activation, self.layer.code):
            raise FewbitError(
                f"layer {self.layer.name!r}: bit planes are for binary or ternary weights on uint or int activations "
                f"of 2 bits or more, not {self.layer.code} on {self.activation}"
            )
        return BIT

    def _left_out(self) -> tuple[int, Ints]:
        bias = self._most() * self._corrections()
        if self.activation.signed:
            bias -= self.layer.weights.sum(1, dtype=np.int64) << self.planes - 1
        return 1, bias

    def _most(self) -> int:
        """The value of an activation whose planes are all 1."""
        return (1 << self.planes) - 1

    def _plane(self) -> DType:
        """Kind of the result of all planes of one word."""
        rows = self._rows()
        correction = self.lanes[0].correction(rows)
        low, high = -(rows < 0).sum(1) - correction, (rows > 0).sum(1) - correction
        return DType.spanning(self._most() * int(low.min()), self._most() * int(high.max()))

    def elaborate(self, platform: object) -> Module:
        # `issue` starts a plane; at the first one of a word, `begin`, it also requests the word. A cycle later the
        # plane is selected from it and the weights are read, so both reach the lanes together. `flags` follow to the
        # accumulators. All stages advance together, unless a finished beat waits for its receiver.
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        read = place(m, self, self.target)
        wiring.connect(m, wiring.flipped(self.i), buffer.i)

        advance, issue, begin = Signal(), Signal(), Signal()
        address, last_word = self._walk(m, read.en)
        plane = Signal(range(self.planes), init=self.planes - 1)
        final = plane == 0
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            begin.eq(plane == self.planes - 1),
            issue.eq(advance & (buffer.available | ~begin)),
            buffer.next.eq(issue & begin),
            # The address advances during the second plane, so at the next `begin` it is that of the next word.
            buffer.last.eq(last_word),
        ]
        with m.If(issue):
            m.d.sync += plane.eq(plane - 1)
            with m.If(final):
                m.d.sync += plane.eq(self.planes - 1)

        flags = [Cat(issue & begin, issue & final)]
        for stage in range(3 + self.lanes[0].latency):
            travelling = Signal(2, name=f"travelling_{stage}")
            with m.If(advance):
                m.d.sync += travelling.eq(flags[-1])
            flags.append(travelling)
        fetch, counted, summed = flags[1][0], flags[2 + self.lanes[0].latency], flags[3 + self.lanes[0].latency][1]

        m.d.comb += [read.addr.eq(address), read.en.eq(advance & fetch)]

        chosen, x = Signal.like(plane), Signal(self.simd, reset_less=True)
        with m.If(advance):
            m.d.sync += [chosen.eq(plane), x.eq(pick_plane(m, buffer.word, chosen, self.activation))]

        word = Signal(range(self.words))
        first, last = word == 0, word == self.words - 1
        with m.If(advance & summed):
            m.d.sync += word.eq(word + 1)
            with m.If(last):
                m.d.sync += word.eq(0)
        starts = start_values(m, self.bias, 1, self.pe, advance & summed & last) if self.exact else None
        kind = self._plane()
        for index in range(self.pe):
            lanes = self._feed(m, index, x, read.data, advance)
            planes = Signal(kind.bits, name=f"planes_{index}", reset_less=True)
            twice = Cat(0, planes)[: len(planes)]
            following = accumulate(m, f"plane_{index}", self.target, twice, lanes.o, counted[0])
            with m.If(advance):
                m.d.sync += planes.eq(following)
            result: Value = planes.as_signed() if kind.signed else planes
            if self.joins:
                total = Signal(self.sum.bits, name=f"sum_{index}", reset_less=True)
                if starts is None:
                    following = accumulate(m, f"add_{index}", self.target, total, result, first)
                else:
                    following = Signal.like(total, name=f"next_{index}")
                    held = Signal.like(total, name=f"held_{index}")
                    m.d.comb += [held.eq(total), following.eq(held + result)]
                    with m.If(first):
                        m.d.comb += held.eq(starts[index][0])
                with m.If(advance & summed):
                    m.d.sync += total.eq(following)
                result = total
            m.d.comb += self.o.payload[index].eq(result)
        with m.If(advance):
            m.d.sync += self.o.valid.eq(summed & last if self.joins else counted[1])
        return m


def pick_plane(m: Module, word: Value, plane: Value, activation: DType) -> Value:
    """One bit plane of the activations in ``word``, a bit a lane; the plane of the sign bits is inverted."""
    bits = activation.bits
    picked = Signal(len(word) // bits)
    for lane in range(len(picked)):
        level: list[Value] = list(word[lane * bits : (lane + 1) * bits])
        if activation.signed:
            level[-1] = ~level[-1]
        # A tree of two-way multiplexers, which synthesis merges in pairs; a case statement would become one-hot
        # selects.
        for select in plane:
            level = [Mux(select, pair[-1], pair[0]) if len(pair) > 1 else pair[0] for pair in _pairs(level)]
        m.d.comb += picked[lane].eq(level[0])
    return picked


def _pairs(values: list[Value]) -> list[list[Value]]:
    """``values`` in pairs; the last one alone if their number is odd."""
    return [values[start : start + 2] for start in range(0, len(values), 2)]
