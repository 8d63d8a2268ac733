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
from fewbit.golden.network import Join, Layer, Linear, Network
from fewbit.hw.chain import timing, with_buffers
from fewbit.hw.cost import Cost, pareto_front
from fewbit.hw.costs.bandwidth import WeightReads
from fewbit.hw.costs.parts import in_cells
from fewbit.hw.costs.streams import argmax_cost, gearbox_cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import Fold, Folding, JoinFold, MatVecFold
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.front import Front, Joined
from fewbit.hw.planner.options import Option, stage_options
from fewbit.hw.planner.stages import (
    Stage,
    Stream,
    buffers_cost,
    buffers_memory,
    fork_cost,
    stages_of,
    waiting_cost,
)
from fewbit.hw.schedule import Schedule
from fewbit.hw.units.base import FollowingUnit
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


_Lanes = tuple[tuple[int, int], ...]
"""Streams that stages are still to take, and on how many lanes they come."""


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
    search = _Search.of(network, target, constraints.timing_margin * clock_hz, constraints.dsp)
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
        while (label := search.cheapest(bound, budget)) is not None:
            found = search.plan(label, clock_hz, reserve)
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
    return search.plan(search.fastest(budget), clock_hz, reserve)


@dataclass(frozen=True)
class _Search:
    """Every option of every stage of a network on a target, and the search among them.

    Attributes
    ----------
    waiting : float
        How much more the buffers of joins are taken to hold than they are estimated to.
    """

    network: Network
    target: Target
    stages: Sequence[Stage]
    streams: dict[int, Stream]
    options: list[list[Option]]
    waiting: float = 1.0

    @classmethod
    def of(cls, network: Network, target: Target, clock_hz: float, dsp: bool) -> _Search:
        stages, streams = stages_of(network)
        options = [
            list(stage_options(network, stage.layers, target, clock_hz, dsp, on_input=stage is stages[0]))
            for stage in stages
        ]
        return cls(network, target, stages, streams, options)

    def fastest(self, budget: Cost | None) -> _Label:
        """The choice with the fewest cycles a frame that fits. Raises MisfitError if none does."""
        network = self.network
        limits = sorted(
            {option.slowest for stage in self.options for option in stage} | {network.input.size, network.scores.size}
        )
        if budget is None:  # nothing is scarce: one lane less would do as well, so stop where a plan stays readable
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
            label = self.cheapest(limits[middle], budget)
            if label is None:
                low = middle + 1
            else:
                best, high = label, middle
        return best

    def _misfit(self, least: Cost, budget: Cost) -> MisfitError:
        wants = []
        if least.rams > budget.rams:
            wants.append(f"{least.rams} block RAMs where {max(0, budget.rams)} are free")
        if least.cells > budget.cells or not wants:
            wants.append(f"{least.cells:,} logic cells where {max(0, budget.cells):,} are free")
        bits = sum(layer.weights.size * layer.code.bits for layer in self.network.layers if isinstance(layer, Linear))
        return MisfitError(
            f"network {self.network.name!r} does not fit {self.target.title}: it needs about {' and '.join(wants)} "
            f"for its {bits:,} weight bits; take a larger board, more --max-lut, or a smaller network"
        )

    def cheapest(self, limit: int, budget: Cost | None) -> _Label | None:
        """The cheapest choice of an option a stage with at most ``limit`` cycles a frame, within ``budget``."""
        # Of the stages so far, the next ones see only on how many lanes the streams come that are still to be taken;
        # the input has 0 until a stage takes it.
        network, target = self.network, self.target
        source = self.stages[0].gives
        left = {number: stream.takers for number, stream in self.streams.items()}
        forked = fork_cost(left[source])
        fronts: dict[_Lanes, Front] = {
            ((source, 0),): Front.of([(option.cost + forked, option) for option in self.options[0]])
        }
        for stage, candidates in zip(self.stages[1:], self.options[1:]):
            for number in stage.reads:
                left[number] -= 1
            forked = fork_cost(self.streams[stage.gives].takers)
            fresh: dict[_Lanes, Joined] = {}
            for option in _fast_enough(candidates, limit):
                simd = option.lanes
                own = option.cost + forked
                if isinstance(stage.layers[0], Join):
                    own += waiting_cost(network, stage.layers[0], simd, target, self.waiting)
                for state, front in fronts.items():
                    lanes = dict(state)
                    extra = own
                    common = simd
                    for number in stage.reads:
                        kind = self.streams[number].kind
                        if not lanes[number]:
                            lanes[number] = _input_lanes(kind.size, simd, limit)
                            extra += gearbox_cost(network.input.dtype.bits, 1, lanes[number], target)
                        extra += gearbox_cost(kind.dtype.bits, lanes[number], simd, target)
                        common = min(common, gcd(lanes[number], simd))
                    if self.streams[stage.reads[0]].kind.size // common > limit:
                        continue
                    lanes[stage.gives] = option.folds[-1].lanes_out
                    after = tuple((number, count) for number, count in lanes.items() if left[number])
                    fresh.setdefault(after, Joined(budget)).add(front, extra, option)
            fronts = {state: joined.front() for state, joined in fresh.items()}
        ends = Joined(budget)
        for ((_, count),), front in fronts.items():
            if network.scores.size <= limit:
                ends.add(front, _scores_cost(network, count, target), None)
        labels = [_Label(cost, options) for cost, options in ends.choices()]
        if budget is not None:
            return min(labels, key=lambda label: label.cost.share(budget), default=None)
        return min(labels, key=lambda label: in_cells(label.cost), default=None)

    def plan(self, label: _Label, clock_hz: float, reserve: Cost) -> Plan:
        """The plan of a choice, with the exact depths of the buffers of joins."""
        network, target = self.network, self.target
        folds: dict[str, Fold] = {}
        first = next(
            (option.lanes for stage, option in zip(self.stages[1:], label.options[1:])
             if self.stages[0].gives in stage.reads), None
        )  # fmt: skip
        size = network.input.size
        limit = max(option.slowest for option in label.options[1:]) if len(label.options) > 1 else size
        input_lanes = 1 if first is None else _input_lanes(size, first, max(limit, network.scores.size))
        planned = []
        for stage, option in zip(self.stages, label.options):
            for layer, fold, cycles, cost in zip(stage.layers, option.folds, option.cycles, option.costs):
                moved = None
                if option is label.options[0]:
                    unit = unit_of(layer)
                    assert isinstance(unit, FollowingUnit)
                    moved = unit.on_input(network, layer, fold, input_lanes)
                fold, cycles = moved or (fold, cycles)
                folds[layer.name] = fold
                planned.append((layer, cycles, cost))
        folding = with_buffers(network, Folding(input_lanes=input_lanes, folds=folds))
        whole = label.cost + reserve
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
                whole += exact - waiting_cost(network, layer, fold.lanes, target, self.waiting)
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
            cost=whole,
        )


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
