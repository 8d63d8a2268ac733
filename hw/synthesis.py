"""How Yosys maps a design onto a device: the options that a build and the simulation of its netlist have in common."""

from __future__ import annotations

from typing import Literal

Family = Literal["ice40", "ecp5"]

AFTER_READ = ("proc", "splitnets")
"""Passes between reading a design and synthesizing it. Without splitnets, abc9 of every Yosys from 0.58 to 0.70 fails on
some designs (``count_id(wire->name) == 0``)."""


def options(family: Family, *, dsp: bool) -> str:
    """What ``synth_ice40`` or ``synth_ecp5`` is given.

    ``dsp`` lets iCE40 multiplications use DSP blocks, which only UltraPlus has. On ECP5 they always may.
    """
    if family == "ecp5":
        return "-nowidelut"  # the wide multiplexers that it uses otherwise double the LUTs of a popcount
    return "-dsp" if dsp else ""
