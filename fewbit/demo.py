"""The demonstration: all steps from a network to a bitstream on real data, with checks and one page of results."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fewbit import arrays, models
from fewbit.bitstreams import board_design, build
from fewbit.boards import catalogue
from fewbit.boards.report import Report
from fewbit.engines import Run, differing_frames, network_inputs, run_golden, run_rtl
from fewbit.generator import Design
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Network
from fewbit.golden.write import check_folder, write
from fewbit.hw.planner.constraints import Constraints
from fewbit.progress import Reporter
from fewbit.readers import load
from fewbit.report import describe_network, describe_plan, table
from fewbit.verilog import write_verilog


class Mismatch(FewbitError):
    """The results of RTL and golden model differ."""


@dataclass(frozen=True)
class _Checked:
    golden: Run
    accuracy: float
    rtl: Run
    seconds: float


def demo(
    board: str,
    out_dir: Path,
    *,
    model_name: str | None = None,
    input_kind: str | None = None,
    rtl_frames: int = 1000,
    reporter: Reporter | None = None,
) -> str:
    """Run all steps for ``board``, write the results to ``out_dir``, and return the text of the report.

    The bitstream is built in parallel with the runs of the golden model and the RTL.

    Parameters
    ----------
    board : str
    out_dir : Path
        Output folder for the bitstream, the Verilog, and the report ``demo.txt``.
    model_name : str, optional
        File or name of the network; by default chosen by :func:`choose`.
    input_kind : str, optional
        Integers that the float input of an ONNX model is computed from, such as ``uint8/255``.
    rtl_frames : int
        Largest number of test images that run through the RTL.
    reporter : Reporter, optional
        Shows progress.

    Raises
    ------
    FewbitError
        If the board is unknown, no shipped network fits it, or a step fails.
    """
    show = reporter or Reporter()
    chosen_board = catalogue.get(board)
    check_folder(out_dir)
    name, network = choose(board, model_name, input_kind)
    images, labels = (arrays.read(path) for path in models.test_set(name))
    planned = board_design(network, chosen_board)
    frames = network_inputs(network, images)
    with show.steps(f"{name} on {board}") as step, ThreadPoolExecutor(max_workers=1) as pool:
        building = pool.submit(build, network, board, out_dir, on_progress=step)
        checked = _check(planned, frames, labels, min(rtl_frames, len(frames)))
        _, report = building.result()
    write_verilog(planned, out_dir / "verilog", images[:16])
    page = _page(name, network, planned, checked, report, out_dir)
    write(out_dir / "demo.txt", f"{page}\n".encode())
    return page


def choose(board: str, model_name: str | None = None, input_kind: str | None = None) -> tuple[str, Network]:
    """Load the network ``model_name``; by default the most accurate shipped network that fits the board.

    The default is chosen from the native MNIST networks without convolutions, since these build in minutes, with all
    weights in the bitstream. Returns the network and its name.

    Raises FewbitError if no network fits.
    """
    shipped = models.shipped()
    if model_name is not None:
        path = Path(model_name)
        if not path.exists() and model_name in shipped:
            path = shipped[model_name]
            if path.suffix == ".onnx":  # those take pixels divided by 255
                input_kind = input_kind or "uint8/255"
        return path.stem, load(path, input=input_kind)
    native = [
        name
        for name, path in shipped.items()
        if path.suffix == ".safetensors" and models.test_set(name)[0] == models.TEST_IMAGES
    ]
    reasons = []
    for name in sorted(native, key=lambda name: -float(models.facts(name)["test_accuracy"])):
        network = load(shipped[name])
        if any(isinstance(layer, Conv) for layer in network.layers):
            continue
        try:
            board_design(network, catalogue.get(board), Constraints(spram=False))
        except FewbitError as error:
            reasons.append(str(error))
            continue
        return name, network
    raise FewbitError(f"no shipped network fits {board}: {reasons[-1] if reasons else 'there is none'}")


def _check(planned: Design, frames: Ints, labels: Ints, count: int) -> _Checked:
    began = time.perf_counter()
    golden = run_golden(planned.network, frames)
    seconds = time.perf_counter() - began
    accuracy = golden.accuracy(labels)
    rtl = run_rtl(planned, frames[:count])
    head = Run(planned.network, golden.scores[:count], None if golden.classes is None else golden.classes[:count])
    wrong = differing_frames(rtl, head)
    if len(wrong):
        raise Mismatch(f"RTL and golden differ on {len(wrong)} of {count} frames, first on frame {wrong[0]}")
    return _Checked(golden, accuracy, rtl, seconds)


def _page(name: str, network: Network, planned: Design, checked: _Checked, report: Report, out_dir: Path) -> str:
    plan = planned.plan
    count = len(checked.rtl.scores)
    assert checked.rtl.cycles is not None
    computed = report.clock_hz / plan.cycles_per_frame
    fmax = min(row.fmax_hz for row in report.timing)
    rows = [
        ("model", f"{name}, {network.input} to {network.output}"),
        ("accuracy", f"{100 * checked.accuracy:.2f} % on {len(checked.golden.scores):,} test images (golden)"),
        ("RTL = golden", f"on {count:,} of {count:,} images, bit for bit, in {checked.rtl.cycles:,} cycles"),
        *((use.title, f"{use.used:,} of {use.available:,}") for use in report.usage if use.used),
        ("clock", f"{report.clock_hz / 1e6:.1f} MHz; timing analysis allows {fmax / 1e6:.1f} MHz"),
        ("cycles a frame", f"{plan.cycles_per_frame:,}, {plan.latency:,} from first beat to last score"),
        (
            "frames a second",
            f"{computed:,.0f} computed, {report.link.frames_per_second:,.0f} over the serial link",
        ),
        ("bitstream", str(out_dir / report.bitstream)),
    ]
    return "\n\n".join(
        [describe_network(network), describe_plan(plan), table(("fewbit demo", report.board), rows, left=2)]
    )
