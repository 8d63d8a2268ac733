"""MLPerf Tiny: the two networks of ``tests/tflite`` on an FPGA, with the columns of the benchmark's result lists.

    python -m benchmarks.tiny [NETWORK@BOARD[:clock=MHZ][:fps=N][:max-lut=N] ...] [--build] [--cifar10 FILE]

Without ``--build``, resources are those of the plan. With it, each design is placed and routed, and a design that
misses its clock is an error. ``--cifar10`` measures the top-1 accuracy of image classification with the golden model,
on every test image of the file (see :mod:`benchmarks.cifar10`). Latency and speed are those of the core, without a link
to a host. Power is not measured: it takes a board.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.boards import Case
from benchmarks.cifar10 import load_test_images
from benchmarks.command import command
from benchmarks.models import markdown
from fewbit.golden.network import Network
from fewbit.golden.run import run
from fewbit.hw.planner.plan import Plan

CASES = (
    "tests/tflite/pretrainedResnet_quant.tflite@ulx3s-85f",
    "tests/tflite/ad01_int8.tflite@ulx3s-85f:clock=53.2:max-lut=26000",
)

HEAD = (
    "network", "quality", "device", "clock", "LUT4", "flip-flops", "block RAMs", "DSP blocks", "latency",
    "inferences/s", "limited by",
)  # fmt: skip

_BATCH = 100
"""Images that the golden model takes at a time."""


def row(case: Case, *, build: bool, cifar10: Path | None) -> tuple[str, ...]:
    """The row of the table of one network on one board."""
    network = case.load()
    if build:
        with tempfile.TemporaryDirectory() as folder:
            planned, report = case.build(Path(folder) / "out")
        plan, clock = planned.plan, report.clock_hz
        fmax = min(timing.fmax_hz for timing in report.timing)
        used = [report.used(kind) for kind in ("logic_cells", "flip_flops", "block_rams", "dsps")]
        reached = f"{clock / 1e6:.1f} MHz (fmax {fmax / 1e6:.1f})"
    else:
        plan = case.plan()
        clock = plan.clock_hz
        cost = plan.cost
        used = [cost.cells, cost.ffs, cost.rams, cost.dsps]
        reached = f"{clock / 1e6:.1f} MHz (planned)"
    return (
        f"`{Path(case.network).stem}`",
        quality(network, cifar10),
        plan.target.title,
        reached,
        *(f"{number:,}" for number in used),
        f"{1e6 * plan.latency / clock:,.1f} µs",
        f"{clock / plan.cycles_per_frame:,.0f}",
        limit(plan),
    )


def limit(plan: Plan) -> str:
    """The layer that takes the most cycles per frame."""
    slowest = plan.bottleneck
    return f"`{slowest.layer.name}`, {slowest.cycles:,} of {plan.cycles_per_frame:,} cycles"


def quality(network: Network, cifar10: Path | None) -> str:
    """The accuracy of a network that classifies CIFAR-10's images, if there are any."""
    if cifar10 is None or network.input.shape != (3, 32, 32) or network.scores.size != 10:
        return "not measured"
    images, labels = load_test_images(cifar10)
    frames = images.transpose(0, 3, 1, 2).astype(np.int64) + network.input.dtype.min
    classes = [run(network, frames[start : start + _BATCH]).scores.argmax(1) for start in range(0, len(frames), _BATCH)]
    return f"{100 * (np.concatenate(classes) == labels).mean():.2f} % of {len(labels):,} images"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.tiny", description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("cases", nargs="*", metavar="NETWORK@BOARD", help="by default both networks")
    parser.add_argument("--build", action="store_true", help="place and route each design")
    parser.add_argument("--cifar10", type=Path, metavar="FILE", help="measure the accuracy on these test images")
    options = parser.parse_args(arguments)
    cases = [Case.parse(text) for text in options.cases or CASES]
    print(markdown(HEAD, [row(case, build=options.build, cifar10=options.cifar10) for case in cases]))


if __name__ == "__main__":
    command("tiny", main)
