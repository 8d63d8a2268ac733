"""Registers with an enable: by clock enables on FPGAs, by gated clocks on chips.

A gated clock comes from a cell of the chip's library, an *integrated clock gate*: a latch that follows the enable while
the clock is low, and an AND. So the enable may settle at any time before the clock rises, and the gated clock has no
glitches. :meth:`GateCell.model` is a simulation model of such a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, Value

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import Target
from fewbit.hw.fabric.families import family


@dataclass(frozen=True, kw_only=True)
class GateCell:
    """An integrated clock gate of a cell library.

    Parameters
    ----------
    name : str
        The cell, such as ``sky130_fd_sc_hd__dlclkp_1``.
    clock, enable, gated : str
        Its pins: clock in, enable in, gated clock out.

    Raises
    ------
    FewbitError
        If one of them is not a Verilog identifier.
    """

    name: str = "fewbit_clock_gate"
    clock: str = "clk"
    enable: str = "en"
    gated: str = "gclk"

    def __post_init__(self) -> None:
        for word in (self.name, self.clock, self.enable, self.gated):
            if not word.isidentifier() or not word.isascii():
                raise FewbitError(f"a clock gate and its pins are named by Verilog identifiers, not {word!r}")

    def model(self) -> str:
        """A Verilog model of the cell for simulation; leave it out where the library brings its own."""
        return f"""\
module {self.name}(input {self.clock}, input {self.enable}, output {self.gated});
  reg held;
  always @* if (!{self.clock}) held = {self.enable};
  assign {self.gated} = {self.clock} & held;
endmodule
"""


def advance(m: Module, name: str, target: Target, enable: Value, statements: Any, cell: GateCell) -> None:
    """Registers take on ``statements`` at clock edges at which ``enable`` is high, and hold their value at the others.

    For the target ``asic`` they get a clock domain of their own, gated by ``cell``, and must not have a reset; for
    other targets they get a clock enable.
    """
    if not family(target).gated_clocks:
        with m.If(enable):
            m.d.sync += statements
        return
    domain = f"{name}_gated"
    m.domains += ClockDomain(domain, local=True, reset_less=True)
    m.submodules[f"{name}_gate"] = Instance(
        cell.name, ("i", cell.clock, ClockSignal()), ("i", cell.enable, enable), ("o", cell.gated, ClockSignal(domain))
    )
    m.d[domain] += statements
