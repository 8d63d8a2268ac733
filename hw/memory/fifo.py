"""A first-in, first-out buffer for a stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.memory.lut_ram import DEEPEST, DISTRIBUTED, lut_ram_cells
from fewbit.hw.memory.rom import BLOCK, LOGIC
from fewbit.hw.steps import BUFFER_LATENCY
from fewbit.hw.streams import lane_stream


class Fifo(wiring.Component):
    """Buffers up to ``depth`` beats of a stream, first in, first out.

    **Latency**: a beat is offered ``latency`` = 2 cycles after it was taken. **Throughput**: one beat a cycle on both
    sides if the depth is at least 3. There is no combinational path between the two sides: a place is free again in the
    cycle after its beat was transferred.
    Cost: memory for ``depth`` beats, two address counters and two counters of beats.

    Parameters
    ----------
    shape : Shape
        Shape of one lane.
    lanes : int
    depth : int
        Largest number of beats in the buffer, including the one at the output.
    memory : ``"block"``, ``"distributed"`` or ``"logic"``
        Memory of the beats; ``"logic"`` is flip-flops.

    Members
    -------
    i : In(stream of lanes)
    o : Out(stream of lanes)

    Raises
    ------
    FewbitError
        If the depth is below 1, or there is no such memory.
    """

    latency = BUFFER_LATENCY

    def __init__(self, shape: Shape, lanes: int, depth: int, memory: str = BLOCK) -> None:
        if depth < 1:
            raise FewbitError(f"a buffer holds at least 1 beat, not {depth}")
        if memory not in (BLOCK, DISTRIBUTED, LOGIC):
            raise FewbitError(f'the memory of a buffer must be "block", "distributed" or "logic", not {memory!r}')
        self.shape, self.lanes, self.depth, self.memory = Shape.cast(shape), lanes, depth, memory
        super().__init__({"i": In(lane_stream(shape, lanes)), "o": Out(lane_stream(shape, lanes))})

    def elaborate(self, platform: object) -> Module:
        # `held` counts the beats in the buffer, `unread` those of them that are not yet in the memory's output
        # register, which is the output of the buffer.
        m = Module()
        places = max(2, self.depth)
        m.submodules.memory = memory = Memory(
            shape=len(self.i.payload.as_value()), depth=places, init=[], attrs={"ram_style": self.memory}
        )
        write, read = memory.write_port(), memory.read_port()
        held, unread = Signal(range(self.depth + 1)), Signal(range(self.depth + 1))
        come, fetch, go = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(held != self.depth),
            come.eq(self.i.valid & self.i.ready),
            fetch.eq((unread != 0) & (~self.o.valid | self.o.ready)),
            go.eq(self.o.valid & self.o.ready),
            write.data.eq(self.i.payload),
            write.en.eq(come),
            read.en.eq(fetch),
            self.o.payload.as_value().eq(read.data),
        ]
        for port, moves in ((write, come), (read, fetch)):
            with m.If(moves):
                m.d.sync += port.addr.eq(Mux(port.addr == self.depth - 1, 0, port.addr + 1))
        m.d.sync += [held.eq(held + come - go), unread.eq(unread + come - fetch)]
        with m.If(fetch | self.o.ready):
            m.d.sync += self.o.valid.eq(fetch)
        return m


MOST_REGISTERS = 64
"""Largest number of bits that are kept in flip-flops; larger buffers are put in RAM."""


def fifo_memory(depth: int, width: int, target: Target) -> str:
    """The best memory for a buffer of ``depth`` words of ``width`` bits."""
    if depth * width <= MOST_REGISTERS or not target.ram_shapes:
        return LOGIC
    return DISTRIBUTED if target.lut_ram and depth <= DEEPEST else BLOCK


def fifo_cost(depth: int, width: int, target: Target) -> Cost:
    """Cost of a :class:`Fifo` of ``depth`` words of ``width`` bits in its best memory."""
    count = depth.bit_length()
    walk = Cost(cells=10 * count + 6, ffs=4 * count + 1)
    memory = fifo_memory(depth, width, target)
    if memory == LOGIC:
        return walk + Cost(cells=2 * depth * width, ffs=(depth + 1) * width)
    if memory == DISTRIBUTED:
        return walk + Cost(cells=lut_ram_cells(depth, width), ffs=width)
    return walk + Cost(rams=target.block_rams(depth, width))
