"""A network in integers to the same with other weights, their scales folded into what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from fewbit.exact import Boundary, Curve, exact
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Affine, ArgMax, Flatten, Linear, Network, Pool, Threshold
from fewbit.golden.quantizers.rules import Quantized
from fewbit.golden.quantizers.weight_vectors import Floats
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.pools import pool
from fewbit.importers.lowering.products import linear_fields, product
from fewbit.importers.lowering.tensor import Tensor


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
    tensor = Tensor.source((1, *network.input.shape), network.input.dtype, Curve())
    builder = Builder(tensor)
    builder.input_quantizer = network.input_quantizer
    for layer in network.layers:
        if isinstance(layer, Linear):
            tensor = _product(builder, tensor, layer, made[layer.name])
        elif isinstance(layer, Threshold):
            rows = [[Boundary(Fraction(int(one))) for one in row] for row in layer.thresholds]
            tensor = builder.affine(tensor, exact(layer.sign))
            tensor = builder.fold(tensor, rows, layer.dtype, layer.base, Curve())
        elif isinstance(layer, Pool):
            tensor = pool(builder, tensor, layer.mode, layer.kernel, layer.stride, layer.padding)
        elif isinstance(layer, Affine):
            tensor = builder.affine(tensor, exact(layer.scale), exact(layer.bias))
        elif isinstance(layer, Flatten):
            tensor = builder.flat(tensor, layer.channels_last)
            tensor = replace(tensor, shape=(1, *tensor.frame))
        elif isinstance(layer, ArgMax):
            tensor = builder.best(builder.scores(tensor, scale_bits))
    if not tensor.index:
        tensor = builder.scores(tensor, scale_bits)
    result = builder.network(network.name, replace(tensor, shape=(1, *tensor.frame)))
    return replace(
        result,
        output_scale=network.output_scale * result.output_scale,
        output_bias=network.output_bias,
        output_shape=network.output_shape,
    )


def _product(builder: Builder, tensor: Tensor, layer: Linear, made: Quantized) -> Tensor:
    if any(gain != tensor.gains.gain[0] for gain in tensor.gains.gain) or any(tensor.gains.shift):
        raise FewbitError(
            f"layer {layer.name!r}: no thresholds stand between it and the product before it, so that the scales of "
            "that one cannot differ between outputs: give it one scale a tensor"
        )
    fields, scale = linear_fields(made, layer.weights.shape)
    return product(builder, tensor, replace(layer, **fields), scale)
