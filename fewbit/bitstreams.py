"""Builds the bitstream of a network for a board; plans again if the design does not fit or misses its timing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fewbit.boards import catalogue, flow, pll, protocol
from fewbit.boards.catalogue import Board
from fewbit.boards.flow import Misfit, TimingMiss
from fewbit.boards.report import Report, Usage
from fewbit.boards.tools import Yosys
from fewbit.generator import Design, design
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense, Network
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import target
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import SHELL
from fewbit.report import plan_figures

QUALITY_GATE = Cost(cells=45, ffs=25)
"""Additional cost of the shell if the host sets the quality."""

RECEIVE_BUFFER = Cost(cells=90, ffs=70)
"""Additional cost of the shell if it has a receive buffer, without the memory itself."""


REPLANS = 2
"""How many times a design that does not fit or is too slow is planned again."""

MARGINS = (1.1, 1.3, 1.6, 2, 3)
"""Additional timing margins with which a design that is too slow is planned again, until one gives another plan."""

HOPELESS = 1.5
"""A design that misses its clock by this factor or more is not planned again."""


def board_design(network: Network, board: Board, constraints: Constraints = Constraints()) -> Design:  # noqa: B008
    """Plan ``network`` for ``board``, with resources reserved for the shell and its receive buffer.

    If ``constraints`` have no clock, the board's default clock is used. The plan is for the clock that the board makes:
    the highest one that does not exceed it.

    Raises
    ------
    FewbitError
        If the network does not fit, or the board cannot make the clock.
    """
    has_quality = network.digits > 0
    reserve = SHELL + int(has_quality) * QUALITY_GATE
    if frames := _buffer_frames(network, board):
        held = protocol.buffer_bytes(network.input, frames, has_quality)
        reserve += RECEIVE_BUFFER + Cost(rams=target(board.target).block_rams(held, 8))
    clock_hz = pll.clock_hz(board, round(constraints.clock_hz or board.clock_hz))
    constraints = replace(constraints, clock_hz=float(clock_hz))
    return design(network, board.target, constraints, reserve=reserve)


def _buffer_frames(network: Network, board: Board) -> int:
    """Frames in the receive buffer. A design without a dense layer stores no whole vector, so it always needs one."""
    holds = any(isinstance(layer, Dense) for layer in network.layers)
    return board.buffer_frames if holds else max(1, board.buffer_frames)


def build(
    network: Network,
    board: str,
    out_dir: str | Path,
    constraints: Constraints = Constraints(),  # noqa: B008
    *,
    baud: int = protocol.BAUD,
    seed: int = 1,
    yosys: Yosys = "yowasp",
    on_progress: Callable[[str], object] | None = None,
) -> tuple[Design, Report]:
    """Build the bitstream of ``network`` for ``board`` in ``out_dir``; return the design and the report of the build.

    The resources of a plan are a prediction. If the design turns out too large, it is planned again for fewer logic
    cells; if it is too slow, with more pipeline stages.

    Parameters
    ----------
    network : Network
    board : str
        Name of a board in :data:`fewbit.boards.catalogue.BOARDS`.
    out_dir : str or Path
        Output folder, created if missing. For its contents see :func:`fewbit.boards.flow.build`.
    constraints : Constraints
        Constraints of the plan; by default the fastest design that fits, at the board's clock.
    baud : int
        Bits per second of the serial link.
    seed : int
        First seed of place and route.
    yosys : ``"yowasp"``, ``"native"`` or ``"pyosys"``
        Which Yosys runs the synthesis.
    on_progress : callable (stage), optional
        Called with a short description when a stage begins.

    Raises
    ------
    FewbitError
        If the board is unknown or too small, a tool is missing or fails, or the timing cannot be met.
    """
    chosen_board = catalogue.get(board)
    clock_hz = None if constraints.clock_hz is None else round(constraints.clock_hz)
    flow.check(chosen_board, out_dir, clock_hz=clock_hz, baud=baud, yosys=yosys)
    planned = board_design(network, chosen_board, constraints)
    for _ in range(REPLANS):
        try:
            return planned, _build(planned, chosen_board, out_dir, clock_hz, baud, seed, yosys, on_progress)
        except (Misfit, TimingMiss) as refused:
            replanned = _replanned(network, chosen_board, constraints, planned, refused)
            if replanned is None:
                raise
            message, constraints, planned = replanned
            if on_progress is not None:
                on_progress(message)
    return planned, _build(planned, chosen_board, out_dir, clock_hz, baud, seed, yosys, on_progress)


def _replanned(
    network: Network, board: Board, constraints: Constraints, planned: Design, refused: Misfit | TimingMiss
) -> tuple[str, Constraints, Design] | None:
    """Plan again after a failed build; return a message, the new constraints and the new design.

    Returns None if no change of the constraints leads to another plan.
    """
    for message, changed in _changes(constraints, planned, refused):
        try:
            candidate = board_design(network, board, changed)
        except FewbitError:
            return None
        if candidate.plan.folding != planned.plan.folding:
            return message, changed, candidate
    return None


def _changes(
    constraints: Constraints, planned: Design, refused: Misfit | TimingMiss
) -> Iterator[tuple[str, Constraints]]:
    """Constraints to try after a failed build, the least changed first, each with a message."""
    if isinstance(refused, TimingMiss):
        missing = refused.asked_hz / refused.reached_hz
        message = (
            f"{refused.reached_hz / 1e6:.1f} of {refused.asked_hz / 1e6:g} MHz: planning again with more registers"
        )
        for more in MARGINS if missing < HOPELESS else ():
            yield message, replace(constraints, timing_margin=constraints.timing_margin * missing * more)
    elif refused.usage.kind == "logic_cells":
        fewer = int(planned.plan.cost.cells * refused.usage.available / refused.usage.used * 0.99)
        yield f"{refused.usage}: planning again for {fewer:,} logic cells", replace(constraints, max_cells=fewer)


def _build(
    planned: Design,
    board: Board,
    out_dir: str | Path,
    clock_hz: int | None,
    baud: int,
    seed: int,
    yosys: Yosys,
    on_progress: Callable[[str], object] | None,
) -> Report:
    network = planned.network
    return flow.build(
        board,
        planned.top(cells=True),
        input=network.input,
        scores=network.scores,
        has_index=network.classifies,
        out_dir=out_dir,
        clock_hz=clock_hz,
        baud=baud,
        buffer_frames=_buffer_frames(network, board),
        dsp=planned.plan.cost.dsps > 0,
        seed=seed,
        yosys=yosys,
        cycles_per_frame=planned.plan.cycles_per_frame,
        plan=plan_figures(planned.plan),
        on_progress=on_progress,
    )


def pack(network: Network, board: str) -> tuple[Design, tuple[Usage, ...]]:
    """Plan, synthesize and pack ``network`` for ``board`` without place and route; return design and resources.

    Raises
    ------
    FewbitError
        If the board is unknown or too small, or a tool is missing or fails.
    """
    chosen_board = catalogue.get(board)
    planned = board_design(network, chosen_board)
    usage = flow.pack(
        chosen_board,
        planned.top(cells=True),
        input=network.input,
        scores=network.scores,
        has_index=network.classifies,
        buffer_frames=_buffer_frames(network, chosen_board),
        dsp=planned.plan.cost.dsps > 0,
    )
    return planned, usage
