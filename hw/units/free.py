"""Layers that take no hardware of their own: flatten, and the arg-max, which every design has."""

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
    """Flatten takes no hardware: maps are streamed in the order in which they are flattened."""

    def make(self, place: Place) -> None:
        layer = place.layer
        assert isinstance(layer, Flatten)
        check_flatten(layer, place.source)


class ArgMaxLayerUnit(LayerUnit):
    """ArgMax takes no additional hardware: every design ends with an arg-max."""

    def make(self, place: Place) -> None:
        return None


def check_flatten(layer: Flatten, source: TensorType) -> None:
    """Raise FewbitError if flattening changes the order of elements: hardware streams maps with their channels last."""
    if not np.array_equal(to_stream(np.arange(source.size).reshape(1, *source.shape), source.shape)[0],
                          layer.places(source.shape)):  # fmt: skip
        raise FewbitError(
            f"layer {layer.name!r}: flattens a map with its channels first, but hardware streams channels last; the "
            "weights after it cannot be reordered: they share scales along their inputs, or are in several branches"
        )
