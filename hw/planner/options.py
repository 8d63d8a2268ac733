"""Every way worth building for a stage of a network: folds, their cycles and their cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from fewbit.golden.network import Network
from fewbit.hw.cost import Cost, pareto_front
from fewbit.hw.costs.parts import divisors
from fewbit.hw.costs.streams import gearbox_cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    Fold,
)
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
    network: Network, stage: list[int], target: Target, clock_hz: float, dsp: bool = False
) -> Iterator[Option]:
    """Every way worth building for a stage: those that no other of the same lanes beats in cycles and all that is
    scarce. With ``dsp``, products of digits may be made in DSP blocks too."""
    first = unit_of(network.layers[stage[0]]) if stage else None
    if not isinstance(first, StageUnit):
        # On the input lanes: thresholds in a form that takes a beat a cycle.
        folds = [_input_way(network, index, target, clock_hz) for index in stage]
        ways = zip(*folds) if folds else ((), (), ())
        yield Option(1, *(tuple(part) for part in ways))
        return
    prepared = {index: _follower(network, index).prepare(network, index, target, clock_hz) for index in stage[1:]}
    followers: dict[tuple[int, int], list[Way]] = {}  # by layer and lanes

    def following(index: int, lanes: int) -> list[Way]:
        if (index, lanes) not in followers:
            followers[index, lanes] = list(_behind(network, index, lanes, target, prepared[index]))
        return followers[index, lanes]

    found: dict[tuple[int, int], list[Option]] = {}  # by what the neighbours see: lanes in, lanes out
    for lanes_in, begun in first.stage_ways(network, stage, target, clock_hz, dsp):
        lanes = begun[-1][0].lanes_out
        for rest in product(*(following(index, lanes) for index in stage[len(begun) :])):
            option = Option(lanes_in, *(tuple(part) for part in zip(*begun, *rest)))
            found.setdefault((option.lanes, option.folds[-1].lanes_out), []).append(option)
    for same in found.values():
        yield from pareto_front(same, cost=lambda option: option.cost, cycles=lambda option: option.slowest)


def _follower(network: Network, index: int) -> FollowingUnit:
    unit = unit_of(network.layers[index])
    assert isinstance(unit, FollowingUnit)
    return unit


def _input_way(network: Network, index: int, target: Target, clock_hz: float) -> Way:
    """The smallest of the forms on the input lanes that take a beat a cycle, and no more block RAMs than the first."""
    unit = _follower(network, index)
    ways = unit.ways(network, index, 1, target, unit.prepare(network, index, target, clock_hz))
    swift = [way for way in ways if way[1] == ways[0][1] and way[2].rams <= ways[0][2].rams and not way[2].dsps]
    return min(swift, key=lambda way: way[2].cells)


def _behind(network: Network, index: int, lanes: int, target: Target, prepared: Any) -> Iterator[Way]:
    """Ways of a layer behind ``lanes`` lanes. On fewer lanes it is smaller, and the beats of the layer before are taken
    apart."""
    unit, bits = _follower(network, index), network.types[index].dtype.bits
    for fewer in divisors(lanes):
        if unit.most_lanes is not None and fewer > unit.most_lanes:
            return
        apart = gearbox_cost(bits, lanes, fewer, target)
        for fold, cycles, cost in unit.ways(network, index, fewer, target, prepared):
            yield fold, cycles, cost + apart
