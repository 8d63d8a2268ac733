# amaranth: UnusedElaboratable=no

"""Writes a datapath as a single Verilog file, with its datasheet as the header, and a cocotb bench for it."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from fewbit import __version__
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.golden.write import check_writable, write
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.families import FAMILIES
from fewbit.sim.cocotb_run import TestResult, run_bench
from fewbit.sim.netlist import cell_models


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A cocotb bench.

    Attributes
    ----------
    module : str
        Python module of the bench.
    env : dict
        Environment variables that it needs.
    cases : str or None
        Test cases as JSON, if the bench reads any.
    variable : str
        Environment variable with the name of the file of test cases.
    """

    module: str
    env: dict[str, str] = field(default_factory=dict)
    cases: str | None = None
    variable: str = "FEWBIT_CASES"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A datapath that can be written as a Verilog file of its own.

    Attributes
    ----------
    name : str
        Name on the command line.
    make : callable
        Makes the component from the block's options.
    bench : callable
        Makes its :class:`Bench` from the options.
    tied : tuple of str
        Inputs of the component that are tied to 1 and are not ports of the block.
    """

    name: str
    make: Callable[..., Any]
    bench: Callable[..., Bench]
    tied: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Name of the Verilog module."""
        return self.name.replace("-", "_")


def _shift_decoder(*, scale_width: int) -> Any:
    from fewbit.hw.lanes.shift_decoder import ShiftDecoder

    return ShiftDecoder(scale_width)


def _xnor_popcount(*, width: int, stages: int = 0, target: str = "generic") -> Any:
    from fewbit.hw.sums.popcount import XnorPopcount

    return XnorPopcount(width, stages, target)


def _xnor_bench(*, width: int, stages: int = 0, target: str = "generic") -> Bench:
    return Bench(module="fewbit.sim.tb_xnor_popcount", env={"FEWBIT_STAGES": str(stages)})


def _csd_multiplier(*, width_a: int, width_b: int, form: str = "parallel", recoded: bool = False) -> Any:
    from fewbit.hw.multiply.csd import CsdMultiplier
    from fewbit.hw.multiply.csd_serial import CsdMultiplierSerial

    if form == "serial":
        return CsdMultiplierSerial(width_a, width_b, recoded=recoded)
    if form == "parallel":
        return CsdMultiplier(width_a, width_b, recoded=recoded)
    raise FewbitError(f"the form of a CSD multiplier must be parallel or serial, not {form!r}")


def _csd_bench(*, width_a: int, width_b: int, form: str = "parallel", recoded: bool = False) -> Bench:
    from fewbit.sim.csd_cases import cases

    module = "fewbit.sim.tb_csd_serial" if form == "serial" else "fewbit.sim.tb_csd"
    return Bench(module=module, cases=json.dumps(cases(width_a, width_b, recoded=recoded) | {"latency": 0}))


def _binary_mac(*, pe: int, simd: int, bits: int, stages: int = 1, target: str = "generic") -> Any:
    from fewbit.hw.matvec.binary_mac import BinaryMac

    return BinaryMac(pe, simd, bits, stages=stages, target=target)


def _binary_mac_bench(*, stages: int = 1, **_: Any) -> Bench:
    return Bench(module="fewbit.sim.tb_binary_mac", env={"FEWBIT_STAGES": str(stages)})


def _dense(weights: Ints, code: str, activation: str) -> tuple[Dense, DType]:
    return Dense(name="matvec", weights=weights, code=Code.parse(code)), DType.parse(activation)


def _matvec(*, weights: Ints, code: str = "binary", activation: str = "bipolar", **options: Any) -> Any:
    from fewbit.hw.matvec.parallel import MatVec

    layer, kind = _dense(weights, code, activation)
    return MatVec(layer, kind, **options)


def _matvec_bench(
    *, weights: Ints, code: str = "binary", activation: str = "bipolar", pe: int, simd: int, **_: Any
) -> Bench:
    from fewbit.sim.vectors import dense_vectors

    layer, kind = _dense(weights, code, activation)
    vectors = dense_vectors(layer, kind, pe=pe, simd=simd)
    return Bench(module="fewbit.sim.tb_stream", cases=vectors.to_json(), variable="FEWBIT_VECTORS")


