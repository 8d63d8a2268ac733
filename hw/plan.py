"""Network and target to a plan: how each layer is folded, where its memories lie, and what that takes and gives.

Every dense layer with what follows it up to the next is a *stage*. A stage has many possible folds, each with its
cycles and its cost; the planner looks for the smallest number of cycles a frame for which a choice of folds, one a
stage, fits the device, and among those choices for the cheapest. Stages are joined one at a time; of the joined
choices that end in the same fold only those that no other beats in both cells and block RAMs are kept, so the search
is exact for the costs it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, gcd, log

from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Affine, ArgMax, Dense, Flatten, Layer, Network, Threshold
from fewbit.hw import buffer as buffers
from fewbit.hw.bit_serial import BIT, serves
from fewbit.hw.chain import STREAM, Fold, Folding, takes_bias, timing
from fewbit.hw.lanes import lane_kind
from fewbit.hw.resources import Cost, Target, lut_ram_cells, rom_cells
from fewbit.hw.schedule import Schedule
from fewbit.hw.sign_matvec import STARTS, fuses, has_starts, sum_bits
from fewbit.hw.threshold import COMPARATORS, SEARCH

SHELL = Cost(cells=260)
"""What the board's shell around the design takes: UART, frame assembly, reset."""

FILL = 0.8
"""Share of a device's cells that a plan may fill; above it, routing gets slow and the clock drops."""

MOST_CELLS = 16_000
"""Cells that a plan takes at most unless more are asked for: beyond it, place and route takes very long."""

_CELLS_FOR_A_RAM = 200
"""What a block RAM counts for where nothing is scarce; about the devices' own ratio."""

_MOST_LANES = 1024


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """One layer of a plan: its fold, the cycles a frame that it is busy, and its predicted cost."""

    layer: Layer
    fold: Fold
    cycles: int
    cost: Cost


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


@dataclass(frozen=True)
class _Option:
    """One way to build a stage."""

    folds: tuple[Fold, ...]
    cycles: tuple[int, ...]
    costs: tuple[Cost, ...]

    @cached_property
    def cost(self) -> Cost:
        return sum(self.costs, Cost())

    @cached_property
    def slowest(self) -> int:
        return max(self.cycles, default=1)


@dataclass(frozen=True)
class _Label:
    """A choice for the stages so far."""

    cost: Cost
    options: tuple[_Option, ...]


def plan(
    network: Network,
    target: Target,
    *,
    clock_hz: float,
    fps: float | None = None,
    reserve: Cost = SHELL,
    max_cells: int | None = None,
) -> Plan:
    """Folds ``network`` onto ``target``: the fastest that fits, or the cheapest that gives ``fps`` frames a second.

    A plan takes at most ``max_cells`` logic cells, by default :data:`FILL` of the device and :data:`MOST_CELLS`.

    Raises
    ------
    FewbitError
        If the network does not fit, the wish is out of reach, or a layer has no hardware; the message says what to do.
    """
    if clock_hz <= 0:
        raise FewbitError(f"the clock must be above 0 Hz, not {clock_hz:g}")
    stages = _stages(network)
    options = [list(_options(network, stage, target, clock_hz)) for stage in stages]
    budget = None
    if target.capacity is not None:
        cells = min(int(target.capacity.cells * FILL), MOST_CELLS) if max_cells is None else max_cells
        budget = Cost(cells=min(cells, target.capacity.cells) - reserve.cells, rams=target.capacity.rams - reserve.rams)
    if fps is not None:
        if fps <= 0:
            raise FewbitError(f"the frame rate must be above 0, not {fps:g}")
        limit = int(clock_hz / fps * (1 + 1e-12))
        # A layer's own cycles are a lower bound: a ring moves its vector over, a gearbox pauses. So a choice that turns
        # out slower than the wish is taken again with less to spare.
        bound = limit
        while (label := _cheapest(network, stages, options, bound, budget)) is not None:
            made = _plan(network, target, clock_hz, stages, label, reserve)
            if made.cycles_per_frame <= limit:
                return made
            bound = min(bound, max((option.slowest for option in label.options[1:]), default=bound)) - 1
        best = plan(network, target, clock_hz=clock_hz, reserve=reserve, max_cells=max_cells)
        if best.cycles_per_frame <= limit:
            return best
        raise FewbitError(
            f"{fps:g} frames a second are out of reach on {target.title} at {clock_hz / 1e6:g} MHz; "
            f"the fastest that fits gives {best.frames_per_second:,.0f}"
        )
    label = _fastest(network, stages, options, target, budget)
    return _plan(network, target, clock_hz, stages, label, reserve)


