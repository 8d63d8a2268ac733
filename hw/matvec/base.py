# amaranth: UnusedElaboratable=no
"""What the matrix-vector units share: parameters, members and weight memories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.fabric.accumulate import accumulate
from fewbit.hw.lanes.base import Lanes, saturated
from fewbit.hw.lanes.choose import lane_kind
from fewbit.hw.memory.kinds import Stored, fill_member, memory_of
from fewbit.hw.memory.rom import LOGIC, join_words, weight_memory
from fewbit.hw.memory.vector_buffer import RING, VectorBuffer
from fewbit.hw.steps import FoldStep, Step
from fewbit.hw.streams import lane_stream, shape_of

Starts = list[tuple[Value, Value]] | None


class MatrixVector(Protocol):
    """The interface of every matrix-vector unit: a stream of vectors in, a stream of results out, for a folded
    ``layer``.

    Attributes
    ----------
    layer : Dense
    pe, simd : int
        Outputs that are processed at a time, and inputs of each.
    lanes_in : int
        Elements in a beat of the input.
    words : int
        Beats of an input vector.
    groups : int
        Input vectors of a frame.
    cycles_per_frame, latency : int
        See the docstring of the unit.
    step : int
    bias : int64 array (outputs,)
        A sum of products is ``step * x + bias``, where ``x`` is the output of the unit. 1 and zeros if the output is
        the
        sum itself, or not a sum.
    sum : DType
        Kind of the output.

    Members
    -------
    i : In(stream of lanes)
    o : Out(stream of PE lanes)
    quality : In
        How many signed digits count in every product; absent if no product uses signed digits.
    fill : In
        Loads the weight memory with the words that :meth:`stored` returns; absent if the memory is preloaded.
    """

    i: Any
    o: Any
    layer: Dense
    pe: int
    simd: int
    words: int
    groups: int
    cycles_per_frame: int
    step: int
    bias: Ints
    sum: DType

    @property
    def lanes_in(self) -> int: ...

    @property
    def latency(self) -> int: ...

    def stored(self) -> Stored:
        """Bits of a word of the weight memory, and its words."""

    def timing(self) -> list[Step]:
        """New timing models of the unit, in the order of the stream."""


class FoldedMatVec(wiring.Component, ABC):
    """Base class of :class:`fewbit.hw.matvec.parallel.MatVec` and of the units with the same parameters, members and
    errors, which process one memory word at a time.

    A subclass says what its lanes take of an activation, and which step and bias their sums lack.

    Attributes
    ----------
    planes : int
        Cycles for one word.
    lanes_in : int
        Elements in a beat of the input.
    buffer : VectorBuffer or None
        Holds the vectors; None in a unit that uses every input once.
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
        self.words, self.folds = layer.fan_in // simd, layer.outputs // pe
        self.cycles_per_frame = self.words * self.folds * self.planes
        self.buffer = self._vector_buffer(buffer)
        self.front, self.lanes = self._datapath(taken)
        self.step, self.bias = self._left_out()
        low, high = layer.bounds(activation)
        least, most = (low - self.bias) // self.step, (high - self.bias) // self.step
        self._plain = DType.spanning(int(least.min()), int(most.max()))
        self.sum = layer.sum_kind(activation) if exact else self._plain
        dial = {"quality": In(layer.digits.bit_length())} if layer.digits else {}
        dial |= fill_member(layer, memory, self.stored)
        taken_stream, sums = lane_stream(shape_of(activation), self.lanes_in), lane_stream(shape_of(self.sum), pe)
        super().__init__({"i": In(taken_stream), "o": Out(sums)} | dial)

    @property
    def planes(self) -> int:
        return 1

    @property
    def lanes_in(self) -> int:
        return self.simd

    def _vector_buffer(self, style: str) -> Any:
        return VectorBuffer(shape_of(self.activation), self.simd, self.words, style)

    def _datapath(self, taken: DType) -> tuple[Any, list[Lanes]]:
        """The component with ``x`` and ``o`` that all lanes share, or None, and the lanes of each output."""
        if self.layer.digits:
            raise FewbitError(
                f"layer {self.layer.name!r}: scales and csd weights need a unit that takes whole activations"
            )
        return self._plain_lanes(taken)

    def _plain_lanes(self, taken: DType) -> tuple[Any, list[Lanes]]:
        kind = lane_kind(taken, self.layer.code, self.target, exact=False, dsp=self.dsp)
        lanes = [kind(self.simd, taken, self.layer.code, self.stages) for _ in range(self.pe)]
        return lanes[0].front, lanes

    @abstractmethod
    def _taken(self) -> DType:
        """Kind of the part of an activation that a lane takes at a time."""

    @abstractmethod
    def _left_out(self) -> tuple[int, Ints]:
        """Step and bias that the sums of the lanes lack."""

    @property
    @abstractmethod
    def latency(self) -> int: ...

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        rings = self.buffer.style == RING
        folds = self.folds // self.groups
        return [FoldStep(words=self.words, folds=folds, depth=self.latency, rings=rings, planes=self.planes)]

    def _rows(self) -> Ints:
        """The weights that are processed at the same time for one output.  # () -> (outputs * words, SIMD)"""
        return self.layer.weights.reshape(-1, self.simd)

    def _corrections(self) -> Ints:
        """What has to be added to the sum of each output.  # () -> (outputs,) int64"""
        each = self.lanes[0].correction(self._rows()).reshape(self.layer.outputs, self.words)
        total: Ints = each.sum(1, dtype=np.int64)
        return total

    def _memory_words(self) -> list[int]:
        return fold_words(self.layer, self.lanes[0], self.pe, self.words)

    def _walk(self, m: Module, step: Value) -> tuple[Value, Value]:
        """The address of the current weight word, which advances with ``step``, and whether it is the last one of a
        vector."""
        depth = self.words * self.folds
        address = Signal(range(depth))
        with m.If(step):
            m.d.sync += address.eq(address + 1)
            with m.If(address == depth - 1):
                m.d.sync += address.eq(0)
        return address, last_of(m, address, depth, self.groups, step)

    def stored(self) -> Stored:
        """Bits of a word of the weight memory, and its words."""
        return self._memory_bits(), self._memory_words()

    def _memory_bits(self) -> int:
        return self.pe * self.lanes[0].w_bits

    def _feed(self, m: Module, index: int, x: Value, word: Value, advance: Value) -> Lanes:
        """Connects the lanes of output ``index`` of a group to ``x`` and to their part of the weight ``word``."""
        m.submodules[f"lanes_{index}"] = lanes = self.lanes[index]
        m.d.comb += [lanes.x.eq(x), lanes.w.eq(word.word_select(index, lanes.w_bits)), lanes.en.eq(advance)]
        if lanes.quality_bits:
            m.d.comb += lanes.quality.eq(saturated(self.quality, lanes.quality_bits))
        return lanes

    def _accumulate(self, m: Module, index: int, operand: Value, first: Value, enable: Value, starts: Starts) -> None:
        """The accumulator of output ``index`` of a group: adds ``operand`` while ``enable`` is high, and starts a new
        sum when ``first`` is high."""
        if starts is None:
            total = Signal(self._plain.bits, name=f"sum_{index}", reset_less=True)
            following = accumulate(m, f"add_{index}", self.target, total, operand, first)
            m.d.comb += self.o.payload[index].eq(total.as_signed() if self._plain.signed else total)
        else:
            # The sum is in units of `step`, the bits below are apart: 2 * count - n is a count that starts at -n / 2.
            start, rest = starts[index]
            bits = DType.holding(self.sum.min // self.step, self.sum.max // self.step).bits
            total = Signal(bits, name=f"sum_{index}", reset_less=True)
            following = Mux(first, start, total.as_signed()) + operand
            below = Signal(len(rest), name=f"below_{index}", reset_less=True)
            with m.If(enable):
                m.d.sync += below.eq(rest)  # when the beat leaves, the value of the next group is already read
            m.d.comb += self.o.payload[index].eq(Cat(below, total).as_signed())
        with m.If(enable):
            m.d.sync += total.eq(following)


def last_of(m: Module, address: Value, depth: int, groups: int, step: Value) -> Value:
    """Whether ``address``, below ``depth``, is the last one of its group. It advances with ``step``."""
    each = depth // groups
    if groups == 1:
        return address == depth - 1
    turn = Signal(range(each))
    with m.If(step):
        m.d.sync += turn.eq(Mux(turn == each - 1, 0, turn + 1))
    return turn == each - 1


def check_fold(layer: Dense, pe: int, simd: int, memory: str, groups: int) -> None:
    """Raises FewbitError if PE and SIMD do not divide the layer, or the memory is unknown."""
    outputs = layer.outputs // groups
    if pe < 1 or outputs % pe:
        of_group = " of a group" if groups > 1 else ""
        raise FewbitError(f"layer {layer.name!r}: PE must divide the {outputs} outputs{of_group}, not {pe}")
    if simd < 1 or layer.fan_in % simd:
        raise FewbitError(f"layer {layer.name!r}: SIMD must divide the {layer.fan_in} inputs, not {simd}")
    memory_of(layer, memory)


def fold_words(layer: Dense, lanes: Lanes, pe: int, words: int, scales: Ints | None = None) -> list[int]:
    """The words of the weight memory.

    Word ``f * words + s`` holds the weights of the PE outputs from ``f * PE`` on and the SIMD inputs from ``s * SIMD``
    on, the first output in the lowest bits, in the form that the lanes take, with their scales (outputs, words, n).
    """

    def folded(values: Ints) -> Ints:
        return values.reshape(-1, pe, words, values.shape[-1]).transpose(0, 2, 1, 3).reshape(-1, values.shape[-1])

    rows = folded(layer.weights.reshape(-1, lanes.simd))
    return join_words(lanes.words(rows, None if scales is None else folded(scales)), lanes.w_bits, pe)


def start_values(m: Module, bias: Ints, step: int, pe: int, done: Value) -> list[tuple[Value, Value]]:
    """For each sum of a group, the value to start at so that it ends with its bias: in units of ``step``, and the bits
    below them. ``done`` is high when a group ends."""
    folds, below = len(bias) // pe, step.bit_length() - 1
    table = np.stack([bias // step, bias % step], 1).reshape(folds, pe, 2)
    kind = DType.holding(int(table[..., 0].min()), int(table[..., 0].max()))
    if (table == table[:1]).all():
        return [(Const(int(start), kind.bits).as_signed(), Const(int(rest), below)) for start, rest in table[0]]
    width = kind.bits + below
    words = kind.encode(table[..., 0]).astype(object) << below | table[..., 1]
    joined = [sum(int(word) << place * width for place, word in enumerate(row)) for row in words]
    m.submodules.starts = starts = weight_memory(pe * width, joined, LOGIC)
    group = Signal(range(folds))
    with m.If(done):
        m.d.sync += group.eq(Mux(group == folds - 1, 0, group + 1))
    read = starts.read_port(domain="comb")
    m.d.comb += read.addr.eq(group)
    parts = [read.data.word_select(place, width) for place in range(pe)]
    return [(part[below:].as_signed(), part[:below]) for part in parts]
