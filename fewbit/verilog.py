"""Writes a design to a folder: Verilog, a cocotb bench, and test vectors from the golden model."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from fewbit.engines import network_inputs
from fewbit.generator import MODULE, Design
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError, reason
from fewbit.golden.write import check_folder
from fewbit.hw import child
from fewbit.report import describe_network, describe_plan
from fewbit.sim.cocotb_run import TestResult, run_bench
from fewbit.sim.vectors import Vectors, network_vectors

BENCH = f"tb_{MODULE}"
VECTORS = "vectors.json"
NOTES = "vectors.txt"

_BENCH = f'''"""cocotb bench of {MODULE}.v: golden vectors under every pattern of valid and ready, idle gaps,
a reset in mid-frame, and the exact cycles of the plan. Run it with `fewbit verilog ... --check`, or as any cocotb
test module of top {MODULE}."""

import os
from pathlib import Path

os.environ.setdefault("FEWBIT_VECTORS", str(Path(__file__).with_name("{VECTORS}")))

from fewbit.sim.tb_top import *  # noqa: E402, F403
'''


def write_verilog(planned: Design, out_dir: str | Path, frames: Ints, *, notes: str = "") -> list[Path]:
    """Write a design to ``out_dir``: ``fewbit_top.v``, its bench, its test vectors, and its plan as text.

    Parameters
    ----------
    planned : Design
    out_dir : path
        Output folder, created if missing.
    frames : array (N, ...)
        Frames of the test vectors, for example from :func:`fewbit.stimulus.choose`.
    notes : str
        Text about the coverage of the vectors, for ``vectors.txt``; if empty, that file is not written.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FewbitError
        If the frames do not match the network, or the folder is not writable. No incomplete files are left.
    """
    out = Path(out_dir)
    plan, network = planned.plan, planned.network
    values = network_inputs(network, frames)
    vectors = network_vectors(
        network,
        values,
        input_lanes=plan.folding.input_lanes,
        latency=plan.latency,
        interval=plan.cycles_per_frame if len(values) >= _SETTLED else 0,
        image=planned.image().tolist(),
    )
    texts = {
        f"{MODULE}.v": planned.verilog,
        f"{BENCH}.py": _BENCH,
        "plan.txt": f"{describe_network(network)}\n\n{describe_plan(plan)}\n",
    }
    if notes:
        texts[NOTES] = notes + "\n"
    check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fewbit-", dir=out) as name:
            work = Path(name)
            for file, text in texts.items():
                (work / file).write_text(text, encoding="utf-8")
            vectors.save(work / VECTORS)
            written = [out / file for file in [*texts, VECTORS]]
            with child.undisturbed():
                for path in written:
                    os.replace(work / path.name, path)
    except OSError as error:
        raise FewbitError(f"cannot write to {out}: {reason(error)}") from None
    return written


_SETTLED = 8
"""Least number of frames for which the bench checks the interval; with fewer, the pipeline may not become full."""


def run_exported_bench(out_dir: str | Path, *, simulator: str | None = None) -> list[TestResult]:
    """Run the bench in ``out_dir`` against the Verilog in the same folder. The log is in ``bench/bench.log``.

    Parameters
    ----------
    out_dir : path
        Output folder of :func:`write_verilog`.
    simulator : str, optional
        One of :data:`fewbit.sim.cocotb_run.SIMULATORS`; by default that of :func:`fewbit.sim.cocotb_run.choose`.

    Raises
    ------
    BenchFailure
        If a test fails.
    FewbitError
        If the simulator is not installed.
    """
    out = Path(out_dir).resolve()
    search = os.pathsep.join([str(out), *(str(Path(entry or ".").resolve()) for entry in sys.path)])
    env = {"PYTHONPATH": search, "FEWBIT_VECTORS": str(out / VECTORS)}
    vectors = Vectors.load(out / VECTORS)
    # Every frame runs at least twice; the slowest simulators run a few hundred cycles per second.
    cycles = (2 * vectors.frames + 100) * max(vectors.latency, 8 * vectors.beats_in)
    return run_bench(
        out / f"{MODULE}.v",
        toplevel=MODULE,
        module=BENCH,
        build_dir=out / "bench",
        simulator=simulator,
        env=env,
        timeout=600 + cycles / 200,
    )
