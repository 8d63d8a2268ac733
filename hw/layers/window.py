# amaranth: UnusedElaboratable=no
"""Sliding windows: a map is taken in once and sent out window by window."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Pool, TensorType
from fewbit.hw.steps import Cycles, Pipeline, Step, in_order
from fewbit.hw.streams import lane_stream, shape_of


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Positions of the windows over a map.

    Attributes
    ----------
    shape : (channels, height, width)
        Shape of the map.
    kernel, stride : (rows, columns)
    padding : (top, left, bottom, right)
    groups : int
        Groups of channels; each window is sent group by group.
    """

    shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int = 1

    @classmethod
    def of(cls, layer: Conv | Pool, source: TensorType, groups: int) -> Geometry:
        channels, height, width = source.shape
        return cls(
            shape=(channels, height, width),
            kernel=layer.kernel,
            stride=layer.stride,
            padding=layer.padding,
            groups=groups,
        )

    @property
    def rows(self) -> int:
        """Number of windows from top to bottom."""
        return (self.shape[1] + self.padding[0] + self.padding[2] - self.kernel[0]) // self.stride[0] + 1

    @property
    def columns(self) -> int:
        """Number of windows from left to right."""
        return (self.shape[2] + self.padding[1] + self.padding[3] - self.kernel[1]) // self.stride[1] + 1

    @property
    def elements(self) -> int:
        """Number of elements of all windows of a map."""
        return self.rows * self.columns * self.kernel[0] * self.kernel[1] * self.shape[0]

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """For each row of windows, its first row of the map, and the one after its last."""
        starts = [row * self.stride[0] - self.padding[0] for row in range(self.rows)]
        return [(max(start, 0), min(start + self.kernel[0], self.shape[1])) for start in starts]

    @property
    def skips(self) -> list[int]:
        """For each row of windows, how many rows of the map are no longer needed when it begins; for the first one,
        those that are left of the previous map."""
        firsts = [first for first, _ in self.spans]
        return [self.shape[1] - firsts[-1], *(int(step) for step in np.diff(firsts))]

    @property
    def least_rows(self) -> int:
        """Rows to buffer so that windows can be read while the rows for the next ones arrive."""
        return self.kernel[0] + self.stride[0]


def window_delay(layer: Conv | Pool, source: TensorType) -> float:
    """Estimate of the part of a map that is read before the first window: the rows that are held."""
    rows = layer.kernel[0] + layer.stride[0] if layer.kernel != (1, 1) else 0
    return min(1.0, rows / source.shape[1])


def inside(start: int, length: int, extent: int) -> tuple[int, int]:
    """Of ``length`` positions from ``start`` on, the first one in ``0 .. extent - 1``, and the one after the last."""
    return max(0, -start), min(length, extent - start)


