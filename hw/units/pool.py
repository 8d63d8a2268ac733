# amaranth: UnusedElaboratable=no
"""Pooling layers."""

from __future__ import annotations

from typing import Any

from fewbit.golden.network import (
    Layer,
    Network,
    Pool,
)
from fewbit.hw.cost import Cost
from fewbit.hw.costs.parts import (
    window_cost,
)
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    Fold,
    WindowFold,
)
from fewbit.hw.layers.pool import PoolUnit
from fewbit.hw.layers.window import Geometry, window_delay
from fewbit.hw.units.base import FoldOption, FollowingUnit, Place, PlacedUnit


class PoolLayerUnit(FollowingUnit):
    """Pooling layers: a sliding window over ``lanes`` channels at a time, and the maximum or sum of its elements."""

    def make(self, place: Place) -> PlacedUnit:
        layer = place.layer
        assert isinstance(layer, Pool)
        fold = place.folding.of(layer, WindowFold)
        unit = PoolUnit(layer, place.source, lanes=fold.lanes, rows=fold.rows, memory=fold.memory)
        return PlacedUnit(unit, fold.lanes, fold.lanes)

    def delay(self, network: Network, layer: Layer) -> float:
        assert isinstance(layer, Pool)
        return window_delay(layer, network.source(layer))

    def options(self, network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> list[FoldOption]:
        source = network.source(layer)
        assert isinstance(layer, Pool)
        geometry = Geometry.of(layer, source, groups=source.shape[0] // lanes)
        rows, memory, cost = window_cost(geometry, source.dtype, lanes, target)
        bits = layer.output(source).dtype.bits
        reduction = Cost(cells=2 * lanes * bits + 6, ffs=lanes * bits + 4)
        return [(WindowFold(lanes=lanes, rows=rows, memory=memory), geometry.elements // lanes, cost + reduction)]

    def describe(self, fold: Fold) -> str:
        assert isinstance(fold, WindowFold)
        return f"rows in {fold.memory}"
