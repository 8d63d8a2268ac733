"""What a plan has to keep to."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from fewbit.golden.errors import FewbitError


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What a design is asked to reach, and what it may take.

    Parameters
    ----------
    clock_hz : float, optional
        Clock; left out, that of the board, or a usual one of the target.
    fps : float, optional
        Frames a second to plan for; left out, the fastest that fits.
    max_cells : int, optional
        Logic cells that a plan may take; left out, :data:`fewbit.hw.planner.plan.FILL` of the device and
        :data:`fewbit.hw.planner.plan.MOST_CELLS`.
    dsp : bool
        Whether products of signed digits may take DSP blocks too: there a lower quality saves no switching.
    spram : bool, optional
        Whether weights may lie in memories that are loaded at the start; left out, where nothing else fits.
    timing_margin : float
        Sums have the pipeline stages that a clock so many times as fast would ask for.

    Raises
    ------
    FewbitError
        If a clock, a frame rate or a margin is not above 0.
    """

    clock_hz: float | None = None
    fps: float | None = None
    max_cells: int | None = None
    dsp: bool = False
    spram: bool | None = None
    timing_margin: float = 1.0

    def __post_init__(self) -> None:
        if self.clock_hz is not None and not 0 < self.clock_hz < inf:
            raise FewbitError(f"the clock must be above 0 Hz, not {self.clock_hz:g}")
        if self.fps is not None and not 0 < self.fps < inf:
            raise FewbitError(f"the frame rate must be above 0, not {self.fps:g}")
        if not 0 < self.timing_margin < inf:
            raise FewbitError(f"the timing margin must be above 0, not {self.timing_margin:g}")
