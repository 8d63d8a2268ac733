"""Passes: transformations of a network before planning that keep all outputs and scores, and reduce the cost of the
hardware."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.graph import swapped, without
from fewbit.golden.network import Affine, Flatten, Layer, Linear, Network, Pool, Threshold

Pass = Callable[[Network], Network]


def merge_flattens(network: Network) -> Network:
    """Remove every flatten whose input already has a single axis."""
    layers = network.named_layers
    for layer in network.layers:
        if isinstance(layer, Flatten) and len(network.source(layer).shape) == 1 and len(layers) > 1:
            layers = without(layers, next(named for named in layers if named.name == layer.name))
    return network.with_layers(layers)


def absorb_signs(network: Network) -> Network:
    """Move the sign of each threshold row into the weights before it, so that the hardware need not negate sums:
    ``-(w x) >= t`` is equal to ``(-w) x >= t``.

    Nothing changes if the weight code lacks the negative of a weight, or if other layers read the sums, too.
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
    """The only layer that reads the output of ``layer``, if it reads no other tensor; else None."""
    index = network.only_reader(network.index(layer) + 1)
    return None if index is None else network.layers[index]


def clip_thresholds(network: Network) -> Network:
    """Clip thresholds that no sum of their channel reaches, or that every sum reaches, to the range of these sums.

    Thresholds are then at most one above the largest sum, and need hardly more bits than the sums.
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
    """Flatten maps with their channels last, the order in which the hardware streams them, and reorder the following
    layers up to and including the next weights.

    A flatten does not change if these weights share scales along their inputs, or if there is a fork or a join before
    them.
    """
    for flatten in network.layers:
        source = network.source(flatten)
        if isinstance(flatten, Flatten) and not flatten.channels_last and len(source.shape) == 3:
            reordered_flatten = replace(flatten, channels_last=True)
            changed = _reordered_followers(network, flatten, reordered_flatten.places(source.shape))
            if changed is not None:
                changed[flatten.name] = reordered_flatten
                network = replace(network, layers=tuple(changed.get(layer.name, layer) for layer in network.layers))
    return network


def _reordered_followers(network: Network, flatten: Flatten, places: Ints) -> dict[str, Layer] | None:
    """The layers after ``flatten`` up to the next weights, by name, changed for inputs in the order ``places``; None if
    they cannot be changed."""
    changed: dict[str, Layer] = {}
    layer = _only_reader(network, flatten)
    while layer is not None:
        if isinstance(layer, Linear):
            if layer.scales is None or layer.across:
                return changed | {layer.name: _reordered(layer, places)}
            return None
        if isinstance(layer, Threshold) and layer.channels > 1:
            changed[layer.name] = replace(layer, thresholds=layer.thresholds[places], sign=layer.sign[places])
        elif isinstance(layer, Affine):
            changed[layer.name] = replace(layer, scale=layer.scale[places], bias=layer.bias[places])
        elif not isinstance(layer, Threshold):
            return None
        layer = _only_reader(network, layer)
    return None


def _reordered(layer: Linear, places: Ints) -> Linear:
    """``layer`` for inputs in the order ``places``."""
    scales = {
        name: getattr(layer, name)[:, places]
        for name in ("scales", "negative_scales")
        if getattr(layer, name) is not None
    }
    return replace(layer, weights=layer.weights[:, places], **scales)


def thresholds_before_pools(network: Network) -> Network:
    """Exchange a max pooling and the thresholds after it, so that the pooling compares levels, which have fewer bits
    than sums.

    The result is equal because thresholds are monotonic. Thresholds with a negative sign are not moved.
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
    """Return ``network`` after all passes. Its scores and outputs are the same for every input."""
    for transform in PASSES:
        network = transform(network)
    return network
