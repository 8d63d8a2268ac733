"""All families of devices."""

from __future__ import annotations

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric import ecp5, ice40
from fewbit.hw.fabric.family import Family, Synthesis, Tools
from fewbit.hw.fabric.generic import ASIC, GENERIC

FAMILIES = {kind.name: kind for kind in (GENERIC, ASIC, ice40.FAMILY, ecp5.FAMILY)}
"""The families by name."""


def family(name: str) -> Family:
    """The family called ``name``. Raises FewbitError if it is unknown."""
    if name not in FAMILIES:
        raise FewbitError(f"family must be one of {', '.join(FAMILIES)}, not {name!r}")
    return FAMILIES[name]


def synthesis(name: str) -> Synthesis:
    """How Yosys synthesizes for the family called ``name``.

    Raises FewbitError if the family is unknown, or fewbit only writes Verilog for it.
    """
    passes = FAMILIES[name].synthesis if name in FAMILIES else None
    if passes is None:
        known = ", ".join(kind.name for kind in FAMILIES.values() if kind.synthesis is not None)
        raise FewbitError(f"family must be one of {known}, not {name!r}")
    return passes


def tools(name: str) -> Tools:
    """The tools that build a bitstream for the family called ``name``.

    Raises FewbitError if the family is unknown, or fewbit only writes Verilog for it.
    """
    programs = FAMILIES[name].tools if name in FAMILIES else None
    if programs is None:
        known = ", ".join(kind.name for kind in FAMILIES.values() if kind.tools is not None)
        raise FewbitError(f"family must be one of {known}, not {name!r}")
    return programs
