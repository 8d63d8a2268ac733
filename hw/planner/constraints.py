"""Constraints for a plan."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from fewbit.golden.errors import FewbitError


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """The required speed of a design, and the resources that it may use.

    Parameters
    ----------
    clock_hz : float, optional
        Clock frequency; by default that of the board, or a typical one of the target.
    fps : float, optional
        Required frames per second; by default the plan is the fastest that fits.
    max_cells : int, optional
        Largest number of logic cells; by default :data:`fewbit.hw.planner.plan.FILL` of the device, but at most
        :data:`fewbit.hw.planner.plan.MOST_CELLS`.
    dsp : bool
        Whether products with signed digits may use DSP blocks, too. In a DSP block a lower quality does not reduce
        switching activity.
    spram : bool, optional
        Whether weights may be stored in memories that have to be loaded at the start. By default only if the network
        does not fit otherwise.
    timing_margin : float
        Pipeline stages are planned for a clock that is faster by this factor.

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
