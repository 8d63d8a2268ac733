# amaranth: UnusedElaboratable=no
"""Streams of lanes: shapes, and components that change the number of lanes of a beat."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.steps import PackStep, Step, UnpackStep


def shape_of(dtype: DType) -> Shape:
    """Shape of a signal for an element of ``dtype``. A bipolar element is one bit, 0 for -1."""
    return signed(dtype.bits) if dtype.signed else unsigned(dtype.bits)


def number(element: Value, dtype: DType) -> Value:
    """Number that ``element`` represents: a bipolar bit b is the two-bit number 2b - 1, other kinds are unchanged."""
    return Cat(Const(1, 1), ~element).as_signed() if dtype.kind == "bipolar" else element


def lane_stream(shape: Shape, lanes: int) -> stream.Signature:
    """Stream with ``lanes`` elements of ``shape`` in a beat, the first in the lowest bits."""
    return stream.Signature(data.ArrayLayout(shape, lanes))


def in_a_row(m: Module, source: Any, parts: Iterable[Any]) -> Any:
    """Add ``parts`` to the submodules of ``m``, named by their classes, and connect them in a row to the stream
    ``source``. Returns the output stream of the last part."""
    for part in parts:
        m.submodules[type(part).__name__.lower()] = part
        wiring.connect(m, source, part.i)
        source = part.o
    return source


def to_stream(frames: Ints, shape: tuple[int, ...]) -> Ints:
    """Elements of frames in the order of the stream: maps row by row with channels last, everything else in C order.

    # (N, *shape) -> (N, size)
    """
    if len(shape) == 3:
        frames = frames.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(frames).reshape(len(frames), int(np.prod(shape)))


def from_stream(elements: Ints, shape: tuple[int, ...]) -> Ints:
    """The inverse of :func:`to_stream`.  # (N, size) -> (N, *shape)"""
    if len(shape) == 3:
        channels, height, width = shape
        return elements.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return elements.reshape(-1, *shape)


class Pack(wiring.Component):
    """Collects ``ratio`` beats of ``lanes_in`` lanes into one beat of ``lanes_in * ratio`` lanes.

    **Latency**: an output beat is offered 1 cycle after its last input beat was taken. **Throughput**: one input beat a
    cycle. Cost: one flip-flop for each bit of the output payload.

    Parameters
    ----------
    shape : Shape
        Shape of one lane.
    lanes_in : int
    ratio : int
        At least 1.

    Members
    -------
    i : In(stream of lanes_in lanes)
    o : Out(stream of lanes_in * ratio lanes)
    """

    def __init__(self, shape: Shape, lanes_in: int, ratio: int) -> None:
        if lanes_in < 1 or ratio < 1:
            raise FewbitError(f"a pack needs at least 1 lane and a ratio of at least 1, not {lanes_in} and {ratio}")
        self.shape, self.lanes_in, self.ratio = Shape.cast(shape), lanes_in, ratio
        self.latency = 1
        super().__init__({"i": In(lane_stream(shape, lanes_in)), "o": Out(lane_stream(shape, lanes_in * ratio))})

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [PackStep(self.ratio)]

    def elaborate(self, platform: object) -> Module:
        # Input beats shift into `word` from the top; after `ratio` of them the first is in the lowest bits. `filled`
        # counts them, and stays at `ratio` while the full word waits. A new beat can come in the same cycle in which
        # the word is transferred.
        m = Module()
        part = len(self.i.payload.as_value())
        word = Signal(part * self.ratio, reset_less=True)
        filled = Signal(range(self.ratio + 1))
        full = Signal()
        m.d.comb += [
            full.eq(filled == self.ratio),
            self.o.payload.as_value().eq(word),
            self.o.valid.eq(full),
            self.i.ready.eq(~full | self.o.ready),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += word.eq((word | (self.i.payload.as_value() << part * self.ratio)) >> part)
            m.d.sync += filled.eq(1)
            with m.If(~full):
                m.d.sync += filled.eq(filled + 1)
        with m.Elif(full & self.o.ready):
            m.d.sync += filled.eq(0)
        return m


class Unpack(wiring.Component):
    """Divides a beat of ``lanes_out * ratio`` lanes into ``ratio`` beats of ``lanes_out`` lanes, lowest lanes first.

    **Latency**: 1 cycle to the first output beat. **Throughput**: one output beat a cycle. Cost: one flip-flop for each
    bit of the input payload.

    Parameters
    ----------
    shape : Shape
        Shape of one lane.
    lanes_out : int
    ratio : int
        At least 1.

    Members
    -------
    i : In(stream of lanes_out * ratio lanes)
    o : Out(stream of lanes_out lanes)
    """

    def __init__(self, shape: Shape, lanes_out: int, ratio: int) -> None:
        if lanes_out < 1 or ratio < 1:
            raise FewbitError(f"an unpack needs at least 1 lane and a ratio of at least 1, not {lanes_out} and {ratio}")
        self.shape, self.lanes_out, self.ratio = Shape.cast(shape), lanes_out, ratio
        self.latency = 1
        super().__init__({"i": In(lane_stream(shape, lanes_out * ratio)), "o": Out(lane_stream(shape, lanes_out))})

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [UnpackStep(self.ratio)]

    def elaborate(self, platform: object) -> Module:
        # The word shifts down by one output beat at a time; `left` counts the beats that are still in it.
        m = Module()
        part = len(self.o.payload.as_value())
        word = Signal(part * self.ratio, reset_less=True)
        left = Signal(range(self.ratio + 1))
        m.d.comb += [
            self.o.payload.as_value().eq(word[:part]),
            self.o.valid.eq(left != 0),
            self.i.ready.eq((left == 0) | ((left == 1) & self.o.ready)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [word.eq(self.i.payload), left.eq(self.ratio)]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [word.eq(word >> part), left.eq(left - 1)]
        return m


class Gearbox(wiring.Component):
    """Changes the number of lanes of a stream from ``lanes_in`` to ``lanes_out``; the elements keep their order.

    It unpacks to the greatest common divisor of both numbers and packs from there. If one number divides the other, it
    is a single :class:`Pack` or :class:`Unpack`; if they are equal, it is only wires. Both numbers must divide the
    elements of a frame.

    **Latency** and **throughput**: those of ``parts``, the components in order.

    Parameters
    ----------
    shape : Shape
        Shape of one lane.
    lanes_in, lanes_out : int

    Members
    -------
    i : In(stream of lanes_in lanes)
    o : Out(stream of lanes_out lanes)
    """

    def __init__(self, shape: Shape, lanes_in: int, lanes_out: int) -> None:
        if lanes_in < 1 or lanes_out < 1:
            raise FewbitError(f"a gearbox needs at least 1 lane on each side, not {lanes_in} and {lanes_out}")
        self.shape, self.lanes_in, self.lanes_out = Shape.cast(shape), lanes_in, lanes_out
        common = gcd(lanes_in, lanes_out)
        self.parts: list[Pack | Unpack] = []
        if lanes_in != common:
            self.parts.append(Unpack(shape, common, lanes_in // common))
        if lanes_out != common:
            self.parts.append(Pack(shape, common, lanes_out // common))
        super().__init__({"i": In(lane_stream(shape, lanes_in)), "o": Out(lane_stream(shape, lanes_out))})

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [step for part in self.parts for step in part.timing()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wiring.connect(m, in_a_row(m, wiring.flipped(self.i), self.parts), wiring.flipped(self.o))
        return m
