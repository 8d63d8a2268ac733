# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit that takes its activations as bit planes, one a cycle, through lanes of one bit."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense, TensorType
from fewbit.hw.accumulate import accumulate
from fewbit.hw.buffer import RING, VectorBuffer
from fewbit.hw.lanes import lane_kind
from fewbit.hw.matvec import check_fold, fold_words, start_values
from fewbit.hw.schedule import FoldStep, Step
from fewbit.hw.streams import lane_stream, shape_of

BIT = DType("uint", 1)
"""What a lane sees of an activation."""


def serves(activation: DType, code: Code) -> bool:
    """Whether these activations have planes, and lanes of one bit take these weights."""
    return activation.kind in ("uint", "int") and activation.bits > 1 and code.name in ("binary", "ternary")


class BitSerialMatVec(wiring.Component):
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
    ``python -m benchmarks.bit_serial`` prints it beside :class:`fewbit.hw.matvec.MatVec`. Source: docs/decisions/0011.

    Parameters
    ----------
    layer : Dense
        Binary or ternary weights.
    activation : DType
        ``uint`` or ``int`` of 2 bits or more.
    pe, simd, memory, buffer, stages, target, exact
        As of :class:`fewbit.hw.matvec.MatVec`.

    Attributes
    ----------
    step : int
        Always 1.
    bias : int64 array (outputs,)
        ``y[o] = step * sum[o] + bias[o]``.
    sum : DType
        Kind of what ``o`` carries.

    Members
    -------
    i : In(stream of SIMD lanes)
    o : Out(stream of PE sums)

    Raises
    ------
    FewbitError
        If the folding does not divide the layer, a memory is unknown, or weights or activations do not suit.
    """

    step = 1

    def __init__(
        self,
        layer: Dense,
        activation: DType,
        *,
        pe: int,
        simd: int,
        memory: str = "block",
        buffer: str = "block",
        stages: int = 1,
        target: str = "generic",
        exact: bool = True,
    ) -> None:
        check_fold(layer, pe, simd, memory, stages)
        if not serves(activation, layer.code):
            raise FewbitError(
                f"layer {layer.name!r}: bit planes are for binary or ternary weights on uint or int activations of 2 "
                f"bits or more, not {layer.code} on {activation}"
            )
        self.layer, self.activation = layer, activation
        self.pe, self.simd, self.memory, self.stages = pe, simd, memory, stages
        self.target, self.exact = target, exact
        self.planes = activation.bits
        self.words, self.folds = layer.inputs // simd, layer.outputs // pe
        self.cycles_per_frame = self.words * self.folds * self.planes
        self.buffer = VectorBuffer(shape_of(activation), simd, self.words, buffer)
        lanes = lane_kind(BIT, layer.code, target, exact=False)
        self.lanes = [lanes(simd, BIT, layer.code, stages) for _ in range(pe)]
        self.joins = exact or self.words > 1
        self.latency = 2 + self.lanes[0].latency + 1 + self.joins
        rows = layer.weights.reshape(-1, simd)
        correction = self.lanes[0].correction(rows)
        most = (1 << self.planes) - 1
        self.bias = most * correction.reshape(layer.outputs, self.words).sum(1, dtype=np.int64)
        if activation.signed:
            self.bias -= layer.weights.sum(1, dtype=np.int64) << self.planes - 1
        counts = -(rows < 0).sum(1) - correction, (rows > 0).sum(1) - correction
        self._plane = _holding(most * int(counts[0].min()), most * int(counts[1].max()))
        low, high = layer.bounds(activation)
        self._plain = _holding(int((low - self.bias).min()), int((high - self.bias).max()))
        self.sum = layer.output(TensorType(activation, (layer.inputs,))).dtype if exact else self._plain
        super().__init__(
            {"i": In(lane_stream(shape_of(activation), simd)), "o": Out(lane_stream(shape_of(self.sum), pe))}
        )

    def timing(self) -> list[Step]:
        """Fresh timing models of this component, in stream order."""
        return [
            FoldStep(self.words, self.folds, self.latency, rings=self.buffer.style == RING, planes=self.planes),
        ]

    def _memory_words(self) -> list[int]:
        return fold_words(self.layer, self.lanes[0], self.pe, self.words)

    def elaborate(self, platform: object) -> Module:
        # `issue` is a plane's turn; the first of a word, `begin`, also asks for the word. A cycle later the plane is
        # picked from it and the weights are read, so that both stand at the lanes together. `begins` and `ends` travel
        # to the accumulators. Everything advances together, unless a finished beat waits for its receiver.
        m = Module()
        depth = self.words * self.folds
        m.submodules.buffer = buffer = self.buffer
        m.submodules.weights = weights = Memory(
            shape=self.pe * self.lanes[0].w_bits,
            depth=depth,
            init=self._memory_words(),
            attrs={"ram_style": self.memory},
        )
        read = weights.read_port()
        wiring.connect(m, wiring.flipped(self.i), buffer.i)

        advance, issue, begin = Signal(), Signal(), Signal()
        address, plane = Signal(range(depth)), Signal(range(self.planes), init=self.planes - 1)
        final = plane == 0
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            begin.eq(plane == self.planes - 1),
            issue.eq(advance & (buffer.available | ~begin)),
            buffer.next.eq(issue & begin),
            # The address moves on while the second plane has its turn, so it is that of the next word by then.
            buffer.last.eq(address == depth - 1),
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
        with m.If(read.en):
            m.d.sync += address.eq(address + 1)
            with m.If(buffer.last):
                m.d.sync += address.eq(0)

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
        for index, lanes in enumerate(self.lanes):
            m.submodules[f"lanes_{index}"] = lanes
            m.d.comb += [
                lanes.x.eq(x),
                lanes.w.eq(read.data.word_select(index, lanes.w_bits)),
                lanes.en.eq(advance),
            ]
            planes = Signal(self._plane.bits, name=f"planes_{index}", reset_less=True)
            twice = Cat(0, planes)[: len(planes)]
            following = accumulate(m, f"plane_{index}", self.target, twice, lanes.o, counted[0])
            with m.If(advance):
                m.d.sync += planes.eq(following)
            result: Value = planes.as_signed() if self._plane.signed else planes
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


def _holding(low: int, high: int) -> DType:
    return DType.holding(low, high) if low < 0 else DType("uint", max(1, high.bit_length()))
