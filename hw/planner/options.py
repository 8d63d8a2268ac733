"""The options of a stage of a network: combinations of folds with their cycles and their costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from fewbit.golden.network import Layer, Network
from fewbit.hw.cost import Cost, pareto_front
from fewbit.hw.costs.parts import divisors
from fewbit.hw.costs.streams import gearbox_cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    Fold,
)
from fewbit.hw.layers.join import run_length
from fewbit.hw.units.base import FoldOption, FollowingUnit, StageUnit
from fewbit.hw.units.table import unit_of


@dataclass(frozen=True)
class StageOption:
    """Folds for all layers of a stage.

    Attributes
    ----------
    lanes : int
        Elements in a beat of the stage's input.
    folds : tuple of Fold
    cycles : tuple of int
        Cycles per frame in which each layer is busy.
    costs : tuple of Cost
        Cost of each layer.
    """

    lanes: int
    folds: tuple[Fold, ...]
    cycles: tuple[int, ...]
    costs: tuple[Cost, ...]

    @cached_property
    def cost(self) -> Cost:
        return sum(self.costs, Cost())

    @cached_property
    def slowest(self) -> int:
        """Cycles per frame of the slowest layer."""
        return max(self.cycles, default=1)


def stage_options(
    network: Network,
    stage: Sequence[Layer],
    target: Target,
    clock_hz: float,
    dsp: bool = False,
    *,
    on_input: bool = False,
) -> dict[tuple[int, int], list[StageOption]]:
    """The useful options of a stage, by the numbers of input and output lanes: the Pareto front in cycles and all
    scarce resources. With ``dsp``, products with signed digits may use DSP blocks, too. With ``on_input``, it is
    the stage of the layers before all others, which has a single option."""
    if on_input:
        # These thresholds have the lanes of the design's input, and must take a beat a cycle.
        layer_options = [_input_option(network, layer, target, clock_hz) for layer in stage]
        fields = zip(*layer_options) if layer_options else ((), (), ())
        return {(1, 1): [StageOption(1, *(tuple(field) for field in fields))]}
    first_unit = unit_of(stage[0])
    followers = stage[1:] if isinstance(first_unit, StageUnit) else stage
    prepared = {layer.name: _follower(layer).prepare(network, layer, target, clock_hz) for layer in followers}
    options_of: dict[tuple[str, int], list[FoldOption]] = {}  # by name of the layer, and lanes

    def following(layer: Layer, lanes: int) -> list[FoldOption]:
        if (layer.name, lanes) not in options_of:
            options_of[layer.name, lanes] = list(_following(network, layer, lanes, target, prepared[layer.name]))
        return options_of[layer.name, lanes]

    by_lanes: dict[tuple[int, int], list[StageOption]] = {}  # by input and output lanes
    beginnings: Iterable[tuple[int, tuple[FoldOption, ...]]]
    if isinstance(first_unit, StageUnit):
        beginnings = first_unit.first_options(network, stage, target, clock_hz, dsp)
    else:  # after a fork: any lanes that divide a run of the input
        source = network.source(stage[0])
        beginnings = ((lanes, ()) for lanes in divisors(run_length(source)))
    for lanes_in, beginning in beginnings:
        lanes = beginning[-1][0].lanes_out if beginning else lanes_in
        for rest in product(*(following(layer, lanes) for layer in stage[len(beginning) :])):
            option = StageOption(lanes_in, *(tuple(field) for field in zip(*beginning, *rest)))
            by_lanes.setdefault((option.lanes, option.folds[-1].lanes_out), []).append(option)
    return {
        lanes: pareto_front(options, cost=lambda option: option.cost, cycles=lambda option: option.slowest)
        for lanes, options in by_lanes.items()
    }


def _follower(layer: Layer) -> FollowingUnit:
    unit = unit_of(layer)
    assert isinstance(unit, FollowingUnit)
    return unit


def _input_option(network: Network, layer: Layer, target: Target, clock_hz: float) -> FoldOption:
    """The smallest option, on one lane, that is as fast as the first one and takes no more block RAMs, and no DSP
    block."""
    unit = _follower(layer)
    options = unit.options(network, layer, 1, target, unit.prepare(network, layer, target, clock_hz))
    _, first_cycles, first_cost = options[0]
    fast = [
        (fold, cycles, cost)
        for fold, cycles, cost in options
        if cycles == first_cycles and cost.rams <= first_cost.rams and not cost.dsps
    ]
    return min(fast, key=lambda option: option[2].cells)


def _following(network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> Iterator[FoldOption]:
    """Yield the options of a layer after one with ``lanes`` output lanes. It may have fewer lanes itself, which makes
    it smaller; the cost then includes a gearbox."""
    unit, bits = _follower(layer), network.source(layer).dtype.bits
    for fewer in divisors(lanes):
        if unit.most_lanes is not None and fewer > unit.most_lanes:
            return
        gearbox = gearbox_cost(bits, lanes, fewer, target)
        for fold, cycles, cost in unit.options(network, layer, fewer, target, prepared):
            yield fold, cycles, cost + gearbox
