"""Builds networks for boards and prints the resources, clock and frame rate of each.

    python -m benchmarks.boards [NETWORK@BOARD[:clock=MHZ][:fps=N][:max-lut=N] ...]

A network is the name of a shipped one, or a file.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import command
from benchmarks.models import markdown, shipped
from fewbit.bitstreams import board_design, build
from fewbit.boards import catalogue
from fewbit.boards.report import Report
from fewbit.generator import Design
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import Plan
from fewbit.readers import load


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network on a board, with constraints on clock, frame rate and logic cells."""

    network: str
    board: str
    clock_mhz: float | None = None
    fps: float | None = None
    max_cells: float | None = None

    @classmethod
    def parse(cls, text: str) -> Case:
        """Parse ``NETWORK@BOARD[:clock=MHZ][:fps=N][:max-lut=N]``. Raises FewbitError on anything else."""
        pair, *limits = text.split(":")
        name, at, board = pair.partition("@")
        limits_by_name = dict(limit.partition("=")[::2] for limit in limits)
        try:
            numbers = {key: float(value) for key, value in limits_by_name.items()}
        except ValueError:
            numbers = {"": 0.0}
        if not at or not set(numbers) <= {"clock", "fps", "max-lut"}:
            raise FewbitError(f"a build must be NETWORK@BOARD[:clock=MHZ][:fps=N][:max-lut=N], not {text!r}")
        fields = {"clock_mhz": "clock", "fps": "fps", "max_cells": "max-lut"}
        return cls(network=name, board=board, **{field: numbers.get(option) for field, option in fields.items()})

    @property
    def constraints(self) -> str:
        """The constraints as options of ``fewbit build``."""
        options = [("--clock", self.clock_mhz), ("--fps", self.fps), ("--max-lut", self.max_cells)]
        return " ".join(f"{option} {value:g}" for option, value in options if value is not None)

    @property
    def limits(self) -> Constraints:
        """The constraints of the planner."""
        cells = None if self.max_cells is None else round(self.max_cells)
        return Constraints(clock_hz=self.clock_hz, fps=self.fps, max_cells=cells)

    @property
    def clock_hz(self) -> int | None:
        """The clock in hertz; None for the board's default."""
        return None if self.clock_mhz is None else round(self.clock_mhz * 1e6)

    def load(self) -> Network:
        """The network. Raises FewbitError if there is neither such a file nor a shipped network of this name."""
        path = Path(self.network)
        return load(path) if path.suffix else shipped(self.network)

    def plan(self) -> Plan:
        """The plan that :meth:`build` starts with."""
        return board_design(self.load(), catalogue.get(self.board), self.limits).plan

    def build(self, out_dir: Path) -> tuple[Design, Report]:
        """Build the bitstream in ``out_dir``; return design and report."""
        return build(self.load(), self.board, out_dir, self.limits)


CASES = tuple(
    Case.parse(text)
    for text in (
        "mnist-small@icebreaker",
        "tfc-w1a1@icebreaker",
        "mnist-conv@icebreaker",
        "mnist-conv@icebreaker:fps=1000",
        "mnist-large@icebreaker",
        "mnist-small@ice40-hx8k-b-evn",
        "lenet5-shift3@ulx3s-25f",
        "lenet5-shift3@ulx3s-85f",
        "lenet-caffe-shift3@ulx3s-85f:clock=40:fps=1000",
        "mnist-large@ulx3s-25f",
        "fashion-resnet@ulx3s-85f:clock=45",
    )
)

HEAD = (
    "network",
    "board",
    "constraints",
    "logic cells",
    "block RAMs",
    "clock (fmax)",
    "cycles a frame",
    "frames/s computed",
    "frames/s over the link",
)


def row(case: Case) -> tuple[str, ...]:
    """Build ``case``; return its row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        planned, report = case.build(Path(folder) / "out")
    fmax = min(timing.fmax_hz for timing in report.timing) / 1e6
    used = {use.kind: f"{use.used:,} of {use.available:,}" for use in report.usage}
    return (
        f"`{case.network}`",
        report.board,
        f"`{case.constraints}`" if case.constraints else "",
        used["logic_cells"],
        used["block_rams"] + (f", {report.used('sprams')} SPRAMs" if report.used("sprams") else ""),
        f"{report.clock_hz / 1e6:.1f} MHz ({fmax:.1f})",
        f"{planned.plan.cycles_per_frame:,}",
        f"{report.clock_hz / planned.plan.cycles_per_frame:,.0f}",
        f"{report.link.frames_per_second:,.0f}",
    )


def main(texts: list[str]) -> None:
    print(markdown(HEAD, [row(case) for case in map(Case.parse, texts)] if texts else map(row, CASES)))


if __name__ == "__main__":
    command("boards", main)
