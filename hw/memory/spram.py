"""Weights in iCE40 UltraPlus SPRAM, which is empty after configuration: four single-port blocks of 16,384 words by 16
bits."""

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
"""Name of this kind of memory."""

MOST_LANES = 4
"""Blocks in a device."""

ADDRESS_CELLS = 20
"""Logic cells of a memory beside its blocks: the multiplexer of read and write address, and the write enables."""


def check_size(bits: int, depth: int) -> None:
    """Raises FewbitError if SPRAM cannot hold ``depth`` words of ``bits`` bits."""
    if depth > DEPTH or lanes_of(bits) > MOST_LANES:
        raise FewbitError(
            f"SPRAM holds at most {DEPTH:,} words of up to {MOST_LANES * LANE_BITS} bits, not {depth:,} of {bits}"
        )


class Spram(wiring.Component):
    """``depth`` words of ``bits`` bits in up to four blocks side by side. In a cycle either a whole word is read or 16
    bits of a word are written.

    Its contents are undefined until it is loaded. **Latency**: one cycle after ``read.en`` the word is on
    ``read.data``, and stays there until ``read.en`` is high again, as with :class:`amaranth.lib.memory.Memory`. A write
    makes ``read.data`` undefined. Cost: a block for every 16 bits, and a logic cell for every bit of the address.

    Source: Lattice FPGA-TN-02022, iCE40 SPRAM usage guide.

    Parameters
    ----------
    bits : int
        At most 64.
    depth : int
        At most 16,384.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        With ``ice40`` it instantiates SB_SPRAM256KA; with others it is a memory that any simulator reads.

    Attributes
    ----------
    lanes : int
        Number of blocks.

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
        """The port ``read``; this method exists so that all memories are used alike."""
        return self.read

    def elaborate(self, platform: object) -> Module:
        # The blocks have one port: while it writes, nothing is read.
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
    """SPRAM of iCE40 UltraPlus: a host loads the weights after configuration."""

    name, title, preloaded = SPRAM, "SPRAM", False

    def offered(self, target: Target) -> bool:
        return target.loads and target.capacity is not None and target.capacity.sprams > 0

    def cost(self, contents: Contents, target: Target) -> Cost:
        return Cost(cells=ADDRESS_CELLS, sprams=lanes_of(contents.width))

    def component(self, bits: int, words: Sequence[int], target: str) -> Spram:
        return Spram(bits, len(words), target)

    def check(self, bits: int, depth: int) -> None:
        check_size(bits, depth)
