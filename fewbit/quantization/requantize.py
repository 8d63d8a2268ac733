"""Replaces the weights of an integer network by other quantized ones, and folds their scales into thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from fewbit.exact import Boundary, exact
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Flatten, Linear, Network, Pool, Threshold
from fewbit.golden.quantizers.rules import Quantized
from fewbit.golden.quantizers.weight_vectors import Floats
from fewbit.importers.lowering.integer_chain import IntegerChain


def weights_of(network: Network) -> dict[str, Floats]:
    """Weights of each layer of ``network`` by name, multiplied by their scales, as (outputs, inputs)."""
    return {layer.name: layer.factors().astype(np.float64) for layer in network.layers if isinstance(layer, Linear)}


def requantize(network: Network, weights: Mapping[str, Quantized], scale_bits: int) -> Network:
    """Replace the weights of ``network`` by ``weights``, by the name of the layer. Activations stay as they are.

    Scales are folded exactly into thresholds. If the gains of the final scores differ between classes, they are rounded
    to ``scale_bits``.

    Raises
    ------
    FewbitError
        If scales differ between the outputs of a layer, and no thresholds separate it from the next layer with weights.
    """
    chain = IntegerChain(network.input)
    for layer in network.layers:
        if isinstance(layer, Conv):
            quantized = weights[layer.name]
            outputs, channels, height, width = layer.weights.shape
            levels = quantized.levels.reshape(outputs, height, width, channels).transpose(0, 3, 1, 2)
            window: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
            chain.product(layer.name, quantized, levels, **window)
        elif isinstance(layer, Dense):
            chain.product(layer.name, weights[layer.name], weights[layer.name].levels)
        elif isinstance(layer, Threshold):
            rows = [[Boundary(Fraction(int(bound))) for bound in row] for row in layer.thresholds]
            signs = [int(sign) for sign in layer.sign]
            chain.threshold(rows, layer.dtype, layer.base, Fraction(1), signs)
        elif isinstance(layer, Pool) and layer.mode == "sum":
            chain.mean(layer.kernel, layer.stride, layer.padding)
            chain.affine(exact([layer.kernel[0] * layer.kernel[1]]), exact([0]))
        elif isinstance(layer, Pool):
            chain.pool(layer.mode, layer.kernel, layer.stride, layer.padding)
        elif isinstance(layer, Affine):
            chain.affine(exact(layer.scale), exact(layer.bias))
        elif isinstance(layer, Flatten):
            chain.flatten(layer.channels_last)
        elif isinstance(layer, ArgMax):
            chain.scores(scale_bits)
            chain.arg_max()
    if isinstance(network.layers[-1], ArgMax):
        gain = 1.0
    else:
        chain.scores(scale_bits)
        gain = float(chain.gain[0])
    return chain.network(
        network.name,
        input_quantizer=network.input_quantizer,
        output_scale=network.output_scale * gain,
        output_bias=network.output_bias,
        output_shape=network.output_shape,
    )
