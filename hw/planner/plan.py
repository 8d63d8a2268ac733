"""The planner: from a network, a target and constraints to a plan with the fold and the memories of each layer, and the
resulting speed and cost.

A layer with weights, or a join, is a *stage* together with the layers after it, up to the next such layer. A stage has
many options, each with its cycles and its cost. The planner finds the smallest number of cycles per frame for which a
choice of one option for each stage fits the device, and of these choices the cheapest. It adds the stages one after the
other. Of the choices that leave the same lanes to the following stages, it keeps the Pareto front in all scarce
resources, so that the search is exact for the given costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd
from statistics import fmean

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Join, Layer, Linear, Network
from fewbit.hw.chain import timing, with_buffers
from fewbit.hw.cost import Cost
from fewbit.hw.costs.bandwidth import WeightReads
from fewbit.hw.costs.parts import in_cells
from fewbit.hw.costs.streams import argmax_cost, gearbox_cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import Fold, Folding, JoinFold, MatVecFold
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.front import NO_OPTION, Front, Joined, Options
from fewbit.hw.planner.options import StageOption, stage_options
from fewbit.hw.planner.stages import (
    Stage,
    Stream,
    buffers_cost,
    buffers_memory,
    early_elements,
    fork_cost,
    stages_of,
    waiting_cost,
)
from fewbit.hw.schedule import Schedule
from fewbit.hw.units.base import FollowingUnit
from fewbit.hw.units.table import unit_of

SHELL = Cost(cells=170, ffs=90)
"""Cost of the shell around a design on a board: UART, frame assembly and reset, but no receive buffer."""

LOADING = Cost(cells=175, ffs=90)
"""Additional cost of a design and its shell if memories have to be loaded at the start."""

FILL = 0.98
"""Share of a device's logic cells that a plan may use: predictions may be slightly too low."""

_MOST_SEARCHES = 4
"""Searches until a plan fits with the exact depths of its buffers, each with better estimates of these."""

MOST_CELLS = 16_000
"""Largest number of logic cells of a plan, unless the constraints allow more: place and route of larger designs takes
very long."""


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """One layer of a plan: its fold, the cycles per frame in which it is busy, its predicted cost, and how it reads its
    weights, if it has any."""

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
        The layers that have hardware, in order.
    cost : Cost
        Predicted cost, including the shell.
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
        """Cycles from one frame to the next, exact, if the source and the sink never pause."""
        return self.schedule.interval

    @property
    def latency(self) -> int:
        """Cycles from the first input beat of a frame to its last score, exact, if no other frame is in the
        pipeline."""
        return self.schedule.latency

    @property
    def frames_per_second(self) -> float:
        return self.clock_hz / self.cycles_per_frame

    @property
    def bottleneck(self) -> LayerPlan:
        """The layer with the most cycles per frame."""
        return max(self.layers, key=lambda planned: planned.cycles)

    def busy(self, planned: LayerPlan) -> float:
        """Cycles of a layer divided by the cycles of the busiest layer."""
        return planned.cycles / self.bottleneck.cycles

    @property
    def weighted(self) -> tuple[LayerPlan, ...]:
        """The layers with weights."""
        return tuple(planned for planned in self.layers if planned.reads is not None)

    @property
    def balance(self) -> float:
        """Mean :meth:`busy` of the layers with weights: 1 if all are as busy as the busiest layer."""
        return fmean(map(self.busy, self.weighted or self.layers))

    @property
    def weight_bits_per_cycle(self) -> float:
        """Bits of weights that are read from block RAMs in a cycle, on average over a frame."""
        ram_reads = [planned.reads for planned in self.weighted if planned.reads is not None and planned.reads.rams]
        return sum(reads.bits_per_cycle(self.cycles_per_frame) for reads in ram_reads)

    @property
    def weight_rams(self) -> int:
        """Number of block RAMs that store weights."""
        return sum(planned.reads.rams for planned in self.weighted if planned.reads is not None)

    @property
    def bandwidth_share(self) -> float | None:
        """:attr:`weight_bits_per_cycle` divided by the bandwidth of all block RAMs of the device; None if it has
        none."""
        bandwidth = self.target.weight_bandwidth
        return self.weight_bits_per_cycle / bandwidth if bandwidth else None


_Lanes = tuple[tuple[int, int], ...]
"""The streams that later stages still have to read, each with its number of lanes."""