class WindowUnit(wiring.Component):
    """Sends every window over a map: windows in row-major order, each with its elements in row-major order, channels
    last.

    With several groups, the elements of a window in one group of channels come before those in the next group. Elements
    outside of the map are ``fill``. The map arrives row by row, channels last, and is stored in a ring buffer of
    ``rows`` rows. A row of windows begins when its last row of the map has arrived; at its end, the rows that no later
    window needs are released.

    **Throughput**: a beat a cycle, so a frame in ``cycles_per_frame = rows * columns * kernel * channels / lanes``
    cycles, if the input is fast enough: with the smallest buffer, a stride of rows arrives while a row of windows is
    sent. **Latency**: ``latency`` cycles from the last beat that a row of windows needs to its first beat. A beat that
    waits for ``o.ready`` stalls the reading. Cost: memory for ``rows`` rows of the map, two adders for the address, and
    counters.

    Parameters
    ----------
    geometry : Geometry
    source : DType
        Kind of the elements of the map.
    element : DType
        Kind of the elements of a window: ``source``, or ``int2`` if -1 and +1 are combined with a ``fill`` of 0.
    fill : int
    lanes : int
        Channels that are processed at a time; they divide the channels of a group.
    rows : int or None
        Rows in the buffer, at least ``geometry.least_rows``, which is the default.
    memory : ``"block"`` or ``"distributed"``
        Memory for the buffer.

    Members
    -------
    i, o : In(stream of lanes), Out(stream of lanes)

    Raises
    ------
    FewbitError
        If the lanes do not divide the channels of a group, too few rows are buffered, or the memory is unknown.
    """

    def __init__(
        self,
        geometry: Geometry,
        source: DType,
        *,
        lanes: int,
        element: DType | None = None,
        fill: int = 0,
        rows: int | None = None,
        memory: str = "block",
    ) -> None:
        channels = geometry.shape[0] // geometry.groups
        if lanes < 1 or channels % lanes:
            raise FewbitError(f"lanes of a window must divide the {channels} channels of a group, not {lanes}")
        self.rows = geometry.least_rows if rows is None else rows
        if self.rows < geometry.least_rows:
            raise FewbitError(
                f"windows of {geometry.kernel[0]} rows at a stride of {geometry.stride[0]} need {geometry.least_rows} "
                f"rows of the map, not {self.rows}"
            )
        if memory not in ("block", "distributed"):
            raise FewbitError(f'the memory for rows of a map must be "block" or "distributed", not {memory!r}')
        self.geometry, self.source, self.element, self.fill = geometry, source, element or source, fill
        self.lanes, self.memory = lanes, memory
        self.pixel = geometry.shape[0] // lanes
        self.row_words = geometry.shape[2] * self.pixel
        self.depth = self.rows * self.row_words
        self.beats_in = geometry.shape[1] * self.row_words
        self.cycles_per_frame = geometry.elements // lanes
        self.latency = 3
        super().__init__(
            {
                "i": In(lane_stream(shape_of(source), lanes)),
                "o": Out(lane_stream(shape_of(self.element), lanes)),
            }
        )

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        geometry = self.geometry
        beats = self.cycles_per_frame // geometry.rows
        return [WindowStep(2, geometry=geometry, row_words=self.row_words, beats=beats, held=self.rows)]

    def elaborate(self, platform: object) -> Module:
        # `held` counts the complete rows in the buffer. At the end of a row of windows, `owed` is how many of them to
        # release, and `needed` how many must be held before the next row of windows begins: those, and its own.
        m = Module()
        geometry, spans, skips = self.geometry, self.geometry.spans, self.geometry.skips
        m.submodules.memory = memory = Memory(
            shape=self.source.bits * self.lanes, depth=self.depth, init=[], attrs={"ram_style": self.memory}
        )
        write, read = memory.write_port(), memory.read_port()
        held, owed = Signal(range(self.rows + 1)), Signal(range(self.rows + 1))
        wants = [end - first for first, end in spans]
        needed = Signal(range(2 * self.rows + 1), init=wants[0])
        advance, issue, whole, release, row_ends = Signal(), Signal(), Signal(), Signal(), Signal()

        place, come = Signal(range(self.depth)), Signal(range(self.row_words))
        m.d.comb += [
            self.i.ready.eq(held != self.rows),
            write.en.eq(self.i.valid & self.i.ready),
            write.addr.eq(place),
            write.data.eq(self.i.payload),
            whole.eq(write.en & (come == self.row_words - 1)),
        ]
        with m.If(write.en):
            m.d.sync += [place.eq(_wrapped(place, 1, self.depth)), come.eq(_wrapped(come, 1, self.row_words))]

        row = Signal(range(geometry.rows))
        begun = Signal()
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            issue.eq(advance & (begun | (held >= needed))),
            release.eq(advance & (held >= owed)),
        ]
        m.d.sync += held.eq(held + whole - Mux(release, owed, 0))
        with m.If(release):
            m.d.sync += [owed.eq(0), needed.eq(needed - owed)]
        with m.If(issue):
            m.d.sync += begun.eq(~row_ends)
        skip, want = Signal.like(owed), Signal.like(needed)
        _table(m, row, skip, [*skips[1:], skips[0]])
        _table(m, row, want, [*wants[1:], wants[0]])
        with m.If(row_ends & issue):
            m.d.sync += [owed.eq(skip), needed.eq(skip + want), row.eq(_wrapped(row, 1, geometry.rows))]

        address, is_inside = self._walk(m, issue, row, row_ends, skip)
        stored, within, under_way = Signal.like(address), Signal(), Signal()
        with m.If(advance):
            # Outside of the map the sum may be no valid address, for which simulators warn.
            m.d.sync += stored.eq(Mux(is_inside, address, 0) if any(geometry.padding) else address)
            m.d.sync += [within.eq(is_inside), under_way.eq(issue)]
        within_now = Signal()
        m.d.comb += [read.addr.eq(stored), read.en.eq(advance)]
        with m.If(advance):
            m.d.sync += [within_now.eq(within), self.o.valid.eq(under_way)]
        bits = self.source.bits
        for lane in range(self.lanes):
            data = read.data[lane * bits : (lane + 1) * bits]
            value: Value = Cat(1, ~data) if self.element != self.source else data
            fill = Const(int(self.element.encode(np.array(self.fill))), self.element.bits)
            m.d.comb += self.o.payload[lane].eq(Mux(within_now, value, fill) if any(geometry.padding) else value)
        return m

    def _walk(self, m: Module, issue: Value, row: Value, row_ends: Value, skip: Value) -> tuple[Value, Value]:
        """The address of the current element, and whether it is inside the map."""
        # `start` is where in a row of the map the current window and group begin, and `offset` the current position.
        # Both are modulo a power of two, since a window may begin left of the map. `base` and `line` are the same for
        # rows.
        geometry, pixel, ring = self.geometry, self.pixel, self.depth
        part = pixel // geometry.groups
        bits = (ring - 1).bit_length() or 1
        first = -geometry.padding[1] * pixel % (1 << bits)
        base, line = Signal(bits), Signal(bits)
        start, offset = Signal(bits, init=first), Signal(bits, init=first)
        loops = [part, geometry.kernel[1], geometry.kernel[0], geometry.groups, geometry.columns]
        counters = [Signal(range(times), name=f"loop_{depth}") for depth, times in enumerate(loops)]
        ends: list[Value] = []
        for counter, times in zip(counters, loops):
            ending = Signal(name=f"{counter.name}_ends")
            m.d.comb += ending.eq((counter == times - 1) & (ends[-1] if ends else 1))
            with m.If(issue if not ends else issue & ends[-1]):
                m.d.sync += counter.eq(_wrapped(counter, 1, times))
            ends.append(ending)
        part_ends, kernel_row_ends, window_ends, groups_end, all_ends = ends
        m.d.comb += row_ends.eq(all_ends)
        _, v, u, _, column = counters

        within_rows, within_columns = Signal(), Signal()
        _inside(m, "rows", row, u, [inside(r * geometry.stride[0] - geometry.padding[0], geometry.kernel[0],
                                           geometry.shape[1]) for r in range(geometry.rows)], within_rows)  # fmt: skip
        _inside(m, "columns", column, v, [inside(c * geometry.stride[1] - geometry.padding[1], geometry.kernel[1],
                                                 geometry.shape[2]) for c in range(geometry.columns)],
                within_columns)  # fmt: skip

        with m.If(issue):
            m.d.sync += offset.eq(offset + 1)
            with m.If(part_ends):
                m.d.sync += offset.eq(offset + (pixel - part + 1))
            with m.If(kernel_row_ends):
                m.d.sync += offset.eq(start)
                with m.If(within_rows):
                    m.d.sync += line.eq(_wrapped(line, self.row_words, ring))
            with m.If(window_ends):
                following = Signal(bits)
                m.d.comb += following.eq(start + part)
                with m.If(groups_end):
                    m.d.comb += following.eq(start + (geometry.stride[1] * pixel - (geometry.groups - 1) * part))
                with m.If(all_ends):
                    m.d.comb += following.eq(first)
                m.d.sync += [start.eq(following), offset.eq(following), line.eq(base)]
            with m.If(all_ends):
                moved = Signal(bits)
                ahead = Signal(bits)
                skips = [*self.geometry.skips[1:], self.geometry.skips[0]]
                _table(m, row, ahead, [step * self.row_words % ring for step in skips])
                m.d.comb += moved.eq(_wrapped(base, ahead, ring))
                m.d.sync += [base.eq(moved), line.eq(moved)]
        return (line + offset)[:bits], within_rows & within_columns


