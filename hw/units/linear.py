# amaranth: UnusedElaboratable=no
"""Layers with weights: dense and convolutional."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import gcd
from typing import Any

from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Conv,
    Dense,
    Layer,
    Linear,
    Network,
    TensorType,
    Threshold,
)
from fewbit.golden.terms import term_exponents
from fewbit.hw.cost import Cost
from fewbit.hw.costs.parts import (
    dense_cycles,
    divisors,
    dsp_blocks,
    lane_cells,
    lane_stages,
    memories,
    scale_cost,
    serves_vectors,
    stored_words,
    sum_ffs,
    sum_stages,
    term_cost,
    term_kind,
    unit_cost,
    weight_memories,
    window_cost,
)
from fewbit.hw.costs.streams import gearbox_cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    BIT_PLANES,
    DEPTHWISE,
    FUSED,
    FUSED_SIGN,
    PARALLEL,
    TERMS,
    Fold,
    MatVecFold,
    ThresholdFold,
    WindowFold,
    consumer,
    takes_bias,
)
from fewbit.hw.layers.conv import ConvUnit, needs_windows
from fewbit.hw.layers.window import Geometry, window_delay
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.matvec.bit_serial import BIT, BitSerialMatVec, serves
from fewbit.hw.matvec.depthwise import DepthwiseMatVec
from fewbit.hw.matvec.fused_sign import STARTS, SignMatVec, fuses, has_starts, sum_bits
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.matvec.term_serial import TermSerialMatVec, least_simd, term_memory
from fewbit.hw.memory.kind import Contents
from fewbit.hw.units.base import FoldOption, LeftOut, Place, PlacedUnit, StageUnit

_MOST_LANES = 1024

_MATVECS: dict[str, type[FoldedMatVec]] = {
    PARALLEL: MatVec, BIT_PLANES: BitSerialMatVec, TERMS: TermSerialMatVec, DEPTHWISE: DepthwiseMatVec,
}  # fmt: skip


class LinearUnit(StageUnit):
    """Dense and convolutional layers."""

    def delay(self, network: Network, layer: Layer) -> float:
        # A dense layer reads its whole vector, and gives the first sums while it reads it again.
        return window_delay(layer, network.source(layer)) if isinstance(layer, Conv) else 1.5

    def make(self, place: Place) -> PlacedUnit:
        layer, source = place.layer, place.source
        assert isinstance(layer, Linear)
        fold = place.folding.of(layer, MatVecFold)
        fused = _fused_thresholds(place, fold)
        exact = not takes_bias(place.network, layer)
        kind = layer.lane_kind(source.dtype)
        groups = layer.groups if isinstance(layer, Conv) else 1
        parameters: dict[str, Any] = {"pe": fold.pe, "simd": fold.simd, "target": place.family, "groups": groups}
        parameters |= {"memory": fold.memory, "buffer": fold.buffer, "stages": fold.stages}
        inner: FoldedMatVec | SignMatVec
        left_out = None
        if fused is not None:
            if kind != BIPOLAR:
                raise FewbitError(
                    f"layer {fused.name!r}: thresholds can only be fused with weights of bipolar inputs, not {kind}"
                )
            inner = SignMatVec(layer.position(), fused, **parameters)
        else:
            inner = _MATVECS[fold.unit](layer.position(), kind, exact=exact, dsp=fold.dsp, **parameters)
            left_out = None if exact else LeftOut(inner.step, inner.bias, inner.sum)
        if not isinstance(layer, Conv):
            return PlacedUnit(inner, fold.simd, fold.pe, left_out, fused)
        result = layer.output(source).dtype if exact and fused is None else None
        window = fold.window
        unit = ConvUnit(
            layer, source, inner, result=result, lanes=window.lanes, rows=window.rows, memory=window.memory
        )  # fmt: skip
        return PlacedUnit(unit, unit.lanes, fold.pe, left_out, fused)

    def first_options(
        self, network: Network, stage: Sequence[Layer], target: Target, clock_hz: float, dsp: bool
    ) -> Iterator[tuple[int, tuple[FoldOption, ...]]]:
        work = Work.of(network, stage[0])
        for pe, simd in product(divisors(work.layer.outputs // work.groups), divisors(work.layer.fan_in)):
            if pe * simd > 64 * _MOST_LANES or simd > _MOST_LANES or pe > _MOST_LANES:
                continue
            for option in linear_options(work, pe, simd, target, clock_hz, dsp):
                yield _lanes_in(option[0], work), (option,)
            yield from fused_options(stage, work, pe, simd, target, clock_hz)
        for option in depthwise_options(work, target, clock_hz, dsp):
            yield _lanes_in(option[0], work), (option,)

    def describe(self, fold: Fold) -> str:
        assert isinstance(fold, MatVecFold)
        rows = f", rows in {fold.window.memory}" if fold.window.rows else ""
        unit = f", {fold.unit}" if fold.unit in (BIT_PLANES, TERMS, DEPTHWISE) else ""
        vector = "" if fold.unit == DEPTHWISE else f", vector in {fold.buffer}"
        return f"{fold.memory}{vector}{rows}{unit}{', DSP blocks' * fold.dsp}"


def _fused_thresholds(place: Place, fold: MatVecFold) -> Threshold | None:
    """The thresholds that are fused into the weights of a fused-sign unit; None for other units. Raises FewbitError if
    no thresholds follow a fused-sign unit."""
    if fold.unit != FUSED_SIGN:
        return None
    after = consumer(place.network, place.layer)
    if not isinstance(after, Threshold):
        raise FewbitError(f"layer {place.layer.name!r}: a fused-sign unit needs thresholds after it")
    return after


@dataclass(frozen=True)
class Work:
    """A layer with weights, and the properties of it that costs and cycles depend on.

    Attributes
    ----------
    layer : Linear
    kind : DType
        Number kind of the activations at the lanes.
    exact : bool
        Whether the outputs are complete sums. If not, a bias is left to the thresholds that follow.
    positions, groups : int
        Matrix-vector products in a frame, and groups of a convolution.
    geometry : Geometry or None
        Geometry of the sliding window, if there is one.
    source : TensorType
        Type of the input.
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
        """The matrix-vector product at one position."""
        return self.layer.position()

    @classmethod
    def of(cls, network: Network, layer: Layer) -> Work:
        """The properties of a layer of ``network``."""
        source = network.source(layer)
        assert isinstance(layer, Linear)
        positions, groups, geometry = 1, 1, None
        if isinstance(layer, Conv):
            _, rows, columns = layer.output(source).shape
            positions, groups = rows * columns, layer.groups
            geometry = Geometry.of(layer, source, groups) if needs_windows(layer, source) else None
        exact = not takes_bias(network, layer)
        return cls(layer, layer.lane_kind(source.dtype), exact, positions, groups, geometry, source)


