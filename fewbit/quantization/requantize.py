"""A network in integers to the same with other weights, their scales folded into what follows."""

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
    """Weights of every product of ``network`` by name, scales included, as (outputs, inputs)."""
    return {layer.name: layer.factors().astype(np.float64) for layer in network.layers if isinstance(layer, Linear)}


def requantize(network: Network, made: Mapping[str, Quantized], scale_bits: int) -> Network:
    """``network`` with the weights ``made``, by name, in place of its own; activations stay as they are.

    Thresholds take in the scales exactly. Gains that differ between classes are rounded to ``scale_bits`` at the end.

    Raises
    ------
    FewbitError
        If scales differ between the outputs of a layer that another product follows without thresholds between.
    """
    chain = IntegerChain(network.input)
    for layer in network.layers:
        if isinstance(layer, Conv):
            weights = made[layer.name]
            outputs, channels, height, width = layer.weights.shape
            levels = weights.levels.reshape(outputs, height, width, channels).transpose(0, 3, 1, 2)
            window: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
            chain.product(layer.name, weights, levels, **window)
        elif isinstance(layer, Dense):
            chain.product(layer.name, made[layer.name], made[layer.name].levels)
        elif isinstance(layer, Threshold):
            rows = [[Boundary(Fraction(int(one))) for one in row] for row in layer.thresholds]
            signs = [int(one) for one in layer.sign]
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
