"""Targets without FPGA cells: plain RTL for any tool (``generic``), and for standard cells (``asic``)."""

from __future__ import annotations

from fewbit.hw.fabric.family import Family

GENERIC = Family(name="generic")
ASIC = Family(name="asic", gated_clocks=True)
