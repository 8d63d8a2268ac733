# amaranth: UnusedElaboratable=no
"""Layers that join branches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd

from fewbit.golden.network import (
    Join,
    Layer,
    Network,
)
from fewbit.hw.costs.parts import divisors
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    Fold,
    JoinFold,
)
from fewbit.hw.layers.join import JoinUnit, run_length
from fewbit.hw.units.base import FoldOption, Place, PlacedUnit, StageUnit

_MOST_LANES = 1024


class JoinLayerUnit(StageUnit):
    """Additions and concatenations of branches, which process the same number of elements of each input in a beat."""

    def __init__(self, unit: type[JoinUnit]) -> None:
        self._unit = unit

    def make(self, place: Place) -> PlacedUnit:
        layer = place.layer
        assert isinstance(layer, Join)
        fold = place.folding.of(layer, JoinFold)
        unit = self._unit(layer, place.network.sources(layer), lanes=fold.lanes, depths=fold.depths, memory=fold.memory)
        return PlacedUnit(unit, fold.lanes, fold.lanes)

    def first_options(
        self, network: Network, stage: Sequence[Layer], target: Target, clock_hz: float, dsp: bool
    ) -> Iterator[tuple[int, tuple[FoldOption, ...]]]:
        layer = stage[0]
        assert isinstance(layer, Join)
        sources = network.sources(layer)
        for lanes in divisors(gcd(*map(run_length, sources))):
            if lanes > _MOST_LANES:
                return
            fold = JoinFold(lanes=lanes)
            cost = self._unit.cost(layer, sources, lanes)
            yield lanes, ((fold, network.types[layer.name].size // lanes, cost),)

    def describe(self, fold: Fold) -> str:
        assert isinstance(fold, JoinFold)
        depths = [str(words) for words in fold.depths or () if words]
        return f"buffers of {' and '.join(depths)} words in {fold.memory}" if depths else ""
