"""Lowers joins: the sum of branches, and branches side by side.

Branches whose steps stand for different reals are brought to a common step by integer gains, exactly. Nothing is
rounded in a join: where a few-bit result is wanted, a quantizer stands behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np

from fewbit.exact import Curve, Gain, Reals, exact
from fewbit.golden import csd
from fewbit.golden.network import Add, Affine, Concat
from fewbit.importers.lowering.builder import Builder, common_unit, one_if_alike
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Refusal

_LEVEL_BITS = 12
"""Most bits of a sum of few-bit levels that counts as such levels again."""
_WORKS = (
    "quantize both sides with one scale, or with scales whose ratio is a ratio of small integers; behind sums of a "
    "product, that is a Quant on that side"
)


def add(builder: Builder, first: Tensor, second: Tensor) -> Tensor:
    """``first + second``, element by element, by an Add layer with integer gains.

    In each channel the unit is the greatest real of which both gains are integer multiples. Where a multiple differs
    between channels, an Affine layer multiplies that side before it is added.

    Raises
    ------
    Refusal
        If a side is not quantized, the shapes differ, or a multiple needs more than 32 bits.
    """
    if first.shape != second.shape:
        raise Refusal(f"adds branches of shapes {first.shape} and {second.shape}; they must have one shape")
    if first.order != second.order:
        first, second = (builder.transposed_input(tensor) for tensor in (first, second))
    sides = [_integers(builder, tensor) for tensor in (first, second)]
    if sides[0].frame != sides[1].frame:
        sides = [builder.flat(tensor) for tensor in sides]
    gains = [tensor.gains for tensor in sides]
    shift = gains[0].shift + gains[1].shift
    if sides[0].layer == sides[1].layer:
        both = Curve((Gain(gains[0].gain + gains[1].gain, shift),))
        return replace(sides[0], curve=both, chain=None, shared=True)
    multiples, unit = _multiples([gain.gain for gain in gains])
    factors = []
    for place, whole in enumerate(multiples):
        if len(set(whole)) == 1 and whole[0] != 0:
            factors.append(whole[0])
            continue
        tensor = sides[place]
        scale = np.resize(np.array(whole, np.int64), tensor.frame[0])
        layer = Affine(name=builder.name(Affine), scale=scale, bias=0 * scale)
        sides[place] = builder.add(layer, tensor, curve=Curve().scaled(unit, gains[place].shift))
        factors.append(1)
    curve = Curve().scaled(unit, shift)
    total = builder.join(partial(Add, gains=np.array(factors)), sides, curve=curve, chain=None)
    few = total.type.dtype.bits <= _LEVEL_BITS and all(tensor.quantized for tensor in sides)
    return replace(total, quantized=few)


def total(
    builder: Builder, op: str, tensors: Sequence[Tensor], add: Callable[[Builder, Tensor, Tensor], Tensor] = add
) -> Tensor:
    """The result of the ONNX operator ``op``, which is Add, Sub or Sum, on ``tensors``, two of which ``add`` adds.

    Raises
    ------
    Refusal
        Those of ``add``, or if there are not two tensors for Add or Sub.
    """
    first, *others = tensors
    if op in ("Add", "Sub") and len(others) != 1:
        raise Refusal(f"cannot have {len(tensors)} inputs")
    if op == "Sub":
        others = [builder.affine(others[0], exact([-1]), None, "mul", np.array([-1], np.float32))]
    for other in others:
        first = add(builder, first, other)
    return first


def concat(builder: Builder, tensors: Sequence[Tensor], axis: int | None) -> Tensor:
    """``tensors`` side by side along ``axis`` of their shapes, which must be their channels, by a Concat layer.

    Each channel keeps its own gain and offset: a quantizer, or the weights of a product, take them in.

    Raises
    ------
    Refusal
        If a tensor is not quantized, or ``axis`` is missing or another axis than that of the channels.
    """
    if axis is None:
        raise Refusal("names no axis")
    rank = len(tensors[0].shape)
    if not -rank <= axis < rank or any(len(tensor.shape) != rank for tensor in tensors):
        raise Refusal(f"has no axis {axis} in each of {_shapes(tensors)}")
    if len({tensor.order for tensor in tensors}) > 1:
        tensors = [builder.transposed_input(tensor) for tensor in tensors]
    order = tensors[0].order
    if order:  # as they lie in their frames
        tensors, axis = [tensor.transposed(tuple(np.argsort(order))) for tensor in tensors], order[axis]
    axis %= rank
    outer = [{*tensor.shape[:axis]} - {1} for tensor in tensors]
    if axis == 0 or any(outer) or len({tensor.shape[axis + 1 :] for tensor in tensors}) > 1:
        raise Refusal(
            f"joins {_shapes(tensors)} along axis {axis}; only channels can be joined, of maps of one height and width"
        )
    sides = [_integers(builder, tensor) for tensor in tensors]
    if len({tensor.frame[1:] for tensor in sides}) > 1:
        sides = [builder.flat(tensor) for tensor in sides]
    if len({tensor.layer for tensor in sides}) < len(sides):
        raise Refusal("joins a branch with itself: put a Quant on one of the two sides")
    gain, shift = (
        one_if_alike(np.concatenate([np.resize(getattr(tensor.gains, name), tensor.frame[0]) for tensor in sides]))
        for name in ("gain", "shift")
    )
    extent = sum(tensor.shape[axis] for tensor in tensors)
    shape = (*tensors[0].shape[:axis], extent, *tensors[0].shape[axis + 1 :])
    quantized = all(tensor.quantized for tensor in sides)
    curve = Curve().scaled(gain, shift)
    joined = builder.join(Concat, sides, shape=shape, curve=curve, chain=None, quantized=quantized)
    return joined.transposed(order) if order else joined


def outputs(builder: Builder, tensors: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
    """Several outputs of a graph as one tensor, one after another, and the number of elements of each.

    Raises
    ------
    Refusal
        If an output is not quantized, is the result of an arg-max or of a function that the host applies, or two are
        computed from the same integers.
    """
    parts = []
    for tensor in tensors:
        if tensor.index or tensor.function is not None or tensor.curve.end is not None:
            raise Refusal(
                "one of several outputs is an arg-max, or a function that the host applies, such as a softmax: end the "
                "graph in the scores in front of it"
            )
        if tensor.dtype is None:
            raise Refusal("one of several outputs is not quantized anywhere: there is nothing to compute")
        part = builder.flat(_integers(builder, tensor))
        parts.append(replace(part, shape=(1, *part.frame)))
    if len({part.layer for part in parts}) < len(parts):
        raise Refusal("two outputs are computed from the same integers: keep one of them")
    return concat(builder, parts, 1), tuple(part.frame[0] for part in parts)


def _integers(builder: Builder, tensor: Tensor) -> Tensor:
    """``tensor`` with one gain and one offset a channel."""
    if tensor.dtype is None:
        raise Refusal("joins the float input, which is not quantized: put a Quant before it")
    return builder.affine_levels(tensor, "one of its inputs")


def _multiples(gains: list[Reals]) -> tuple[list[list[int]], Reals]:
    """Integers k and reals unit, (1,) or (channels,), such that ``gains[side][c] == k[side][c] * unit[c]``."""
    channels = max(gain.size for gain in gains)
    rows = [np.resize(gain, channels) for gain in gains]
    units = []
    for values in zip(*rows):
        present = [abs(value) for value in values if value]
        units.append(common_unit(present) if present else Fraction(1))
    whole = [[int(value / unit) for value, unit in zip(row, units)] for row in rows]
    widest = max(abs(k) for row in whole for k in row)
    if widest >= 1 << csd.WIDEST - 1:
        place = next(c for c in range(channels) if widest in (abs(row[c]) for row in whole))
        scales = " and ".join(f"{float(row[place]):.6g}" for row in rows)
        raise Refusal(
            f"joins activations of scales {scales}: their ratio needs gains of {widest.bit_length() + 1} bits, "
            f"{csd.WIDEST} are the most; {_WORKS}"
        )
    return whole, one_if_alike(exact(np.array(units, object)))


def _shapes(tensors: Sequence[Tensor]) -> str:
    return " and ".join(str(tensor.shape) for tensor in tensors)