def _shift_lane(
    *, code: str = "shift3", simd: int = 1, activation: str = "uint8", stages: int = 0, target: str = "generic"
) -> Any:
    from fewbit.golden.codes import Code
    from fewbit.golden.dtype import DType
    from fewbit.hw.lanes.shift_lane import ShiftLane

    return ShiftLane(simd, DType.parse(activation), Code.parse(code), stages, target)


def _shift_lane_bench(
    *, code: str = "shift3", simd: int = 1, activation: str = "uint8", stages: int = 0, target: str = "generic"
) -> Bench:
    parameters = {"CODE": code, "SIMD": str(simd), "ACTIVATION": activation, "STAGES": str(stages)}
    return Bench(module="fewbit.sim.tb_shift_lane", env={f"FEWBIT_{name}": value for name, value in parameters.items()})


BLOCKS = {
    block.name: block
    for block in (
        Block(
            name="xnor-popcount",
            make=_xnor_popcount,
            bench=_xnor_bench,
            tied=("en",),
        ),
        Block(name="shift-decoder", make=_shift_decoder, bench=lambda **_: Bench(module="fewbit.sim.tb_shift_decoder")),
        Block(name="csd-multiplier", make=_csd_multiplier, bench=_csd_bench),
        Block(name="binary-mac", make=_binary_mac, bench=_binary_mac_bench, tied=("en",)),
        Block(name="matvec", make=_matvec, bench=_matvec_bench),
        Block(name="shift-lane", make=_shift_lane, bench=_shift_lane_bench, tied=("en",)),
    )
}
"""All blocks by name."""


def block(name: str) -> Block:
    """Return the block ``name``. Raises FewbitError if it is unknown."""
    if name not in BLOCKS:
        raise FewbitError(f"unknown block {name!r}; the blocks are {', '.join(BLOCKS)}")
    return BLOCKS[name]


def ip(name: str, **options: Any) -> str:
    """Return the block ``name`` as self-contained Verilog-2001 text, with its datasheet as the header.

    ``options`` are those of the block; see ``fewbit ip BLOCK --help``.

    Raises
    ------
    FewbitError
        If the block is unknown or an option is out of range.
    """
    entry = block(name)
    component = entry.make(**options)
    latency = getattr(component, "latency", 0)
    outer = _Standalone(component, entry.tied, clocked=latency > 0) if entry.tied else component
    text = verilog(outer, entry.module)
    settings = ", ".join(f"{key}={_said(value)}" for key, value in options.items() if value is not None)
    sheet = inspect.cleandoc(type(component).__doc__ or "")
    header = [
        f"{entry.module}: made by fewbit {__version__} with {settings}",
        "",
        *_ports(outer, text),
        "",
        *sheet.splitlines(),
    ]
    body = re.sub(r"\A/\*.*?\*/\s*", "", text, flags=re.DOTALL)
    for path, _, value in outer.signature.flatten(outer):
        if Value.cast(value).shape().signed:  # Amaranth's converter omits `signed`
            port = "__".join(str(part) for part in path)
            body = re.sub(
                rf"^(\s*(?:input|output|wire|reg)) (\[\d+:0\] {port};)", r"\1 signed \2", body, flags=re.MULTILINE
            )
    return "\n".join(["// SPDX-License-Identifier: Apache-2.0", *(f"// {line}".rstrip() for line in header), "", body])


def _said(value: Any) -> str:
    return f"{value.shape[0]}x{value.shape[1]} array" if isinstance(value, np.ndarray) else str(value)