def _stages(network: Network) -> list[list[int]]:
    """Indices of the layers of each stage; the first holds what comes before the first dense layer."""
    stages: list[list[int]] = [[]]
    for index, layer in enumerate(network.layers):
        if isinstance(layer, (Flatten, ArgMax)):
            continue
        if isinstance(layer, Dense):
            stages.append([])
        elif not isinstance(layer, (Threshold, Affine)):
            raise FewbitError(f"layer {layer.name!r}: there is no hardware for a {layer.kind} layer")
        stages[-1].append(index)
    return stages


def _fastest(
    network: Network, stages: Sequence[list[int]], options: list[list[_Option]], target: Target, budget: Cost | None
) -> _Label:
    limits = sorted(
        {option.slowest for stage in options for option in stage} | {network.input.size, network.scores.size}
    )
    if budget is None:  # nothing is scarce: one lane less would do as well, so stop where a plan stays readable
        limits = [limit for limit in limits if limit >= 16] or limits[-1:]
    low, high = 0, len(limits) - 1
    best = _cheapest(network, stages, options, limits[high], budget)
    if best is None:
        least = _cheapest(network, stages, options, limits[high], None)
        assert least is not None
        assert budget is not None
        wants = []
        if least.cost.rams > budget.rams:
            wants.append(f"{least.cost.rams} block RAMs where {max(0, budget.rams)} are free")
        if least.cost.cells > budget.cells or not wants:
            wants.append(f"{least.cost.cells:,} logic cells where {max(0, budget.cells):,} are free")
        bits = sum(layer.weights.size * layer.code.bits for layer in network.layers if isinstance(layer, Dense))
        raise FewbitError(
            f"network {network.name!r} does not fit {target.title}: it needs about {' and '.join(wants)} "
            f"for its {bits:,} weight bits; take a larger board, more --max-lut, or a smaller network"
        )
    while low < high:
        middle = (low + high) // 2
        label = _cheapest(network, stages, options, limits[middle], budget)
        if label is None:
            low = middle + 1
        else:
            best, high = label, middle
    return best


def _cheapest(
    network: Network, stages: Sequence[list[int]], options: list[list[_Option]], limit: int, budget: Cost | None
) -> _Label | None:
    """The cheapest choice of an option a stage with at most ``limit`` cycles a frame, within ``budget``."""
    # Of a stage, the next one sees only on how many lanes its results come.
    labels = {0: [_Label(option.cost, (option,)) for option in options[0]]}
    for stage, candidates in zip(stages[1:], options[1:]):
        size = network.types[stage[0]].size
        bits = network.types[stage[0]].dtype.bits
        fresh: dict[int, list[_Label]] = {}
        for option in candidates:
            if option.slowest > limit:
                continue
            simd = option.folds[0].simd
            for before, before_labels in labels.items():
                lanes = before or _input_lanes(size, simd, limit)
                common = gcd(lanes, simd)
                if size // common > limit:
                    continue
                box = (lanes * bits if lanes != common else 0) + (simd * bits if simd != common else 0)
                extra = option.cost + Cost(cells=box)
                found = fresh.setdefault(option.folds[-1].pe, [])
                for label in before_labels:
                    cost = label.cost + extra
                    if budget is None or _within(cost, budget):
                        found.append(_Label(cost, (*label.options, option)))
        labels = {lanes: _undominated(found) for lanes, found in fresh.items()}
    ends = [label for found in labels.values() for label in found if network.scores.size <= limit]
    if budget is not None:
        ends = [label for label in ends if _within(label.cost, budget)]
        return min(
            ends, key=lambda label: label.cost.cells / budget.cells + label.cost.rams / budget.rams, default=None
        )
    return min(ends, key=lambda label: label.cost.cells + _CELLS_FOR_A_RAM * label.cost.rams, default=None)


def _within(cost: Cost, budget: Cost) -> bool:
    return cost.cells <= budget.cells and cost.rams <= budget.rams


def _undominated(labels: list[_Label]) -> list[_Label]:
    kept: list[_Label] = []
    for label in sorted(labels, key=lambda label: (label.cost.cells, label.cost.rams)):
        if not kept or label.cost.rams < kept[-1].cost.rams:
            kept.append(label)
    return kept


