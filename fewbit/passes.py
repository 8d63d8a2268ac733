"""Network to Network, before it is planned: the same numbers out, in a form that costs less hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.network import Affine, Flatten, Layer, Linear, Network, Pool, Threshold

Pass = Callable[[Network], Network]


def merge_flattens(network: Network) -> Network:
    """Keeps one of several flattens in a row, and none where the frame is flat already."""
    layers: list[Layer] = []
    for layer, source in zip(network.layers, network.types):
        if not isinstance(layer, Flatten) or len(source.shape) != 1:
            layers.append(layer)
    return replace(network, layers=tuple(layers)) if layers else network


def absorb_signs(network: Network) -> Network:
    """Moves the sign of a threshold row into the weights before it, so that no hardware negates a sum.

    ``-(w x) >= t`` is ``(-w) x >= t``. Left alone where the code lacks the negative of a weight.
    """
    layers = list(network.layers)
    for index, (layer, following) in enumerate(pairwise(network.layers)):
        if not isinstance(layer, Linear) or not isinstance(following, Threshold) or following.channels == 1:
            continue
        axes = (-1,) + (1,) * (layer.weights.ndim - 1)
        negated = layer.weights * following.sign.reshape(axes).astype(np.int64)
        if layer.code.contains(negated) and layer.negative_scales is None:
            layers[index] = replace(layer, weights=negated)
            layers[index + 1] = replace(following, sign=np.ones_like(following.sign))
    return replace(network, layers=tuple(layers))


def clip_thresholds(network: Network) -> Network:
    """Moves thresholds that no sum reaches, or every sum does, to the ends of what its channel can reach.

    They then take no more bits than the sums themselves and one step beyond.
    """
    layers = list(network.layers)
    for index, (layer, source) in enumerate(zip(layers, network.types)):
        if not isinstance(layer, Threshold):
            continue
        before = layers[index - 1] if index else None
        if isinstance(before, Linear) and layer.channels > 1:
            low, high = before.bounds(network.types[index - 1].dtype)
        else:
            low, high = np.array([source.dtype.min]), np.array([source.dtype.max])
        sign = layer.sign.astype(np.int64)
        ends = np.sort(np.stack([sign * low, sign * high]), axis=0)
        layers[index] = replace(layer, thresholds=np.clip(layer.thresholds, ends[0][:, None], ends[1][:, None] + 1))
    return replace(network, layers=tuple(layers))


def flatten_channels_last(network: Network) -> Network:
    """Flattens maps with their channels last, as hardware streams them, and reorders what follows up to the weights.

    Left alone where scales belong to vectors along inputs in the other order.
    """
    layers = list(network.layers)
    for index, (flatten, source) in enumerate(zip(network.layers, network.types)):
        if not isinstance(flatten, Flatten) or flatten.channels_last or len(source.shape) != 3:
            continue
        changed = replace(flatten, channels_last=True)
        places = changed.places(source.shape)
        moved: list[Layer] = [changed]
        for layer in layers[index + 1 :]:
            if isinstance(layer, Linear):
                if layer.scales is None or layer.across:
                    moved.append(_reordered(layer, places))
                    layers[index : index + len(moved)] = moved
                break
            if isinstance(layer, Threshold) and layer.channels > 1:
                layer = replace(layer, thresholds=layer.thresholds[places], sign=layer.sign[places])
            elif isinstance(layer, Affine):
                layer = replace(layer, scale=layer.scale[places], bias=layer.bias[places])
            elif not isinstance(layer, Threshold):
                break
            moved.append(layer)
    return replace(network, layers=tuple(layers))


def _reordered(layer: Linear, places: Ints) -> Linear:
    """``layer`` for inputs in another order."""
    scales = {
        name: getattr(layer, name)[:, places]
        for name in ("scales", "negative_scales")
        if getattr(layer, name) is not None
    }
    return replace(layer, weights=layer.weights[:, places], **scales)


def thresholds_before_pools(network: Network) -> Network:
    """Moves thresholds in front of the maximum before them, so that levels are compared and not sums.

    A threshold keeps the order of its inputs, unless its sign is negative.
    """
    layers = list(network.layers)
    for index, (pool, following) in enumerate(pairwise(layers)):
        greatest = isinstance(pool, Pool) and pool.mode == "max"
        if greatest and isinstance(following, Threshold) and (following.sign > 0).all():
            layers[index : index + 2] = following, pool
    return replace(network, layers=tuple(layers))


PASSES: tuple[Pass, ...] = (
    merge_flattens,
    flatten_channels_last,
    thresholds_before_pools,
    absorb_signs,
    clip_thresholds,
)
"""Every pass, in the order in which they run."""


def lower(network: Network) -> Network:
    """``network`` after every pass: equal scores and outputs for every input."""
    for one in PASSES:
        network = one(network)
    return network
