"""The range of each tensor: the lowest and highest integer that each channel can have."""

from __future__ import annotations

from functools import partial

from fewbit.golden.layer import Layer, Range, whole_range
from fewbit.golden.network import Network, Threshold


def tensor_range(network: Network, number: int) -> Range:
    """Lowest and highest value of tensor ``number`` at any quality, for each index on the first axis of a frame.

    The range of a sum follows from its weights, and is often narrower than its number kind.  # () -> (C,), (C,) int64

    Parameters
    ----------
    number : int
        0 is the network's input, ``k`` the output of layer ``k - 1``.
    """
    ranges: dict[int, Range] = {}

    def known(number: int) -> Range:
        if number not in ranges:
            ranges[number] = whole_range(network.input) if not number else output_range(network.layers[number - 1])
        return ranges[number]

    def output_range(read: Layer) -> Range:
        numbers = network.reads[network.index(read)]
        return read.output_range_of(network.sources(read), [partial(known, number) for number in numbers])

    return known(number)


def input_range(network: Network, layer: Layer) -> Range:
    """Lowest and highest input of ``layer`` at any quality, for each index on the first axis of a frame. If the layer
    has several inputs, of the first.  # () -> (C,), (C,) int64"""
    return tensor_range(network, network.reads[network.index(layer)][0])


def threshold_range(network: Network, layer: Layer) -> Range:
    """Lowest and highest input of each row of thresholds of ``layer``.  # () -> (rows,), (rows,) int64"""
    low, high = input_range(network, layer)
    if isinstance(layer, Threshold) and layer.channels == 1:
        return low.min(keepdims=True), high.max(keepdims=True)
    return low, high