def _input_lanes(size: int, simd: int, limit: int) -> int:
    """Fewest lanes of the input stream that bring a frame in within ``limit`` cycles; they divide SIMD and frame."""
    lanes = [lane for lane in range(1, simd + 1) if simd % lane == 0 and size % lane == 0]
    return next((lane for lane in lanes if size // lane <= limit), lanes[-1])


def _options(network: Network, stage: list[int], target: Target, clock_hz: float) -> Iterator[_Option]:
    """Every way worth building for a stage: those that no other of the same lanes beats in cycles, cells and RAMs."""
    if not stage or not isinstance(network.layers[stage[0]], Dense):
        # On the input lanes: thresholds are constants beside the stream, or a search with a lane for each.
        folds = [_on_lanes(network, index, 1, target)[0] for index in stage]
        yield _Option(tuple(fold for fold, _, _ in folds), tuple(c for _, c, _ in folds), tuple(c for _, _, c in folds))
        return
    layer = network.layers[stage[0]]
    assert isinstance(layer, Dense)
    lane_kind(network.types[stage[0]].dtype, layer.code)
    exact = not takes_bias(network, stage[0])
    found: dict[tuple[int, int], list[_Option]] = {}  # by what the neighbours see: lanes in, lanes out
    for pe, simd in product(_divisors(layer.outputs), _divisors(layer.inputs)):
        if pe * simd > 64 * _MOST_LANES or simd > _MOST_LANES or pe > _MOST_LANES:
            continue
        for fold, cost in _dense(layer, network.types[stage[0]].dtype, exact, pe, simd, target, clock_hz):
            for rest in product(*(_elementwise(network, index, pe, target) for index in stage[1:])):
                option = _Option(
                    (fold, *(one for one, _, _ in rest)),
                    (dense_cycles(layer, network.types[stage[0]].dtype, fold), *(cycles for _, cycles, _ in rest)),
                    (cost, *(cost for _, _, cost in rest)),
                )
                found.setdefault((simd, option.folds[-1].pe), []).append(option)
        for option in _streamed(network, stage, pe, simd, target, clock_hz):
            found.setdefault((simd, pe), []).append(option)
    for same in found.values():
        kept: list[_Option] = []
        for option in sorted(same, key=lambda option: (option.slowest, option.cost.cells, option.cost.rams)):
            if not any(one.cost.cells <= option.cost.cells and one.cost.rams <= option.cost.rams for one in kept):
                kept.append(option)
        yield from kept


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


def _dense(
    layer: Dense, activation: DType, exact: bool, pe: int, simd: int, target: Target, clock_hz: float
) -> Iterator[tuple[Fold, Cost]]:
    """Folds of a dense layer with these lanes: one for each place where weights and vectors can lie, and each form."""
    words, depth = layer.inputs // simd, layer.outputs // pe * (layer.inputs // simd)
    width, line = pe * simd * layer.code.bits, simd * activation.bits
    for serial in (False, True) if serves(activation, layer.code) else (False,):
        stages = sum_stages(BIT if serial else activation, simd, target, clock_hz)
        own = Cost(cells=_unit_cells(layer, activation, exact, pe, simd, target.family, serial))
        for memory, buffer, cost in _memories(depth, width, words, line, target):
            fold = Fold(pe=pe, simd=simd, memory=memory, buffer=buffer, stages=stages, serial=serial)
            yield fold, own + cost


def _streamed(
    network: Network, stage: list[int], pe: int, simd: int, target: Target, clock_hz: float
) -> Iterator[_Option]:
    """A dense layer whose thresholds ride in its weight stream, where they can."""
    layer, activation = network.layers[stage[0]], network.types[stage[0]].dtype
    after = network.layers[stage[1]] if len(stage) == 2 else None
    if not (isinstance(layer, Dense) and isinstance(after, Threshold) and activation == BIPOLAR):
        return
    words, folds = layer.inputs // simd, layer.outputs // pe
    stages = sum_stages(activation, simd, target, clock_hz)
    if not (fuses(layer, after) and has_starts(layer.inputs, simd) and stages <= words):
        return
    depth = folds * (words + STARTS)
    cells = pe * (lane_cells(layer, activation, simd, target.family) + sum_bits(layer.inputs) + 3) + simd
    for memory, buffer, cost in _memories(depth, pe * simd, words, simd, target):
        fold = Fold(pe=pe, simd=simd, memory=memory, buffer=buffer, stages=stages)
        whole = Cost(cells=cells + 3 * depth.bit_length() + 24) + cost
        yield _Option((fold, Fold(pe=pe, simd=pe, form=STREAM)), (depth, depth), (whole, Cost()))


def _memories(depth: int, width: int, words: int, line: int, target: Target) -> Iterator[tuple[str, str, Cost]]:
    """Where ``depth`` words of ``width`` bits and vectors of ``words`` words of ``line`` bits can lie."""
    memories = [("logic", Cost(cells=rom_cells(depth, width)))]
    if target.ram_shapes:
        memories.append(("block", Cost(rams=target.block_rams(depth, width))))
    vectors = [(buffers.RING, Cost(cells=(2 * words + 1) * line))]
    if target.ram_shapes:
        vectors.append(
            (buffers.BLOCK, Cost(cells=4 * words.bit_length() + 12, rams=target.block_rams(2 * words, line)))
        )
    if target.lut_ram:
        vectors.append(
            (buffers.DISTRIBUTED, Cost(cells=lut_ram_cells(2 * words, line) + line + 4 * words.bit_length() + 12))
        )
    for (memory, memory_cost), (buffer, buffer_cost) in product(memories, vectors):
        yield memory, buffer, memory_cost + buffer_cost


def dense_cycles(layer: Dense, activation: DType, fold: Fold) -> int:
    """Cycles a frame that a dense layer is busy."""
    return layer.outputs // fold.pe * (layer.inputs // fold.simd) * (activation.bits if fold.serial else 1)


def _unit_cells(layer: Dense, activation: DType, exact: bool, pe: int, simd: int, family: str, serial: bool) -> int:
    """Logic cells of a dense layer but for its memories."""
    depth = layer.outputs // pe * (layer.inputs // simd)
    low, high = layer.bounds(activation)
    accumulator = DType.holding(int(low.min()), int(high.max())).bits
    each = 2 if family not in _LANE or exact else 1
    control = 3 * depth.bit_length() + 10
    starts = rom_cells(layer.outputs // pe, pe * accumulator) if exact else 0
    if not serial:
        lanes = pe * (lane_cells(layer, activation, simd, family) + each * accumulator)
        return lanes + front_cells(layer, activation, simd, family) + control + starts
    plane = (1 if family in _LANE else 2) * (activation.bits + simd.bit_length())
    joined = each * accumulator if exact or layer.inputs > simd else 0
    lanes = pe * (lane_cells(layer, BIT, simd, family) + plane + joined)
    return lanes + mux_cells(activation, simd) + control + starts + 8


def _elementwise(network: Network, index: int, lanes: int, target: Target) -> Iterator[tuple[Fold, int, Cost]]:
    """Folds of a threshold or affine layer behind ``lanes`` lanes, each with its cycles and its cost. On fewer lanes it
    is smaller, and the beats of the layer before are taken apart."""
    bits = network.types[index].dtype.bits
    for fewer in _divisors(lanes):
        apart = Cost(cells=lanes * bits + 4) if fewer < lanes else Cost()
        for fold, cycles, cost in _on_lanes(network, index, fewer, target):
            yield fold, cycles, cost + apart
        if isinstance(network.layers[index], Affine):
            return


def _on_lanes(network: Network, index: int, lanes: int, target: Target) -> list[tuple[Fold, int, Cost]]:
    """Folds of a threshold or affine layer on ``lanes`` lanes."""
    layer, source = network.layers[index], network.types[index]
    bits = source.dtype.bits
    if isinstance(layer, Affine):
        scale = DType.holding(int(layer.scale.min()), int(layer.scale.max())).bits
        total = layer.output(source).dtype.bits
        cells = 3 * bits * scale // 2 + 2 * total + 2 * rom_cells(layer.scale.size, scale)
        return [(Fold(), source.size, Cost(cells=cells))]
    assert isinstance(layer, Threshold)
    count = int(layer.thresholds.shape[1])
    steps = count.bit_length()
    beats, groups = source.size // lanes, max(1, layer.channels // lanes)
    shared = layer.channels == 1
    every = 0 if shared else rom_cells(groups, lanes * count * bits)
    folds = [
        (
            Fold(pe=lanes, simd=lanes, form=COMPARATORS),
            beats,
            Cost(cells=lanes * (count * bits * (1 if shared else 2) // 2 + 3 * count // 2 + layer.dtype.bits) + every),
        )
    ]
    if count > 1:
        search = lanes * (2 * bits + 3 * steps) + 12
        places = [("logic", Cost(cells=lanes * rom_cells(groups << steps, bits)))]
        if target.ram_shapes:
            places.append(("block", Cost(rams=lanes * target.block_rams(groups << steps, bits))))
        folds += [
            (Fold(pe=lanes, simd=lanes, form=SEARCH, memory=place), beats * (steps + 1), cost + Cost(cells=search))
            for place, cost in places
        ]
    return folds


def sum_stages(activation: DType, simd: int, target: Target, clock_hz: float) -> int:
    """Ranks of registers that a sum of ``simd`` lanes needs at this clock."""
    widest = 16 * target.fan_in_mhz * 1e6 / clock_hz / (1 + (activation.bits - 1) / 2)
    return max(1, ceil(log(simd) / log(max(3.0, widest)) - 1e-9))


_LANE: dict[str, dict[str, tuple[float, float]]] = {
    "ice40": {"binary": (1.0, 1.3), "ternary": (1.5, 2.25), "quinary": (2.0, 3.9), "shift3": (2.95, 4.6)},
    "ecp5": {"binary": (0.8, 1.6), "ternary": (1.3, 2.2), "quinary": (2.1, 3.8), "shift3": (2.6, 5.6)},
}
"""Logic cells of a lane, ``slope * activation bits + constant``: ``python -m benchmarks.lanes``."""

_XNOR = {"ice40": 2.05, "ecp5": 1.8}
"""Of an XNOR lane: ``python -m benchmarks.datapaths``."""


_GATED = {"ice40": 2.48, "ecp5": 2.6}
"""Of a ternary lane on one bit, and"""

_MUX = (0, 0, 1, 2, 3, 3, 5, 5, 6)
"""of picking a plane of so many: ``python -m benchmarks.bit_serial``."""


def lane_cells(layer: Dense, activation: DType, simd: int, family: str) -> int:
    """Logic cells of the lanes of one output: see :mod:`fewbit.hw.lanes` for what each is made of."""
    name = layer.code.name
    cells = family in _LANE
    if name == "binary" and activation.bits == 1:
        return round((_XNOR[family] if cells else 3.0) * simd)
    if name == "ternary" and activation.bits == 1:
        return round((_GATED[family] if cells else 4.0) * simd)
    if name.startswith("shift3"):
        name = "shift3"
    bits = activation.bits + (activation.kind == "uint")
    if cells and name in _LANE[family]:
        slope, constant = _LANE[family][name]
        return round(simd * (slope * activation.bits + constant))
    if name in ("binary", "ternary"):
        return round(simd * (2.6 * bits + 2))
    if name in ("quinary", "shift3"):
        return round(simd * (4.5 * bits + 4))
    return round(simd * (1.3 * bits * layer.code.bits + 2 * (bits + layer.code.bits)))


def front_cells(layer: Dense, activation: DType, simd: int, family: str) -> int:
    """Logic cells of what the lanes of all outputs share."""
    shared = family in _LANE and layer.code.name == "binary" and activation.bits > 1
    return simd * (activation.bits + 1) if shared else 0


def mux_cells(activation: DType, simd: int) -> int:
    """Logic cells that pick a plane of the activations, once for all outputs."""
    return simd * (_MUX[activation.bits] if activation.bits < len(_MUX) else activation.bits - 2)


def _plan(
    network: Network, target: Target, clock_hz: float, stages: Sequence[list[int]], label: _Label, reserve: Cost
) -> Plan:
    folds: dict[str, Fold] = {}
    layers = []
    first = next((option.folds[0] for option in label.options[1:] if option.folds), None)
    size = network.input.size
    limit = max(option.slowest for option in label.options[1:]) if len(label.options) > 1 else size
    input_lanes = 1 if first is None else _input_lanes(size, first.simd, max(limit, network.scores.size))
    for stage, option in zip(stages, label.options):
        for index, fold, cycles, cost in zip(stage, option.folds, option.cycles, option.costs):
            layer = network.layers[index]
            if option is label.options[0]:
                fold, cycles = (
                    Fold(pe=input_lanes, simd=input_lanes, form=fold.form, memory=fold.memory),
                    size // input_lanes,
                )
            folds[layer.name] = fold
            layers.append(LayerPlan(layer=layer, fold=fold, cycles=cycles, cost=cost))
    return Plan(
        network=network,
        target=target,
        clock_hz=clock_hz,
        folding=Folding(input_lanes=input_lanes, folds=folds),
        layers=tuple(layers),
        cost=label.cost + reserve,
    )