def _lanes_in(fold: MatVecFold, work: Work) -> int:
    """Number of elements in a beat of the input of a layer with this fold."""
    return fold.simd if work.geometry is None else fold.window.lanes


def linear_options(
    work: Work, pe: int, simd: int, target: Target, clock_hz: float, digits: bool = True
) -> Iterator[tuple[MatVecFold, int, Cost]]:
    """Yield the folds of a layer with weights for given PE and SIMD, with their cycles and costs: one for each unit and
    each combination of memories for weights and input vectors.

    Without ``digits``, products with signed digits do not use DSP blocks.
    """
    layer, activation = work.layer, work.kind
    yield from _by_terms(work, pe, simd, target, clock_hz)
    if not serves_vectors(layer, pe, simd):
        return
    words, line = layer.fan_in // simd, simd * activation.bits
    stored = stored_words(work.product, pe, simd)
    places = list(memories(stored, words, line, target))
    scale_columns = stored.scales[1]
    for unit, blocks in _forms(work, pe, simd, target, digits):
        serial, dsp = unit == BIT_PLANES, blocks > 0
        term = BIT if serial else term_kind(layer, activation)
        stages = lane_stages(layer, term, simd, target, clock_hz, dsp=dsp)
        datapath = unit_cost(work.product, activation, work.exact, pe, simd, stages, target.family, serial, dsp)
        datapath += scale_cost(work.product, activation, pe, simd, stages, target.family, scale_columns, dsp)
        datapath += Cost(dsps=blocks)
        for memory, buffer, cost in places:
            fold = MatVecFold(pe=pe, simd=simd, unit=unit, memory=memory, buffer=buffer, stages=stages, dsp=dsp)
            cycles = work.positions * dense_cycles(work.product, activation, fold)
            yield _windowed(work, fold, cycles, datapath + cost, target)


def _forms(work: Work, pe: int, simd: int, target: Target, digits: bool) -> Iterator[tuple[str, int]]:
    """Yield the units that can compute the layer, except the term-serial and the fused-sign unit, each with the number
    of its DSP blocks."""
    yield PARALLEL, 0
    if serves(work.kind, work.layer.code) and not work.layer.digits:
        yield BIT_PLANES, 0
    blocks = dsp_blocks(work.layer, work.kind, pe, simd, target) if digits or not work.layer.digits else 0
    if blocks:
        yield PARALLEL, blocks


def _by_terms(
    work: Work, pe: int, simd: int, target: Target, clock_hz: float
) -> Iterator[tuple[MatVecFold, int, Cost]]:
    """Yield the folds for the term-serial unit, if the layer has zero weights or signed digits. SIMD must be the
    smallest number of inputs with which the unit is never slowed down by its input."""
    layer, activation, groups = work.product, work.kind, work.groups
    if not (layer.digits or (layer.weights == 0).any()) or simd != least_simd(layer, pe, groups):
        return
    depth, width = term_memory(layer, pe, simd, groups)
    # Selecting an activation and its shift takes as many logic levels as a sum of as many bits.
    stages = sum_stages(BIT, max(2, simd * len(term_exponents(layer))), target, clock_hz)
    datapath = term_cost(layer, activation, work.exact, pe, simd, target.family, stages)
    words, line = layer.fan_in // simd, simd * activation.bits
    stored = Contents.of_any(depth, width)
    for memory, buffer, cost in memories(stored, words, line, target, readers=pe):
        fold = MatVecFold(pe=pe, simd=simd, unit=TERMS, memory=memory, buffer=buffer, stages=stages)
        cycles = work.positions * dense_cycles(layer, activation, fold, groups)
        yield _windowed(work, fold, cycles, datapath + cost, target)


