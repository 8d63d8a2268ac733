"""Converts a float network with quantized weights to an integer network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from fewbit.exact import Curve, exact
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Dense, Network
from fewbit.golden.quantizers.rules import Quantized
from fewbit.importers.float_onnx.network import Best, Flat, FloatLayer, FloatNetwork, FloatPool, Product, Relu
from fewbit.importers.float_onnx.segments import Segment, segments
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.pools import pool
from fewbit.importers.lowering.products import linear_fields, product
from fewbit.importers.lowering.tensor import Tensor
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
    """``network`` in integers, with ``weights`` by layer name, and with ``activations``, one for each product.

    The result equals the float network with these weights, except for three roundings: of each activation; in the final
    scores, of the biases to whole units of the sums; and of gains that differ between classes to ``scale_bits``.
    """
    tensor = Tensor.source((1, *network.shape), kind.dtype, _curve(kind.scale))
    builder = Builder(tensor)
    first, *rest = segments(network)
    tensor = _narrow(builder, tensor, first.narrow)
    for segment, activation in zip(rest, activations):
        tensor = _segment(builder, tensor, segment, weights, activation, last=segment is rest[-1])
    tensor = builder.scores(tensor, scale_bits)
    if isinstance(network.layers[-1], Best):
        tensor = builder.best(tensor)
    return builder.network(network.name, replace(tensor, shape=(1, *network.output_shape)))


def _curve(scale: float | Fraction) -> Curve:
    return Curve().scaled(exact([scale]), exact([0]))


def _segment(
    builder: Builder,
    tensor: Tensor,
    segment: Segment,
    weights: Mapping[str, Quantized],
    activation: Activation | None,
    last: bool,
) -> Tensor:
    source = segment.product
    assert isinstance(source, Product)
    fields, scale = linear_fields(weights[source.name], source.weights.shape)
    window: dict[str, Any] = {"stride": source.stride, "padding": source.padding, "groups": source.groups}
    layer = Conv(name=source.name, **fields, **window) if source.convolves else Dense(name=source.name, **fields)
    tensor = builder.affine(product(builder, tensor, layer, scale), None, exact(source.bias))
    for step in segment.wide:
        tensor = _step(builder, tensor, step)
    if activation is None:
        return tensor
    return _narrow(builder, _activate(builder, tensor, activation), segment.narrow, last)


def _activate(builder: Builder, tensor: Tensor, activation: Activation) -> Tensor:
    dtype = activation.dtype
    return builder.fold(tensor, [activation.boundaries], dtype, dtype.min, _curve(activation.scale))


def _narrow(builder: Builder, tensor: Tensor, layers: Sequence[FloatLayer], last: bool = False) -> Tensor:
    """Steps on few-bit levels; a sum of many is rounded to few bits again, but for the last ones."""
    for layer in layers:
        before = tensor.type.dtype
        tensor = _step(builder, tensor, layer)
        bits = max(_MEAN_BITS, before.bits)
        if tensor.type.dtype.bits > bits and isinstance(layer, FloatPool) and not last:
            dtype = activation_kind(bits, before.min < 0)
            scale = float(tensor.gains.gain[0] * layer.elements * Fraction(before.max, dtype.max))
            tensor = _activate(builder, tensor, Activation(dtype, scale))
    return tensor


def _step(builder: Builder, tensor: Tensor, layer: FloatLayer) -> Tensor:
    if isinstance(layer, FloatPool):
        mean = layer.mode == "mean"
        mode, window = "sum" if mean else "max", (layer.kernel, layer.stride, layer.padding)
        tensor = pool(builder, tensor, mode, *window)
        return builder.affine(tensor, exact([Fraction(1, layer.elements)])) if mean else tensor
    if isinstance(layer, Flat):
        tensor = builder.flat(tensor, layer.channels_last)
        return replace(tensor, shape=(1, *tensor.frame))
    if isinstance(layer, Relu) and tensor.type.dtype.min < 0:
        raise FewbitError("a ReLU on a signed input is not supported")
    return tensor
