"""Threshold units: the level of an input is the number of thresholds that it reaches."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType, Threshold
from fewbit.hw.fabric.carry import Target
from fewbit.hw.layers.multiply_shift import LaneForm, MultiplyShiftLane, cheapest
from fewbit.hw.memory.rom import BLOCK, LOGIC, join_words, rom_words, weight_memory
from fewbit.hw.steps import Register, Step
from fewbit.hw.streams import lane_stream, number, shape_of
from fewbit.hw.sums.popcount import sum_tree

COMPARATORS, SEARCH, MULTIPLY_SHIFT = "comparators", "search", "multiply-shift"
"""Forms of a threshold unit: all thresholds are compared at once; a binary search in a memory, with one comparison a
cycle; or a multiplication, addition and shift, if that gives the same levels
(:mod:`fewbit.hw.layers.multiply_shift_forms`)."""


def element(level: Value, layer: Threshold) -> Value:
    """The stored output for ``level``: ``base + level``; for bipolar outputs the level is the stored bit."""
    return level if layer.dtype.kind == "bipolar" or layer.base == 0 else level + layer.base


class ThresholdUnit(wiring.Component):
    """``y = base + step * (number of t with sign * x >= t)`` on each lane, with the thresholds of the lane's channel.

    The lanes of a beat are neighbouring channels, and successive beats go through all channels repeatedly. If there is
    only one row of thresholds, all elements use it, whatever the shape of a frame.

    **Latency**: ``latency`` cycles. **Throughput**: a beat every ``cycles_per_beat`` cycles: with the search, one more
    than ``stages`` for each bit of the output; else 1. Cost: comparators: about one LUT4 for each bit of each
    threshold, and the thresholds as constants; search: one comparator a lane, and a memory of ``2**bits`` thresholds a
    channel; multiply-shift: an adder for each digit of the multiplier, and the addends as constants.

    Parameters
    ----------
    layer : Threshold
    source : TensorType
        Kind and shape of the input.
    lanes : int
        Divides the elements of a frame; if each channel has its thresholds, it divides the channels.
    form : ``"comparators"``, ``"search"`` or ``"multiply-shift"``
    memory : ``"block"`` or ``"logic"``
        Memory for the thresholds of the search, or for the constants of the multiply-shift.
    input_range : pair of int arrays (channels,), optional
        Lowest and highest input for each row of thresholds, if narrower than the kind of the input. A multiply-shift is
        exact in this range.
    stages : int
        Pipeline stages of a multiply-shift, at least 1; of the search, the cycles for each comparison: 1, or 2 so that
        a comparison and the read that depends on it are in different cycles.
    target : str
        What a multiply-shift is built from: see :class:`fewbit.hw.layers.multiply_shift.MultiplyShiftLane`.

    Members
    -------
    i : In(stream of lanes)
    o : Out(stream of lanes)

    Raises
    ------
    FewbitError
        If the lanes do not divide the channels, the thresholds do not suit the axes of a frame, the form or the memory
        is
        unknown, or no multiply-shift gives these levels.
    """

    def __init__(
        self,
        layer: Threshold,
        source: TensorType,
        *,
        lanes: int,
        form: str = COMPARATORS,
        memory: str = "logic",
        input_range: tuple[Ints, Ints] | None = None,
        stages: int = 1,
        target: Target = "generic",
    ) -> None:
        if form not in (COMPARATORS, SEARCH, MULTIPLY_SHIFT):
            raise FewbitError(
                f'layer {layer.name!r}: the form of thresholds must be "comparators", "search" or "multiply-shift", '
                f"not {form!r}"
            )
        if stages < 1:
            raise FewbitError(f"layer {layer.name!r}: a multiply-shift needs at least 1 stage, not {stages}")
        if form == SEARCH and stages > 2:
            raise FewbitError(f"layer {layer.name!r}: a search has 1 or 2 stages, not {stages}")
        if memory not in (BLOCK, LOGIC):
            raise FewbitError(
                f'layer {layer.name!r}: the memory for thresholds must be "block" or "logic", not {memory!r}'
            )
        channels = layer.channels if layer.channels > 1 else source.size
        if lanes < 1 or channels % lanes:
            raise FewbitError(f"layer {layer.name!r}: lanes must divide the {channels} channels, not {lanes}")
        if layer.channels > 1 and len(source.shape) not in (1, 3):
            raise FewbitError(f"layer {layer.name!r}: thresholds for each channel need a vector or a map, not {source}")
        self.layer, self.source, self.lanes, self.form, self.memory = layer, source, lanes, form, memory
        self.stages, self.target = stages, target
        self.input_range = input_range or (np.array([source.dtype.min]), np.array([source.dtype.max]))
        self.steps = int(layer.thresholds.shape[1]).bit_length()
        self.cycles_per_beat = stages * self.steps + 1 if form == SEARCH else 1
        self.latency = stages if form == MULTIPLY_SHIFT else self.cycles_per_beat
        self.beats = source.size // lanes
        self.cycles_per_frame = self.beats * self.cycles_per_beat
        self.groups = max(1, layer.channels // lanes)
        # Thresholds outside the input range are moved to just outside it, which takes fewer bits.
        ends = sorted(int(s) * value for s in (-1, 1) for value in (source.dtype.min, source.dtype.max))
        padding = (1 << self.steps) - 1 - layer.thresholds.shape[1] if form == SEARCH else 0
        self._thresholds = np.pad(
            np.clip(layer.thresholds, ends[0], ends[-1] + 1), [(0, 0), (0, padding)], constant_values=ends[-1] + 1
        )
        self._kind = DType.holding(int(self._thresholds.min()), int(self._thresholds.max()))
        self.multiply_shift = self._multiply_shift() if form == MULTIPLY_SHIFT else None
        super().__init__(
            {
                "i": In(lane_stream(shape_of(source.dtype), lanes)),
                "o": Out(lane_stream(shape_of(layer.dtype), lanes)),
            }
        )

    def _multiply_shift(self) -> LaneForm:
        low, high = self.input_range
        lane_form = cheapest(self.layer, low, high, self.target)
        if lane_form is None:
            raise FewbitError(f"layer {self.layer.name!r}: no multiply-shift gives the levels of its thresholds")
        return lane_form

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [Register() for _ in range(self.stages)] if self.form == MULTIPLY_SHIFT else [Register(self.latency)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        group, following = Signal(range(self.groups)), Signal(range(self.groups))
        m.d.comb += following.eq(group)
        with m.If(self.i.valid & self.i.ready):
            m.d.comb += following.eq(Mux(group == self.groups - 1, 0, group + 1))
        m.d.sync += group.eq(following)
        if self.multiply_shift is not None:
            self._multiply(m, self.multiply_shift, group, following)
            return m
        words = rom_words((self.layer.sign < 0)[:, None], 1)
        negative = self._constants(m, "negative", words, 1, group)
        signed_inputs = [self._signed_input(lane, negative) for lane in range(self.lanes)]
        if self.form == COMPARATORS:
            self._compare(m, group, signed_inputs)
        else:
            self._search(m, group, signed_inputs)
        return m

    def _signed_input(self, lane: int, negative: list[Value]) -> Value:
        x = number(self.i.payload[lane], self.source.dtype)
        if (self.layer.sign > 0).all():
            return x
        return Mux(negative[lane], -x, x)

    def _constants(
        self, m: Module, name: str, words: list[int], bits: int, group: Value, following: Value | None = None
    ) -> list[Value]:
        """The words of ``bits`` bits for the channels of the current ``group``, one for each lane. They are in block
        RAM if the ``following`` group is given, else in LUTs."""
        if self.layer.channels == 1:
            return [Const(words[0], bits)] * self.lanes
        joined, width = join_words(words, bits, self.lanes), self.lanes * bits
        if self.groups == 1:
            read: Value = Const(joined[0], width)
        else:
            memory = weight_memory(width, joined, LOGIC if following is None else BLOCK)
            m.submodules[name] = memory
            port = memory.read_port(domain="comb" if following is None else "sync")
            m.d.comb += port.addr.eq(group if following is None else following)
            read = port.data
        return [read.word_select(lane, bits) for lane in range(self.lanes)]

    def _compare(self, m: Module, group: Value, inputs: list[Value]) -> None:
        # All thresholds of all lanes at once; the level is the number of thresholds reached.
        bits, count = self._kind.bits, self._thresholds.shape[1]
        words = rom_words(self._kind.encode(self._thresholds), bits)
        rows = self._constants(m, "thresholds", words, bits * count, group)
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
        for lane, (x, row) in enumerate(zip(inputs, rows)):
            reached = [x >= row.word_select(index, bits).as_signed() for index in range(count)]
            level = sum_tree(m, reached, 0, Const(1), f"level_{lane}")
            with m.If(self.i.ready & self.i.valid):
                m.d.sync += self.o.payload[lane].eq(element(level, self.layer))

    def _multiply(self, m: Module, form: LaneForm, group: Value, following: Value) -> None:
        # Pipeline stages with handshake. A block RAM reads the constants of a beat while the beat before is taken, and
        # those of the first beat in the cycle after reset.
        primed = Signal()
        m.d.sync += primed.eq(1)
        block = self.memory == BLOCK and self.groups > 1 and form.word_bits > 0
        words = self._constants(m, "constants", form.encoded[1], form.word_bits, group, following if block else None)
        valid = [self.i.valid & primed if block else self.i.valid]
        free: list[Value] = [self.o.ready]
        held = [Signal(name=f"valid_{stage}") for stage in range(self.stages)]
        for stage in reversed(range(self.stages)):
            free.insert(0, ~held[stage] | free[0])
        valid += held
        m.d.comb += [self.i.ready.eq(free[0] & primed if block else free[0]), self.o.valid.eq(held[-1])]
        for stage in range(self.stages):
            with m.If(free[stage]):
                m.d.sync += held[stage].eq(valid[stage])
        for lane, word in enumerate(words):
            m.submodules[f"lane_{lane}"] = multiplier = MultiplyShiftLane(form, self.stages)
            m.d.comb += [
                multiplier.x.eq(number(self.i.payload[lane], self.source.dtype)),
                multiplier.word.eq(word),
                multiplier.en.eq(Cat(free[stage] & valid[stage] for stage in range(self.stages))),
                self.o.payload[lane].eq(element(multiplier.o, self.layer)),
            ]

    def _search(self, m: Module, group: Value, inputs: list[Value]) -> None:
        # The thresholds of a channel form a search tree: the root is word 1, the children of node n are words 2n and 2n
        # + 1. The comparison at a node selects the child that is read next; the path is the level. With one stage, it
        # is read in the same cycle; with two, in the next one.
        bits, leaves = self._kind.bits, 1 << self.steps
        step = Signal(range(self.steps + 1))
        busy, last, compares = Signal(), Signal(), Signal()
        m.d.comb += [
            last.eq(step == self.steps),
            self.i.ready.eq(~busy & (~self.o.valid | self.o.ready)),
        ]
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += [busy.eq(1), step.eq(1)]
        if self.stages == 1:
            m.d.comb += compares.eq(busy)
        else:
            m.d.sync += compares.eq(busy & ~compares)
        with m.If(compares):
            m.d.sync += step.eq(step + 1)
            with m.If(last):
                m.d.sync += busy.eq(0)
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(compares & last):
            m.d.sync += self.o.valid.eq(1)

        tree = np.zeros((len(self._thresholds), leaves), np.int64)
        for node in range(1, leaves):
            depth = node.bit_length() - 1
            tree[:, node] = self._thresholds[:, ((2 * node + 1) << self.steps - depth - 1) - leaves - 1]
        current = Signal(range(self.groups))
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += current.eq(group)
        for lane, x in enumerate(inputs):
            rows = tree if self.layer.channels == 1 else tree[lane :: self.lanes]
            memory = Memory(
                shape=signed(bits), depth=rows.size, init=rows.ravel().tolist(), attrs={"ram_style": self.memory}
            )
            m.submodules[f"thresholds_{lane}"] = memory
            read = memory.read_port()
            held = Signal(x.shape(), name=f"x_{lane}")
            node = Signal(self.steps, name=f"node_{lane}")
            child = Signal(self.steps + 1, name=f"child_{lane}")
            m.d.comb += child.eq(Cat(held >= read.data, node))
            with m.If(self.i.ready & self.i.valid):
                m.d.sync += [held.eq(x), node.eq(1)]
            with m.If(compares):
                m.d.sync += node.eq(child)
            with m.If(compares & last):
                m.d.sync += self.o.payload[lane].eq(element(child[: self.steps], self.layer))
            chosen: Value = node
            base: Value = current
            if self.stages == 1:
                chosen = Signal(self.steps, name=f"chosen_{lane}")
                m.d.comb += chosen.eq(Mux(busy, child[: self.steps], 1))
                base = Mux(busy, current, group)
            m.d.comb += read.addr.eq(Cat(chosen, base) if rows is not tree else chosen)
