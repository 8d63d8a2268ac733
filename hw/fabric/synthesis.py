"""How Yosys maps a design onto a device: the passes that a build and the simulation of its netlist have in common."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

Family = Literal["ice40", "ecp5"]

AFTER_READ = ("proc", "splitnets")
"""Passes between reading a design and synthesizing it. Without splitnets, abc9 of every Yosys from 0.58 to 0.70 fails
on some designs (``count_id(wire->name) == 0``)."""

_RAM_MAP = "ice40_brams.v"
_CARRY_MAP = "ecp5_carries.v"


def options(family: Family, *, dsp: bool) -> str:
    """What ``synth_ice40`` or ``synth_ecp5`` is given first; the passes of :func:`afterwards` follow.

    ``dsp`` lets multiplications use DSP blocks, which of iCE40 only UltraPlus has.
    """
    if family == "ecp5":
        # The wide multiplexers that it uses otherwise double the LUTs of a popcount.
        return "-nowidelut" + ("" if dsp else " -nodsp")
    return f"{'-dsp ' if dsp else ''}-run begin:map_ram"


def afterwards(family: Family, *, dsp: bool) -> tuple[str, ...]:
    """Passes that end the synthesis.

    On iCE40, block RAM by our own map (docs/decisions/0006), then the rest. On ECP5, the ends of carry chains are left
    open where they may be, which saves up to four LUTs a chain.
    """
    if family == "ecp5":
        return (
            "select -set read t:* %ci1 o:* %u w:* %i",  # a carry may go into a register as well
            "select -set inner @read %ci1:+[COUT] t:CCU2C %i",
            f"techmap -max_iter 1 -D LAST -map {_CARRY_MAP} t:CCU2C @inner %d",
            f"techmap -max_iter 1 -map {_CARRY_MAP} t:CCU2C",
        )
    return (
        "memory_libmap -lib +/ice40/brams.txt -lib +/ice40/spram.txt -no-auto-huge",
        f"techmap -map {_RAM_MAP} -map +/ice40/spram_map.v",
        "ice40_braminit",
        f"synth_ice40 {'-dsp ' if dsp else ''}-run map_ffram:",
    )


def support(family: Family) -> dict[str, str]:
    """Files that the passes read, by name; they belong into the folder in which Yosys runs."""
    name = _CARRY_MAP if family == "ecp5" else _RAM_MAP
    return {name: files("fewbit.hw.fabric").joinpath(name).read_text(encoding="utf-8")}
