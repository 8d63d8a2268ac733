"""Pooling in a network under construction: what commutes with the curve of a tensor stays in integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fewbit.exact import Curve, exact
from fewbit.golden.dtype import DType
from fewbit.golden.linear import Linear
from fewbit.golden.network import Pool, TensorType
from fewbit.importers.lowering.builder import Builder, Tensor, gains_of
from fewbit.importers.lowering.products import narrowest_code
from fewbit.importers.onnx_graph import Refusal


def max_pool(
    builder: Builder,
    tensor: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Tensor:
    """The greatest real of every window: that of the greatest integer, since a curve that rises keeps the order.

    Where the curve falls, the integers are negated: in the product that made them, or as levels.
    """
    tensor = _rising(builder, _map(builder, tensor))
    return _pooled(builder, tensor, "max", kernel, stride, padding)


def mean(
    builder: Builder,
    tensor: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Tensor:
    """The mean real of every window, padded with the real 0: a sum whose divisor goes into the curve."""
    tensor = builder.affine_levels(_map(builder, tensor), "its input", zero=any(padding))
    gains, elements = gains_of(tensor), kernel[0] * kernel[1]
    low, high = elements * tensor.low, elements * tensor.high
    if any(padding):
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    curve = Curve().scaled(gains.gain / elements, gains.shift)
    tensor = replace(tensor, low=low, high=high, curve=curve, chain=None)
    return _pooled(builder, tensor, "sum", kernel, stride, padding)


def _map(builder: Builder, tensor: Tensor) -> Tensor:
    if tensor.dtype is None:
        raise Refusal("its activations are not quantized: put a Quant before it")
    return builder.map(tensor)


def _pooled(
    builder: Builder,
    tensor: Tensor,
    mode: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Tensor:
    if kernel == stride == (1, 1):
        return tensor
    layer = builder.add(Pool, mode=mode, kernel=kernel, stride=stride, padding=padding)
    assert tensor.dtype is not None
    result = layer.output(TensorType(tensor.dtype, tensor.frame))
    return replace(tensor, shape=(1, *result.shape), frame=result.shape, dtype=result.dtype)


def _rising(builder: Builder, tensor: Tensor) -> Tensor:
    """``tensor`` with integers that rise with the reals."""
    signs = np.array([tensor.curve.sign(channel) for channel in range(tensor.curve.channels)])
    if (signs > 0).all():
        return tensor
    last = builder.layers[-1] if builder.layers else None
    if not tensor.quantized and isinstance(last, Linear):
        weights = last.weights.astype(np.int64) * signs.reshape(-1, *[1] * (last.weights.ndim - 1))
        builder.layers[-1] = replace(last, weights=weights, code=narrowest_code(weights))
        low, high = np.sort([signs * tensor.low, signs * tensor.high], axis=0)
        dtype = DType.holding(int(low.min()), int(high.max()))
        return replace(tensor, dtype=dtype, low=low, high=high, curve=tensor.curve.of_multiple(exact(signs)))
    return builder.levels(tensor, "its input", "its input falls where its integers rise: quantize it first")
