"""Weights in RAM that is empty at the start: the four single-port blocks of 16,384 words by 16 bits of an UltraPlus."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.memory.fill import DEPTH, LANE_BITS, fill_signature, lanes_of
from fewbit.hw.memory.kind import Contents, WeightMemory

SPRAM = "spram"
"""Where weights lie that are not there from the start."""

MOST_LANES = 4
"""Blocks that a device has."""

ADDRESS_CELLS = 20
"""Logic cells that a memory takes beside its blocks: two addresses, and who writes."""


def check_size(bits: int, depth: int) -> None:
    """Raises FewbitError if a memory cannot be one of these."""
    if depth > DEPTH or lanes_of(bits) > MOST_LANES:
        raise FewbitError(
            f"SPRAM holds at most {DEPTH:,} words of up to {MOST_LANES * LANE_BITS} bits, not {depth:,} of {bits}"
        )


class Spram(wiring.Component):
    """``depth`` words of ``bits`` bits in up to four blocks side by side, all read or one written in a cycle.

    Nothing is in it before it was filled. **Latency**: a word stands on ``read.data`` a cycle after ``read.en``, until
    ``read.en`` again; as of a read port of :class:`amaranth.lib.memory.Memory`. A write leaves ``read.data`` undefined.
    Cost: a block for every 16 bits, and a logic cell for every bit of the address.

    Source: Lattice FPGA-TN-02022, iCE40 SPRAM usage guide.

    Parameters
    ----------
    bits : int
        At most 64.
    depth : int
        At most 16,384.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        Blocks of iCE40 UltraPlus, or a memory that any simulator reads.

    Attributes
    ----------
    lanes : int
        Blocks.

    Members
    -------
    fill : In(fill_signature())
    read : In(addr, en; data)

    Raises
    ------
    FewbitError
        If it does not fit the four blocks.
    """

    def __init__(self, bits: int, depth: int, target: str = "generic") -> None:
        check_size(bits, depth)
        self.bits, self.depth, self.target = bits, depth, target
        self.lanes = lanes_of(bits)
        read = wiring.Signature({"addr": Out(range(depth)), "en": Out(1, init=1), "data": In(bits)})
        super().__init__({"fill": In(fill_signature()), "read": In(read)})

    def read_port(self) -> wiring.PureInterface:
        """``read``, by the name that memories have for it."""
        return self.read

    def elaborate(self, platform: object) -> Module:
        # The one port is the filler's while it writes; nothing is read then.
        m = Module()
        fill, read = self.fill, self.read
        address = Signal(range(DEPTH))
        m.d.comb += address.eq(Mux(fill.enable, fill.address, read.addr))
        words = []
        for lane in range(self.lanes):
            chosen, word = Signal(name=f"chosen_{lane}"), Signal(LANE_BITS, name=f"word_{lane}")
            m.d.comb += chosen.eq(fill.enable & (fill.lane == lane))
            if self.target == "ice40":
                self._block(m, lane, address, chosen, word)
            else:
                m.submodules[f"block_{lane}"] = memory = Memory(shape=LANE_BITS, depth=self.depth, init=[])
                write, port = memory.write_port(), memory.read_port()
                m.d.comb += [write.addr.eq(address), write.data.eq(fill.data), write.en.eq(chosen)]
                m.d.comb += [port.addr.eq(address), port.en.eq(read.en), word.eq(port.data)]
            words.append(word)
        m.d.comb += read.data.eq(Cat(*words))
        return m

    def _block(self, m: Module, lane: int, address: Signal, chosen: Signal, word: Signal) -> None:
        m.submodules[f"block_{lane}"] = Instance(
            "SB_SPRAM256KA",
            i_ADDRESS=address,
            i_DATAIN=self.fill.data,
            i_MASKWREN=Const(0b1111, 4),
            i_WREN=chosen,
            i_CHIPSELECT=chosen | self.read.en,
            i_CLOCK=ClockSignal(),
            i_STANDBY=Const(0, 1),
            i_SLEEP=Const(0, 1),
            i_POWEROFF=Const(1, 1),
            o_DATAOUT=word,
        )


class SpramWeights(WeightMemory):
    """SPRAM of iCE40 UltraPlus."""

    name, title, preloaded = SPRAM, "SPRAM", False

    def offered(self, target: Target) -> bool:
        return target.loads and target.capacity is not None and target.capacity.sprams > 0

    def cost(self, contents: Contents, target: Target) -> Cost:
        return Cost(cells=ADDRESS_CELLS, sprams=lanes_of(contents.width))

    def component(self, bits: int, words: Sequence[int], target: str) -> Spram:
        return Spram(bits, len(words), target)

    def check(self, bits: int, depth: int) -> None:
        check_size(bits, depth)
