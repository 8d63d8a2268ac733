"""Changes of a float network before it is quantized. They change no value that the network computes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.importers.float_onnx.draft import Draft
from fewbit.importers.float_onnx.layers import Clip, Flat, FloatLayer, FloatPool, Product, Smooth
from fewbit.importers.float_onnx.network import FloatNetwork


def limits_before_maxima(network: FloatNetwork) -> FloatNetwork:
    """``network`` with each Clip and Smooth layer before the maxima and Flat layers that it follows.

    The quantizer behind it can then stand before the maxima, too, so that they compare few-bit levels.
    """
    draft = Draft.of(network)
    for number in list(draft.layers):
        for before in draft.backward(number):
            limit, layer = draft.layers[number], draft.layers[before]
            moves = isinstance(layer, Flat) or (isinstance(layer, FloatPool) and layer.mode == "max")
            if not isinstance(limit, (Clip, Smooth)) or not moves:
                break
            draft.layers[before], draft.layers[number] = limit, layer
            number = before
    return _with(network, draft)


def flattened_channels_last(network: FloatNetwork) -> FloatNetwork:
    """``network`` with maps flattened channels last, the order in which hardware streams them.

    Weights that share a scale in hardware are then neighbours in the matrix of the next product. A Flat layer does not
    change if something else than a product depends on the order of its elements.
    """
    draft = Draft.of(network)
    shapes = frame_shapes(network)
    for number, layer in list(draft.layers.items()):
        source = shapes[draft.reads[number][0]]
        if isinstance(layer, Flat) and not layer.channels_last and len(source) == 3:
            places = np.arange(math.prod(source)).reshape(source).transpose(1, 2, 0).ravel()
            changed = _reordered(draft, number, places)
            if changed is not None:
                draft.layers.update(changed)
                draft.layers[number] = Flat(channels_last=True)
    return _with(network, draft)


def _reordered(draft: Draft, number: int, places: Ints) -> dict[int, FloatLayer] | None:
    """The products behind tensor ``number``, for inputs in the order ``places``; None if others depend on the order."""
    if number == draft.output:
        return None
    changed: dict[int, FloatLayer] = {}
    for reader in draft.readers(number):
        layer = draft.layers[reader]
        if isinstance(layer, Product):
            changed[reader] = replace(layer, weights=layer.weights[:, places])
        elif isinstance(layer, (Clip, Smooth)):
            further = _reordered(draft, reader, places)
            if further is None:
                return None
            changed |= further
        else:
            return None
    return changed


def frame_shapes(network: FloatNetwork) -> list[tuple[int, ...]]:
    """Shape of one frame of each tensor, by its number."""
    wanted = set(range(len(network.layers) + 1))
    frame = np.zeros((1, *network.shape), np.float32)
    tensors = network.tensors({0: frame}, 0, len(network.layers), wanted)
    return [tensors[number].shape[1:] for number in sorted(wanted)]


def _with(network: FloatNetwork, draft: Draft) -> FloatNetwork:
    changed = draft.network(name=network.name, shape=network.shape, output_shape=network.output_shape)
    return replace(network, layers=changed.layers, reads=changed.reads)
