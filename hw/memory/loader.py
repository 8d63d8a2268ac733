"""Loads the memories of a design at start-up, one after the other, from one stream."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.hw.memory.fill import DEPTH, LANE_BITS, LANES, fill_signature


class Loader(wiring.Component):
    """Writes a stream of 16-bit words to ``memories`` in order, each in the order of
    :func:`fewbit.hw.memory.fill.image`.

    After the last word of the last memory it starts again with the first. **Latency**: a word is written in the cycle
    in which it is taken. **Throughput**: a word a cycle.

    Parameters
    ----------
    memories : sequence of (lanes, depth)
        The memories to load: lanes of 16 bits in a word, and words.

    Attributes
    ----------
    words : int
        Number of 16-bit words for all memories.

    Members
    -------
    i : In(stream.Signature(16))
        Always ready.
    fill : array of Out(fill_signature())
        One for each memory.
    loaded : Out(1)
        All memories are loaded: high from the last word until the next one comes. After a reset the next word is the
        first
        one again, but ``loaded`` keeps its value.
    """

    def __init__(self, memories: Sequence[tuple[int, int]]) -> None:
        self.memories = tuple(memories)
        self.lanes = max(LANES, *(lanes for lanes, _ in self.memories), 0)
        self.words = sum(lanes * depth for lanes, depth in self.memories)
        super().__init__(
            {
                "i": In(stream.Signature(LANE_BITS)),
                "fill": Out(fill_signature(self.lanes)).array(len(self.memories)),
                "loaded": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        # `lane` and `address` count through a memory, `turn` through the memories.
        m = Module()
        lane, address = Signal(range(self.lanes)), Signal(range(DEPTH))
        turn = Signal(range(max(2, len(self.memories))))
        loaded = Signal(reset_less=True)
        m.d.comb += [self.i.ready.eq(1), self.loaded.eq(loaded)]
        last_lane, last_word = Signal(), Signal()
        for index, ((lanes, depth), fill) in enumerate(zip(self.memories, self.fill)):
            mine = turn == index
            m.d.comb += [
                fill.enable.eq(self.i.valid & mine),
                fill.lane.eq(lane),
                fill.address.eq(address),
                fill.data.eq(self.i.payload),
            ]
            with m.If(mine):
                m.d.comb += last_lane.eq(lane == lanes - 1)
                m.d.comb += last_word.eq(last_lane & (address == depth - 1))
        last = last_word & (turn == len(self.memories) - 1)
        with m.If(self.i.valid):
            m.d.sync += [lane.eq(Mux(last_lane, 0, lane + 1)), loaded.eq(last)]
            with m.If(last_lane):
                m.d.sync += address.eq(Mux(last_word, 0, address + 1))
            with m.If(last_word):
                m.d.sync += turn.eq(Mux(last, 0, turn + 1))
        return m