def _wrapped(value: Value, step: Value | int, size: int) -> Value:
    """``(value + step) % size``, if both are below ``size``."""
    total = value + step
    if isinstance(step, int) and size == step:
        return Const(0, len(value))
    return Mux(total >= size, total - size, total)[: len(value)]


def _table(m: Module, index: Value, target: Signal, values: list[int]) -> None:
    """Assigns ``values[index]`` to ``target``; the most common value is the default."""
    usual = max(set(values), key=values.count)
    m.d.comb += target.eq(usual)
    with m.Switch(index):
        for value in sorted(set(values) - {usual}):
            with m.Case(*(place for place, entry in enumerate(values) if entry == value)):
                m.d.comb += target.eq(value)


def _inside(m: Module, name: str, index: Value, step: Value, ranges: list[tuple[int, int]], target: Signal) -> None:
    """Assigns to ``target`` whether ``step`` is in the range with number ``index``."""
    low, high = (Signal(range(max(end for _, end in ranges) + 1), name=f"{name}_{side}") for side in ("from", "to"))
    _table(m, index, low, [start for start, _ in ranges])
    _table(m, index, high, [end for _, end in ranges])
    m.d.comb += target.eq((step >= low) & (step < high))


@dataclass
class WindowStep(Pipeline):
    """Timing model of a window unit with ``held`` buffered rows of ``row_words`` words, which sends ``beats`` beats for
    a row of windows."""

    geometry: Geometry = field(kw_only=True)
    row_words: int = field(kw_only=True)
    beats: int = field(kw_only=True)
    held: int = field(kw_only=True)
    _come: int = field(default=0, init=False)
    _free: int = field(default=0, init=False)
    # For each row in the buffer, the cycle from which it is complete.
    _whole: list[int] = field(default_factory=list, init=False)
    # Rows released so far, of all maps, and for each of them the cycle from which its place is free.
    _given_back: int = field(default=0, init=False)
    _room: dict[int, int] = field(default_factory=dict, init=False)
    _row: int = field(default=0, init=False)
    _end: int = field(default=-1, init=False)
    _owed: int = field(default=0, init=False)

    def accept(self, offered: int) -> int:
        row, word = divmod(self._come, self.row_words)
        cycle = max(offered, self._free)
        if word == 0:
            cycle = max(cycle, self._room.pop(row - self.held, 0))
        self._free = cycle + 1
        self._come += 1
        if word == self.row_words - 1:
            self._whole.append(cycle + 1)
            self._read()
        return cycle

    def _read(self) -> None:
        """Releases rows and sends rows of windows, as far as the rows so far allow."""
        spans, skips = self.geometry.spans, self.geometry.skips
        while True:
            if self._owed and len(self._whole) >= self._owed:
                freed = self._moving(max(self._end + 1, self._whole[self._owed - 1])) + 1
                for place in range(self._owed):
                    self._room[self._given_back + place] = freed
                self._given_back += self._owed
                del self._whole[: self._owed]
                self._owed = 0
            first, end = spans[self._row]
            if self._owed or len(self._whole) < end - first:
                return
            cycle = max(self._end, self._whole[end - first - 1] - 1)
            for _ in range(self.beats):
                cycle = self._moving(cycle + 1)
                self._emit(cycle)
            self._end = cycle
            self._row = (self._row + 1) % self.geometry.rows
            self._owed = skips[self._row]

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        first_words, last_words = taken[:: self.row_words], taken[self.row_words - 1 :: self.row_words]
        sent = given - self.depth
        row_ends = sent[self.beats - 1 :: self.beats]
        spans, skips = self.geometry.spans, self.geometry.skips
        row_of_window = np.arange(len(row_ends)) % self.geometry.rows
        # For each row of windows: the rows of maps that are released before it, and the last row that it needs.
        released = np.cumsum(np.array(skips)[row_of_window])
        released -= skips[0]
        needed = released + np.array([end - start for start, end in spans])[row_of_window] - 1
        # A row may come when the row of windows after which its place is released has ended.
        freed_by = np.searchsorted(released, np.arange(len(first_words) - self.held), side="right") - 1
        waits = np.flatnonzero(freed_by < len(row_ends))
        np.minimum.at(row_ends, freed_by[waits], first_words[waits + self.held] - 2)
        in_order(sent)
        np.minimum.at(last_words, needed, sent[:: self.beats] - 1)
        in_order(taken)
        self._tighten_given(given, sent, np.ones(len(sent), np.int64))
