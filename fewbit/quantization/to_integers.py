"""Converts a float network with quantized weights to an integer network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from typing import Any

from fewbit.exact import Curve, exact
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Dense, Network
from fewbit.golden.quantizers.rules import Quantized
from fewbit.importers.float_onnx.layers import (
    Bend,
    Best,
    Clip,
    Concat,
    Flat,
    FloatLayer,
    FloatPool,
    Product,
    Relu,
    Scale,
    Smooth,
    Sum,
)
from fewbit.importers.float_onnx.network import FloatNetwork
from fewbit.importers.lowering import joins
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.pools import max_pool, mean
from fewbit.importers.lowering.products import linear_fields, product
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.lowering.weights import narrowest_code
from fewbit.input_kind import InputKind
from fewbit.quantization.activation_range import Activation, activation_kind
from fewbit.quantization.points import JOIN_BITS


def to_integers(
    network: FloatNetwork,
    weights: Mapping[str, Quantized],
    activations: Mapping[int, Activation],
    narrowed: set[int],
    kind: InputKind,
    scale_bits: int,
) -> Network:
    """``network`` in integers, with ``weights`` by layer name, and ``activations`` by the number of the tensor.

    The result equals the float network with these weights, except for these roundings: of each activation; of the means
    ``narrowed``; in the final scores, of the biases to whole units of the sums; and of gains that differ between
    classes to ``scale_bits``.
    """
    lowering = _Lowering(network, weights, kind, scale_bits)
    tensors = [lowering.quantized(lowering.source, activations.get(0))]
    for place, (layer, read) in enumerate(zip(network.layers, network.reads)):
        number = place + 1
        tensor = _STEPS[type(layer)](lowering, layer, [tensors[source] for source in read])
        if number in narrowed and isinstance(layer, FloatPool):
            tensor = lowering.narrowed(tensor, layer, tensors[read[0]])
        tensor = lowering.quantized(tensor, activations.get(number))
        tensors.append(replace(tensor, shared=len(network.readers(number)) > 1))
    last = tensors[-1]
    if not last.index:
        last = lowering.builder.scores(last, scale_bits)
    last = replace(last, shape=(1, *network.output_shape), function=network.output_function)
    return replace(
        lowering.builder.network(network.name, last),
        input_batch=network.input_batch,
        input_shape=network.input_shape,
        input_order=network.input_order,
    )


def _curve(scale: float | Fraction) -> Curve:
    return Curve().scaled(exact([scale]), exact([0]))


class _Lowering:
    """How each kind of float layer is lowered."""

    def __init__(
        self, network: FloatNetwork, weights: Mapping[str, Quantized], kind: InputKind, scale_bits: int
    ) -> None:
        shared = len(network.readers(0)) > 1
        self.source = replace(Tensor.source((1, *network.shape), kind.dtype, _curve(kind.scale)), shared=shared)
        self.builder = Builder(self.source)
        self.weights, self.scale_bits = weights, scale_bits

    def quantized(self, tensor: Tensor, activation: Activation | None) -> Tensor:
        if activation is None:
            return tensor
        dtype = activation.dtype
        return self.builder.fold(tensor, [activation.boundaries], dtype, dtype.min, _curve(activation.scale))

    def narrowed(self, tensor: Tensor, layer: FloatPool, before: Tensor) -> Tensor:
        """``tensor``, the mean of levels ``before``, rounded to few bits if it has more."""
        kind = before.type.dtype
        bits = max(JOIN_BITS, kind.bits)
        if tensor.type.dtype.bits <= bits:
            return tensor
        dtype = activation_kind(bits, kind.min < 0)
        scale = float(tensor.gains.gain[0] * layer.elements * Fraction(kind.max, dtype.max))
        return self.quantized(tensor, Activation(dtype, scale))

    def product(self, source: Product, tensors: Sequence[Tensor]) -> Tensor:
        weights = self.weights[source.name]
        fields, scale = linear_fields(weights, source.weights.shape)
        if not source.convolves:
            made = product(self.builder, tensors[0], Dense(name=source.name, **fields), scale)
            return self.builder.affine(made, None, exact(source.bias))
        if source.dilation != (1, 1):
            if fields["scales"] is not None:
                raise FewbitError(
                    f"layer {source.name!r}: is dilated, so that its weights cannot store scales: give it one scale "
                    "for each output (--axis channel)"
                )
            levels = source.dilated(fields["weights"])
            code = fields["code"] if fields["code"].contains(levels) else narrowest_code(levels)
            fields |= {"weights": levels, "code": code}
        window: dict[str, Any] = {"stride": source.stride, "padding": source.padding, "groups": source.groups}
        made = product(self.builder, tensors[0], Conv(name=source.name, **fields, **window), scale)
        return self.builder.affine(made, None, exact(source.bias))

    def pool(self, layer: FloatPool, tensors: Sequence[Tensor]) -> Tensor:
        lower = max_pool if layer.mode == "max" else mean
        return lower(self.builder, tensors[0], layer.kernel, layer.stride, layer.padding)

    def clip(self, layer: Clip, tensors: Sequence[Tensor]) -> Tensor:
        (tensor,) = tensors
        if isinstance(layer, Relu) and tensor.curve.gains is not None and _positive(tensor):
            return tensor
        ends = (None if end is None else Fraction(end) for end in (layer.low, layer.high))
        return replace(tensor, curve=tensor.curve.clipped(*ends))

    def smooth(self, layer: Smooth, tensors: Sequence[Tensor]) -> Tensor:
        return replace(tensors[0], curve=tensors[0].curve.smooth(layer.name))

    def bend(self, layer: Bend, tensors: Sequence[Tensor]) -> Tensor:
        return replace(tensors[0], curve=tensors[0].curve.bent(exact(layer.slope)))

    def scale(self, layer: Scale, tensors: Sequence[Tensor]) -> Tensor:
        return self.builder.affine(tensors[0], exact(layer.gain), exact(layer.shift))

    def flat(self, layer: Flat, tensors: Sequence[Tensor]) -> Tensor:
        tensor = self.builder.flat(tensors[0], layer.channels_last)
        return replace(tensor, shape=(1, *tensor.frame))

    def sum(self, layer: Sum, tensors: Sequence[Tensor]) -> Tensor:
        return reduce(lambda first, second: joins.add(self.builder, first, second), tensors)

    def concat(self, layer: Concat, tensors: Sequence[Tensor]) -> Tensor:
        return joins.concat(self.builder, tensors, 1)

    def best(self, layer: Best, tensors: Sequence[Tensor]) -> Tensor:
        return self.builder.best(self.builder.scores(tensors[0], self.scale_bits))


def _positive(tensor: Tensor) -> bool:
    return all(low >= 0 for low in tensor.real_range[0])


_STEPS: dict[type[FloatLayer], Callable[[_Lowering, Any, Sequence[Tensor]], Tensor]] = {
    Bend: _Lowering.bend,
    Best: _Lowering.best,
    Clip: _Lowering.clip,
    Concat: _Lowering.concat,
    Flat: _Lowering.flat,
    FloatPool: _Lowering.pool,
    Product: _Lowering.product,
    Relu: _Lowering.clip,
    Scale: _Lowering.scale,
    Smooth: _Lowering.smooth,
    Sum: _Lowering.sum,
}
