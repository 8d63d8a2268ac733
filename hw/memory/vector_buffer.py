"""Vector buffers: hold a vector while a folded unit reads it several times, and take the next one meanwhile."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.memory.lut_ram import DISTRIBUTED
from fewbit.hw.memory.rom import BLOCK
from fewbit.hw.streams import lane_stream

RING = "ring"
"""A vector in two rings of flip-flops; else it lies in block or in distributed RAM."""


class VectorBuffer(wiring.Component):
    """Two vectors of ``words`` words: one is read, again and again, while the other fills.

    The reader raises ``next`` for a word, in order, only while ``available``; the word stands on ``word`` from the next
    cycle until ``next`` again. With ``last`` it gives the vector back; before that, reading wraps to word 0.

    With ``readers`` each of these reads, all at once, the word at an ``address`` of its own.

    **Latency**: ``available`` rises ``latency`` cycles after the last word came. **Throughput**: a word a cycle on both
    sides; in rings the input pauses for the one cycle in which a vector moves over.
    Cost: block RAM for ``2 * words`` words, or LUT RAM, or ``2 * words + 1`` words of logic cells; with ``readers`` a
    copy each, of a power of two.

    Parameters
    ----------
    shape : Shape
        Of one lane.
    lanes : int
    words : int
        Beats in a vector.
    style : ``"block"``, ``"distributed"`` or ``"ring"``
    readers : int
        That read at addresses; 0: one, which reads in order.

    Members
    -------
    i : In(stream of lanes)
    available : Out(1)
    next, last : In(1)
    address : In
        The word of each reader, the first in the lowest bits; absent without ``readers``.
    word : Out(lanes * width)
        Of each reader, likewise.

    Raises
    ------
    FewbitError
        If lanes or words are below 1, there is no such style, or a ring is to be read at addresses.
    """

    def __init__(self, shape: Shape, lanes: int, words: int, style: str, readers: int = 0) -> None:
        if lanes < 1 or words < 1:
            raise FewbitError(f"a vector buffer needs at least 1 lane and 1 word, not {lanes} and {words}")
        if style not in (BLOCK, DISTRIBUTED, RING):
            raise FewbitError(f'a vector buffer must be "block", "distributed" or "ring", not {style!r}')
        if readers and style == RING:
            raise FewbitError('a vector that is read at addresses lies in "block" or "distributed", not "ring"')
        self.shape, self.lanes, self.words, self.style = Shape.cast(shape), lanes, words, style
        self.readers, self.address_bits = readers, (words - 1).bit_length()
        self.width = self.shape.width * lanes
        self.latency = 2 if style == RING else 1
        super().__init__(
            {
                "i": In(lane_stream(shape, lanes)),
                "available": Out(1),
                "next": In(1),
                "last": In(1),
                **({"address": In(readers * self.address_bits)} if readers else {}),
                "word": Out(max(1, readers) * self.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        return self._rings() if self.style == RING else self._banks()

    def _banks(self) -> Module:
        # A memory of two banks. `full` says which banks hold a whole vector; writer and reader take them in turn.
        # A bank of a power of two has an adder in front of no reader's address.
        m = Module()
        bank = 1 << self.address_bits if self.readers else self.words
        m.submodules.memory = memory = Memory(
            shape=self.width, depth=2 * bank, init=[], attrs={"ram_style": self.style}
        )
        write, reads = memory.write_port(), [memory.read_port() for _ in range(max(1, self.readers))]
        full = [Signal(name="full_0"), Signal(name="full_1")]
        writing, reading = Signal(), Signal()
        written, taken = Signal(range(self.words)), Signal(range(self.words))
        m.d.comb += [
            self.i.ready.eq(~Mux(writing, full[1], full[0])),
            self.available.eq(Mux(reading, full[1], full[0])),
            write.addr.eq(Mux(writing, written + bank, written)),
            write.data.eq(self.i.payload),
            write.en.eq(self.i.valid & self.i.ready),
            self.word.eq(Cat(read.data for read in reads)),
        ]
        for reader, read in enumerate(reads):
            place = self.address.word_select(reader, self.address_bits) if self.readers else taken
            m.d.comb += [read.addr.eq(Mux(reading, place + bank, place)), read.en.eq(self.next)]
        with m.If(write.en):
            m.d.sync += written.eq(written + 1)
            with m.If(written == self.words - 1):
                m.d.sync += [written.eq(0), writing.eq(~writing)]
        with m.If(self.next):
            m.d.sync += taken.eq(taken + 1)
            with m.If(taken == self.words - 1):
                m.d.sync += taken.eq(0)
            with m.If(self.last):
                m.d.sync += reading.eq(~reading)
        for bank in (0, 1):
            with m.If(write.en & (written == self.words - 1) & (writing == bank)):
                m.d.sync += full[bank].eq(1)
            with m.If(self.next & self.last & (reading == bank)):
                m.d.sync += full[bank].eq(0)
        return m

    def _rings(self) -> Module:
        # `arriving` shifts a vector in; whole, it moves in one cycle to `serving`, which turns a word at each read.
        m = Module()
        size = self.width * self.words
        arriving, serving = Signal(size, reset_less=True), Signal(size, reset_less=True)
        arrived = Signal(range(self.words + 1))
        whole, move = Signal(), Signal()
        m.d.comb += [
            whole.eq(arrived == self.words),
            move.eq(whole & (~self.available | (self.next & self.last))),
            self.i.ready.eq(~whole),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += arriving.eq((arriving | (self.i.payload.as_value() << size)) >> self.width)
            m.d.sync += arrived.eq(arrived + 1)
        with m.If(self.next):
            m.d.sync += self.word.eq(serving[: self.width])
            m.d.sync += serving.eq(serving.rotate_right(self.width))
            with m.If(self.last):
                m.d.sync += self.available.eq(0)
        with m.If(move):
            m.d.sync += [serving.eq(arriving), arrived.eq(0), self.available.eq(1)]
        return m
