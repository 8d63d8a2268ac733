"""Table of the hardware of all kinds of layers."""

from __future__ import annotations

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Add, Affine, ArgMax, Concat, Conv, Dense, Flatten, Layer, Pool, Threshold
from fewbit.hw.layers.join import AddUnit, ConcatUnit
from fewbit.hw.units.affine import AffineLayerUnit
from fewbit.hw.units.base import LayerUnit
from fewbit.hw.units.free import ArgMaxLayerUnit, FlattenUnit
from fewbit.hw.units.join import JoinLayerUnit
from fewbit.hw.units.linear import LinearUnit
from fewbit.hw.units.pool import PoolLayerUnit
from fewbit.hw.units.threshold import ThresholdLayerUnit

UNITS: dict[type[Layer], LayerUnit] = {
    Dense: LinearUnit(),
    Conv: LinearUnit(),
    Pool: PoolLayerUnit(),
    Threshold: ThresholdLayerUnit(),
    Affine: AffineLayerUnit(),
    Add: JoinLayerUnit(AddUnit),
    Concat: JoinLayerUnit(ConcatUnit),
    Flatten: FlattenUnit(),
    ArgMax: ArgMaxLayerUnit(),
}


def unit_of(layer: Layer) -> LayerUnit:
    """The hardware of the kind of ``layer``. Raises FewbitError if there is none."""
    unit = UNITS.get(type(layer))
    if unit is None:
        raise FewbitError(f"layer {layer.name!r}: there is no hardware for a {layer.kind} layer")
    return unit
