# amaranth: UnusedElaboratable=no
"""Streams of lanes: shapes, and components that change how many lanes a beat has."""

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
from fewbit.hw.schedule import PackStep, Step, UnpackStep


def shape_of(dtype: DType) -> Shape:
    """How an element of ``dtype`` lies in a signal: bipolar is one bit, 0 for -1."""
    return signed(dtype.bits) if dtype.signed else unsigned(dtype.bits)


def number(element: Value, dtype: DType) -> Value:
    """The value that a stored ``element`` stands for: a bipolar bit b becomes the two-bit number 2b - 1."""
    return Cat(Const(1, 1), ~element).as_signed() if dtype.kind == "bipolar" else element


def lane_stream(shape: Shape, lanes: int) -> stream.Signature:
    """Stream whose beat is ``lanes`` elements of ``shape``, the first in the lowest bits."""
    return stream.Signature(data.ArrayLayout(shape, lanes))


def in_a_row(m: Module, source: Any, parts: Iterable[Any]) -> Any:
    """Makes ``parts`` submodules of ``m``, named by their kind, each fed by the one before; what the last one gives."""
    for part in parts:
        m.submodules[type(part).__name__.lower()] = part
        wiring.connect(m, source, part.i)
        source = part.o
    return source


def to_stream(frames: Ints, shape: tuple[int, ...]) -> Ints:
    """Frames in the order in which their elements stream: maps row by row, channels last; all else in C order.

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
    """Collects ``ratio`` beats of ``lanes_in`` lanes into one of ``lanes_in * ratio``.

    **Latency**: a beat leaves 1 cycle after its last part came. **Throughput**: takes a beat a cycle.
    Cost: one flip-flop a payload bit.

    Parameters
    ----------
    shape : Shape
        Of one lane.
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
        """Fresh timing models of this component, in stream order."""
        return [PackStep(self.ratio)]

    def elaborate(self, platform: object) -> Module:
        # Parts shift in from the top, so that after `ratio` of them the first lies lowest. While the full word waits,
        # `filled` stands at `ratio`; a new part may come in the very cycle in which the word goes out.
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
    """Gives a beat of ``lanes_out * ratio`` lanes as ``ratio`` beats of ``lanes_out``, lowest lanes first.

    **Latency**: 1 cycle to the first part. **Throughput**: gives a beat a cycle. Cost: one flip-flop a payload bit.

    Parameters
    ----------
    shape : Shape
        Of one lane.
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
        """Fresh timing models of this component, in stream order."""
        return [UnpackStep(self.ratio)]

    def elaborate(self, platform: object) -> Module:
        # The word shifts down a part at a time; `left` counts the parts still in it.
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
    """Changes the lanes of a stream from ``lanes_in`` to ``lanes_out`` through their greatest common divisor.

    A frame must be a multiple of both; the elements keep their order. Where one number divides the other this is a
    single :class:`Pack` or :class:`Unpack`, where they are equal it is wires.

    **Latency** and **throughput**: see ``parts``, the components in order.

    Parameters
    ----------
    shape : Shape
        Of one lane.
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
        """Fresh timing models of this component, in stream order."""
        return [step for part in self.parts for step in part.timing()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wiring.connect(m, in_a_row(m, wiring.flipped(self.i), self.parts), wiring.flipped(self.o))
        return m
