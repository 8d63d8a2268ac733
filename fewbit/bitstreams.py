"""A network to a bitstream on a board."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fewbit.boards import catalogue, flow, protocol
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
"""What the shell takes more where the host turns the quality."""

RECEIVE_BUFFER = Cost(cells=90, ffs=70)
"""What it takes more where it holds frames, beside the memory."""


REPLANS = 2
"""How often a design that does not fit, or is too slow, is planned again."""

MARGINS = (1.1, 1.3, 1.6, 2, 3)
"""How much faster than it has to be a design that is too slow is planned, until its plan is another one."""

HOPELESS = 1.5
"""One that would have to be this many times as fast is refused at once."""


def board_design(network: Network, board: Board, constraints: Constraints = Constraints()) -> Design:  # noqa: B008
    """``network`` planned for ``board``, and its clock where ``constraints`` say none, with room left for the shell and
    its receive buffer."""
    has_quality = network.digits > 0
    reserve = SHELL + int(has_quality) * QUALITY_GATE
    if frames := _buffer_frames(network, board):
        held = protocol.buffer_bytes(network.input, frames, has_quality)
        reserve += RECEIVE_BUFFER + Cost(rams=target(board.target).block_rams(held, 8))
    constraints = replace(constraints, clock_hz=constraints.clock_hz or board.clock_hz)
    return design(network, board.target, constraints, reserve=reserve)


def _buffer_frames(network: Network, board: Board) -> int:
    """A design that holds no vector of its own needs a receive buffer on any board."""
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
    """Builds the bitstream of ``network`` for ``board`` into ``out_dir``; the design, and what it takes and reaches.

    A plan is a prediction: a design that turns out too large is planned again for fewer logic cells, one that is too
    slow with more pipeline stages.

    Parameters
    ----------
    network : Network
    board : str
        One of :data:`fewbit.boards.catalogue.BOARDS`.
    out_dir : str or Path
        Folder, made where it is missing.
    constraints : Constraints
        Left out, the fastest that fits at the board's clock.
    baud : int
        Bits a second of the serial link.
    seed : int
        Of place and route.
    yosys : ``"yowasp"`` or ``"pyosys"``
    on_progress : callable, optional
        Told what begins.

    Raises
    ------
    FewbitError
        If the board is unknown or too small, or the timing cannot be met.
    """
    found = catalogue.get(board)
    clock_hz = None if constraints.clock_hz is None else round(constraints.clock_hz)
    flow.check(found, out_dir, clock_hz=clock_hz, baud=baud, yosys=yosys)
    planned = board_design(network, found, constraints)
    for _ in range(REPLANS):
        try:
            return planned, _build(planned, found, out_dir, clock_hz, baud, seed, yosys, on_progress)
        except (Misfit, TimingMiss) as refused:
            other = _replanned(network, found, constraints, planned, refused)
            if other is None:
                raise
            said, constraints, planned = other
            if on_progress is not None:
                on_progress(said)
    return planned, _build(planned, found, out_dir, clock_hz, baud, seed, yosys, on_progress)


def _replanned(
    network: Network, board: Board, constraints: Constraints, planned: Design, refused: Misfit | TimingMiss
) -> tuple[str, Constraints, Design] | None:
    """What to say, the constraints and the design after one that was refused; None where nothing helps."""
    for said, changed in _changes(constraints, planned, refused):
        try:
            other = board_design(network, board, changed)
        except FewbitError:
            return None
        if other.plan.folding != planned.plan.folding:
            return said, changed, other
    return None


def _changes(
    constraints: Constraints, planned: Design, refused: Misfit | TimingMiss
) -> Iterator[tuple[str, Constraints]]:
    """Constraints that may help, the least changed first, and what to say of them."""
    if isinstance(refused, TimingMiss):
        missing = refused.asked_hz / refused.reached_hz
        said = f"{refused.reached_hz / 1e6:.1f} of {refused.asked_hz / 1e6:g} MHz: planning again with more registers"
        for more in MARGINS if missing < HOPELESS else ():
            yield said, replace(constraints, timing_margin=constraints.timing_margin * missing * more)
    elif refused.usage.kind == "logic_cells":
        fewer = int(planned.plan.cost.cells * refused.usage.available / refused.usage.used * 0.99)
        yield f"{refused.usage}: planning again for {fewer:,} logic cells", replace(constraints, max_cells=fewer)


def _build(
    made: Design,
    board: Board,
    out_dir: str | Path,
    clock_hz: int | None,
    baud: int,
    seed: int,
    yosys: Yosys,
    on_progress: Callable[[str], object] | None,
) -> Report:
    network = made.network
    return flow.build(
        board,
        made.top(cells=True),
        input=network.input,
        scores=network.scores,
        has_index=network.classifies,
        out_dir=out_dir,
        clock_hz=clock_hz,
        baud=baud,
        buffer_frames=_buffer_frames(network, board),
        dsp=made.plan.cost.dsps > 0,
        seed=seed,
        yosys=yosys,
        cycles_per_frame=made.plan.cycles_per_frame,
        plan=plan_figures(made.plan),
        on_progress=on_progress,
    )


def pack(network: Network, board: str) -> tuple[Design, tuple[Usage, ...]]:
    """``network`` as planned for ``board``, and what that takes there, synthesized and packed but not placed.

    Raises
    ------
    FewbitError
        If the board is unknown or too small.
    """
    found = catalogue.get(board)
    made = board_design(network, found)
    usage = flow.pack(
        found,
        made.top(cells=True),
        input=network.input,
        scores=network.scores,
        has_index=network.classifies,
        buffer_frames=_buffer_frames(network, found),
        dsp=made.plan.cost.dsps > 0,
    )
    return made, usage