@dataclass(frozen=True)
class _Choice:
    """A choice of one option for each stage, and its cost."""

    cost: Cost
    options: tuple[StageOption, ...]


class MisfitError(FewbitError):
    """No plan meets the constraints with the resources of the device."""


def plan(network: Network, target: Target, constraints: Constraints, *, reserve: Cost = SHELL) -> Plan:
    """Plan ``network`` on ``target``: the fastest plan that fits, or the cheapest with ``constraints.fps``.

    Memories that a host has to load at the start are used according to ``constraints.spram``: by default only if there
    is no plan without them. ``reserve`` is the cost of the logic around the design. Raises the errors of
    :func:`plan_within`.
    """
    loadable = any(memory.offered(target) for memory in MEMORIES.values() if not memory.preloaded)
    if constraints.spram and loadable:
        return plan_within(network, target, constraints, reserve=reserve + LOADING)
    try:
        preloaded_plan = plan_within(network, target.full_at_start, constraints, reserve=reserve)
    except MisfitError as misfit:
        if constraints.spram is False or target.capacity is None or not target.capacity.sprams:
            raise
        with contextlib.suppress(MisfitError):
            return plan_within(network, target, constraints, reserve=reserve + LOADING)
        raise misfit from None
    return replace(preloaded_plan, target=target)


def plan_within(network: Network, target: Target, constraints: Constraints, *, reserve: Cost = SHELL) -> Plan:
    """Plan ``network`` with all memories of ``target``: the fastest plan that fits, or the cheapest with
    ``constraints.fps`` frames per second. Ordinary products may use DSP blocks, products with signed digits only with
    ``constraints.dsp``.

    Raises
    ------
    FewbitError
        If there is no clock, the network does not fit, a constraint cannot be met, or there is no hardware for a layer.
        The message says what to do.
    """
    clock_hz = constraints.clock_hz
    if clock_hz is None:
        raise FewbitError("a plan needs a clock frequency: set Constraints.clock_hz")
    budget = None
    if target.capacity is not None:
        most = constraints.max_cells
        cells = min(int(target.capacity.cells * FILL), MOST_CELLS) if most is None else most
        has = replace(target.capacity, cells=min(cells, target.capacity.cells))
        budget = has - reserve
    search = _Search.of(network, target, constraints.timing_margin * clock_hz, constraints.dsp)
    for _ in range(_MOST_SEARCHES):
        candidate = _plan(search, constraints, budget, reserve)
        if budget is None or (candidate.cost - reserve).within(budget):
            return candidate
        search = search.after(candidate)
    raise MisfitError(
        f"network {network.name!r} does not fit {target.title}: the buffers where its branches meet take more than was "
        "left for them; take a larger board, or a smaller network"
    )


def _plan(search: _Search, constraints: Constraints, budget: Cost | None, reserve: Cost) -> Plan:
    """The best plan if the buffers of joins hold what ``search`` estimates; its own buffers are exact."""
    target, clock_hz, fps = search.target, constraints.clock_hz, constraints.fps
    assert clock_hz is not None
    if fps is not None:
        limit = int(clock_hz / fps * (1 + 1e-12))
        # The cycles of the layers are a lower bound for the cycles of the design: a ring buffer pauses while it moves a
        # vector, and so do gearboxes. If the plan for a choice is too slow, the search is repeated with a lower bound.
        bound = limit
        while (choice := search.cheapest(bound, budget)) is not None:
            cheapest_plan = search.plan(choice, clock_hz, reserve)
            if cheapest_plan.cycles_per_frame <= limit:
                return cheapest_plan
            bound = min(bound, max((option.slowest for option in choice.options[1:]), default=bound)) - 1
        best = _plan(search, replace(constraints, fps=None), budget, reserve)
        if best.cycles_per_frame <= limit:
            return best
        raise MisfitError(
            f"{fps:g} frames a second are out of reach on {target.title} at {clock_hz / 1e6:g} MHz; "
            f"the fastest that fits gives {best.frames_per_second:,.0f}"
        )
    return search.plan(search.fastest(budget), clock_hz, reserve)


