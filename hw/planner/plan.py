"""Network and target to a plan: how each layer is folded, where its memories lie, and what that takes and gives.

Every layer with weights, with what follows it up to the next, is a *stage*. A stage has many possible folds, each with
its cycles and its cost; the planner looks for the smallest number of cycles a frame for which a choice of folds, one a
stage, fits the device, and among those choices for the cheapest. Stages are joined one at a time; of the joined
choices that end in the same fold only those that no other beats in all that is scarce are kept, so the search
is exact for the costs it is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd
from statistics import fmean

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Layer, Linear, Network
from fewbit.hw.chain import timing
from fewbit.hw.cost import Cost, pareto_front
from fewbit.hw.costs.bandwidth import WeightReads
from fewbit.hw.costs.parts import in_cells
from fewbit.hw.costs.streams import argmax_cost, gearbox_cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import Fold, Folding, MatVecFold
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.options import Option, stage_options
from fewbit.hw.schedule import Schedule
from fewbit.hw.units.base import FoldedUnit, FollowingUnit, StageUnit
from fewbit.hw.units.table import unit_of

SHELL = Cost(cells=170, ffs=90)
"""What the board's shell around the design takes: UART, frame assembly, reset; without a receive buffer."""

LOADING = Cost(cells=175, ffs=90)
"""What a design and its shell take more where memories have to be loaded at the start."""

FILL = 0.98
"""Share of a device's cells that a plan may fill: what it predicts may be a little too little."""

MOST_CELLS = 16_000
"""Cells that a plan takes at most unless more are asked for: beyond it, place and route takes very long."""


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """One layer of a plan: its fold, the cycles a frame that it is busy, its predicted cost, and where it has weights
    what it reads of them."""

    layer: Layer
    fold: Fold
    cycles: int
    cost: Cost
    reads: WeightReads | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A network folded onto a target.

    Attributes
    ----------
    network : Network
    target : Target
    clock_hz : float
    folding : Folding
    layers : tuple of LayerPlan
        Layers that are hardware of their own, in order.
    cost : Cost
        Predicted, the shell included.
    """

    network: Network
    target: Target
    clock_hz: float
    folding: Folding
    layers: tuple[LayerPlan, ...]
    cost: Cost

    @cached_property
    def schedule(self) -> Schedule:
        return timing(self.network, self.folding)

    @property
    def cycles_per_frame(self) -> int:
        """Cycles from one frame to the next, exact, while input and output keep up."""
        return self.schedule.interval

    @property
    def latency(self) -> int:
        """Cycles from a frame's first input beat to its last score, exact, in an idle design."""
        return self.schedule.latency

    @property
    def frames_per_second(self) -> float:
        return self.clock_hz / self.cycles_per_frame

    @property
    def bottleneck(self) -> LayerPlan:
        """The layer that is busy longest."""
        return max(self.layers, key=lambda one: one.cycles)

    def busy(self, one: LayerPlan) -> float:
        """Cycles of a layer, of those of the busiest."""
        return one.cycles / self.bottleneck.cycles

    @property
    def weighted(self) -> tuple[LayerPlan, ...]:
        """Layers with weights."""
        return tuple(one for one in self.layers if one.reads is not None)

    @property
    def balance(self) -> float:
        """Mean :meth:`busy` of the layers with weights: 1 where all are as busy as the busiest."""
        return fmean(map(self.busy, self.weighted or self.layers))

    @property
    def weight_bits_per_cycle(self) -> float:
        """Bits of weights that come out of block RAM, on average over a frame."""
        held = [one.reads for one in self.weighted if one.reads is not None and one.reads.rams]
        return sum(reads.bits_per_cycle(self.cycles_per_frame) for reads in held)

    @property
    def weight_rams(self) -> int:
        """Block RAMs that hold weights."""
        return sum(one.reads.rams for one in self.weighted if one.reads is not None)

    @property
    def bandwidth_share(self) -> float | None:
        """:attr:`weight_bits_per_cycle`, of what all block RAMs of the device give; None where it has none."""
        gives = self.target.weight_bandwidth
        return self.weight_bits_per_cycle / gives if gives else None


@dataclass(frozen=True)
class _Label:
    """A choice for the stages so far."""

    cost: Cost
    options: tuple[Option, ...]


class MisfitError(FewbitError):
    """There is no plan within what the device has, or what is allowed."""


