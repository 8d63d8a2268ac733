# amaranth: UnusedElaboratable=no
"""Weights in distributed RAM (LUTs), which is empty after configuration: shallow memories of any width."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.memory.fill import LANE_BITS, fill_signature, lanes_of
from fewbit.hw.memory.kind import Contents, WeightMemory

DISTRIBUTED = "distributed"

DEEPEST = 64
"""Most words of weights in distributed RAM; for more, block RAM is better."""


def lut_ram_cells(depth: int, width: int) -> int:
    """LUT4s of ECP5 distributed RAM: blocks of 16 words by 4 bits, each with the LUTs of its write port, and the
    multiplexers between blocks."""
    blocks = -(-depth // 16)
    return 6 * blocks * -(-width // 4) + (blocks - 1) * width


def check_depth(depth: int) -> None:
    """Raises FewbitError if ``depth`` words are too many for distributed RAM."""
    if depth > DEEPEST:
        raise FewbitError(f"distributed RAM holds at most {DEEPEST} words of weights, not {depth:,}")


class LutRam(wiring.Component):
    """``depth`` words of ``bits`` bits. In a cycle one whole word is read, and 16 bits of a word are written.

    Its contents are undefined until it is loaded. **Latency**: one cycle after ``read.en`` the word is on
    ``read.data``, and stays there until ``read.en`` is high again. Cost: :func:`lut_ram_cells`, and a flip-flop a bit.

    Source: Lattice FPGA-TN-02204, ECP5 memory usage guide: distributed RAM of 16 words by 4 bits.

    Parameters
    ----------
    bits : int
    depth : int
        At most 64.

    Attributes
    ----------
    lanes : int
        Number of 16-bit parts of a word.

    Members
    -------
    fill : In(fill_signature(lanes))
    read : In(addr, en; data)

    Raises
    ------
    FewbitError
        If ``depth`` is more than 64.
    """

    def __init__(self, bits: int, depth: int) -> None:
        check_depth(depth)
        self.bits, self.depth, self.lanes = bits, depth, lanes_of(bits)
        read = wiring.Signature({"addr": Out(range(depth)), "en": Out(1, init=1), "data": In(bits)})
        super().__init__({"fill": In(fill_signature(self.lanes)), "read": In(read)})

    def read_port(self) -> wiring.PureInterface:
        """The port ``read``; this method exists so that all memories are used alike."""
        return self.read

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fill, read = self.fill, self.read
        words = []
        for lane in range(self.lanes):
            width = min(LANE_BITS, self.bits - lane * LANE_BITS)
            m.submodules[f"lane_{lane}"] = memory = Memory(
                shape=width, depth=self.depth, init=[], attrs={"ram_style": DISTRIBUTED}
            )
            write, port = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(fill.address),
                write.data.eq(fill.data),
                write.en.eq(fill.enable & (fill.lane == lane)),
                port.addr.eq(read.addr),
            ]
            word = Signal(width, name=f"word_{lane}", reset_less=True)
            with m.If(read.en):
                m.d.sync += word.eq(port.data)
            words.append(word)
        m.d.comb += read.data.eq(Cat(*words))
        return m


class LutRamWeights(WeightMemory):
    """Distributed RAM: a host may change the weights without a new bitstream. It costs about as much as constants
    in LUTs."""

    name, title, preloaded = DISTRIBUTED, "distributed RAM", False

    def offered(self, target: Target) -> bool:
        return target.loads and target.lut_ram

    def cost(self, contents: Contents, target: Target) -> Cost:
        return Cost(cells=lut_ram_cells(contents.depth, contents.width), ffs=contents.width)

    def component(self, bits: int, words: Sequence[int], target: str) -> LutRam:
        return LutRam(bits, len(words))

    def check(self, bits: int, depth: int) -> None:
        check_depth(depth)
