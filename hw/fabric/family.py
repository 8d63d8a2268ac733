"""What distinguishes a family of devices: its adder cells, memories and registers, and the tools that build for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.resources import files

AFTER_READ = ("proc", "splitnets")
"""Yosys passes between reading a design and synthesizing it. Without splitnets, abc9 of every Yosys from 0.58 to 0.70
fails on some designs (``count_id(wire->name) == 0``)."""


class Synthesis(ABC):
    """How Yosys maps a design onto a family. The build and the simulation of the netlist run the same passes.

    Attributes
    ----------
    command : str
        The Yosys command that synthesizes.
    files : tuple of str
        Files of this folder that the passes read.
    models : tuple of str
        Simulation models of the cells that come with Yosys, as paths in its share folder.
    own_models : tuple of str
        Simulation models that fewbit adds, as files of :mod:`fewbit.sim`.
    macros : str
        Verilog macros to put in front of the models.
    cells : frozenset of str
        Primitives that datapaths instantiate.
    """

    command: str
    files: tuple[str, ...]
    models: tuple[str, ...]
    own_models: tuple[str, ...]
    cells: frozenset[str]
    macros: str = ""

    @abstractmethod
    def options(self, *, dsp: bool) -> str:
        """Options of :attr:`command`; the passes of :meth:`afterwards` run after it.

        ``dsp`` lets multiplications use DSP blocks.
        """

    @abstractmethod
    def afterwards(self, *, dsp: bool) -> tuple[str, ...]:
        """Passes that complete the synthesis after :attr:`command`."""

    def support(self) -> dict[str, str]:
        """Contents of the files that the passes read, by name; Yosys needs them in its working folder."""
        return {name: files("fewbit.hw.fabric").joinpath(name).read_text(encoding="utf-8") for name in self.files}


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Programs that build a bitstream, and the names in their reports and files.

    Parameters
    ----------
    place_and_route, pack : str
        Commands.
    pins : str
        Suffix of the pin constraint file.
    volatile : bool
        True: by default boards are programmed until power-off. False: by default their flash is written.
    reported : mapping of str to str
        For each kind of cell in a report, what it counts as: ``logic_cells``, ``flip_flops``, ``block_rams``, ``dsps``
        or
        ``sprams``.
    """

    place_and_route: str
    pack: str
    pins: str
    volatile: bool
    reported: Mapping[str, str] = field(default_factory=dict)


class CarryChain(Enum):
    """The cells that a family builds adders from; :mod:`fewbit.hw.fabric.carry` describes what each can do."""

    NONE = "plain RTL"
    SB_CARRY = "SB_LUT4 with SB_CARRY"
    CCU2C = "CCU2C"


@dataclass(frozen=True, kw_only=True)
class LutCell:
    """The LUT4 primitive of a family.

    Parameters
    ----------
    cell : str
        Verilog name of the primitive.
    contents : str
        Parameter that holds the 16 bits of the truth table.
    inputs : tuple of str
        The four input pins, the one that selects the lowest bit of the row first.
    output : str
        The output pin.
    """

    cell: str
    contents: str
    inputs: tuple[str, str, str, str]
    output: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of FPGAs, standard cells, or (``generic``) plain RTL for any of them.

    Parameters
    ----------
    name : str
        Components take it as their ``target``.
    carry : CarryChain
        What adders and accumulators are built from.
    lut : LutCell or None
        The primitive that datapaths instantiate; None where they are plain RTL.
    gated_clocks : bool
        Whether registers hold their value by a gated clock; otherwise by a clock enable.
    ram_shapes : tuple of (depth, width)
        Aspect ratios of one block RAM; empty where there is none.
    lut_ram : bool
        Whether LUTs can serve as writable memory (distributed RAM).
    free_registers : bool
        Whether a flip-flop without a LUT in front of it takes no logic cell.
    synthesis : Synthesis or None
        How Yosys synthesizes for it; None where fewbit only writes Verilog.
    tools : Tools or None
        What places, routes and packs a bitstream; None where fewbit only writes Verilog.
    """

    name: str
    carry: CarryChain = CarryChain.NONE
    lut: LutCell | None = None
    gated_clocks: bool = False
    ram_shapes: tuple[tuple[int, int], ...] = ()
    lut_ram: bool = False
    free_registers: bool = False
    synthesis: Synthesis | None = None
    tools: Tools | None = None

    @property
    def cells(self) -> bool:
        """Whether datapaths instantiate the family's own cells; otherwise they are plain RTL."""
        return self.carry is not CarryChain.NONE