def plan(network: Network, target: Target, constraints: Constraints, *, reserve: Cost = SHELL) -> Plan:
    """:func:`plan_within` the memories that are full at the start; with ``constraints.spram`` also those that a host
    has to load, where ``target`` has any. By default these are used only where there is no plan without."""
    loadable = any(memory.offered(target) for memory in MEMORIES.values() if not memory.preloaded)
    if constraints.spram and loadable:
        return plan_within(network, target, constraints, reserve=reserve + LOADING)
    try:
        found = plan_within(network, target.full_at_start, constraints, reserve=reserve)
    except MisfitError as misfit:
        if constraints.spram is False or target.capacity is None or not target.capacity.sprams:
            raise
        with contextlib.suppress(MisfitError):
            return plan_within(network, target, constraints, reserve=reserve + LOADING)
        raise misfit from None
    return replace(found, target=target)


def plan_within(network: Network, target: Target, constraints: Constraints, *, reserve: Cost = SHELL) -> Plan:
    """Folds ``network`` onto ``target``: the fastest that fits, or the cheapest that gives ``constraints.fps`` frames a
    second. Plain products may take DSP blocks, products of signed digits only with ``constraints.dsp``.

    Raises
    ------
    FewbitError
        If there is no clock, the network does not fit, a constraint cannot be kept, or a layer has no hardware; the
        message says what to do.
    """
    clock_hz, fps = constraints.clock_hz, constraints.fps
    if clock_hz is None:
        raise FewbitError("a plan needs a clock")
    stages = _stages(network)
    stage_clock = constraints.timing_margin * clock_hz
    options = [list(stage_options(network, stage, target, stage_clock, constraints.dsp)) for stage in stages]
    budget = None
    if target.capacity is not None:
        most = constraints.max_cells
        cells = min(int(target.capacity.cells * FILL), MOST_CELLS) if most is None else most
        has = replace(target.capacity, cells=min(cells, target.capacity.cells))
        budget = has - reserve
    if fps is not None:
        limit = int(clock_hz / fps * (1 + 1e-12))
        # A layer's own cycles are a lower bound: a ring moves its vector over, a gearbox pauses. So a choice that turns
        # out slower than the constraint is taken again with less to spare.
        bound = limit
        while (label := _cheapest(network, stages, options, bound, target, budget)) is not None:
            found = _plan(network, target, clock_hz, stages, label, reserve)
            if found.cycles_per_frame <= limit:
                return found
            bound = min(bound, max((option.slowest for option in label.options[1:]), default=bound)) - 1
        best = plan_within(network, target, replace(constraints, fps=None), reserve=reserve)
        if best.cycles_per_frame <= limit:
            return best
        raise MisfitError(
            f"{fps:g} frames a second are out of reach on {target.title} at {clock_hz / 1e6:g} MHz; "
            f"the fastest that fits gives {best.frames_per_second:,.0f}"
        )
    label = _fastest(network, stages, options, target, budget)
    return _plan(network, target, clock_hz, stages, label, reserve)


def _stages(network: Network) -> list[list[int]]:
    """Indices of the layers of each stage; the first holds what comes before the first one with weights."""
    stages: list[list[int]] = [[]]
    for index, layer in enumerate(network.layers):
        unit = unit_of(layer)
        if not isinstance(unit, FoldedUnit):
            continue
        if isinstance(unit, StageUnit):
            stages.append([])
        stages[-1].append(index)
    return stages


def _fastest(
    network: Network, stages: Sequence[list[int]], options: list[list[Option]], target: Target, budget: Cost | None
) -> _Label:
    limits = sorted(
        {option.slowest for stage in options for option in stage} | {network.input.size, network.scores.size}
    )
    if budget is None:  # nothing is scarce: one lane less would do as well, so stop where a plan stays readable
        limits = [limit for limit in limits if limit >= 16] or limits[-1:]
    low, high = 0, len(limits) - 1
    best = _cheapest(network, stages, options, limits[high], target, budget)
    if best is None:
        least = _cheapest(network, stages, options, limits[high], target, None)
        assert least is not None
        assert budget is not None
        wants = []
        if least.cost.rams > budget.rams:
            wants.append(f"{least.cost.rams} block RAMs where {max(0, budget.rams)} are free")
        if least.cost.cells > budget.cells or not wants:
            wants.append(f"{least.cost.cells:,} logic cells where {max(0, budget.cells):,} are free")
        bits = sum(layer.weights.size * layer.code.bits for layer in network.layers if isinstance(layer, Linear))
        raise MisfitError(
            f"network {network.name!r} does not fit {target.title}: it needs about {' and '.join(wants)} "
            f"for its {bits:,} weight bits; take a larger board, more --max-lut, or a smaller network"
        )
    while low < high:
        middle = (low + high) // 2
        label = _cheapest(network, stages, options, limits[middle], target, budget)
        if label is None:
            low = middle + 1
        else:
            best, high = label, middle
    return best


