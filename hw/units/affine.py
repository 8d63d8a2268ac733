"""Gains and offsets a channel."""

from __future__ import annotations

from typing import Any

from fewbit.golden.dtype import DType, signed_bits
from fewbit.golden.network import (
    Affine,
    Layer,
    Network,
)
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import (
    AffineFold,
    Fold,
)
from fewbit.hw.layers.affine import AffineUnit
from fewbit.hw.memory.rom import rom_cells
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.units.base import FollowingUnit, Made, Place, Way


class AffineLayerUnit(FollowingUnit):
    """Affine layers, an element at a time."""

    most_lanes = 1

    def make(self, place: Place) -> Made:
        layer = place.layer
        assert isinstance(layer, Affine)
        fold = place.folding.of(layer, AffineFold)
        return Made(AffineUnit(layer, place.source, place.family, dsp=fold.dsp), 1, 1)

    def ways(self, network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> list[Way]:
        source = network.source(layer)
        assert isinstance(layer, Affine)
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

    def describe(self, fold: Fold) -> str:
        assert isinstance(fold, AffineFold)
        return "DSP block" if fold.dsp else "multiplier"
