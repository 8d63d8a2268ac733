"""Vector buffers: hold a vector while a folded unit reads it several times, and take in the next one meanwhile."""

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
"""Style of a buffer: vectors in flip-flops that rotate; the other styles are block and distributed RAM."""


class VectorBuffer(wiring.Component):
    """Holds two vectors of ``words`` words: one is read, any number of times, while the other is filled.

    To read the next word, the reader raises ``next``, only while ``available`` is high. The word is on ``word`` from
    the next cycle until ``next`` is high again. After the last word, reading continues with word 0. ``last`` together
    with ``next`` releases the vector.

    With ``readers`` above 0, so many readers read at once, each at its own ``address``.

    **Latency**: ``available`` rises ``latency`` cycles after the last word was taken. **Throughput**: a word a cycle on
    both sides; with ``ring``, the input pauses for one cycle when a vector moves to the reader. Cost: block or
    distributed RAM for ``2 * words`` words, or ``2 * words + 1`` words of logic cells; with ``readers`` a copy for
    each, with ``words`` rounded up to a power of two.

    Parameters
    ----------
    shape : Shape
        Shape of one lane.
    lanes : int
        Lanes of a word.
    words : int
        Words (beats) of a vector.
    style : ``"block"``, ``"distributed"`` or ``"ring"``
    readers : int
        Readers with an address; 0 for a single reader that reads in order.

    Members
    -------
    i : In(stream of lanes)
    available : Out(1)
        A vector is complete.
    next, last : In(1)
    address : In(readers * address_bits)
        The word that each reader reads, the first reader in the lowest bits; absent without ``readers``.
    word : Out(lanes * width)
        The word of each reader, the first reader in the lowest bits.

    Raises
    ------
    FewbitError
        If lanes or words are below 1, the style is unknown, or ``ring`` is combined with ``readers``.
    """

    def __init__(self, shape: Shape, lanes: int, words: int, style: str, readers: int = 0) -> None:
        if lanes < 1 or words < 1:
            raise FewbitError(f"a vector buffer needs at least 1 lane and 1 word, not {lanes} and {words}")
        if style not in (BLOCK, DISTRIBUTED, RING):
            raise FewbitError(f'a vector buffer must be "block", "distributed" or "ring", not {style!r}')
        if readers and style == RING:
            raise FewbitError('a vector buffer with readers must be "block" or "distributed", not "ring"')
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
        # A memory of two banks. `full` says which banks hold a whole vector; writer and reader alternate between them.
        # With readers, a bank is a power of two long, so no address needs an adder.
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
        # `arriving` shifts a vector in; a whole one moves in one cycle to `serving`, which rotates by a word a read.
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
