"""All families of devices."""

from __future__ import annotations

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric import ecp5, ice40
from fewbit.hw.fabric.family import Family, Synthesis, Tools
from fewbit.hw.fabric.generic import ASIC, GENERIC

FAMILIES = {one.name: one for one in (GENERIC, ASIC, ice40.FAMILY, ecp5.FAMILY)}
"""By name."""


def family(name: str) -> Family:
    """The family called ``name``. Raises FewbitError on an unknown one."""
    if name not in FAMILIES:
        raise FewbitError(f"family must be one of {', '.join(FAMILIES)}, not {name!r}")
    return FAMILIES[name]


def synthesis(name: str) -> Synthesis:
    """How the family called ``name`` is synthesized. Raises FewbitError on one that is unknown, or is not."""
    found = FAMILIES[name].synthesis if name in FAMILIES else None
    if found is None:
        known = ", ".join(one.name for one in FAMILIES.values() if one.synthesis is not None)
        raise FewbitError(f"family must be one of {known}, not {name!r}")
    return found


def tools(name: str) -> Tools:
    """With which tools the family called ``name`` is built. Raises FewbitError as :func:`synthesis`."""
    found = FAMILIES[name].tools if name in FAMILIES else None
    if found is None:
        known = ", ".join(one.name for one in FAMILIES.values() if one.tools is not None)
        raise FewbitError(f"family must be one of {known}, not {name!r}")
    return found
