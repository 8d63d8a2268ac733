"""No family in particular: datapaths in plain RTL, for standard cells and for simulation."""

from __future__ import annotations

from fewbit.hw.fabric.family import Family

GENERIC = Family(name="generic")
ASIC = Family(name="asic", gated_clocks=True)
