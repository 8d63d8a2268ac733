"""Lowers pooling to integer layers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from fewbit.exact import Curve, exact
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.linear import Linear
from fewbit.golden.network import Affine, Pool
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.products import narrowest_code
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Refusal


def max_pool(
    builder: Builder,
    tensor: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Tensor:
    """The greatest real of every window: a rising curve keeps the order, so that it is that of the greatest integer.

    Where the curve falls, the integers are negated: in the weights of the product, or by mapping few-bit levels.
    """
    tensor = _rising(builder, _map(builder, tensor))
    return tensor if kernel == stride == (1, 1) else pool(builder, tensor, "max", kernel, stride, padding)


def mean(
    builder: Builder,
    tensor: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Tensor:
    """The mean real of every window, padded with the real 0: an integer sum; the curve takes in the divisor."""
    tensor = replace(builder.affine_levels(_map(builder, tensor), "its input", zero=any(padding)), chain=None)
    if kernel == stride == (1, 1):
        return tensor
    sums = pool(builder, tensor, "sum", kernel, stride, padding)
    return builder.affine(sums, exact([Fraction(1, kernel[0] * kernel[1])]))


def pool(
    builder: Builder,
    tensor: Tensor,
    mode: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Tensor:
    """The maximum (``mode`` ``"max"``) or the sum (``"sum"``) of the reals of every window, by a Pool layer.

    Raises
    ------
    FewbitError
        If a maximum meets a falling curve, or a padded sum meets a curve on which the integer 0 is not the real 0.
    """
    layer = Pool(name=builder.name(Pool), mode=mode, kernel=kernel, stride=stride, padding=padding)
    changes: dict[str, Any] = {}
    if mode == "sum":
        gain, shift = tensor.gains.gain, tensor.gains.shift
        if any(padding) and any(shift):
            raise FewbitError("a mean over padding of what a bias has shifted is not supported: put it behind a ReLU")
        changes = {"curve": Curve().scaled(gain, shift * (kernel[0] * kernel[1])), "chain": None}
    elif (_signs(tensor) < 0).any():
        raise FewbitError("a maximum of what falls where its integers rise is not supported")
    pooled = builder.add(layer, tensor, **changes)
    return replace(pooled, shape=(*tensor.shape[:-3], *pooled.frame))


def _signs(tensor: Tensor) -> Ints:
    return np.array([tensor.curve.sign(channel) for channel in range(tensor.curve.channels)])


def _map(builder: Builder, tensor: Tensor) -> Tensor:
    if tensor.dtype is None:
        raise Refusal("its activations are not quantized: put a Quant before it")
    return builder.map(tensor)


def _rising(builder: Builder, tensor: Tensor) -> Tensor:
    """``tensor`` with a rising curve in every channel."""
    signs = _signs(tensor)
    if (signs > 0).all():
        return tensor
    if not tensor.quantized and tensor.shared:
        turn = np.resize(signs, tensor.frame[0])
        layer = Affine(name=builder.name(Affine), scale=turn, bias=0 * turn)
        negated = exact(signs)
        return builder.add(layer, tensor, curve=tensor.curve.of_multiple(negated))
    place = next((i for i, layer in enumerate(builder.layers) if layer.name == tensor.layer), None)
    if not tensor.quantized and place is not None and isinstance(last := builder.layers[place], Linear):
        weights = last.weights.astype(np.int64) * signs.reshape(-1, *[1] * (last.weights.ndim - 1))
        code = last.code if last.code.contains(weights) else narrowest_code(weights)
        builder.layers[place] = replace(last, weights=weights, code=code)
        low, high = np.sort([signs * tensor.low, signs * tensor.high], axis=0)
        dtype = DType.holding(int(low.min()), int(high.max()))
        return replace(tensor, dtype=dtype, low=low, high=high, curve=tensor.curve.of_multiple(exact(signs)))
    return builder.levels(tensor, "its input", "its input falls where its integers rise: quantize it first")
