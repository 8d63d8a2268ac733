# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit: PE outputs by SIMD inputs a cycle, weights from one memory word a cycle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.accumulate import accumulate, start_values
from fewbit.hw.buffer import RING, VectorBuffer
from fewbit.hw.carry import Target
from fewbit.hw.lanes import Lanes, lane_kind
from fewbit.hw.pair_sums import PairSums
from fewbit.hw.scaled_lanes import ScaledLanes, ScaleFront, exact_lanes, saturated
from fewbit.hw.schedule import FoldStep, Step
from fewbit.hw.streams import lane_stream, shape_of
from fewbit.hw.weights import PLACES, Stored, fill_member, join_words, place

Starts = list[tuple[Value, Value]] | None
Front = PairSums | ScaleFront
"""What stands between the activations and the lanes of all outputs."""


class FoldedMatVec(wiring.Component, ABC):
    """Base of :class:`MatVec` and of units of the same parameters, members and errors, one memory word at a time.

    A unit says what its lanes take of an activation, and what is left out of their sums.

    Attributes
    ----------
    planes : int
        Cycles that a word takes.
    """

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
        groups: int = 1,
        dsp: bool = False,
    ) -> None:
        check_fold(layer, pe, simd, memory, groups)
        if stages < 1:
            raise FewbitError(f"layer {layer.name!r}: the sum needs at least 1 stage, not {stages}")
        self.layer, self.activation = layer, activation
        self.pe, self.simd, self.memory, self.stages = pe, simd, memory, stages
        self.target, self.exact, self.groups, self.dsp = target, exact, groups, dsp
        taken = self._taken()
        self.words, self.folds = layer.inputs // simd, layer.outputs // pe
        self.cycles_per_frame = self.words * self.folds * self.planes
        self.buffer = VectorBuffer(shape_of(activation), simd, self.words, buffer)
        self.front, self.lanes = self._datapath(taken)
        self.step, self.bias = self._left_out()
        low, high = layer.bounds(activation)
        self._plain = holding(int(((low - self.bias) // self.step).min()), int(((high - self.bias) // self.step).max()))
        self.sum = layer.sum_kind(activation) if exact else self._plain
        dial = {"quality": In(layer.digits.bit_length())} if layer.digits else {}
        dial |= fill_member(layer, memory, self.stored)
        streams = {"i": In(lane_stream(shape_of(activation), simd)), "o": Out(lane_stream(shape_of(self.sum), pe))}
        super().__init__(streams | dial)

    @property
    def planes(self) -> int:
        return 1

    def _datapath(self, taken: DType) -> tuple[Front | None, list[Lanes]]:
        """What all lanes share, and the lanes of each output."""
        if self.layer.digits:
            raise FewbitError(f"layer {self.layer.name!r}: only whole activations meet scales and csd weights")
        return self._plain_lanes(taken)

    def _plain_lanes(self, taken: DType) -> tuple[Front | None, list[Lanes]]:
        kind = lane_kind(taken, self.layer.code, self.target, exact=False, dsp=self.dsp)
        lanes = [kind(self.simd, taken, self.layer.code, self.stages) for _ in range(self.pe)]
        return lanes[0].front, lanes

    @abstractmethod
    def _taken(self) -> DType:
        """What a lane takes of an activation."""

    @abstractmethod
    def _left_out(self) -> tuple[int, Ints]:
        """Step and bias: what the lanes leave out."""

    @property
    @abstractmethod
    def latency(self) -> int: ...

    def timing(self) -> list[Step]:
        """Fresh timing models of this component, in stream order."""
        rings = self.buffer.style == RING
        folds = self.folds // self.groups
        return [FoldStep(words=self.words, folds=folds, depth=self.latency, rings=rings, planes=self.planes)]

    def _rows(self) -> Ints:
        """The weights that lanes take together.  # () -> (outputs * words, SIMD)"""
        return self.layer.weights.reshape(-1, self.simd)

    def _corrections(self) -> Ints:
        """What is to be added for each output.  # () -> (outputs,) int64"""
        each = self.lanes[0].correction(self._rows()).reshape(self.layer.outputs, self.words)
        total: Ints = each.sum(1, dtype=np.int64)
        return total

    def _memory_words(self) -> list[int]:
        return fold_words(self.layer, self.lanes[0], self.pe, self.words)

    def _walk(self, m: Module, step: Value) -> tuple[Value, Value]:
        """The address of the word of weights, which moves on with ``step``, and whether it is a vector's last."""
        depth = self.words * self.folds
        address = Signal(range(depth))
        with m.If(step):
            m.d.sync += address.eq(address + 1)
            with m.If(address == depth - 1):
                m.d.sync += address.eq(0)
        return address, last_of(m, address, depth, self.groups, step)

    def stored(self) -> Stored:
        """What the memory of weights holds."""
        return self._memory_bits(), self._memory_words()

    def _memory_bits(self) -> int:
        return self.pe * self.lanes[0].w_bits

    def _feed(self, m: Module, index: int, x: Value, word: Value, advance: Value) -> Lanes:
        """The lanes of output ``index`` of a group, on ``x`` and their part of a ``word`` of weights."""
        m.submodules[f"lanes_{index}"] = lanes = self.lanes[index]
        m.d.comb += [lanes.x.eq(x), lanes.w.eq(word.word_select(index, lanes.w_bits)), lanes.en.eq(advance)]
        if lanes.quality_bits:
            m.d.comb += lanes.quality.eq(saturated(self.quality, lanes.quality_bits))
        return lanes

    def _accumulate(self, m: Module, index: int, operand: Value, first: Value, enable: Value, starts: Starts) -> None:
        """The sum of output ``index`` of a group, of operands while ``enable`` is high, begun with the ``first``."""
        if starts is None:
            total = Signal(self._plain.bits, name=f"sum_{index}", reset_less=True)
            following = accumulate(m, f"add_{index}", self.target, total, operand, first)
            m.d.comb += self.o.payload[index].eq(total.as_signed() if self._plain.signed else total)
        else:
            # The sum is counted in units of `step`: 2 popcount - n is the count, started at -n / 2, a bit below it.
            start, rest = starts[index]
            bits = DType.holding(self.sum.min // self.step, self.sum.max // self.step).bits
            total = Signal(bits, name=f"sum_{index}", reset_less=True)
            following = Mux(first, start, total.as_signed()) + operand
            below = Signal(len(rest), name=f"below_{index}", reset_less=True)
            with m.If(enable):
                m.d.sync += below.eq(rest)  # by the time of the beat the next group's is read
            m.d.comb += self.o.payload[index].eq(Cat(below, total).as_signed())
        with m.If(enable):
            m.d.sync += total.eq(following)


class MatVec(FoldedMatVec):
    """``y[o] = sum_i w[o, i] * x[i]`` for a dense layer.

    The lanes sum what is cheapest to sum: bits that agree, terms that are inverted where they should be negated. What
    that leaves out is known beforehand, ``y[o] = step * sum[o] + bias[o]``. The unit adds it, ``exact``, or leaves it
    to the thresholds behind it.

    A frame's vector waits in a buffer; for each group of PE outputs the unit walks through its words, SIMD inputs a
    cycle, and gives the PE sums as one beat.

    **Throughput**: a frame in ``cycles_per_frame = (outputs / PE) * (inputs / SIMD)`` cycles, if the input keeps up.
    **Latency**: ``latency`` cycles from reading the last word of a group to its beat; the first word is read
    ``buffer.latency`` cycles after the vector is whole. A beat that waits for ``o.ready`` stops the unit.
    Cost: PE lanes units and accumulators, what the lanes share, the buffer, and ``outputs * inputs * code.bits`` bits
    of weights; ``exact`` also a cell a bit and PE, and a bias an output.

    Parameters
    ----------
    layer : Dense
    activation : DType
        Kind of the inputs.
    pe : int
        Outputs at a time; divides ``layer.outputs``.
    simd : int
        Inputs at a time; divides ``layer.inputs``.
    memory : ``"block"``, ``"logic"`` or ``"spram"``
        Where the weights lie.
    buffer : ``"block"``, ``"distributed"`` or ``"ring"``
        Where the vectors lie.
    stages : int
        Ranks of registers in the sum of a group of lanes, at least 1.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        What lanes and accumulators are made of: plain RTL, or the cells of a family.
    exact : bool
        Whether ``o`` is ``y``; else it is ``sum``.
    groups : int
        Vectors that come one after the other, each for its own share of the outputs.
    dsp : bool
        Whether products of two numbers, by plain integer or ``csd`` weights and by scales, are left to DSP blocks.

    Attributes
    ----------
    step : int
    bias : int64 array (outputs,)
        ``y[o] = step * sum[o] + bias[o]``.
    sum : DType
        Kind of what ``o`` carries.

    Members
    -------
    i : In(stream of SIMD lanes)
    o : Out(stream of PE sums)
    quality : In
        Signed digits that count in every product with a scale or a ``csd`` weight; absent where there are none. It
        holds for all that is under way, so it is changed between frames.
    fill : In(fill_signature())
        Fills SPRAM with what is ``stored()``, while no vector is there; absent where the weights lie elsewhere.

    Raises
    ------
    FewbitError
        If the folding does not divide the layer or its vectors of scales, a memory is unknown, or no lane serves the
        code.
    """

    def _taken(self) -> DType:
        return self.activation

    def _datapath(self, taken: DType) -> tuple[Front | None, list[Lanes]]:
        layer, target = self.layer, cast(Target, self.target)
        kind, vector = layer.scale_kind, layer.vector
        if kind is None and layer.digits:
            return None, [
                exact_lanes(taken, layer.code, self.simd, self.stages, target, dsp=self.dsp) for _ in range(self.pe)
            ]
        if kind is None:
            return self._plain_lanes(taken)
        side, extent, together = ("PE", layer.outputs, self.pe) if layer.across else ("SIMD", layer.inputs, self.simd)
        if vector < extent and vector % together:
            raise FewbitError(f"layer {layer.name!r}: {side} must divide the vectors of {vector}, not {together}")
        if not layer.across:
            two = layer.negative_scales is not None
            options: dict[str, Any] = {"scale": kind, "two": two, "target": target, "dsp": self.dsp}
            return None, [ScaledLanes(self.simd, taken, layer.code, self.stages, **options) for _ in range(self.pe)]
        if layer.negative_scales is not None or layer.code.name.startswith("csd"):
            raise FewbitError(
                f"layer {layer.name!r}: scales across outputs take no second scale and no {layer.code} weights"
            )
        front = ScaleFront(self.simd, taken, kind, target, dsp=self.dsp)
        return front, self._plain_lanes(front.kind)[1]

    def _memory_words(self) -> list[int]:
        layer = self.layer
        if layer.scales is None:
            return super()._memory_words()
        if not layer.across:
            both = [layer.scales, *([] if layer.negative_scales is None else [layer.negative_scales])]
            vectors = np.arange(0, layer.inputs, self.simd) // layer.vector
            scales = np.stack([one[:, vectors] for one in both], 2)
            return fold_words(layer, self.lanes[0], self.pe, self.words, scales)
        weights = super()._memory_words()
        assert isinstance(self.front, ScaleFront)
        blocks = np.arange(0, layer.outputs, self.pe) // layer.vector
        rows = layer.scales[blocks].reshape(self.folds * self.words, self.simd)
        above = self.pe * self.lanes[0].w_bits
        return [word | scale << above for word, scale in zip(weights, self.front.words(rows))]

    def _memory_bits(self) -> int:
        own = super()._memory_bits()
        return own + len(self.front.w) if isinstance(self.front, ScaleFront) else own

    def _left_out(self) -> tuple[int, Ints]:
        lanes = self.lanes[0]
        return lanes.step, self._corrections() + self.words * lanes.offset

    @property
    def latency(self) -> int:
        return 1 + self._scaled_latency + self.lanes[0].latency + 1

    @property
    def _scaled_latency(self) -> int:
        return self.front.latency if isinstance(self.front, ScaleFront) else 0

    def elaborate(self, platform: object) -> Module:
        # `issue` reads one word of vector and weights; `first` and `last` travel beside it through the lanes to the
        # accumulators. Everything advances together, unless a finished beat waits for its receiver.
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        read = place(m, self, self.target)
        wiring.connect(m, wiring.flipped(self.i), buffer.i)

        advance, issue = Signal(), Signal()
        word = Signal(range(self.words))
        address, last_word = self._walk(m, issue)
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            issue.eq(advance & buffer.available),
            buffer.next.eq(issue),
            buffer.last.eq(last_word),
            read.addr.eq(address),
            read.en.eq(issue),
        ]
        with m.If(issue):
            m.d.sync += word.eq(word + 1)
            with m.If(word == self.words - 1):
                m.d.sync += word.eq(0)

        valid, first, last = issue, word == 0, word == self.words - 1
        for stage in range(1 + self._scaled_latency + self.lanes[0].latency):
            travelling = Signal(3, name=f"travelling_{stage}")
            with m.If(advance):
                m.d.sync += travelling.eq(Cat(valid, first, last))
            valid, first, last = travelling[0], travelling[1], travelling[2]

        x, front = buffer.word, self.front
        words: Value = read.data
        if front is not None:
            m.submodules.front = front
            m.d.comb += front.x.eq(buffer.word)
            x = front.o
        if isinstance(front, ScaleFront):
            above = self.pe * self.lanes[0].w_bits
            m.d.comb += [front.w.eq(read.data[above:]), front.en.eq(advance)]
            m.d.comb += front.quality.eq(saturated(self.quality, len(front.quality)))
            words = read.data[:above]
            for rank in range(front.latency):
                held = Signal(above, name=f"words_{rank}", reset_less=True)
                with m.If(advance):
                    m.d.sync += held.eq(words)
                words = held
        done = advance & valid & last
        starts = start_values(m, self.bias, self.step, self.pe, done) if self.exact else None
        for index in range(self.pe):
            lanes = self._feed(m, index, x, words, advance)
            self._accumulate(m, index, lanes.o, first, advance & valid, starts)
        with m.If(advance):
            m.d.sync += self.o.valid.eq(valid & last)
        return m


def last_of(m: Module, address: Value, depth: int, groups: int, step: Value) -> Value:
    """Whether ``address``, below ``depth``, is the last one of a group; it moves on with ``step``."""
    each = depth // groups
    if groups == 1:
        return address == depth - 1
    turn = Signal(range(each))
    with m.If(step):
        m.d.sync += turn.eq(Mux(turn == each - 1, 0, turn + 1))
    return turn == each - 1


def check_fold(layer: Dense, pe: int, simd: int, memory: str, groups: int) -> None:
    """Raises FewbitError if the folding does not divide the layer, or the memory is unknown."""
    outputs = layer.outputs // groups
    if pe < 1 or outputs % pe:
        of_group = " of a group" if groups > 1 else ""
        raise FewbitError(f"layer {layer.name!r}: PE must divide the {outputs} outputs{of_group}, not {pe}")
    if simd < 1 or layer.inputs % simd:
        raise FewbitError(f"layer {layer.name!r}: SIMD must divide the {layer.inputs} inputs, not {simd}")
    if memory not in PLACES:
        raise FewbitError(f'layer {layer.name!r}: weights lie in "block", "logic" or "spram", not {memory!r}')


def fold_words(layer: Dense, lanes: Lanes, pe: int, words: int, scales: Ints | None = None) -> list[int]:
    """Word ``f * words + s`` of the memory holds, for outputs ``f * PE`` onwards, inputs ``s * SIMD`` onwards: what the
    lanes make of the weights of one output, and of the scales (outputs, words, n), outputs ascending upwards."""

    def folded(values: Ints) -> Ints:
        return values.reshape(-1, pe, words, values.shape[-1]).transpose(0, 2, 1, 3).reshape(-1, values.shape[-1])

    rows = folded(layer.weights.reshape(-1, lanes.simd))
    return join_words(lanes.words(rows, None if scales is None else folded(scales)), lanes.w_bits, pe)


def holding(low: int, high: int) -> DType:
    """The narrowest kind that holds every integer from ``low`` to ``high``, unsigned if it can be."""
    return DType.holding(low, high) if low < 0 else DType("uint", max(1, high.bit_length()))
