"""Folds gains and shifts of a float network, such as batch normalizations, into the products next to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fewbit.importers.float_onnx.draft import Draft
from fewbit.importers.float_onnx.layers import Best, Clip, Flat, FloatLayer, FloatPool, Product, Scale


def fold_scales(draft: Draft) -> None:
    """Removes the Scale layers that a product before them, or else the next one, can take in; the others stay.

    Scales and the layers in between are exchanged only where that changes no value.
    """
    changes = True
    while changes:
        changes = False
        for number in list(draft.layers):
            scale = draft.layers[number]
            if isinstance(scale, Scale) and (_into_earlier(draft, number, scale) or _into_later(draft, number, scale)):
                draft.remove(number)
                changes = True


def _into_earlier(draft: Draft, number: int, scale: Scale) -> bool:
    """Whether a product, or another Scale, before layer ``number`` has taken ``scale`` in."""
    for place in draft.backward(number):
        layer = draft.layers[place]
        if isinstance(layer, Product):
            draft.layers[place] = _behind(layer, scale)
            return True
        if isinstance(layer, Scale):
            draft.layers[place] = _then(layer, scale)
            return True
        if isinstance(layer, Clip) or not _passes(scale, layer):
            return False
        if isinstance(layer, Flat) and scale.gain.size * scale.shift.size > 1:
            return False
    return False


def _into_later(draft: Draft, number: int, scale: Scale) -> bool:
    """Whether a product behind layer ``number`` has taken ``scale`` in, or an arg-max for which it changes nothing."""
    flat = False
    for place in draft.forward(number):
        layer = draft.layers[place]
        if isinstance(layer, Product):
            if scale.shift.any() and any(layer.padding):  # which is 0 behind the shift
                return False
            draft.layers[place] = _before(scale, layer)
            return True
        if isinstance(layer, Scale):
            if flat and layer.gain.size * layer.shift.size < scale.gain.size * scale.shift.size:
                return False
            draft.layers[place] = _then(scale, layer)
            return True
        if isinstance(layer, Best):
            alike = (scale.gain == scale.gain[0]).all() and (scale.shift == scale.shift[0]).all()
            return bool(alike and scale.gain[0] > 0)
        if not _passes(scale, layer):
            return False
        flat = flat or isinstance(layer, Flat)
    return False


def _passes(scale: Scale, layer: FloatLayer) -> bool:
    """Whether ``scale`` and ``layer``, not a product, give the same result in either order."""
    if isinstance(layer, Clip):
        return bool((scale.gain >= 0).all() and not scale.shift.any() and layer.low in (0, None) and layer.high is None)
    if isinstance(layer, FloatPool):
        if layer.mode == "max":
            return bool((scale.gain >= 0).all())
        return not (any(layer.padding) and scale.shift.any())
    return isinstance(layer, Flat)


def _then(first: Scale, later: Scale) -> Scale:
    """``first`` followed by ``later``, which may have more channels where a map is flattened in between."""
    vectors = (first.gain, first.shift, later.gain, later.shift)
    size = max(vector.size for vector in vectors)
    gain, shift, later_gain, later_shift = (np.repeat(vector, size // vector.size) for vector in vectors)
    return Scale(gain * later_gain, shift * later_gain + later_shift)


def _behind(product: Product, scale: Scale) -> Product:
    """A product that computes ``product`` followed by ``scale``."""
    gain = np.broadcast_to(scale.gain, product.bias.shape)
    weights = product.weights * gain.reshape(-1, *[1] * (product.weights.ndim - 1))
    return replace(product, weights=weights, bias=product.bias * gain + scale.shift)


def _before(scale: Scale, product: Product) -> Product:
    """A product that computes ``scale`` followed by ``product``, which has no padding if there is a shift."""
    outputs, group_inputs = product.weights.shape[:2]
    inputs = group_inputs * product.groups
    gain, shift = (np.resize(np.repeat(v, inputs // v.size), inputs) for v in (scale.gain, scale.shift))
    group = np.arange(outputs) // (outputs // product.groups)
    seen = (slice(None), slice(None), *[None] * (product.weights.ndim - 2))
    weights = product.weights * gain.reshape(product.groups, group_inputs)[group][seen]
    sums = (product.weights * shift.reshape(product.groups, group_inputs)[group][seen]).reshape(outputs, -1).sum(1)
    return replace(product, weights=weights, bias=product.bias + sums)
