"""Joins of activations with scales of their own.

Between its quantizers a sum of two activations is a function of two small integers. It is executed for every pair of
them, in float32 as the file says, and integer gains with one row of thresholds are sought that give each of these
levels. So a sum waits for its quantizer. Where another operator follows, or there are no such gains, the sum is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from fewbit.exact import Curve
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.network import Add, Threshold
from fewbit.importers.lowering import joins
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.float_steps import FloatChain, Floats
from fewbit.importers.lowering.sums import integer_gains
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Refusal

_MOST_PAIRS = 1 << 18
"""Most pairs of integers for which a sum is executed."""
_NONE = Curve()


@dataclass(frozen=True)
class Sum:
    """Two tensors whose sum waits for its quantizer; the steps behind the sum are those of the tensor that has it."""

    first: Tensor
    second: Tensor


def add(builder: Builder, first: Tensor, second: Tensor) -> Tensor:
    """``first + second``, which waits for its quantizer where it can."""
    first, second = settled(builder, first), settled(builder, second)
    if first.shape != second.shape:
        raise Refusal(f"adds branches of shapes {first.shape} and {second.shape}; they must have one shape")
    if first.layer == second.layer or not all(_few(tensor) for tensor in (first, second)):
        return joins.add(builder, first, second)
    return replace(first, curve=_NONE, chain=FloatChain(), pending=Sum(first, second))


def _few(tensor: Tensor) -> bool:
    """Whether ``tensor`` is few-bit levels that are the same in all channels."""
    return tensor.quantized and tensor.dtype is not None and tensor.chain is not None and tensor.channels == 1


def settled(builder: Builder, tensor: Tensor) -> Tensor:
    """``tensor`` as the output of a layer: a sum that has waited is exact."""
    if not isinstance(tensor.pending, Sum):
        return tensor
    total = joins.add(builder, tensor.pending.first, tensor.pending.second)
    curve = Curve((*total.curve.steps, *tensor.curve.steps))
    return replace(total, shape=tensor.shape, curve=curve, function=tensor.function)


def quantized(
    builder: Builder, tensor: Tensor, scale: Floats, level: Callable[[Floats], Ints], dtype: DType, base: int
) -> Tensor | None:
    """The levels of a sum that has waited: an Add and a Threshold layer; None if no small gains give them.

    Parameters
    ----------
    scale : float32 array (1,)
        The quantizer divides by it.
    level : callable
        From quotients to levels from 0 on, of which each is an integer of ``dtype`` from ``base`` on.
    """
    sides, chain = (tensor.pending.first, tensor.pending.second), tensor.chain
    if chain is None or chain.channels > 1:
        return None

    def levels(*values: Ints) -> Ints:
        parts = [side.chain.run(x.astype(np.float32))[:, 0] for side, x in zip(sides, values)]
        total = chain.run((parts[0][:, None] + parts[1][None]).ravel())
        with np.errstate(all="ignore"):
            return level(total / scale).reshape(values[0].size, values[1].size)

    made = weighted(builder, sides, levels, [_slope(side) for side in sides], dtype, base)
    return made and replace(made, shape=tensor.shape)


def weighted(
    builder: Builder,
    sides: Sequence[Tensor],
    levels: Callable[..., Ints],
    slopes: Sequence[Fraction],
    dtype: DType,
    base: int,
) -> Tensor | None:
    """A function of two activations as an Add with integer gains and a Threshold layer.

    Parameters
    ----------
    sides : two Tensors
    levels : callable
        # (A,), (B,) -> (A, B) int64, from the integers of each side to levels from 0 on.
    slopes : two Fractions
        About how much an integer of each side counts.
    dtype, base
        Type of the result, and its integer at level 0.

    Returns
    -------
    Tensor or None
        None if there are too many pairs, or no small gains give every level.
    """
    if sides[0].frame != sides[1].frame:
        sides = [builder.flat(side) for side in sides]
    values = [np.arange(int(side.low.min()), int(side.high.max()) + 1) for side in sides]
    if values[0].size * values[1].size > _MOST_PAIRS or not all(slopes):
        return None
    signs = [1 if slope > 0 else -1 for slope in slopes]
    table = levels(*values)
    found = integer_gains(
        signs[0] * values[0], signs[1] * values[1], table, dtype.max - base, abs(slopes[0] / slopes[1])
    )
    if found is None:
        return None
    gains, thresholds = found
    make = partial(Add, gains=np.array(gains) * signs)
    total = builder.join(make, sides, curve=_NONE, chain=None, pending=None)
    layer = Threshold(
        name=builder.name(Threshold), thresholds=thresholds[None], sign=np.array([1]), dtype=dtype, base=base
    )
    return builder.add(layer, total, curve=_NONE, chain=None, quantized=True)


def _slope(tensor: Tensor) -> Fraction:
    """Mean gain of the integers of ``tensor``."""
    low, high = int(tensor.low.min()), int(tensor.high.max())
    return (tensor.curve.value(0, high) - tensor.curve.value(0, low)) / max(1, high - low)


def concat(builder: Builder, tensors: Sequence[Tensor], axis: int | None) -> Tensor:
    """``tensors`` side by side; what follows is executed in float32 for the integers of each."""
    tensors = [settled(builder, tensor) for tensor in tensors]
    joined = joins.concat(builder, tensors, axis)
    apart = [tensor.frame[0] for tensor in tensors]
    chain = FloatChain.beside([tensor.chain for tensor in tensors], apart)
    return replace(joined, chain=chain if sum(apart) == joined.frame[0] else None)
