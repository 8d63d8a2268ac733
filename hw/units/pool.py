"""Pooling."""

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
from fewbit.hw.layers.window import Geometry
from fewbit.hw.units.base import FollowingUnit, Made, Place, Way


class PoolLayerUnit(FollowingUnit):
    """Pooling layers: windows of some channels at a time."""

    def make(self, place: Place) -> Made:
        layer = place.layer
        assert isinstance(layer, Pool)
        fold = place.folding.of(layer, WindowFold)
        unit = PoolUnit(layer, place.source, lanes=fold.lanes, rows=fold.rows, memory=fold.memory)
        return Made(unit, fold.lanes, fold.lanes)

    def ways(self, network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> list[Way]:
        source = network.source(layer)
        assert isinstance(layer, Pool)
        geometry = Geometry.of(layer, source, groups=source.shape[0] // lanes)
        rows, lines, cost = window_cost(geometry, source.dtype, lanes, target)
        kept = layer.output(source).dtype.bits
        reduced = Cost(cells=2 * lanes * kept + 6, ffs=lanes * kept + 4)
        return [(WindowFold(lanes=lanes, rows=rows, memory=lines), geometry.elements // lanes, cost + reduced)]

    def describe(self, fold: Fold) -> str:
        assert isinstance(fold, WindowFold)
        return f"rows in {fold.memory}"
