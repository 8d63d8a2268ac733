"""Devices, and what a block costs on them, predicted before synthesis."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fewbit.golden.errors import FewbitError
from fewbit.hw.cost import Cost
from fewbit.hw.fabric import ecp5, ice40
from fewbit.hw.fabric.family import Family
from fewbit.hw.fabric.generic import ASIC


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device that a design is made for.

    Attributes
    ----------
    name, title : str
    kind : Family
    capacity : Cost or None
        What the device has; None where there is no limit.
    fan_in_mhz : float
        Clock up to which a sum of 16 single bits goes into one pipeline stage: how fast the fabric is.
    dsp_bits, dsp_least : int
        Widest operand of a DSP block, and most bits of a product that Yosys still makes of LUTs.
    loads : bool
        Whether memories may be used that have to be loaded first.
    """

    name: str
    title: str
    kind: Family
    capacity: Cost | None
    fan_in_mhz: float
    dsp_bits: int = 0
    dsp_least: int = 0
    loads: bool = True

    def multiplies(self, width_a: int, width_b: int) -> bool:
        """Whether a DSP block takes a product of signed numbers of these widths."""
        return max(width_a, width_b) <= self.dsp_bits and width_a + width_b > self.dsp_least

    @property
    def family(self) -> str:
        """Name of the family: the target that its datapaths are made for."""
        return self.kind.name

    @property
    def ram_shapes(self) -> tuple[tuple[int, int], ...]:
        """Aspect ratios of one block RAM; empty where there is none."""
        return self.kind.ram_shapes

    @property
    def lut_ram(self) -> bool:
        """Whether LUTs can be a memory that is written."""
        return self.kind.lut_ram

    @property
    def full_at_start(self) -> Target:
        """The device without the memories that have to be loaded first."""
        return replace(self, loads=False)

    @property
    def widest_word(self) -> int:
        """Bits of the widest word of a block RAM; 0 where there is none."""
        return max((width for _, width in self.ram_shapes), default=0)

    @property
    def weight_bandwidth(self) -> int:
        """Bits a cycle that all block RAMs give at their widest word: the most weights that a plan reads from them."""
        return self.widest_word * self.capacity.rams if self.capacity is not None else 0

    def block_rams(self, depth: int, width: int, *, constant: bool = False) -> int:
        """Block RAMs that a memory of ``depth`` words of ``width`` bits takes in the best aspect ratio. Of a
        ``constant`` one the parts beyond a RAM's depth lie side by side, and may share a RAM."""
        return min(
            -(-rows * width // one_width) if constant else rows * -(-width // one_width)
            for rows, one_width in ((-(-depth // one_depth), one_width) for one_depth, one_width in self.ram_shapes)
        )


TARGETS: tuple[Target, ...] = (
    Target(
        name="up5k", title="Lattice iCE40UP5K", kind=ice40.FAMILY, capacity=Cost(cells=5280, rams=30, dsps=8, sprams=4),
        fan_in_mhz=36, dsp_bits=16, dsp_least=11,
    ),
    Target(
        name="hx8k", title="Lattice iCE40HX8K", kind=ice40.FAMILY, capacity=Cost(cells=7680, rams=32),
        fan_in_mhz=100,
    ),
    Target(
        name="ecp5-25k", title="Lattice LFE5U-25F", kind=ecp5.FAMILY, capacity=Cost(cells=24288, rams=56, dsps=28),
        fan_in_mhz=100, dsp_bits=18, dsp_least=3,
    ),
    Target(
        name="ecp5-85k", title="Lattice LFE5U-85F", kind=ecp5.FAMILY, capacity=Cost(cells=83640, rams=208, dsps=156),
        fan_in_mhz=100, dsp_bits=18, dsp_least=3,
    ),
    Target(name="asic", title="standard cells", kind=ASIC, capacity=None, fan_in_mhz=200),
)  # fmt: skip


def target(name: str) -> Target:
    """The target called ``name``. Raises FewbitError on an unknown one."""
    for one in TARGETS:
        if one.name == name:
            return one
    raise FewbitError(f"unknown target {name!r}; there are {', '.join(one.name for one in TARGETS)}")
