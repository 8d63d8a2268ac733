# amaranth: UnusedElaboratable=no
"""Affine layers: a gain and an offset for each channel."""

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
from fewbit.hw.units.base import FoldOption, FollowingUnit, Place, PlacedUnit


class AffineLayerUnit(FollowingUnit):
    """Affine layers, which process one element at a time."""

    most_lanes = 1

    def make(self, place: Place) -> PlacedUnit:
        layer = place.layer
        assert isinstance(layer, Affine)
        fold = place.folding.of(layer, AffineFold)
        return PlacedUnit(AffineUnit(layer, place.source, place.family, dsp=fold.dsp), 1, 1)

    def options(self, network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> list[FoldOption]:
        source = network.source(layer)
        assert isinstance(layer, Affine)
        scale = DType.holding(int(layer.scale.min()), int(layer.scale.max())).bits
        total = layer.output(source).dtype.bits
        width = signed_bits(source.dtype)
        others = Cost(cells=2 * total + 2 * rom_cells(layer.scale.size, scale) + 8, ffs=3 * total + 6)
        options: list[FoldOption] = [
            (AffineFold(), source.size, others + Cost(cells=Multiplier.cells(width, scale, target.family)))
        ]
        if target.multiplies(width, scale):
            options.append((AffineFold(dsp=True), source.size, others + Cost(dsps=1)))
        return options

    def describe(self, fold: Fold) -> str:
        assert isinstance(fold, AffineFold)
        return "DSP block" if fold.dsp else "multiplier"
