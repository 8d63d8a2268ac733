"""Lowers dense and convolutional products to integer layers, with an exact scale and offset for each output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fewbit.exact import Curve, Reals, exact
from fewbit.golden.linear import Linear
from fewbit.golden.network import Conv, Dense
from fewbit.golden.quantizers.rules import Quantized
from fewbit.importers.lowering.builder import Builder, channels_last_order, common_unit, one_if_alike
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.lowering.weights import IntegerWeights
from fewbit.importers.onnx_graph import Refusal

_LARGEST_MULTIPLE = 1 << 12
"""Largest integer by which weights are multiplied to make up for a larger scale of their input."""


def dense(builder: Builder, tensor: Tensor, weights: QuantizedConstant) -> Tensor:
    """``tensor @ weights``, weights (inputs, outputs)."""
    _check_quantized(tensor)
    if int(np.prod(tensor.shape[:-1])) != 1:
        return _dense_at_every_place(builder, tensor, weights)
    if tensor.shape[-1] != weights.levels.shape[0]:
        raise Refusal(f"weights of shape {weights.levels.shape} do not fit activations of shape {tensor.shape}")
    tensor = builder.affine_levels(builder.flat(tensor), "its input")
    tensor, integers = _one_gain(tensor, IntegerWeights.of(weights.map(np.transpose)), 1)
    return product(builder, tensor, Dense(name=builder.name(Dense), **integers.fields()), integers.scale)


def _dense_at_every_place(builder: Builder, tensor: Tensor, weights: QuantizedConstant) -> Tensor:
    """``tensor @ weights`` over the last axis of a sequence or map: a convolution with a kernel of 1."""
    rank = len(tensor.shape)
    try:
        if rank not in (3, 4) or tensor.shape[0] != 1:
            raise Refusal("has no channels")
        maps = builder.channels_first(tensor)
    except Refusal:
        raise Refusal(
            f"takes one row of activations a frame, not shape {tensor.shape}: over a sequence, export it as a Conv "
            "with a kernel of 1 and the features as channels"
        ) from None
    kernels = weights.map(lambda part: part.T[:, :, None, None])
    sums = conv(builder, maps.with_height(), kernels, (1, 1), (0, 0, 0, 0), 1)
    return builder.transposed(sums.without_height() if rank == 3 else sums, channels_last_order(rank))


def conv(
    builder: Builder,
    tensor: Tensor,
    weights: QuantizedConstant,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    groups: int,
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """``tensor`` convolved with ``weights``, (outputs, channels / groups, kernel height, kernel width).

    A dilated kernel is the kernel with zeros between its weights, which costs their memory and cycles. Binary weights
    have no zero, so that they become ternary.

    Padding is the real 0. Where another integer represents it, few-bit levels are mapped so that the integer 0 does.
    """
    _check_quantized(tensor)
    tensor = builder.map(tensor)
    shape = weights.levels.shape
    if groups < 1 or shape[0] % groups or tensor.frame[0] != shape[1] * groups:
        raise Refusal(
            f"weights of shape {shape} in {groups} groups do not fit activations of shape {tensor.shape}"
            if groups != 1
            else f"weights of shape {shape} do not fit activations of shape {tensor.shape}"
        )
    tensor = builder.affine_levels(tensor, "its input", zero=any(padding))
    tensor, integers = _one_gain(tensor, IntegerWeights.of(weights).dilated(dilation), groups)
    layer = Conv(
        name=builder.name(Conv), stride=stride, padding=padding, groups=groups, **integers.fields()
    )  # fmt: skip
    return product(builder, tensor, layer, integers.scale)


def product(builder: Builder, tensor: Tensor, layer: Linear, scale: Reals) -> Tensor:
    """The sums of ``layer``; a real weight is ``scale``, (1,) or (outputs,), times the integer weight.

    Raises
    ------
    Refusal
        If the inputs of an output have different scales.
    """
    sums = builder.add(layer, tensor, chain=None, quantized=False)
    gain, shift = _gain_and_shift(tensor, layer)
    shape = (*tensor.shape[: -len(sums.frame)], *sums.frame)
    return replace(sums, shape=shape, curve=Curve().scaled(scale * gain, scale * shift))


def _check_quantized(tensor: Tensor) -> None:
    if tensor.dtype is None or not tensor.quantized:
        raise Refusal("its activations are not quantized: put a Quant before it")


def _one_gain(tensor: Tensor, weights: IntegerWeights, groups: int) -> tuple[Tensor, IntegerWeights]:
    """``tensor`` with one gain for all inputs of an output, and ``weights`` that make up for it.

    Where gains differ between channels, as behind a concatenation, each is an integer multiple of a common unit. The
    weights of the channel are multiplied by that integer.
    """
    gain = tensor.gains.gain
    outputs, inputs, *kernel = weights.levels.shape
    by_group = np.resize(gain, tensor.frame[0]).reshape(groups, inputs)
    if gain.size == 1 or not (by_group != by_group[:, :1]).any():
        return tensor, weights
    if all(gain):
        unit = common_unit([abs(value) for value in gain])
        whole = [int(value / unit) for value in gain]
        if max(map(abs, whole)) <= _LARGEST_MULTIPLE:
            group = np.repeat(np.arange(groups), outputs // groups)
            multiples = np.array(whole, np.int64).reshape(groups, inputs)[group]
            shift = exact([value / k for value, k in zip(np.resize(tensor.gains.shift, len(whole)), whole)])
            curve = Curve().scaled(exact([unit]), one_if_alike(shift))
            return replace(tensor, curve=curve), weights.times(multiples.reshape(*multiples.shape, *[1] * len(kernel)))
    raise Refusal(
        "the scale of its activations differs between its inputs, which no integer product can take: give them one "
        "scale, or scales that are small integer multiples of one"
    )


def _gain_and_shift(tensor: Tensor, layer: Linear) -> tuple[Reals, Reals]:
    """Gain and offset, (1,) or (outputs,) each, from the sums of ``layer`` to the sums over the reals of ``tensor``."""
    gain, offset = tensor.gains.gain, tensor.gains.shift
    outputs, inputs = layer.weights.shape[:2]
    groups = tensor.frame[0] // inputs
    group = np.arange(outputs) // (outputs // groups)
    if gain.size > 1:
        by_group = gain.reshape(groups, inputs)
        if (by_group != by_group[:, :1]).any():
            raise Refusal("the scale of its activations differs between its inputs, which no integer product can take")
        gain = by_group[group, 0]
    if not any(offset):
        return gain, exact([0])
    by_channel = layer.factors().reshape(outputs, -1, inputs).sum(1)
    offsets = np.resize(offset, tensor.frame[0]).reshape(groups, inputs)
    # An output at a time: one object a weight would take a hundred bytes each.
    return gain, exact([np.dot(row.astype(object), offsets[share]) for row, share in zip(by_channel, group)])


def stores_scales(weights: Quantized) -> bool:
    """Whether the scales of ``weights`` differ within an output, so that the layer has to store them."""
    return weights.vectors.runs or weights.negative_scales is not None


def linear_fields(weights: Quantized, shape: tuple[int, ...]) -> tuple[dict[str, Any], Reals]:
    """Fields of a layer that stores ``weights`` in ``shape``, and the scale (1,) or (outputs,) that it does not store.

    A scale that all weights of an output share is not stored; scales that differ within an output are, in fixed point.
    """
    outputs, channels, *kernel = shape
    fields: dict[str, Any] = {
        "weights": np.moveaxis(weights.levels.reshape(outputs, *kernel, channels), -1, 1),
        "code": weights.code,
        "scales": None,
        "negative_scales": None,
        "vector": 0,
        "across": False,
    }
    if not stores_scales(weights):
        return fields, one_if_alike(exact(weights.unit * weights.scales.ravel()))
    rows = (outputs, 1) if weights.vectors.axis == "tensor" else weights.scales.shape
    fields["scales"] = np.broadcast_to(weights.scales, rows)
    if weights.negative_scales is not None:
        fields["negative_scales"] = np.broadcast_to(weights.negative_scales, rows)
    fields["vector"] = weights.vectors.length_in(weights.shape) if weights.vectors.runs else weights.shape[1]
    fields["across"] = weights.vectors.axis == "outputs"
    return fields, exact([weights.unit])