@dataclass(frozen=True)
class _Search:
    """The options of all stages of a network on a target, and the search for the best choice.

    Attributes
    ----------
    options : list of dict of Options
        For each stage, its options by their input and output lanes.
    waiting : dict of list of int
        By the name of a join: estimates of how many elements of each of its inputs wait in its buffers.
    """

    network: Network
    target: Target
    stages: Sequence[Stage]
    streams: dict[int, Stream]
    options: list[dict[tuple[int, int], Options]]
    waiting: dict[str, list[int]]

    @classmethod
    def of(cls, network: Network, target: Target, clock_hz: float, dsp: bool) -> _Search:
        """A search with all options for ``clock_hz``; ``dsp`` is :attr:`Constraints.dsp`."""
        stages, streams = stages_of(network)
        options = [
            stage_options(network, stage.layers, target, clock_hz, dsp, on_input=stage is stages[0]) for stage in stages
        ]
        joins = [layer for layer in network.layers if isinstance(layer, Join)]
        waiting = {layer.name: early_elements(network, layer) for layer in joins}
        by_lanes = [{lanes: Options.of(same_lanes) for lanes, same_lanes in stage.items()} for stage in options]
        return cls(network, target, stages, streams, by_lanes, waiting)

    def after(self, plan: Plan) -> _Search:
        """The same search, with at least as many elements in each buffer as in ``plan``."""
        waiting = dict(self.waiting)
        for layer in self.network.layers:
            if isinstance(layer, Join):
                fold = plan.folding.of(layer, JoinFold)
                exact = [fold.lanes * words for words in fold.depths or ()]
                waiting[layer.name] = [max(both) for both in zip(waiting[layer.name], exact)]
        return replace(self, waiting=waiting)

    def fastest(self, budget: Cost | None) -> _Choice:
        """The choice with the fewest cycles per frame within ``budget``. Raises MisfitError if there is none."""
        network = self.network
        limits = sorted(
            {slowest for stage in self.options for options in stage.values() for slowest in options.slowest.tolist()}
            | {network.input.size, network.scores.size}
        )
        if budget is None:  # without limits, the plan would compute everything in parallel: stop at 16 cycles per frame
            limits = [limit for limit in limits if limit >= 16] or limits[-1:]
        low, high = 0, len(limits) - 1
        best = self.cheapest(limits[high], budget)
        if best is None:
            least = self.cheapest(limits[high], None)
            assert least is not None
            assert budget is not None
            raise self._misfit(least.cost, budget)
        while low < high:
            middle = (low + high) // 2
            choice = self.cheapest(limits[middle], budget)
            if choice is None:
                low = middle + 1
            else:
                best, high = choice, middle
        return best

    def _misfit(self, least: Cost, budget: Cost) -> MisfitError:
        """The error for a network whose smallest cost ``least`` exceeds ``budget``."""
        excesses = []
        if least.rams > budget.rams:
            excesses.append(f"{least.rams} block RAMs where {max(0, budget.rams)} are free")
        if least.cells > budget.cells or not excesses:
            excesses.append(f"{least.cells:,} logic cells where {max(0, budget.cells):,} are free")
        bits = sum(layer.weights.size * layer.code.bits for layer in self.network.layers if isinstance(layer, Linear))
        return MisfitError(
            f"network {self.network.name!r} does not fit {self.target.title}: it needs about {' and '.join(excesses)} "
            f"for its {bits:,} weight bits; take a larger board, more --max-lut, or a smaller network"
        )

    def cheapest(self, limit: int, budget: Cost | None) -> _Choice | None:
        """The cheapest choice with at most ``limit`` cycles per frame within ``budget``; None if there is none."""
        # Later stages depend on earlier ones only through the lanes of the streams that are still to be read. There is
        # a front for each combination of these lanes. The input stream has 0 lanes until a stage reads it.
        network, target = self.network, self.target
        source = self.stages[0].gives
        readers_left = {number: stream.readers for number, stream in self.streams.items()}
        fork = fork_cost(readers_left[source])
        (first,) = self.options[0].values()
        fronts: dict[_Lanes, Front] = {((source, 0),): Front.of(first, fork)}
        for stage, candidates in zip(self.stages[1:], self.options[1:]):
            for number in stage.reads:
                readers_left[number] -= 1
            fork = fork_cost(self.streams[stage.gives].readers)
            joined: dict[_Lanes, Joined] = {}
            for (simd, lanes_out), options in candidates.items():
                options = options.within(limit)
                stage_cost = fork
                if isinstance(join := stage.layers[0], Join):
                    stage_cost += waiting_cost(network, join, simd, target, self.waiting[join.name])
                extended: dict[_Lanes, list[tuple[Front, Cost]]] = {}
                for state, front in fronts.items():
                    lanes = dict(state)
                    cost = stage_cost
                    common = simd
                    for number in stage.reads:
                        kind = self.streams[number].kind
                        if not lanes[number]:
                            lanes[number] = _input_lanes(kind.size, simd, limit)
                            cost += gearbox_cost(network.input.dtype.bits, 1, lanes[number], target)
                        cost += gearbox_cost(kind.dtype.bits, lanes[number], simd, target)
                        common = min(common, gcd(lanes[number], simd))
                    if self.streams[stage.reads[0]].kind.size // common > limit:
                        continue
                    lanes[stage.gives] = lanes_out
                    after = tuple((number, count) for number, count in lanes.items() if readers_left[number])
                    extended.setdefault(after, []).append((front, cost))
                for after, bases in extended.items():
                    joined.setdefault(after, Joined(budget)).add(bases, options)
            fronts = {state: collected.front() for state, collected in joined.items()}
        ends = Joined(budget)
        for ((_, count),), front in fronts.items():
            if network.scores.size <= limit:
                ends.add([(front, _scores_cost(network, count, target))], NO_OPTION)
        choices = [_Choice(cost, options) for cost, options in ends.choices()]
        if budget is not None:
            return min(choices, key=lambda choice: choice.cost.share(budget), default=None)
        return min(choices, key=lambda choice: in_cells(choice.cost), default=None)

    def plan(self, choice: _Choice, clock_hz: float, reserve: Cost) -> Plan:
        """The plan for a choice, with the exact depths of the buffers of joins."""
        network, target = self.network, self.target
        folds: dict[str, Fold] = {}
        first = next(
            (option.lanes for stage, option in zip(self.stages[1:], choice.options[1:])
             if self.stages[0].gives in stage.reads), None
        )  # fmt: skip
        size = network.input.size
        limit = max(option.slowest for option in choice.options[1:]) if len(choice.options) > 1 else size
        input_lanes = 1 if first is None else _input_lanes(size, first, max(limit, network.scores.size))
        planned = []
        for stage, option in zip(self.stages, choice.options):
            for layer, fold, cycles, cost in zip(stage.layers, option.folds, option.cycles, option.costs):
                on_input_lanes = None
                if option is choice.options[0]:
                    unit = unit_of(layer)
                    assert isinstance(unit, FollowingUnit)
                    on_input_lanes = unit.on_input(network, layer, fold, input_lanes)
                fold, cycles = on_input_lanes or (fold, cycles)
                folds[layer.name] = fold
                planned.append((layer, cycles, cost))
        folding = with_buffers(network, Folding(input_lanes=input_lanes, folds=folds))
        total = choice.cost + reserve
        layers = []
        for layer, cycles, cost in planned:
            fold, reads = folding.folds[layer.name], None
            if isinstance(layer, Linear):
                assert isinstance(fold, MatVecFold)
                positions = network.types[layer.name].size // layer.outputs
                reads = WeightReads.of(layer, fold, target, positions=positions)
            if isinstance(layer, Join):
                assert isinstance(fold, JoinFold)
                assert fold.depths is not None
                exact = buffers_cost(network, layer, fold.lanes, fold.depths, target)
                total += exact - waiting_cost(network, layer, fold.lanes, target, self.waiting[layer.name])
                cost += exact
                memory = buffers_memory(network, layer, fold.lanes, fold.depths, target)
                fold = replace(fold, memory=memory)
                folding.folds[layer.name] = fold
            layers.append(LayerPlan(layer=layer, fold=fold, cycles=cycles, cost=cost, reads=reads))
        return Plan(
            network=network,
            target=target,
            clock_hz=clock_hz,
            folding=folding,
            layers=tuple(layers),
            cost=total,
        )


def _scores_cost(network: Network, lanes: int, target: Target) -> Cost:
    """Cost of the gearbox from ``lanes`` scores in a beat to a single one, and of the arg-max."""
    scores = network.scores
    return gearbox_cost(scores.dtype.bits, max(1, lanes), 1, target) + argmax_cost(
        scores.dtype.bits, scores.size, target
    )


def _input_lanes(size: int, simd: int, limit: int) -> int:
    """The fewest input lanes with which a frame of ``size`` elements takes at most ``limit`` cycles, or else the most.
    They must divide ``simd`` and ``size``."""
    lanes = [lane for lane in range(1, simd + 1) if simd % lane == 0 and size % lane == 0]
    return next((lane for lane in lanes if size // lane <= limit), lanes[-1])
