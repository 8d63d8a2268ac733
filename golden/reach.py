"""Which integers a layer can be given, channel by channel."""

from __future__ import annotations

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.linear import Linear
from fewbit.golden.network import Flatten, Network, Pool, Threshold


def reach(network: Network, index: int) -> tuple[Ints, Ints]:
    """Lowest and highest input of layer ``index`` at any quality, for each place on the first axis of a frame.

    Sums are bounded by their own weights, which is often less than their number kind holds.  # () -> (C,), (C,) int64
    """
    source = network.types[index]
    before = network.layers[index - 1] if index else None
    if isinstance(before, Linear):
        return before.bounds(network.types[index - 1].dtype)
    if isinstance(before, Flatten):
        shape = network.types[index - 1].shape
        places = before.places(shape)
        low, high = (
            np.broadcast_to(end.reshape(-1, *[1] * (len(shape) - 1)), shape).ravel()[places]
            for end in reach(network, index - 1)
        )
        return low, high
    if isinstance(before, Pool):
        low, high = reach(network, index - 1)
        if before.mode == "max":
            return low, high
        elements = before.kernel[0] * before.kernel[1]
        if any(before.padding):  # a window may lie in it but for one element
            return np.minimum(low, elements * low), np.maximum(high, elements * high)
        return elements * low, elements * high
    low, high = (np.full(source.shape[:1] or 1, end, np.int64) for end in (source.dtype.min, source.dtype.max))
    return low, high


def threshold_reach(network: Network, index: int) -> tuple[Ints, Ints]:
    """Lowest and highest input of each row of the thresholds that are layer ``index``.  # () -> (rows,), (rows,)"""
    layer = network.layers[index]
    low, high = reach(network, index)
    if isinstance(layer, Threshold) and layer.channels == 1:
        return low.min(keepdims=True), high.max(keepdims=True)
    return low, high
