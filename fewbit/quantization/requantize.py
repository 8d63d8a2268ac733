"""An integer network with new weights: thresholds and scores take in the scales of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from fewbit.exact import Boundary, Curve, exact
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Add,
    Affine,
    ArgMax,
    Concat,
    Conv,
    Dense,
    Flatten,
    Layer,
    Linear,
    Network,
    Pool,
    Threshold,
)
from fewbit.golden.quantizers.rules import Quantized
from fewbit.golden.quantizers.weight_vectors import Floats
from fewbit.importers.lowering import joins
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.pools import pool
from fewbit.importers.lowering.products import linear_fields, product
from fewbit.importers.lowering.tensor import Tensor


def weights_of(network: Network) -> dict[str, Floats]:
    """Weights of each layer of ``network`` by name, multiplied by their scales, as (outputs, inputs)."""
    return {layer.name: layer.factors().astype(np.float64) for layer in network.layers if isinstance(layer, Linear)}


def requantize(network: Network, weights: Mapping[str, Quantized], scale_bits: int) -> Network:
    """``network`` with ``weights``, by layer name, in place of its own; activations stay as they are.

    Scales are folded exactly into thresholds. If the gains of the final scores differ between classes, they are rounded
    to ``scale_bits``.

    Raises
    ------
    FewbitError
        If scales differ between the outputs of a layer, and no thresholds separate it from the next layer with weights.
    """
    tensor = Tensor.source((1, *network.input.shape), network.input.dtype, Curve())
    builder = Builder(tensor)
    builder.input_quantizer = network.input_quantizer
    steps = _Steps(builder, weights, scale_bits)
    tensors = [replace(tensor, shared=len(network.readers[0]) > 1)]
    for number, (layer, read) in enumerate(zip(network.layers, network.reads), 1):
        sources = [tensors[source] for source in read]
        if type(layer) in _JOINS:
            tensor = _JOINS[type(layer)](steps, sources, layer)
        else:
            tensor = _STEPS[type(layer)](steps, sources[0], layer)
        tensors.append(replace(tensor, shape=(1, *tensor.frame), shared=len(network.readers[number]) > 1))
    if not tensor.index:
        tensor = builder.scores(tensor, scale_bits)
    result = builder.network(network.name, replace(tensor, shape=(1, *tensor.frame)))
    return replace(
        result,
        output_scale=network.output_scale * result.output_scale,
        output_bias=network.output_bias,
        output_shape=network.output_shape,
        input_batch=network.input_batch,
        input_shape=network.input_shape,
        input_order=network.input_order,
        output_function=network.output_function,
    )


@dataclass(frozen=True)
class _Steps:
    """How each kind of layer is lowered again."""

    builder: Builder
    weights: Mapping[str, Quantized]
    scale_bits: int

    def linear(self, tensor: Tensor, layer: Linear) -> Tensor:
        if any(gain != tensor.gains.gain[0] for gain in tensor.gains.gain) or any(tensor.gains.shift):
            raise FewbitError(
                f"layer {layer.name!r}: no thresholds stand between it and the product before it, so that the scales "
                "of that one cannot differ between outputs: give it one scale a tensor"
            )
        fields, scale = linear_fields(self.weights[layer.name], layer.weights.shape)
        return product(self.builder, tensor, replace(layer, **fields), scale)

    def threshold(self, tensor: Tensor, layer: Threshold) -> Tensor:
        boundaries = [[Boundary(Fraction(int(threshold))) for threshold in row] for row in layer.thresholds]
        tensor = self.builder.affine(tensor, exact(layer.sign))
        return self.builder.fold(tensor, boundaries, layer.dtype, layer.base, Curve())

    def flatten(self, tensor: Tensor, layer: Flatten) -> Tensor:
        return self.builder.flat(tensor, layer.channels_last)

    def add(self, tensors: list[Tensor], layer: Add) -> Tensor:
        sides = [self.builder.affine(side, exact([int(gain)])) for side, gain in zip(tensors, layer.gains)]
        return reduce(lambda first, second: self._named(layer, joins.add, self.builder, first, second), sides)

    def concat(self, tensors: list[Tensor], layer: Concat) -> Tensor:
        return self._named(layer, joins.concat, self.builder, tensors, 1)

    def _named(self, layer: Layer, join: Callable[..., Tensor], *arguments: Any) -> Tensor:
        try:
            return join(*arguments)
        except FewbitError as error:
            raise FewbitError(f"layer {layer.name!r}: {error}") from None


_STEPS: dict[type[Layer], Callable[[_Steps, Tensor, Any], Tensor]] = {
    Affine: lambda steps, tensor, layer: steps.builder.affine(tensor, exact(layer.scale), exact(layer.bias)),
    ArgMax: lambda steps, tensor, layer: steps.builder.best(steps.builder.scores(tensor, steps.scale_bits)),
    Conv: _Steps.linear,
    Dense: _Steps.linear,
    Flatten: _Steps.flatten,
    Pool: lambda steps, tensor, layer: pool(
        steps.builder, tensor, layer.mode, layer.kernel, layer.stride, layer.padding
    ),
    Threshold: _Steps.threshold,
}

_JOINS: dict[type[Layer], Callable[[_Steps, list[Tensor], Any], Tensor]] = {Add: _Steps.add, Concat: _Steps.concat}
