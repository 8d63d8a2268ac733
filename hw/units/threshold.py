# amaranth: UnusedElaboratable=no
"""Threshold layers: activation and requantization."""

from __future__ import annotations

from dataclasses import replace
from math import gcd
from typing import Any

from fewbit.golden.dtype import Ints
from fewbit.golden.input_range import threshold_range
from fewbit.golden.network import (
    Layer,
    Network,
    TensorType,
    Threshold,
)
from fewbit.hw.cost import Cost, pareto_front
from fewbit.hw.costs.parts import (
    multiply_shift_cells,
    row_stages,
)
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    Fold,
    ThresholdFold,
)
from fewbit.hw.layers.multiply_shift import cheapest
from fewbit.hw.layers.threshold import COMPARATORS, MULTIPLY_SHIFT, SEARCH, ThresholdUnit
from fewbit.hw.memory.rom import BLOCK, LOGIC, rom_cells
from fewbit.hw.units.base import FoldOption, FollowingUnit, Place, PlacedUnit


class ThresholdLayerUnit(FollowingUnit):
    """Threshold layers, in one of three forms: comparators, binary search, or multiply-shift."""

    def make(self, place: Place) -> PlacedUnit:
        layer, source = place.layer, place.source
        assert isinstance(layer, Threshold)
        low, high = threshold_range(place.network, layer)
        if place.left_out is not None:
            step, bias = place.left_out.step, place.left_out.bias
            layer, source = biased(layer, step, bias), TensorType(place.left_out.kind, source.shape)
            low, high = ((end - bias) // step for end in (low, high))
        fold = place.folding.of(layer, ThresholdFold)
        lanes = fold.lanes if layer.name in place.folding.folds else place.lanes
        unit = ThresholdUnit(
            layer, source, lanes=lanes, input_range=(low, high), form=fold.form, memory=fold.memory, stages=fold.stages,
            target=place.family,
        )  # fmt: skip
        return PlacedUnit(unit, lanes, lanes)

    def prepare(self, network: Network, layer: Layer, target: Target, clock_hz: float) -> Any:
        """The cheapest multiply-shift that is equal to the layer, and its pipeline stages, or None if there is none;
        and the clock."""
        assert isinstance(layer, Threshold)
        form = cheapest(layer, *threshold_range(network, layer), target.family)
        return None if form is None else (form, row_stages(form, target, clock_hz)), clock_hz

    def options(self, network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> list[FoldOption]:
        source = network.source(layer)
        assert isinstance(layer, Threshold)
        bits = source.dtype.bits
        count = int(layer.thresholds.shape[1])
        steps = count.bit_length()
        beats, groups = source.size // lanes, max(1, layer.channels // lanes)
        shared = layer.channels == 1
        walk = 0 if groups == 1 else 2 * groups.bit_length() + 4
        rows = 0 if shared else rom_cells(groups, lanes * count * bits)
        # A shared threshold is a constant operand of its comparator; thresholds of channels are read from a table.
        comparators = lanes * (count * (bits // 2 if shared else bits + 2) + count + layer.dtype.bits)
        output_ffs = lanes * layer.dtype.bits + groups.bit_length() + 1
        options: list[FoldOption] = [
            (
                ThresholdFold(lanes=lanes, form=COMPARATORS),
                beats,
                Cost(cells=comparators + rows + walk + 2, ffs=output_ffs),
            ),
        ]
        multiply_shift, clock_hz = prepared
        if multiply_shift is not None:
            form, stages = multiply_shift
            width = lanes * form.word_bits
            ffs = output_ffs + (stages - 1) * (lanes * (form.total.bits + bits) + 2)
            in_logic = Cost(cells=multiply_shift_cells(form, lanes, groups, stages), ffs=ffs)
            fold = ThresholdFold(lanes=lanes, form=MULTIPLY_SHIFT, memory=LOGIC, stages=stages)
            options.append((fold, beats, in_logic))
            if target.ram_shapes and groups > 1 and width:
                in_block_ram = Cost(
                    cells=in_logic.cells - rom_cells(groups, width),
                    rams=target.block_rams(groups, width, constant=True),
                    ffs=ffs,
                )
                options.append((replace(fold, memory=BLOCK), beats, in_block_ram))
        if count > 1:
            search = lanes * Cost(cells=2 * bits + 2 * steps + 4, ffs=bits + 2 * steps + 1)
            search += Cost(cells=16 + 2 * walk, ffs=2 * groups.bit_length() + steps + 4)
            memories = [("logic", lanes * Cost(cells=rom_cells(groups << steps, bits), ffs=bits))]
            if target.ram_shapes:
                memories.append(("block", Cost(rams=lanes * target.block_rams(groups << steps, bits, constant=True))))
            for memory, cost in memories:
                stages = search_stages(-(-cost.rams // lanes), target, clock_hz)
                fold = ThresholdFold(lanes=lanes, form=SEARCH, memory=memory, stages=stages)
                options.append((fold, beats * (stages * steps + 1), cost + search))
        return pareto_front(options, cost=lambda option: option[2], cycles=lambda option: option[1])

    def on_input(self, network: Network, layer: Layer, fold: Fold, lanes: int) -> tuple[Fold, int] | None:
        assert isinstance(layer, Threshold)
        assert isinstance(fold, ThresholdFold)
        lanes = lanes if layer.channels == 1 else gcd(lanes, layer.channels)
        return replace(fold, lanes=lanes), network.source(layer).size // lanes

    def describe(self, fold: Fold) -> str:
        assert isinstance(fold, ThresholdFold)
        return fold.form


_COMPARE, _SPREAD = 1.45, 0.3
"""Delay of reading a threshold and comparing it, in the time in which the fabric sums 16 single bits: from one block
RAM, and how much more for each doubling of their number. They are estimates with which the designs of ``python -m
benchmarks.tiny --build`` meet their clocks."""


def search_stages(rams: int, target: Target, clock_hz: float) -> int:
    """Cycles for each comparison of a search whose thresholds take ``rams`` block RAMs a lane: 2 if reading and
    comparing takes too long to choose the next threshold in the same cycle."""
    spread = (rams - 1).bit_length() if rams else 0
    return 2 if spread and (_COMPARE + _SPREAD * spread) * clock_hz > target.fan_in_mhz * 1e6 else 1


def biased(layer: Threshold, step: int, bias: Ints) -> Threshold:
    """Convert thresholds of ``step * x + bias`` to thresholds of ``x`` that give the same levels."""
    unbiased = layer.thresholds - (layer.sign * bias)[:, None]
    return replace(layer, thresholds=-(-unbiased // step))
