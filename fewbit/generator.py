"""Generates the design of a network for a target: lowers the network, plans it, and writes Verilog."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fewbit import __version__
from fewbit.golden.network import Network
from fewbit.hw.cost import Cost
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.devices import target
from fewbit.hw.fold import MatVecFold
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import SHELL, Plan, plan
from fewbit.hw.top import Top
from fewbit.passes import lower

MODULE = "fewbit_top"
"""Name of the Verilog module of a whole design."""

DEFAULT_CLOCK_HZ = {"up5k": 24e6, "hx8k": 48e6, "ecp5-25k": 50e6, "ecp5-85k": 50e6, "asic": 100e6}
"""Default clock of each target, for designs without a board."""


@dataclass(frozen=True)
class Design:
    """A network with its plan.

    Attributes
    ----------
    network : Network
        The original network, whose integers the design must reproduce.
    plan : Plan
        The plan of the lowered network.
    """

    network: Network
    plan: Plan

    def top(self, *, cells: bool = False) -> Top:
        """Return a new component of the whole design.

        With ``cells``, datapaths are built from the cells of the target's family, as for boards; otherwise from plain
        RTL.
        """
        family = self.plan.target.family
        return Top(self.plan.network, self.plan.folding, family if cells else "generic")

    def image(self, *, cells: bool = False) -> NDArray[np.uint16]:
        """The 16-bit words that have to be loaded into :meth:`top` at the start; empty if all weights are preloaded."""
        weight_folds = [fold for fold in self.plan.folding.folds.values() if isinstance(fold, MatVecFold)]
        if all(MEMORIES[fold.memory].preloaded for fold in weight_folds):
            return np.zeros(0, np.uint16)
        return np.array(self.top(cells=cells).image, np.uint16)

    @property
    def _dial(self) -> list[str]:
        """The header line about the quality, if the design has one."""
        digits = self.plan.network.digits
        return [f"quality: signed digits that count in a product, {digits} and more for all"] if digits else []

    @property
    def _loading(self) -> list[str]:
        """The header line about loading, if the design has memories to load."""
        words = len(self.image())
        return [f"load: {words:,} words of 16 bits fill its memories, before the first frame"] if words else []

    @cached_property
    def verilog(self) -> str:
        """The design in plain RTL as Verilog, module :data:`MODULE`, with a header that describes it."""
        plan, network = self.plan, self.network
        name = " ".join(network.name.split())  # a name with line breaks must stay a comment
        order = "row by row, channels last" if len(network.input.shape) == 3 else "C order"
        header = [
            f"{name}, made by fewbit {__version__} for {plan.target.title} at {plan.clock_hz / 1e6:g} MHz",
            f"input: {network.input}, {plan.folding.input_lanes} a beat, {order}, the first in the lowest bits",
            f"output: {network.scores}, a score a beat in the lowest bits; above it the arg-max so far, then last",
            f"{plan.cycles_per_frame} cycles a frame, {plan.latency} from a frame's first beat to its last score",
            *self._dial,
            *self._loading,
        ]
        return "".join(f"// {line}\n" for line in header) + verilog(self.top(), MODULE)

    @cached_property
    def mapped_verilog(self) -> str:
        """The design for boards as Verilog, with datapaths built from the cells of the target's family."""
        return verilog(self.top(cells=True), MODULE)


def design(
    network: Network,
    target_name: str = "up5k",
    constraints: Constraints = Constraints(),  # noqa: B008, it is frozen
    *,
    reserve: Cost = SHELL,
) -> Design:
    """Lower and plan ``network`` for a target.

    Parameters
    ----------
    network : Network
    target_name : str
        Name of a target in :data:`fewbit.hw.fabric.devices.TARGETS`.
    constraints : Constraints
        Required clock and frame rate, and allowed resources; by default the fastest design that fits, at the target's
        default clock.
    reserve : Cost
        Resources to leave free for the shell around the design.

    Raises
    ------
    FewbitError
        If the target is unknown or the network does not fit it.
    """
    device = target(target_name)
    if constraints.clock_hz is None:
        constraints = replace(constraints, clock_hz=DEFAULT_CLOCK_HZ[device.name])
    return Design(network, plan(lower(network), device, constraints, reserve=reserve))
