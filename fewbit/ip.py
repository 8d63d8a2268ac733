# amaranth: UnusedElaboratable=no

"""One datapath as a single Verilog file, its datasheet as the header, and a cocotb bench beside it."""

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
    """A cocotb bench: its module, the environment it wants, and the cases that it reads, if any, as JSON from the file
    that the environment variable ``variable`` names."""

    module: str
    env: dict[str, str] = field(default_factory=dict)
    cases: str | None = None
    variable: str = "FEWBIT_CASES"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A datapath that can be had by itself.

    Attributes
    ----------
    name : str
        On the command line; with underscores, of the Verilog module.
    make : callable
        The component, from the block's options.
    bench : callable
        Its :class:`Bench`, from the options.
    tied : tuple of str
        Inputs of the component that stand at 1 and are no ports of the block.
    """

    name: str
    make: Callable[..., Any]
    bench: Callable[..., Bench]
    tied: tuple[str, ...] = ()

    @property
    def module(self) -> str:
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
    made = {"CODE": code, "SIMD": str(simd), "ACTIVATION": activation, "STAGES": str(stages)}
    return Bench(module="fewbit.sim.tb_shift_lane", env={f"FEWBIT_{name}": value for name, value in made.items()})


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
    latency = getattr(component, "latency", 0)
    outer = _Standalone(component, found.tied, clocked=latency > 0) if found.tied else component
    text = verilog(outer, found.module)
    settings = ", ".join(f"{key}={_said(value)}" for key, value in options.items() if value is not None)
    sheet = inspect.cleandoc(type(component).__doc__ or "")
    header = [
        f"{found.module}: made by fewbit {__version__} with {settings}",
        "",
        *_ports(outer, text),
        "",
        *sheet.splitlines(),
    ]
    body = re.sub(r"\A/\*.*?\*/\s*", "", text, flags=re.DOTALL)
    for path, _, value in outer.signature.flatten(outer):
        if Value.cast(value).shape().signed:  # Amaranth's converter leaves the word out
            port = "__".join(str(part) for part in path)
            body = re.sub(
                rf"^(\s*(?:input|output|wire|reg)) (\[\d+:0\] {port};)", r"\1 signed \2", body, flags=re.MULTILINE
            )
    return "\n".join(["// SPDX-License-Identifier: Apache-2.0", *(f"// {line}".rstrip() for line in header), "", body])


def _said(value: Any) -> str:
    return f"{value.shape[0]}x{value.shape[1]} array" if isinstance(value, np.ndarray) else str(value)


class _Standalone(wiring.Component):
    """A component with some inputs held at 1, and with ``clk`` and ``rst`` as ports even where nothing is reset."""

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
    """The ports, a line each; those of the clock come from Verilog ``text`` where they are no members."""
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
    """Writes block ``name`` to ``path``, with ``testbench`` its bench beside it as ``tb_<module>.py``; the files."""
    path = Path(path)
    found = block(name)
    check_writable(path)
    texts = {path: ip(name, **options)}
    if testbench:
        bench = found.bench(**options)
        lines = [f'"""cocotb bench of {path.name}: run it with {found.module} as the top module."""', ""]
        env = [f'os.environ["{key}"] = "{value}"' for key, value in bench.env.items()]
        if bench.cases is not None:
            cases = path.with_name(f"{found.module}_cases.json")
            texts[cases] = bench.cases
            env.append(_CASES.format(bench.variable, cases.name))
        if env:
            lines += ["import os", *(["from pathlib import Path"] if bench.cases is not None else []), "", *env, ""]
        tests = _tests(bench.module)
        lines += [f"from {bench.module} import {', '.join(tests)}", "", f"__all__ = {json.dumps(tests)}", ""]
        texts[path.with_name(f"tb_{found.module}.py")] = "\n".join(lines)
    for file in texts:
        check_writable(file)
    for file, text in texts.items():
        write(file, text.encode("utf-8"))
    return list(texts)


def _tests(module: str) -> list[str]:
    """Names of the cocotb tests in a bench, read from its source: only a simulation has what importing it takes."""
    package, _, name = module.rpartition(".")
    source = ast.parse(files(package).joinpath(f"{name}.py").read_text(encoding="utf-8"))
    return [
        one.name
        for one in source.body
        if isinstance(one, ast.AsyncFunctionDef)
        and any(ast.unparse(decorator) == "cocotb.test()" for decorator in one.decorator_list)
    ]


def check_ip(name: str, text: str, work: Path, **options: Any) -> list[TestResult]:
    """Runs the block's bench on Verilog ``text`` in folder ``work``; raises BenchFailure if a test fails.

    Cells of a fabric behave as their vendor's models say.
    """
    found = block(name)
    bench = found.bench(**options)
    env = dict(bench.env)
    if bench.cases is not None:
        (work / "cases.json").write_text(bench.cases, encoding="utf-8")
        env[bench.variable] = str(work.resolve() / "cases.json")
    family = options.get("target", "generic")
    if (flow := FAMILIES[family].synthesis) is not None:
        text = "\n".join([text, *cell_models(family, set(flow.cells))])
    return run_bench(text, toplevel=found.module, module=bench.module, build_dir=work, env=env)
