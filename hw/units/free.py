"""Layers that take no hardware of their own."""

from __future__ import annotations

import numpy as np

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Flatten,
    TensorType,
)
from fewbit.hw.streams import to_stream
from fewbit.hw.units.base import LayerUnit, Place


class FlattenUnit(LayerUnit):
    """Flatten: maps are streamed in the order in which they are flattened."""

    def make(self, place: Place) -> None:
        layer = place.layer
        assert isinstance(layer, Flatten)
        check_flatten(layer, place.source)


class ArgMaxLayerUnit(LayerUnit):
    """Arg-max: it ends every chain, whether a network has one or not."""

    def make(self, place: Place) -> None:
        return None


def check_flatten(layer: Flatten, source: TensorType) -> None:
    """Raises FewbitError if hardware, which streams maps with their channels last, cannot flatten for nothing."""
    if not np.array_equal(to_stream(np.arange(source.size).reshape(1, *source.shape), source.shape)[0],
                          layer.places(source.shape)):  # fmt: skip
        raise FewbitError(
            f"layer {layer.name!r}: hardware flattens maps with their channels last, vectors of scales have to follow"
        )
