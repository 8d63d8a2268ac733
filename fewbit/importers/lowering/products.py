"""Products of a network under construction, dense and convolutional: which integers, and which scale is left over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fewbit.exact import Curve, Reals, exact
from fewbit.golden.codes import BINARY, TERNARY, Code, integer
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.linear import Linear
from fewbit.golden.network import Conv, Dense, TensorType
from fewbit.importers.lowering.builder import Builder, Tensor, gains_of, one_if_alike
from fewbit.importers.onnx_graph import Refusal
from fewbit.importers.qonnx.quantizer import QuantizedConstant

_LARGEST_ZERO = 1 << 16
"""More moves any weight out of the widest code."""


def dense(builder: Builder, tensor: Tensor, weights: QuantizedConstant) -> Tensor:
    """``tensor @ weights``, weights (inputs, outputs)."""
    _check_quantized(tensor)
    if int(np.prod(tensor.shape[:-1])) != 1:
        raise Refusal(f"takes one row of activations a frame, not shape {tensor.shape}")
    if tensor.shape[-1] != weights.levels.shape[0]:
        raise Refusal(f"weights of shape {weights.levels.shape} do not fit activations of shape {tensor.shape}")
    tensor = builder.affine_levels(builder.flat(tensor), "its input")
    levels, scale = _levels(weights.map(np.transpose))
    gain, shift = _gain_and_shift(tensor, levels, scale, groups=1)
    layer = builder.add(Dense, weights=levels, code=narrowest_code(levels))
    shape = (*tensor.shape[:-1], len(levels))
    return _sums(layer, replace(tensor, shape=shape), gain, shift)


def conv(
    builder: Builder,
    tensor: Tensor,
    weights: QuantizedConstant,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    groups: int,
) -> Tensor:
    """``tensor`` convolved with ``weights``, (outputs, channels / groups, kernel height, kernel width).

    The padding is the real 0; where that is another integer, few-bit levels are moved so that it is 0.
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
    gain, shift = _gain_and_shift(tensor, levels, scale, groups)
    layer = builder.add(
        Conv, weights=levels, code=narrowest_code(levels), stride=stride, padding=padding, groups=groups
    )
    return _sums(layer, tensor, gain, shift)


def _check_quantized(tensor: Tensor) -> None:
    if tensor.dtype is None or not tensor.quantized:
        raise Refusal("its activations are not quantized: put a Quant before it")


def _gain_and_shift(tensor: Tensor, levels: Ints, scale: Reals, groups: int) -> tuple[Reals, Reals]:
    """What is left of the real product: ``gain * sum + shift`` of an output.  # levels (outputs, inputs, ...)

    Raises
    ------
    Refusal
        If an output sees activations of different scales.
    """
    gains = gains_of(tensor)
    outputs, inputs = levels.shape[:2]
    group = np.arange(outputs) // (outputs // groups)
    weights = levels.reshape(outputs, inputs, -1).sum(2)
    gain, sums = gains.gain, weights.sum(1).astype(object) * gains.shift[0]
    if gain.size > 1:
        by_group = gain.reshape(groups, inputs)
        if (by_group != by_group[:, :1]).any():
            raise Refusal("the scale of its activations differs between its inputs, which no integer product can take")
        gain = by_group[group, 0]
    if gains.shift.size > 1:
        shifts = gains.shift.reshape(groups, inputs)
        # An output at a time: one object a weight would take a hundred bytes each.
        sums = exact([np.dot(row.astype(object), shifts[share]) for row, share in zip(weights, group)])
    return scale * gain, scale * sums


def _sums(layer: Linear, tensor: Tensor, gain: Reals, shift: Reals) -> Tensor:
    """Output of ``layer`` for ``tensor``, which has its shape already where that is no map."""
    assert tensor.dtype is not None
    result = layer.output(TensorType(tensor.dtype, tensor.frame))
    low, high = layer.bounds(tensor.dtype)
    return replace(
        tensor,
        shape=(1, *result.shape) if len(result.shape) == 3 else tensor.shape,
        frame=result.shape,
        dtype=result.dtype,
        low=low,
        high=high,
        curve=Curve().scaled(gain, shift),
        chain=None,
        quantized=False,
    )


def _levels(weights: QuantizedConstant) -> tuple[Ints, Reals]:
    """Integer weights (outputs, ...) without a zero point, and the scale of each output."""
    scale = weights.scale.reshape(len(weights.scale), -1)
    if (scale != scale[:, :1]).any():
        raise Refusal("the scale of its weights differs between its inputs, which no integer product can take")
    if (weights.zero != np.floor(weights.zero)).any():
        raise Refusal("the zero point of its weights must be whole")
    if (np.abs(weights.zero) > _LARGEST_ZERO).any():
        raise Refusal(f"the zero point of its weights is beyond {_LARGEST_ZERO}")
    return weights.levels - weights.zero.astype(np.int64), exact(one_if_alike(scale[:, 0]))


def narrowest_code(levels: Ints) -> Code:
    """The narrowest code that has all ``levels``."""
    low, high = int(levels.min()), int(levels.max())
    if low >= -1 and high <= 1:
        return BINARY if (levels != 0).all() else TERNARY
    bits = DType.holding(low, high).bits
    if bits > 16:
        raise Refusal(f"its weights, {low} to {high}, need {bits} bits, 16 are the most")
    return integer(bits)
