"""Which integers a layer can be given, channel by channel."""

from __future__ import annotations

from fewbit.golden.layer import Range, whole_range
from fewbit.golden.network import Network, Threshold


def input_range(network: Network, index: int) -> Range:
    """Lowest and highest input of layer ``index`` at any quality, for each place on the first axis of a frame.

    Sums are bounded by their own weights, which is often less than their number kind holds.  # () -> (C,), (C,) int64
    """
    if not index:
        return whole_range(network.input)
    return network.layers[index - 1].output_range(network.types[index - 1], lambda: input_range(network, index - 1))


def threshold_range(network: Network, index: int) -> Range:
    """Lowest and highest input of each row of the thresholds that are layer ``index``.  # () -> (rows,), (rows,)"""
    layer = network.layers[index]
    low, high = input_range(network, index)
    if isinstance(layer, Threshold) and layer.channels == 1:
        return low.min(keepdims=True), high.max(keepdims=True)
    return low, high
