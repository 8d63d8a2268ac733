"""Builds shipped networks for every board and prints what each takes and reaches.

python -m benchmarks.boards [NAME@BOARD ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.models import markdown
from fewbit import models
from fewbit.build import build
from fewbit.load import load

PAIRS = (
    "mnist-small@icebreaker",
    "tfc-w1a1@icebreaker",
    "mnist-conv@icebreaker",
    "mnist-large@icebreaker",
    "mnist-small@ice40-hx8k-b-evn",
    "lenet5-shift3@ulx3s-25f",
    "lenet5-shift3@ulx3s-85f",
    "mnist-large@ulx3s-25f",
)

HEAD = (
    "network",
    "board",
    "logic cells",
    "block RAMs",
    "clock (fmax)",
    "cycles a frame",
    "frames/s computed",
    "frames/s over the link",
)


def row(pair: str) -> tuple[str, ...]:
    """One build, ``network@board``."""
    name, board = pair.split("@")
    path = models.shipped()[name]
    network = load(path, input="uint8/255" if path.suffix == ".onnx" else None)
    with tempfile.TemporaryDirectory() as folder:
        made, report = build(network, board, Path(folder) / "out")
    fmax = min(timing.fmax_hz for timing in report.timing) / 1e6
    used = {use.kind: f"{use.used:,} of {use.available:,}" for use in report.usage}
    return (
        f"`{name}`",
        report.board,
        used["logic_cells"],
        used["block_rams"] + (f", {report.used('sprams')} SPRAMs" if report.used("sprams") else ""),
        f"{report.clock_hz / 1e6:.1f} MHz ({fmax:.1f})",
        f"{made.plan.cycles_per_frame:,}",
        f"{report.clock_hz / made.plan.cycles_per_frame:,.0f}",
        f"{report.link.frames_per_second:,.0f}",
    )


def main(pairs: list[str]) -> None:
    print(markdown(HEAD, [row(pair) for pair in pairs or PAIRS]))


if __name__ == "__main__":
    main(sys.argv[1:])
