# amaranth: UnusedElaboratable=no
"""Weights in RAM made of LUTs, which is empty at the start: shallow memories of any width."""

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
"""Words beyond which block RAM is the better place."""


def lut_ram_cells(depth: int, width: int) -> int:
    """ECP5 LUT RAM: blocks of 16 words by 4 bits, each with the LUTs that it writes through, and what picks one."""
    blocks = -(-depth // 16)
    return 6 * blocks * -(-width // 4) + (blocks - 1) * width


def check_depth(depth: int) -> None:
    """Raises FewbitError if a memory is too deep to be one of these."""
    if depth > DEEPEST:
        raise FewbitError(f"distributed RAM holds at most {DEEPEST} words of weights, not {depth:,}")


class LutRam(wiring.Component):
    """``depth`` words of ``bits`` bits, all of one read or 16 bits of one written in a cycle.

    Nothing is in it before it was filled. **Latency**: a word stands on ``read.data`` a cycle after ``read.en``, until
    ``read.en`` again. Cost: :func:`lut_ram_cells`, and a flip-flop a bit.

    Source: Lattice FPGA-TN-02204, ECP5 memory usage guide: distributed RAM of 16 words by 4 bits.

    Parameters
    ----------
    bits : int
    depth : int
        At most 64.

    Attributes
    ----------
    lanes : int
        Parts of 16 bits.

    Members
    -------
    fill : In(fill_signature(lanes))
    read : In(addr, en; data)

    Raises
    ------
    FewbitError
        If it is deeper.
    """

    def __init__(self, bits: int, depth: int) -> None:
        check_depth(depth)
        self.bits, self.depth, self.lanes = bits, depth, lanes_of(bits)
        read = wiring.Signature({"addr": Out(range(depth)), "en": Out(1, init=1), "data": In(bits)})
        super().__init__({"fill": In(fill_signature(self.lanes)), "read": In(read)})

    def read_port(self) -> wiring.PureInterface:
        """``read``, by the name that memories have for it."""
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
    """Distributed RAM: weights that a host may change without a new bitstream, at about what constants take."""

    name, title, preloaded = DISTRIBUTED, "distributed RAM", False

    def offered(self, target: Target) -> bool:
        return target.loads and target.lut_ram

    def cost(self, contents: Contents, target: Target) -> Cost:
        return Cost(cells=lut_ram_cells(contents.depth, contents.width), ffs=contents.width)

    def component(self, bits: int, words: Sequence[int], target: str) -> LutRam:
        return LutRam(bits, len(words))

    def check(self, bits: int, depth: int) -> None:
        check_depth(depth)
