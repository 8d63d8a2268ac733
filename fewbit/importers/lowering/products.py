"""Lowers dense and convolutional products to integer layers, with an exact scale and offset for each output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fewbit.exact import Curve, Reals, exact
from fewbit.golden.codes import BINARY, TERNARY, Code, integer
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.linear import Linear
from fewbit.golden.network import Conv, Dense
from fewbit.golden.quantizers.rules import Quantized
from fewbit.importers.lowering.builder import Builder, common_unit, one_if_alike
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Refusal

_LARGEST_MULTIPLE = 1 << 12
"""Largest integer by which weights are multiplied to make up for a larger scale of their input."""
_LARGEST_ZERO = 1 << 16
"""Largest zero point of weights: with a larger one no weight fits the widest code."""


def dense(builder: Builder, tensor: Tensor, weights: QuantizedConstant) -> Tensor:
    """``tensor @ weights``, weights (inputs, outputs)."""
    _check_quantized(tensor)
    if int(np.prod(tensor.shape[:-1])) != 1:
        raise Refusal(
            f"takes one row of activations a frame, not shape {tensor.shape}: over a sequence, export it as a Conv "
            "with a kernel of 1 and the features as channels"
        )
    if tensor.shape[-1] != weights.levels.shape[0]:
        raise Refusal(f"weights of shape {weights.levels.shape} do not fit activations of shape {tensor.shape}")
    tensor = builder.affine_levels(builder.flat(tensor), "its input")
    levels, scale = _levels(weights.map(np.transpose))
    tensor, levels = _one_gain(tensor, levels, 1)
    return product(builder, tensor, Dense(name=builder.name(Dense), weights=levels, code=narrowest_code(levels)), scale)


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
    levels, scale = _levels(weights)
    tensor, levels = _one_gain(tensor, _dilated(levels, dilation), groups)
    layer = Conv(
        name=builder.name(Conv),
        weights=levels,
        code=narrowest_code(levels),
        stride=stride,
        padding=padding,
        groups=groups,
    )
    return product(builder, tensor, layer, scale)


def _dilated(levels: Ints, dilation: tuple[int, int]) -> Ints:
    """Kernels with ``dilation - 1`` zeros between their weights.  # (O, I, U, V) -> (O, I, U', V')"""
    extents = [(extent - 1) * step + 1 for extent, step in zip(levels.shape[2:], dilation)]
    result = np.zeros((*levels.shape[:2], *extents), levels.dtype)
    result[:, :, :: dilation[0], :: dilation[1]] = levels
    return result


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


def _one_gain(tensor: Tensor, levels: Ints, groups: int) -> tuple[Tensor, Ints]:
    """``tensor`` with one gain for all inputs of an output, and ``levels`` (outputs, inputs, ...) that make up for it.

    Where gains differ between channels, as behind a concatenation, each is an integer multiple of a common unit. The
    weights of the channel are multiplied by that integer.
    """
    gain = tensor.gains.gain
    inputs = levels.shape[1]
    by_group = np.resize(gain, tensor.frame[0]).reshape(groups, inputs)
    if gain.size == 1 or not (by_group != by_group[:, :1]).any():
        return tensor, levels
    if all(gain):
        unit = common_unit([abs(value) for value in gain])
        whole = [int(value / unit) for value in gain]
        if max(map(abs, whole)) <= _LARGEST_MULTIPLE:
            group = np.arange(len(levels)) // (len(levels) // groups)
            multiples = np.array(whole, np.int64).reshape(groups, inputs)[group]
            shift = exact([value / k for value, k in zip(np.resize(tensor.gains.shift, len(whole)), whole)])
            curve = Curve().scaled(exact([unit]), one_if_alike(shift))
            return replace(tensor, curve=curve), levels * multiples.reshape(*multiples.shape, *[1] * (levels.ndim - 2))
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


def _levels(weights: QuantizedConstant) -> tuple[Ints, Reals]:
    """Integer weights (outputs, ...) with the zero point subtracted, and the scale of each output."""
    scale = weights.scale.reshape(len(weights.scale), -1)
    if (scale != scale[:, :1]).any():
        raise Refusal("the scale of its weights differs between its inputs, which no integer product can take")
    if (weights.zero != np.floor(weights.zero)).any():
        raise Refusal("the zero point of its weights must be whole")
    if (np.abs(weights.zero) > _LARGEST_ZERO).any():
        raise Refusal(f"the zero point of its weights is beyond {_LARGEST_ZERO}")
    return weights.levels - weights.zero.astype(np.int64), exact(one_if_alike(scale[:, 0]))


def narrowest_code(levels: Ints) -> Code:
    """The code of fewest bits that contains all ``levels``."""
    low, high = int(levels.min()), int(levels.max())
    if low >= -1 and high <= 1:
        return BINARY if (levels != 0).all() else TERNARY
    bits = DType.holding(low, high).bits
    if bits > 16:
        raise Refusal(f"its weights, {low} to {high}, need {bits} bits, 16 are the most")
    return integer(bits)


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