def _windowed(work: Work, fold: MatVecFold, cycles: int, cost: Cost, target: Target) -> tuple[MatVecFold, int, Cost]:
    """Add the window unit of a convolution to ``fold``, with the fewest lanes that do not slow down the matrix-vector
    unit; if there are none, with the fastest. Returns the new fold, its cycles and its cost."""
    geometry = work.geometry
    if geometry is None:
        return fold, cycles, cost
    lanes = divisors(geometry.shape[0] // geometry.groups)
    # The gearbox after the window passes as many elements in a cycle as the greatest common divisor of its lanes.
    window_cycles = {count: geometry.elements // gcd(count, fold.lanes_in) for count in lanes}
    fast_enough = (count for count in lanes if window_cycles[count] <= cycles)
    window = next(fast_enough, min(lanes, key=lambda count: window_cycles[count]))
    rows, memory, added = window_cost(geometry, work.source.dtype, window, target)
    added += gearbox_cost(work.kind.bits, window, fold.lanes_in, target)
    windows = WindowFold(lanes=window, rows=rows, memory=memory)
    return replace(fold, window=windows), max(cycles, window_cycles[window]), cost + added


def depthwise_options(
    work: Work, target: Target, clock_hz: float, digits: bool
) -> Iterator[tuple[MatVecFold, int, Cost]]:
    """Yield the folds of a depthwise convolution onto the depthwise unit, with their cycles and costs: one for each
    number of channels that are processed at a time, and each memory for weights."""
    layer, geometry = work.layer, work.geometry
    if geometry is None or not work.groups == geometry.shape[0] == layer.outputs or layer.scales is not None:
        return
    for pe in divisors(layer.outputs):
        if pe > _MOST_LANES:
            return
        blocks = replace(work, geometry=replace(geometry, groups=layer.outputs // pe))
        for unit, count in _forms(work, pe, 1, target, digits):
            if unit != PARALLEL:
                continue
            dsp = count > 0
            stages = lane_stages(layer, term_kind(layer, work.kind), 1, target, clock_hz, dsp=dsp)
            datapath = unit_cost(work.product, work.kind, work.exact, pe, 1, stages, target.family, False, dsp)
            datapath += Cost(dsps=count, ffs=pe * work.kind.bits)
            for memory, cost in weight_memories(stored_words(work.product, pe, 1), target):
                fold = MatVecFold(pe=pe, unit=DEPTHWISE, memory=memory, stages=stages, dsp=dsp)
                cycles = work.positions * dense_cycles(work.product, work.kind, fold)
                yield _windowed(blocks, fold, cycles, datapath + cost, target)


def fused_options(
    stage: Sequence[Layer], work: Work, pe: int, simd: int, target: Target, clock_hz: float
) -> Iterator[tuple[int, tuple[FoldOption, FoldOption]]]:
    """Yield the options in which the thresholds after a layer are fused into its weight stream, if this is possible:
    the lanes of the input, and an option for the layer and one for its thresholds."""
    after = stage[1] if len(stage) == 2 else None
    layer = work.product
    if not isinstance(after, Threshold) or work.kind != BIPOLAR:
        return
    words, folds = layer.fan_in // simd, layer.outputs // pe
    stages = sum_stages(work.kind, simd, target, clock_hz)
    if not (fuses(layer, after) and has_starts(layer.fan_in, simd) and stages <= words):
        return
    depth = folds * (words + STARTS)
    bits = sum_bits(layer.fan_in)
    lanes = Cost(
        cells=lane_cells(layer, work.kind, simd, target.family) + bits + 3,
        ffs=sum_ffs(work.kind, simd, stages) + bits + 1,
    )
    datapath = pe * lanes + Cost(cells=3 * depth.bit_length() + 24 + simd, ffs=3 * depth.bit_length() + 20 + simd)
    stored = Contents.of_any(depth, pe * simd)
    for memory, buffer, cost in memories(stored, words, simd, target):
        fold = MatVecFold(pe=pe, simd=simd, unit=FUSED_SIGN, memory=memory, buffer=buffer, stages=stages)
        fold, cycles, total = _windowed(work, fold, work.positions * depth, datapath + cost, target)
        fused = ThresholdFold(lanes=pe, form=FUSED)
        yield _lanes_in(fold, work), ((fold, cycles, total), (fused, cycles, Cost()))