def _cheapest(
    network: Network,
    stages: Sequence[list[int]],
    options: list[list[Option]],
    limit: int,
    target: Target,
    budget: Cost | None,
) -> _Label | None:
    """The cheapest choice of an option a stage with at most ``limit`` cycles a frame, within ``budget``."""
    # Of a stage, the next one sees only on how many lanes its results come.
    labels = {0: [_Label(option.cost, (option,)) for option in options[0]]}
    for stage, candidates in zip(stages[1:], options[1:]):
        size = network.types[stage[0]].size
        bits = network.types[stage[0]].dtype.bits
        fresh: dict[int, list[_Label]] = {}
        for option in _fast_enough(candidates, limit):
            simd = option.lanes
            for before, before_labels in labels.items():
                lanes = before or _input_lanes(size, simd, limit)
                common = gcd(lanes, simd)
                if size // common > limit:
                    continue
                extra = option.cost + gearbox_cost(bits, lanes, simd, target)
                if not before:
                    extra += gearbox_cost(network.input.dtype.bits, 1, lanes, target)
                found = fresh.setdefault(option.folds[-1].lanes_out, [])
                for label in before_labels:
                    cost = label.cost + extra
                    if budget is None or cost.within(budget):
                        found.append(_Label(cost, (*label.options, option)))
        labels = {lanes: pareto_front(found, _cost) for lanes, found in fresh.items()}
    ends = [
        _Label(label.cost + _scores_cost(network, lanes, target), label.options)
        for lanes, found in labels.items()
        for label in found
        if network.scores.size <= limit
    ]
    if budget is not None:
        ends = [label for label in ends if label.cost.within(budget)]
        return min(ends, key=lambda label: label.cost.share(budget), default=None)
    return min(ends, key=lambda label: in_cells(label.cost), default=None)


def _scores_cost(network: Network, lanes: int, target: Target) -> Cost:
    """Of what brings scores on ``lanes`` lanes out one by one, with the arg-max."""
    scores = network.scores
    return gearbox_cost(scores.dtype.bits, max(1, lanes), 1, target) + argmax_cost(
        scores.dtype.bits, scores.size, target
    )


def _cost(choice: _Label | Option) -> Cost:
    return choice.cost


def _fast_enough(options: list[Option], limit: int) -> list[Option]:
    """Of the options with at most ``limit`` cycles, those that no other of the same lanes beats in cost."""
    found: dict[tuple[int, int], list[Option]] = {}
    for option in options:
        if option.slowest <= limit:
            found.setdefault((option.lanes, option.folds[-1].lanes_out), []).append(option)
    return [option for same in found.values() for option in pareto_front(same, _cost)]


def _input_lanes(size: int, simd: int, limit: int) -> int:
    """Fewest lanes of the input stream that bring a frame in within ``limit`` cycles; they divide SIMD and frame."""
    lanes = [lane for lane in range(1, simd + 1) if simd % lane == 0 and size % lane == 0]
    return next((lane for lane in lanes if size // lane <= limit), lanes[-1])


def _plan(
    network: Network, target: Target, clock_hz: float, stages: Sequence[list[int]], label: _Label, reserve: Cost
) -> Plan:
    folds: dict[str, Fold] = {}
    layers = []
    first = next((option.lanes for option in label.options[1:]), None)
    size = network.input.size
    limit = max(option.slowest for option in label.options[1:]) if len(label.options) > 1 else size
    input_lanes = 1 if first is None else _input_lanes(size, first, max(limit, network.scores.size))
    for stage, option in zip(stages, label.options):
        for index, fold, cycles, cost in zip(stage, option.folds, option.cycles, option.costs):
            layer = network.layers[index]
            moved = None
            if option is label.options[0]:
                unit = unit_of(layer)
                assert isinstance(unit, FollowingUnit)
                moved = unit.on_input(network, index, fold, input_lanes)
            fold, cycles = moved or (fold, cycles)
            folds[layer.name] = fold
            reads = None
            if isinstance(layer, Linear):
                positions = network.types[index + 1].size // layer.outputs
                assert isinstance(fold, MatVecFold)
                reads = WeightReads.of(layer, fold, target, positions=positions)
            layers.append(LayerPlan(layer=layer, fold=fold, cycles=cycles, cost=cost, reads=reads))
    return Plan(
        network=network,
        target=target,
        clock_hz=clock_hz,
        folding=Folding(input_lanes=input_lanes, folds=folds),
        layers=tuple(layers),
        cost=label.cost + reserve,
    )
