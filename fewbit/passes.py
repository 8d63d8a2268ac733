"""Network to Network, before it is planned: the same numbers out, in a form that costs less hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.graph import swapped, without
from fewbit.golden.network import Affine, Flatten, Layer, Linear, Network, Pool, Threshold

Pass = Callable[[Network], Network]


def merge_flattens(network: Network) -> Network:
    """Keeps one of several flattens in a row, and none where the frame is flat already."""
    layers = network.named_layers
    for layer in network.layers:
        if isinstance(layer, Flatten) and len(network.source(layer).shape) == 1 and len(layers) > 1:
            layers = without(layers, next(one for one in layers if one.name == layer.name))
    return network.with_layers(layers)


def absorb_signs(network: Network) -> Network:
    """Moves the sign of a threshold row into the weights before it, so that no hardware negates a sum.

    ``-(w x) >= t`` is ``(-w) x >= t``. Left alone where the code lacks the negative of a weight, or where the sums go
    to other layers too.
    """
    layers = list(network.layers)
    for index, layer in enumerate(network.layers):
        following = _only_reader(network, layer)
        if not isinstance(layer, Linear) or not isinstance(following, Threshold) or following.channels == 1:
            continue
        axes = (-1,) + (1,) * (layer.weights.ndim - 1)
        negated = layer.weights * following.sign.reshape(axes).astype(np.int64)
        if layer.code.contains(negated) and layer.negative_scales is None:
            layers[index] = replace(layer, weights=negated)
            layers[network.index(following)] = replace(following, sign=np.ones_like(following.sign))
    return replace(network, layers=tuple(layers))


def _only_reader(network: Network, layer: Layer) -> Layer | None:
    """The layer that alone reads ``layer``, and nothing else."""
    index = network.only_reader(network.index(layer) + 1)
    return None if index is None else network.layers[index]


def clip_thresholds(network: Network) -> Network:
    """Moves thresholds that no sum reaches, or every sum does, to the ends of what its channel can reach.

    They then take no more bits than the sums themselves and one step beyond.
    """
    layers = list(network.layers)
    for index, layer in enumerate(network.layers):
        if not isinstance(layer, Threshold):
            continue
        source, (before,) = network.source(layer), network.before(layer)
        if isinstance(before, Linear) and layer.channels > 1:
            low, high = before.bounds(network.source(before).dtype)
        else:
            low, high = np.array([source.dtype.min]), np.array([source.dtype.max])
        sign = layer.sign.astype(np.int64)
        ends = np.sort(np.stack([sign * low, sign * high]), axis=0)
        layers[index] = replace(layer, thresholds=np.clip(layer.thresholds, ends[0][:, None], ends[1][:, None] + 1))
    return replace(network, layers=tuple(layers))


def flatten_channels_last(network: Network) -> Network:
    """Flattens maps with their channels last, as hardware streams them, and reorders what follows up to the weights.

    Left alone where scales belong to vectors along inputs in the other order, and where it is read by several layers
    or joined before the weights.
    """
    for flatten in network.layers:
        source = network.source(flatten)
        if isinstance(flatten, Flatten) and not flatten.channels_last and len(source.shape) == 3:
            changed = replace(flatten, channels_last=True)
            moved = _moved(network, flatten, changed.places(source.shape))
            if moved is not None:
                moved[flatten.name] = changed
                network = replace(network, layers=tuple(moved.get(one.name, one) for one in network.layers))
    return network


def _moved(network: Network, flatten: Flatten, places: Ints) -> dict[str, Layer] | None:
    """Layers behind ``flatten`` up to the weights, by name, for elements in another order; None if there are none
    that can take it."""
    moved: dict[str, Layer] = {}
    layer = _only_reader(network, flatten)
    while layer is not None:
        if isinstance(layer, Linear):
            if layer.scales is None or layer.across:
                return moved | {layer.name: _reordered(layer, places)}
            return None
        if isinstance(layer, Threshold) and layer.channels > 1:
            moved[layer.name] = replace(layer, thresholds=layer.thresholds[places], sign=layer.sign[places])
        elif isinstance(layer, Affine):
            moved[layer.name] = replace(layer, scale=layer.scale[places], bias=layer.bias[places])
        elif not isinstance(layer, Threshold):
            return None
        layer = _only_reader(network, layer)
    return None


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
    for pool in network.layers:
        following = _only_reader(network, pool)
        greatest = isinstance(pool, Pool) and pool.mode == "max"
        if greatest and isinstance(following, Threshold) and (following.sign > 0).all():
            network = network.with_layers(swapped(network.named_layers, pool.name, following.name))
    return network


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
