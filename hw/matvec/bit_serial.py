# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit that takes its activations as bit planes, one a cycle, through lanes of one bit."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.accumulate import accumulate
from fewbit.hw.lanes.one_bit import CountLanes, GateLanes
from fewbit.hw.matvec.base import FoldedMatVec, holding, start_values
from fewbit.hw.memory.kinds import place

BIT = DType("uint", 1)
"""What a lane sees of an activation."""


def serves(activation: DType, code: Code) -> bool:
    """Whether these activations have planes, and lanes of one bit take these weights."""
    return (
        activation.kind in ("uint", "int")
        and activation.bits > 1
        and any(lanes.serves(code, BIT) for lanes in (CountLanes, GateLanes))
    )


class BitSerialMatVec(FoldedMatVec):
    """``y[o] = sum_i w[o, i] * x[i]`` for a dense layer, ``x`` a bit plane at a time.

    With ``x[i] = sum_p 2**p * b[p, i]``, and the planes of a word from the most significant on::

        plane = 2 * plane + count(w, b[p]),        sum = sum + plane after the last plane of a word

    where ``count`` is that of the agreeing bits, ``popcount(b xnor w)`` for weights of ±1. The sign bit of two's
    complement enters inverted, which makes it ``x + 2**(bits - 1)``. All that leaves out is known beforehand:
    ``y[o] = sum[o] + bias[o]``. The unit adds it, ``exact``, or leaves it to the thresholds behind it.

    Words are read once for all their planes, vector and weights alike, and no lane has an adder for more than a bit.
    Between words nothing has to be shifted, so that both accumulators take a cell a bit: that is why the planes of a
    word come together, and not the words of a plane.

    **Throughput**: a frame in ``cycles_per_frame = (outputs / PE) * (inputs / SIMD) * activation.bits`` cycles, if the
    input keeps up. **Latency**: ``latency`` cycles from the last plane of a group to its beat; the first word is read
    ``buffer.latency`` cycles after the vector is whole. A beat that waits for ``o.ready`` stops the unit.
    Cost: PE lanes units of one bit, PE accumulators of a plane and, but where a word is the whole vector, of the sum; a
    multiplexer of ``activation.bits`` inputs a lane, once for all PEs; the buffer, and the weights.
    ``python -m benchmarks.bit_serial`` prints it beside :class:`fewbit.hw.matvec.parallel.MatVec`. Source:
    docs/decisions/0011.

    Parameters
    ----------
    layer : Dense
        Binary or ternary weights.
    activation : DType
        ``uint`` or ``int`` of 2 bits or more.
    pe, simd, memory, buffer, stages, target, exact, groups
        As of :class:`fewbit.hw.matvec.parallel.MatVec`.

    Attributes
    ----------
    step : int
        Always 1.
    bias, sum
        As of :class:`fewbit.hw.matvec.parallel.MatVec`.

    Members
    -------
    i, o
        As of :class:`fewbit.hw.matvec.parallel.MatVec`.

    Raises
    ------
    FewbitError
        If the folding does not divide the layer, a memory is unknown, or weights or activations do not suit.
    """

    @property
    def planes(self) -> int:
        return self.activation.bits

    @property
    def joins(self) -> bool:
        """Whether what the planes of a word make goes into a sum, rather than out."""
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
        """What all planes of a bit that is always 1 come to."""
        return (1 << self.planes) - 1

    def _plane(self) -> DType:
        """Kind of what the planes of a word make."""
        rows = self._rows()
        correction = self.lanes[0].correction(rows)
        low, high = -(rows < 0).sum(1) - correction, (rows > 0).sum(1) - correction
        return holding(self._most() * int(low.min()), self._most() * int(high.max()))

    def elaborate(self, platform: object) -> Module:
        # `issue` is a plane's turn; the first of a word, `begin`, also asks for the word. A cycle later the plane is
        # picked from it and the weights are read, so that both stand at the lanes together. `begins` and `ends` travel
        # to the accumulators. Everything advances together, unless a finished beat waits for its receiver.
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
            # The address moves on while the second plane has its turn, so it is that of the next word by then.
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
    """A plane of the activations in ``word``, a bit a lane; that of the signs inverted."""
    bits = activation.bits
    picked = Signal(len(word) // bits)
    for lane in range(len(picked)):
        level: list[Value] = list(word[lane * bits : (lane + 1) * bits])
        if activation.signed:
            level[-1] = ~level[-1]
        # A tree of two-way multiplexers, which synthesis joins in pairs; of a case it makes one-hot selects first.
        for select in plane:
            level = [Mux(select, pair[-1], pair[0]) if len(pair) > 1 else pair[0] for pair in _pairs(level)]
        m.d.comb += picked[lane].eq(level[0])
    return picked


def _pairs(values: list[Value]) -> list[list[Value]]:
    """In pairs, the last alone where one is left."""
    return [values[start : start + 2] for start in range(0, len(values), 2)]
