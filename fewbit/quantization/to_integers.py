"""Converts a float network with quantized weights to an integer network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from fewbit.exact import exact
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network, TensorType
from fewbit.golden.quantizers.rules import Quantized
from fewbit.importers.float_onnx.network import Best, Flat, FloatLayer, FloatNetwork, FloatPool, Product, Relu
from fewbit.importers.float_onnx.segments import Segment, segments
from fewbit.importers.lowering.integer_chain import IntegerChain
from fewbit.input_kind import InputKind
from fewbit.quantization.activation_range import Activation, activation_kind

_MEAN_BITS = 8
"""Bits to which a mean of levels is rounded if its sum has more, unless the levels themselves have more."""


def to_integers(
    network: FloatNetwork,
    weights: Mapping[str, Quantized],
    activations: Sequence[Activation | None],
    kind: InputKind,
    scale_bits: int,
) -> Network:
    """Convert ``network`` to integers, with quantized ``weights`` by name and quantized ``activations`` in order.

    The result equals the float network with these weights, except for three roundings: of each activation; in the final
    scores, of the biases to whole units of the sums; and of gains that differ between classes to ``scale_bits``.
    """
    chain = IntegerChain(TensorType(kind.dtype, network.shape), kind.scale)
    first, *rest = segments(network)
    _narrow(chain, first.narrow)
    for segment, activation in zip(rest, activations):
        _segment(chain, segment, weights, activation, last=segment is rest[-1])
    chain.scores(scale_bits)
    gain = np.array([1.0 if isinstance(network.layers[-1], Best) else float(chain.gain[0])])
    if isinstance(network.layers[-1], Best):
        chain.arg_max()
    same = network.output_shape == chain.kind.shape
    return chain.network(network.name, output_scale=gain, output_shape=None if same else network.output_shape)


def _segment(
    chain: IntegerChain, segment: Segment, weights: Mapping[str, Quantized], activation: Activation | None, last: bool
) -> None:
    product = segment.product
    assert isinstance(product, Product)
    window = {"stride": product.stride, "padding": product.padding, "groups": product.groups}
    quantized = weights[product.name]
    levels = product.from_matrix(quantized.levels)
    chain.product(product.name, quantized, levels, exact(product.bias), **(window if product.convolves else {}))
    for layer in segment.wide:
        _step(chain, layer)
    if activation is not None:
        chain.threshold([activation.boundaries], activation.dtype, activation.dtype.min, Fraction(activation.scale))
        _narrow(chain, segment.narrow, last)


def _narrow(chain: IntegerChain, layers: Sequence[FloatLayer], last: bool = False) -> None:
    """Apply layers to few-bit levels. Means with too wide sums are rounded again, except in the last segment."""
    for layer in layers:
        before = chain.kind.dtype
        _step(chain, layer)
        bits = max(_MEAN_BITS, before.bits)
        if chain.kind.dtype.bits > bits and isinstance(layer, FloatPool) and not last:
            dtype = activation_kind(bits, before.min < 0)
            scale = float(chain.gain[0] * layer.elements * Fraction(before.max, dtype.max))
            chain.threshold([Activation(dtype, scale).boundaries], dtype, dtype.min, Fraction(scale))


def _step(chain: IntegerChain, layer: FloatLayer) -> None:
    if isinstance(layer, FloatPool) and layer.mode == "mean":
        chain.mean(layer.kernel, layer.stride, layer.padding)
    elif isinstance(layer, FloatPool):
        chain.pool("max", layer.kernel, layer.stride, layer.padding)
    elif isinstance(layer, Flat):
        chain.flatten(layer.channels_last)
    elif isinstance(layer, Relu) and chain.kind.dtype.min < 0:
        raise FewbitError("a ReLU on a signed input is not supported")
