"""One datapath as a single Verilog file, its datasheet as the header, and a cocotb bench beside it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbit import __version__
from fewbit.files import write_text
from fewbit.golden.errors import FewbitError
from fewbit.hw.emit import verilog
from fewbit.sim.cocotb_run import TestResult, run_bench


@dataclass(frozen=True, kw_only=True)
class Block:
    """A datapath that can be had by itself.

    Attributes
    ----------
    name : str
        On the command line; with underscores, of the Verilog module.
    make : callable
        The component, from the block's options.
    bench : str
        Module of its cocotb bench.
    """

    name: str
    make: Callable[..., Any]
    bench: str

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")


def _shift_decoder(*, scale_width: int) -> Any:
    from fewbit.hw.shift_decoder import ShiftDecoder

    return ShiftDecoder(scale_width)


BLOCKS = {
    block.name: block
    for block in (Block(name="shift-decoder", make=_shift_decoder, bench="fewbit.sim.tb_shift_decoder"),)
}
"""The blocks by name."""


def block(name: str) -> Block:
    """The block called ``name``. Raises FewbitError on an unknown one."""
    if name not in BLOCKS:
        raise FewbitError(f"unknown block {name!r}; there are {', '.join(BLOCKS)}")
    return BLOCKS[name]


def ip(name: str, **options: Any) -> str:
    """The block ``name`` as Verilog-2001, one self-contained file with its datasheet in front.

    Raises
    ------
    FewbitError
        If the block is unknown or an option is out of its range.
    """
    found = block(name)
    component = found.make(**options)
    settings = ", ".join(f"{key}={value}" for key, value in options.items() if value is not None)
    sheet = inspect.cleandoc(type(component).__doc__ or "")
    header = [
        f"{found.module}: made by fewbit {__version__} with {settings}",
        "",
        *_ports(component),
        "",
        *sheet.splitlines(),
    ]
    text = verilog(component, found.module)
    body = re.sub(r"\A/\*.*?\*/\s*", "", text, flags=re.DOTALL)
    for path, _, value in component.signature.flatten(component):
        if value.shape().signed:  # Amaranth's converter leaves the word out
            port = "__".join(str(part) for part in path)
            body = re.sub(
                rf"^(\s*(?:input|output|wire|reg)) (\[\d+:0\] {port};)", r"\1 signed \2", body, flags=re.MULTILINE
            )
    return "\n".join(["// SPDX-License-Identifier: Apache-2.0", *(f"// {line}".rstrip() for line in header), "", body])


def _ports(component: Any) -> list[str]:
    """The ports, a line each."""
    rows = []
    for path, member, value in component.signature.flatten(component):
        name = "__".join(str(part) for part in path)
        kind = "input " if member.flow.name == "In" else "output"
        sign = "signed " if value.shape().signed else ""
        rows.append(f"  {kind} {sign}[{len(value) - 1}:0] {name}" if len(value) != 1 else f"  {kind} {name}")
    return ["Ports:", *rows]


def write_ip(name: str, path: str | Path, *, testbench: bool = False, **options: Any) -> list[Path]:
    """Writes block ``name`` to ``path``, with ``testbench`` its bench beside it as ``tb_<module>.py``; the files."""
    path = Path(path)
    found = block(name)
    files = {path: ip(name, **options)}
    if testbench:
        files[path.with_name(f"tb_{found.module}.py")] = (
            f'"""cocotb bench of {path.name}: run it with {found.module} as the top module."""\n\n'
            f"from {found.bench} import *  # noqa: F403\n"
        )
    for file, text in files.items():
        write_text(file, text)
    return list(files)


def check_ip(name: str, text: str, work: Path) -> list[TestResult]:
    """Runs the block's bench on Verilog ``text`` in folder ``work``; raises BenchFailure if a test fails."""
    found = block(name)
    return run_bench(text, toplevel=found.module, module=found.bench, build_dir=work)
