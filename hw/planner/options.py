"""Every way worth building for a stage of a network: folds, their cycles and their cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import gcd

from fewbit.golden.dtype import BIPOLAR, DType, signed_bits
from fewbit.golden.network import Affine, Conv, Dense, Linear, Network, Pool, TensorType, Threshold
from fewbit.golden.reach import threshold_reach
from fewbit.golden.terms import term_exponents
from fewbit.hw.cost import Cost, undominated
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    BIT_PLANES,
    FUSED_SIGN,
    PARALLEL,
    STREAM,
    TERMS,
    AffineFold,
    Fold,
    MatVecFold,
    ThresholdFold,
    WindowFold,
    takes_bias,
)
from fewbit.hw.layers.conv import needs_windows
from fewbit.hw.layers.multiply_shift import LaneForm, cheapest
from fewbit.hw.layers.threshold import COMPARATORS, MULTIPLY_SHIFT, SEARCH
from fewbit.hw.layers.window import Geometry
from fewbit.hw.matvec.bit_serial import BIT, serves
from fewbit.hw.matvec.fused_sign import STARTS, fuses, has_starts, sum_bits
from fewbit.hw.matvec.term_serial import least_simd, term_memory
from fewbit.hw.memory.kind import Contents
from fewbit.hw.memory.rom import BLOCK, LOGIC, rom_cells
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.planner.costs import (
    dense_cycles,
    dsp_blocks,
    lane_cells,
    memories,
    multiply_shift_cells,
    row_stages,
    scale_cost,
    serves_vectors,
    stored_words,
    sum_ffs,
    sum_stages,
    term_cost,
    term_kind,
    unit_cost,
    window_cost,
)
from fewbit.hw.planner.stream_costs import gearbox_cost

_MOST_LANES = 1024


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
    if not stage or not isinstance(network.layers[stage[0]], Linear):
        # On the input lanes: thresholds in a form that takes a beat a cycle.
        folds = [_input_fold(network, index, target, clock_hz) for index in stage]
        ways = zip(*folds) if folds else ((), (), ())
        yield Option(1, *(tuple(one) for one in ways))
        return
    work = _Work.of(network, stage[0])
    forms = {index: _multiply_shift(network, index, target, clock_hz) for index in stage[1:]}
    found: dict[tuple[int, int], list[Option]] = {}  # by what the neighbours see: lanes in, lanes out
    for pe, simd in product(divisors(work.layer.outputs // work.groups), divisors(work.layer.inputs)):
        if pe * simd > 64 * _MOST_LANES or simd > _MOST_LANES or pe > _MOST_LANES:
            continue
        for fold, cycles, cost in _linear(work, pe, simd, target, clock_hz, dsp):
            for rest in product(*(_elementwise(network, index, pe, target, forms[index]) for index in stage[1:])):
                option = Option(
                    _lanes_in(fold, work),
                    (fold, *(one for one, _, _ in rest)),
                    (cycles, *(cycles for _, cycles, _ in rest)),
                    (cost, *(cost for _, _, cost in rest)),
                )
                found.setdefault((option.lanes, option.folds[-1].lanes_out), []).append(option)
        for option in _streamed(network, stage, work, pe, simd, target, clock_hz):
            found.setdefault((option.lanes, pe), []).append(option)
    for same in found.values():
        yield from undominated(same, cost=lambda option: option.cost, cycles=lambda option: option.slowest)


def divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


@dataclass(frozen=True)
class _Work:
    """A layer with weights, and what the planner has to know of it.

    Attributes
    ----------
    layer : Linear
    kind : DType
        Of the activations, as the lanes see them.
    exact : bool
        Whether it gives its sums whole, or leaves a bias to the thresholds behind it.
    positions, groups : int
        Products a frame, and shares of the outputs with inputs of their own.
    geometry : Geometry or None
        Of its windows, if it has any.
    source : TensorType
    """

    layer: Linear
    kind: DType
    exact: bool
    positions: int
    groups: int
    geometry: Geometry | None
    source: TensorType

    @cached_property
    def product(self) -> Dense:
        """The layer at one position."""
        return self.layer.position()

    @classmethod
    def of(cls, network: Network, index: int) -> _Work:
        layer, source = network.layers[index], network.types[index]
        assert isinstance(layer, Linear)
        positions, groups, geometry = 1, 1, None
        if isinstance(layer, Conv):
            _, rows, columns = layer.output(source).shape
            positions, groups = rows * columns, layer.groups
            geometry = Geometry.of(layer, source, groups) if needs_windows(layer, source) else None
        exact = not takes_bias(network, index)
        return cls(layer, layer.lane_kind(source.dtype), exact, positions, groups, geometry, source)


def _lanes_in(fold: MatVecFold, work: _Work) -> int:
    return fold.simd if work.geometry is None else fold.window.lanes


def _linear(
    work: _Work, pe: int, simd: int, target: Target, clock_hz: float, digits: bool = True
) -> Iterator[tuple[MatVecFold, int, Cost]]:
    """Folds of a layer with weights with these lanes, their cycles and cost: one for each place where weights and
    vectors can lie, and each form."""
    layer, activation = work.layer, work.kind
    yield from _by_terms(work, pe, simd, target, clock_hz)
    if not serves_vectors(layer, pe, simd):
        return
    words, line = layer.inputs // simd, simd * activation.bits
    stored = stored_words(work.product, pe, simd)
    places = list(memories(stored, words, line, target))
    scale_columns = stored.scales[1]
    for unit, blocks in _forms(work, pe, simd, target, digits):
        serial, dsp = unit == BIT_PLANES, blocks > 0
        term = BIT if serial else term_kind(layer, activation)
        stages = sum_stages(term, simd, target, clock_hz) + (simd > 1 and layer.code.signed_word)
        own = unit_cost(work.product, activation, work.exact, pe, simd, stages, target.family, serial, dsp)
        own += scale_cost(work.product, activation, pe, simd, stages, target.family, scale_columns, dsp)
        own += Cost(dsps=blocks)
        for memory, buffer, cost in places:
            fold = MatVecFold(pe=pe, simd=simd, unit=unit, memory=memory, buffer=buffer, stages=stages, dsp=dsp)
            cycles = work.positions * dense_cycles(work.product, activation, fold)
            yield _windowed(work, fold, cycles, own + cost, target)


def _forms(work: _Work, pe: int, simd: int, target: Target, digits: bool) -> Iterator[tuple[str, int]]:
    """A unit, and the DSP blocks that it takes: every choice there is."""
    yield PARALLEL, 0
    if serves(work.kind, work.layer.code) and not work.layer.digits:
        yield BIT_PLANES, 0
    blocks = dsp_blocks(work.layer, work.kind, pe, simd, target) if digits or not work.layer.digits else 0
    if blocks:
        yield PARALLEL, blocks


def _by_terms(
    work: _Work, pe: int, simd: int, target: Target, clock_hz: float
) -> Iterator[tuple[MatVecFold, int, Cost]]:
    """Folds that walk the terms of a layer, where it has zeros or signed digits, with no more inputs at a time than
    keep up."""
    layer, activation, groups = work.product, work.kind, work.groups
    if not (layer.digits or (layer.weights == 0).any()) or simd != least_simd(layer, pe, groups):
        return
    depth, width = term_memory(layer, pe, simd, groups)
    # Picking an activation and its shift is as deep as a sum of as many bits.
    stages = sum_stages(BIT, max(2, simd * len(term_exponents(layer))), target, clock_hz)
    own = term_cost(layer, activation, work.exact, pe, simd, target.family, stages)
    words, line = layer.inputs // simd, simd * activation.bits
    stored = Contents.of_any(depth, width)
    for memory, buffer, cost in memories(stored, words, line, target, readers=pe):
        fold = MatVecFold(pe=pe, simd=simd, unit=TERMS, memory=memory, buffer=buffer, stages=stages)
        cycles = work.positions * dense_cycles(layer, activation, fold, groups)
        yield _windowed(work, fold, cycles, own + cost, target)


def _windowed(work: _Work, fold: MatVecFold, cycles: int, cost: Cost, target: Target) -> tuple[MatVecFold, int, Cost]:
    """``fold`` with the windows that it wants: as few lanes as keep up with the unit, or as many as bring most."""
    geometry = work.geometry
    if geometry is None:
        return fold, cycles, cost
    lanes = divisors(geometry.shape[0] // geometry.groups)
    # The gearbox behind the window goes through the greatest number that divides both.
    needed = {one: geometry.elements // gcd(one, fold.simd) for one in lanes}
    window = next((one for one in lanes if needed[one] <= cycles), min(lanes, key=lambda one: needed[one]))
    rows, lines, own = window_cost(geometry, work.source.dtype, window, target)
    own += gearbox_cost(work.kind.bits, window, fold.simd, target)
    windows = WindowFold(lanes=window, rows=rows, memory=lines)
    return replace(fold, window=windows), max(cycles, needed[window]), cost + own


def _streamed(
    network: Network, stage: list[int], work: _Work, pe: int, simd: int, target: Target, clock_hz: float
) -> Iterator[Option]:
    """A layer whose thresholds ride in its weight stream, where they can."""
    after = network.layers[stage[1]] if len(stage) == 2 else None
    layer = work.product
    if not isinstance(after, Threshold) or work.kind != BIPOLAR:
        return
    words, folds = layer.inputs // simd, layer.outputs // pe
    stages = sum_stages(work.kind, simd, target, clock_hz)
    if not (fuses(layer, after) and has_starts(layer.inputs, simd) and stages <= words):
        return
    depth = folds * (words + STARTS)
    bits = sum_bits(layer.inputs)
    lanes = Cost(
        cells=lane_cells(layer, work.kind, simd, target.family) + bits + 3,
        ffs=sum_ffs(work.kind, simd, stages) + bits + 1,
    )
    own = pe * lanes + Cost(cells=3 * depth.bit_length() + 24 + simd, ffs=3 * depth.bit_length() + 20 + simd)
    stored = Contents.of_any(depth, pe * simd)
    for memory, buffer, cost in memories(stored, words, simd, target):
        fold = MatVecFold(pe=pe, simd=simd, unit=FUSED_SIGN, memory=memory, buffer=buffer, stages=stages)
        fold, cycles, whole = _windowed(work, fold, work.positions * depth, own + cost, target)
        fused = ThresholdFold(lanes=pe, form=STREAM)
        yield Option(_lanes_in(fold, work), (fold, fused), (cycles, cycles), (whole, Cost()))


Multiplied = tuple[LaneForm, int] | None
"""The multiply-shift of a layer, where there is one, and its ranks of registers."""


def _multiply_shift(network: Network, index: int, target: Target, clock_hz: float) -> Multiplied:
    layer = network.layers[index]
    form = cheapest(layer, *threshold_reach(network, index), target.family) if isinstance(layer, Threshold) else None
    return None if form is None else (form, row_stages(form, target, clock_hz))


def _input_fold(network: Network, index: int, target: Target, clock_hz: float) -> tuple[Fold, int, Cost]:
    """The smallest of the forms on the input lanes that take a beat a cycle, and no more block RAMs than the first."""
    ways = _on_lanes(network, index, 1, target, _multiply_shift(network, index, target, clock_hz))
    swift = [way for way in ways if way[1] == ways[0][1] and way[2].rams <= ways[0][2].rams and not way[2].dsps]
    return min(swift, key=lambda way: way[2].cells)


def _elementwise(
    network: Network, index: int, lanes: int, target: Target, multiplied: Multiplied
) -> Iterator[tuple[Fold, int, Cost]]:
    """Folds of a threshold, affine or pooling layer behind ``lanes`` lanes, each with its cycles and its cost. On fewer
    lanes it is smaller, and the beats of the layer before are taken apart."""
    bits = network.types[index].dtype.bits
    for fewer in divisors(lanes):
        apart = gearbox_cost(bits, lanes, fewer, target)
        for fold, cycles, cost in _on_lanes(network, index, fewer, target, multiplied):
            yield fold, cycles, cost + apart
        if isinstance(network.layers[index], Affine):
            return


def _on_lanes(
    network: Network, index: int, lanes: int, target: Target, multiplied: Multiplied
) -> list[tuple[Fold, int, Cost]]:
    """Folds of a threshold, affine or pooling layer on ``lanes`` lanes."""
    layer, source = network.layers[index], network.types[index]
    bits = source.dtype.bits
    if isinstance(layer, Affine):
        scale = DType.holding(int(layer.scale.min()), int(layer.scale.max())).bits
        total = layer.output(source).dtype.bits
        width = signed_bits(source.dtype)
        own = Cost(cells=2 * total + 2 * rom_cells(layer.scale.size, scale) + 8, ffs=3 * total + 6)
        ways: list[tuple[Fold, int, Cost]] = [
            (AffineFold(), source.size, own + Cost(cells=Multiplier.cells(width, scale, target.family)))
        ]
        if target.multiplies(width, scale):
            ways.append((AffineFold(dsp=True), source.size, own + Cost(dsps=1)))
        return ways
    if isinstance(layer, Pool):
        geometry = Geometry.of(layer, source, groups=source.shape[0] // lanes)
        rows, lines, cost = window_cost(geometry, source.dtype, lanes, target)
        kept = layer.output(source).dtype.bits
        reduced = Cost(cells=2 * lanes * kept + 6, ffs=lanes * kept + 4)
        return [(WindowFold(lanes=lanes, rows=rows, memory=lines), geometry.elements // lanes, cost + reduced)]
    assert isinstance(layer, Threshold)
    count = int(layer.thresholds.shape[1])
    steps = count.bit_length()
    beats, groups = source.size // lanes, max(1, layer.channels // lanes)
    shared = layer.channels == 1
    walk = 0 if groups == 1 else 2 * groups.bit_length() + 4
    rows = 0 if shared else rom_cells(groups, lanes * count * bits)
    # A threshold for all is a constant beside the comparator; one a channel comes from a table.
    each = lanes * (count * (bits // 2 if shared else bits + 2) + count + layer.dtype.bits)
    out = lanes * layer.dtype.bits + groups.bit_length() + 1
    folds: list[tuple[Fold, int, Cost]] = [
        (ThresholdFold(lanes=lanes, form=COMPARATORS), beats, Cost(cells=each + rows + walk + 2, ffs=out)),
    ]
    if multiplied is not None:
        form, ranks = multiplied
        width = lanes * form.word_bits
        ffs = out + (ranks - 1) * (lanes * (form.total.bits + bits) + 2)
        own = Cost(cells=multiply_shift_cells(form, lanes, groups, ranks), ffs=ffs)
        fold = ThresholdFold(lanes=lanes, form=MULTIPLY_SHIFT, memory=LOGIC, stages=ranks)
        folds.append((fold, beats, own))
        if target.ram_shapes and groups > 1 and width:
            block = Cost(
                cells=own.cells - rom_cells(groups, width),
                rams=target.block_rams(groups, width, constant=True),
                ffs=ffs,
            )
            folds.append((replace(fold, memory=BLOCK), beats, block))
    if count > 1:
        search = lanes * Cost(cells=2 * bits + 2 * steps + 4, ffs=bits + 2 * steps + 1)
        search += Cost(cells=16 + 2 * walk, ffs=2 * groups.bit_length() + steps + 4)
        places = [("logic", lanes * Cost(cells=rom_cells(groups << steps, bits), ffs=bits))]
        if target.ram_shapes:
            places.append(("block", Cost(rams=lanes * target.block_rams(groups << steps, bits, constant=True))))
        folds += [
            (ThresholdFold(lanes=lanes, form=SEARCH, memory=place), beats * (steps + 1), cost + search)
            for place, cost in places
        ]
    return undominated(folds, cost=lambda way: way[2], cycles=lambda way: way[1])
