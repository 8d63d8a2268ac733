"""The devices that designs are planned for."""

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
        Name on the command line, and name in reports.
    kind : Family
    capacity : Cost or None
        What the device has; None where there is no limit.
    fan_in_mhz : float
        Highest clock, in MHz, at which one pipeline stage can sum 16 single bits: a measure of the speed of the fabric.
    dsp_bits : int
        Widest operand of a DSP block; 0 where there is none.
    dsp_least : int
        Yosys builds a product from LUTs where its operands have at most so many bits together.
    loads : bool
        Whether the design may use memories that have to be loaded after configuration.
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
        """Whether Yosys puts a product of signed numbers of these widths into a DSP block."""
        return max(width_a, width_b) <= self.dsp_bits and width_a + width_b > self.dsp_least

    @property
    def family(self) -> str:
        """Name of the family, which datapaths take as their ``target``."""
        return self.kind.name

    @property
    def ram_shapes(self) -> tuple[tuple[int, int], ...]:
        """Aspect ratios of one block RAM; empty where there is none."""
        return self.kind.ram_shapes

    @property
    def lut_ram(self) -> bool:
        """Whether LUTs can serve as writable memory (distributed RAM)."""
        return self.kind.lut_ram

    @property
    def full_at_start(self) -> Target:
        """The same device, but without the memories that have to be loaded after configuration."""
        return replace(self, loads=False)

    @property
    def widest_word(self) -> int:
        """Bits of the widest word of a block RAM; 0 where there is none."""
        return max((width for _, width in self.ram_shapes), default=0)

    @property
    def weight_bandwidth(self) -> int:
        """Bits a cycle that all block RAMs together read at their widest word: the upper bound for weights."""
        return self.widest_word * self.capacity.rams if self.capacity is not None else 0

    def block_rams(self, depth: int, width: int, *, constant: bool = False) -> int:
        """Block RAMs that ``depth`` words of ``width`` bits take in the best aspect ratio.

        In a ``constant`` memory that is deeper than a block RAM, the parts lie side by side and may share a block RAM.
        """
        return min(
            -(-rows * width // ram_width) if constant else rows * -(-width // ram_width)
            for rows, ram_width in ((-(-depth // ram_depth), ram_width) for ram_depth, ram_width in self.ram_shapes)
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
    """The device called ``name``. Raises FewbitError if it is unknown."""
    for device in TARGETS:
        if device.name == name:
            return device
    raise FewbitError(f"unknown target {name!r}; there are {', '.join(device.name for device in TARGETS)}")
