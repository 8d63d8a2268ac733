"""Every way worth building for a stage of a network: folds, their cycles and their cost."""

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
from fewbit.hw.units.base import FollowingUnit, StageUnit, Way
from fewbit.hw.units.table import unit_of


@dataclass(frozen=True)
class Option:
    """One way to build a stage, which takes ``lanes`` elements at a time."""

    lanes: int
    folds: tuple[Fold, ...]
    cycles: tuple[int, ...]
    costs: tuple[Cost, ...]

    @cached_property
    def cost(self) -> Cost:
        return sum(self.costs, Cost())

    @cached_property
    def slowest(self) -> int:
        return max(self.cycles, default=1)


def stage_options(
    network: Network,
    stage: Sequence[Layer],
    target: Target,
    clock_hz: float,
    dsp: bool = False,
    *,
    on_input: bool = False,
) -> Iterator[Option]:
    """Every way worth building for a stage: those that no other of the same lanes beats in cycles and all that is
    scarce. With ``dsp``, products of digits may be made in DSP blocks too."""
    if on_input:
        # On the input lanes: thresholds in a form that takes a beat a cycle.
        folds = [_input_way(network, layer, target, clock_hz) for layer in stage]
        ways = zip(*folds) if folds else ((), (), ())
        yield Option(1, *(tuple(part) for part in ways))
        return
    first = unit_of(stage[0])
    behind = stage[1:] if isinstance(first, StageUnit) else stage
    prepared = {layer.name: _follower(layer).prepare(network, layer, target, clock_hz) for layer in behind}
    followers: dict[tuple[str, int], list[Way]] = {}  # by layer and lanes

    def following(layer: Layer, lanes: int) -> list[Way]:
        if (layer.name, lanes) not in followers:
            followers[layer.name, lanes] = list(_behind(network, layer, lanes, target, prepared[layer.name]))
        return followers[layer.name, lanes]

    found: dict[tuple[int, int], list[Option]] = {}  # by what the neighbours see: lanes in, lanes out
    begins: Iterable[tuple[int, tuple[Way, ...]]]
    if isinstance(first, StageUnit):
        begins = first.stage_ways(network, stage, target, clock_hz, dsp)
    else:  # behind a fork, on any lanes that divide what comes
        source = network.source(stage[0])
        begins = ((lanes, ()) for lanes in divisors(run_length(source)))
    for lanes_in, begun in begins:
        lanes = begun[-1][0].lanes_out if begun else lanes_in
        for rest in product(*(following(layer, lanes) for layer in stage[len(begun) :])):
            option = Option(lanes_in, *(tuple(part) for part in zip(*begun, *rest)))
            found.setdefault((option.lanes, option.folds[-1].lanes_out), []).append(option)
    for same in found.values():
        yield from pareto_front(same, cost=lambda option: option.cost, cycles=lambda option: option.slowest)


def _follower(layer: Layer) -> FollowingUnit:
    unit = unit_of(layer)
    assert isinstance(unit, FollowingUnit)
    return unit


def _input_way(network: Network, layer: Layer, target: Target, clock_hz: float) -> Way:
    """The smallest of the forms on the input lanes that take a beat a cycle, and no more block RAMs than the first."""
    unit = _follower(layer)
    ways = unit.ways(network, layer, 1, target, unit.prepare(network, layer, target, clock_hz))
    swift = [way for way in ways if way[1] == ways[0][1] and way[2].rams <= ways[0][2].rams and not way[2].dsps]
    return min(swift, key=lambda way: way[2].cells)


def _behind(network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> Iterator[Way]:
    """Ways of a layer behind ``lanes`` lanes. On fewer lanes it is smaller, and the beats of the layer before are taken
    apart."""
    unit, bits = _follower(layer), network.source(layer).dtype.bits
    for fewer in divisors(lanes):
        if unit.most_lanes is not None and fewer > unit.most_lanes:
            return
        apart = gearbox_cost(bits, lanes, fewer, target)
        for fold, cycles, cost in unit.ways(network, layer, fewer, target, prepared):
            yield fold, cycles, cost + apart
