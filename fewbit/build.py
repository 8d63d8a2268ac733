"""A network to a bitstream on a board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fewbit.boards import build as board_build
from fewbit.boards import catalogue, protocol
from fewbit.boards.catalogue import Board
from fewbit.boards.report import Report
from fewbit.boards.tools import Yosys
from fewbit.design import Design, design
from fewbit.golden.network import Dense, Network
from fewbit.hw.plan import SHELL
from fewbit.hw.resources import Cost, target
from fewbit.report import plan_figures

QUALITY_GATE = Cost(cells=45, ffs=25)
"""What the shell takes more where the host turns the quality."""

RECEIVE_BUFFER = Cost(cells=90, ffs=70)
"""What it takes more where it holds frames, beside the memory."""


def board_design(
    network: Network,
    board: Board,
    *,
    clock_hz: float | None = None,
    fps: float | None = None,
    max_cells: int | None = None,
    dsp: bool = False,
) -> Design:
    """``network`` planned for ``board``, with room left for the shell and its receive buffer."""
    has_quality = network.digits > 0
    reserve = SHELL + int(has_quality) * QUALITY_GATE
    if frames := _buffer_frames(network, board):
        held = protocol.buffer_bytes(network.input, frames, has_quality)
        reserve += RECEIVE_BUFFER + Cost(rams=target(board.target).block_rams(held, 8))
    return design(
        network,
        board.target,
        clock_hz=clock_hz or board.clock_hz,
        fps=fps,
        reserve=reserve,
        max_cells=max_cells,
        dsp=dsp,
    )


def _buffer_frames(network: Network, board: Board) -> int:
    """A design that holds no vector of its own needs a receive buffer on any board."""
    holds = any(isinstance(layer, Dense) for layer in network.layers)
    return board.buffer_frames if holds else max(1, board.buffer_frames)


def build(
    network: Network,
    board: str,
    out_dir: str | Path,
    *,
    clock_hz: int | None = None,
    fps: float | None = None,
    max_cells: int | None = None,
    dsp: bool = False,
    baud: int = protocol.BAUD,
    seed: int = 1,
    yosys: Yosys = "yowasp",
    on_progress: Callable[[str], object] | None = None,
) -> tuple[Design, Report]:
    """Builds the bitstream of ``network`` for ``board`` into ``out_dir``; the design, and what it takes and reaches.

    Raises
    ------
    FewbitError
        If the board is unknown or too small, or the timing cannot be met.
    """
    found = catalogue.get(board)
    made = board_design(network, found, clock_hz=clock_hz, fps=fps, max_cells=max_cells, dsp=dsp)
    report = board_build.build(
        found,
        made.top(cells=True),
        input=network.input,
        scores=network.scores,
        has_index=network.classifies,
        out_dir=out_dir,
        clock_hz=clock_hz,
        baud=baud,
        buffer_frames=_buffer_frames(network, found),
        dsp=made.plan.cost.dsps > 0,
        seed=seed,
        yosys=yosys,
        cycles_per_frame=made.plan.cycles_per_frame,
        plan=plan_figures(made.plan),
        on_progress=on_progress,
    )
    return made, report