class _Standalone(wiring.Component):
    """Wraps a component: ties some inputs to 1; if ``clocked``, has ports ``clk`` and ``rst`` even if rst is unused."""

    def __init__(self, inner: Any, tied: tuple[str, ...], *, clocked: bool) -> None:
        self.inner, self.tied, self.clocked = inner, tied, clocked
        ports = {name: member for name, member in inner.signature.members.items() if name not in tied}
        super().__init__(ports | ({"clk": In(1), "rst": In(1)} if clocked else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.datapath = self.inner
        if self.clocked:
            m.domains.sync = ClockDomain("sync")
            m.d.comb += [ClockSignal().eq(self.clk), ResetSignal().eq(self.rst)]
        for name, member in self.inner.signature.members.items():
            inside = getattr(self.inner, name)
            if name in self.tied:
                m.d.comb += inside.eq(1)
            elif member.flow == In:
                m.d.comb += inside.eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(inside)
        return m


def _ports(component: Any, text: str) -> list[str]:
    """Header lines of the ports. Clock and reset are found in the Verilog ``text`` if they are not members."""
    members = {path[0] for path, _, _ in component.signature.flatten(component)}
    rows = [f"  input  {name}" for name in ("clk", "rst")
            if name not in members and re.search(rf"^\s*input {name};", text, re.MULTILINE)]  # fmt: skip
    for path, member, value in component.signature.flatten(component):
        name = "__".join(str(part) for part in path)
        kind = "input " if member.flow.name == "In" else "output"
        value = Value.cast(value)
        sign = "signed " if value.shape().signed else ""
        rows.append(f"  {kind} {sign}[{len(value) - 1}:0] {name}" if len(value) != 1 else f"  {kind} {name}")
    return ["Ports:", *rows]


_CASES = 'os.environ["{}"] = str(Path(__file__).with_name("{}"))'


def write_ip(name: str, path: str | Path, *, testbench: bool = False, **options: Any) -> list[Path]:
    """Write the block ``name`` to ``path`` and, with ``testbench``, its bench ``tb_<module>.py`` to the same folder.

    ``options`` are those of the block. Returns the files. Raises FewbitError if the block is unknown, an option is out
    of range, or a file is not writable.
    """
    path = Path(path)
    entry = block(name)
    check_writable(path)
    texts = {path: ip(name, **options)}
    if testbench:
        bench = entry.bench(**options)
        lines = [f'"""cocotb bench of {path.name}: run it with {entry.module} as the top module."""', ""]
        env = [f'os.environ["{key}"] = "{value}"' for key, value in bench.env.items()]
        if bench.cases is not None:
            cases = path.with_name(f"{entry.module}_cases.json")
            texts[cases] = bench.cases
            env.append(_CASES.format(bench.variable, cases.name))
        if env:
            lines += ["import os", *(["from pathlib import Path"] if bench.cases is not None else []), "", *env, ""]
        tests = _tests(bench.module)
        lines += [f"from {bench.module} import {', '.join(tests)}", "", f"__all__ = {json.dumps(tests)}", ""]
        texts[path.with_name(f"tb_{entry.module}.py")] = "\n".join(lines)
    for file in texts:
        check_writable(file)
    for file, text in texts.items():
        write(file, text.encode("utf-8"))
    return list(texts)


def _tests(module: str) -> list[str]:
    """Names of the cocotb tests in a bench, read from its source because it can be imported only in a simulation."""
    package, _, name = module.rpartition(".")
    source = ast.parse(files(package).joinpath(f"{name}.py").read_text(encoding="utf-8"))
    return [
        node.name
        for node in source.body
        if isinstance(node, ast.AsyncFunctionDef)
        and any(ast.unparse(decorator) == "cocotb.test()" for decorator in node.decorator_list)
    ]


def check_ip(name: str, text: str, work: Path, **options: Any) -> list[TestResult]:
    """Run the bench of the block ``name`` on the Verilog ``text``, in the folder ``work``; return the results.

    ``options`` are those with which the text was made. Cells of a device family are simulated with behavioural models.
    Raises BenchFailure if a test fails.
    """
    entry = block(name)
    bench = entry.bench(**options)
    env = dict(bench.env)
    if bench.cases is not None:
        (work / "cases.json").write_text(bench.cases, encoding="utf-8")
        env[bench.variable] = str(work.resolve() / "cases.json")
    family = options.get("target", "generic")
    if (flow := FAMILIES[family].synthesis) is not None:
        text = "\n".join([text, *cell_models(family, set(flow.cells))])
    return run_bench(text, toplevel=entry.module, module=bench.module, build_dir=work, env=env)
