"""How each ONNX operator becomes float layers: one function for each operator, in one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fewbit.golden.budget import check_shape
from fewbit.importers.float_onnx.inputs import Inputs, constants_in, parameters_in, product, weights_in
from fewbit.importers.float_onnx.layers import (
    Bend,
    Best,
    Clip,
    Concat,
    Relu,
    Scale,
    Smooth,
    Sum,
)
from fewbit.importers.float_onnx.operators_2d import average_pool, convolution, global_pool, max_pool, reduce_mean
from fewbit.importers.float_onnx.values import Reading, Value, lifted
from fewbit.importers.onnx_constants import (
    axes_of,
    cast_target,
    flattened,
    reshaped,
    squeezed,
    unsqueezed,
    whole_numbers,
)
from fewbit.importers.onnx_graph import Array, Node, Refusal

_ONE, _ZERO = np.ones(1), np.zeros(1)


def _gemm(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    alpha, beta, trans_a, trans_b = node.settings(alpha=1.0, beta=1.0, transA=0, transB=0)
    weights, bias = weights_in(inputs, value, 2), parameters_in(inputs, 2)[1]
    if trans_a or len(value.shape) != 2:
        raise Refusal(f"takes activations on two axes, not transposed, not shape {value.shape}")
    scaled = None if bias is None else (beta * bias).astype(bias.dtype)
    return _dense(reading, node, value, alpha * (weights if trans_b else weights.T), scaled)


def _matmul(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    node.settings()
    return _dense(reading, node, value, weights_in(inputs, value, 2).T, None)


def _dense(reading: Reading, node: Node, value: Value, weights: Array, bias: Array | None) -> Value:
    if value.shape[-1] != weights.shape[1]:
        raise Refusal(f"{weights.shape[1]} inputs do not fit activations of shape {value.shape}: flatten them first")
    if math.prod(value.shape[:-1]) != 1:
        raise Refusal(
            f"takes one row of activations a frame, not shape {value.shape}: over a sequence, export it as a Conv "
            "with a kernel of 1 and the features as channels"
        )
    made = product(reading, node, reading.flat(value), weights, bias, (1, len(weights)))
    return replace(made, shape=(*value.shape[:-1], len(weights)))


def _scaled(reading: Reading, value: Value, gain: Array, shift: Array) -> Value:
    if not (np.isfinite(gain).all() and np.isfinite(shift).all()):
        raise Refusal("its constants are beyond float64")
    return reading.add(Scale(gain, shift), value)


def _arithmetic(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """Add, Sub, Mul, Div with a constant on either side."""
    node.settings()
    constants = [one for one in inputs if one is not None and not isinstance(one, Value)]
    if len(inputs) != 2 or len(constants) != 1:
        raise Refusal("needs a constant beside the activations")
    left = inputs[1] is value
    value, (vector,) = reading.vectors(value, constants[0])
    if node.op == "Div" and (left or (vector == 0).any()):
        raise Refusal("divides by the activations, or by 0")
    with np.errstate(all="ignore"):
        gain, shift = {
            "Add": (_ONE, vector),
            "Sub": (-_ONE, vector) if left else (_ONE, -vector),
            "Mul": (vector, _ZERO),
            "Div": (1 / np.where(vector == 0, 1, vector), _ZERO),
        }[node.op]
    return _scaled(reading, value, gain, shift)


def _neg(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    node.settings()
    return _scaled(reading, value, -_ONE, _ZERO)


def _batch_normalization(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    epsilon, _, training, spatial, _ = node.settings(
        epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1, consumed_inputs=None
    )
    if training or not spatial:
        raise Refusal("must be in inference mode, one mean and variance a channel")
    channels, constants = value.shape[1], constants_in(inputs, 4)
    if any(str(constant.dtype) != value.kind for constant in constants):
        raise Refusal(f"its parameters must be {value.kind}")
    if any(constant.shape != (channels,) or not np.isfinite(constant).all() for constant in constants):
        raise Refusal(f"needs {channels} finite numbers of each parameter for activations of shape {value.shape}")
    column = (1, channels, *[1] * (len(value.shape) - 2))
    value, vectors = reading.vectors(value, *(constant.reshape(column) for constant in constants))
    gain, bias, mean, variance = vectors
    if (variance + epsilon <= 0).any():
        raise Refusal("a variance is not positive")
    factor = gain / np.sqrt(variance + epsilon)
    return _scaled(reading, value, factor, bias - mean * factor)


def _relu(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    node.settings()
    return reading.add(Relu(), value)


def _clip(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """Clip, whose limits are inputs since opset 11: ReLU6, HardTanh."""
    limits = node.settings(min=None, max=None)
    ends: list[float | None] = []
    for constant, attribute in zip(parameters_in(inputs, 2), limits):
        limit = np.asarray(np.nan if attribute is None else attribute) if constant is None else constant
        if limit.size != 1 or (constant is not None and np.isnan(limit).any()):
            raise Refusal("its limits must be numbers")
        number = float(limit.ravel()[0])
        ends.append(number if np.isfinite(number) else None)
        if number in ((np.inf, -np.inf)[len(ends) - 1],):
            raise Refusal("its lower limit must not be above its upper one")
    return _limited(reading, value, *ends)


def _limited(reading: Reading, value: Value, low: float | None, high: float | None) -> Value:
    if low is not None and high is not None and low > high:
        raise Refusal("its lower limit must not be above its upper one")
    if (low, high) == (None, None):
        return value
    return reading.add(Relu() if (low, high) == (0, None) else Clip(low, high), value)


def _smooth(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """Sigmoid and Tanh: thresholds in front of a product; at the end the host applies them."""
    node.settings()
    return reading.add(Smooth(node.op.lower()), value)


def _leaky_relu(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """LeakyRelu, and PRelu with a slope for all activations or one a channel."""
    if node.op == "LeakyRelu":
        (alpha,) = node.settings(alpha=0.01)
        slope = np.array([alpha])
    else:
        node.settings()
        value, (slope,) = reading.vectors(value, *constants_in(inputs, 1))
    if (slope < 0).any():
        raise Refusal("falls below 0 and rises above it: only slopes of 0 or more can become thresholds")
    if not slope.any():
        return reading.add(Relu(), value)
    if not slope.all():
        raise Refusal("has a slope of 0 in some channels only")
    return reading.add(Bend(slope), value)


def _hard_sigmoid(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    alpha, beta = node.settings(alpha=0.2, beta=0.5)
    return _limited(reading, _scaled(reading, value, np.array([alpha]), np.array([beta])), 0, 1)


def _reshape(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    constants = [constant for constant in parameters_in(inputs, 1) if constant is not None]
    shape = value.shape
    if node.op == "Flatten":
        (axis,) = node.settings(axis=1)
        if axis not in (1, 1 - len(shape)):
            raise Refusal(f"must keep the batch axis, not flatten up to axis {axis}")
        return _reshaped(reading, value, flattened(shape, axis))
    if node.op == "Reshape":
        (allow_zero,) = node.settings(allowzero=0)
        if len(constants) != 1:
            raise Refusal("needs a constant shape")
        extents = whole_numbers(constants[0])
        if extents and extents[0] == reading.batch:
            extents[0] = 1
        return _reshaped(reading, value, reshaped(shape, extents, bool(allow_zero)))
    axes = axes_of(node, constants)
    return _reshaped(reading, value, squeezed(shape, axes) if node.op == "Squeeze" else unsqueezed(shape, axes or []))


def _reshaped(reading: Reading, value: Value, shape: tuple[int, ...]) -> Value:
    if value.index:
        return replace(value, shape=shape)
    if shape[:1] != (1,):
        raise Refusal(f"must keep the batch axis, not make {shape} of {value.shape}")
    if len(shape) < 2:
        raise Refusal(f"must leave a frame an axis, not make {shape} of {value.shape}")
    check_shape(shape, "its result")
    if value.channels_last and shape != value.shape:
        if len(shape) > 2:
            raise Refusal(f"makes {shape} of a map with its channels last: transpose it back in front of it")
        value = reading.flat(value)
    elif len(shape) == 2 and len(reading.frames[value.number]) > 1:
        value = reading.flat(value)
    return replace(value, shape=shape)


def _transpose(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """A transposition of the input, which the host does, or of a map to channels last and back."""
    (perm,) = node.settings(perm=None)
    rank = len(value.shape)
    perm = list(range(rank))[::-1] if perm is None else list(perm)
    if sorted(perm) != list(range(rank)):
        raise Refusal(f"its perm {perm} does not fit activations of shape {value.shape}")
    shape = tuple(value.shape[axis] for axis in perm)
    moved = [axis for axis in perm if value.shape[axis] > 1]
    if moved == sorted(moved):
        if value.channels_last or shape[0] != 1:
            raise Refusal("moves an axis of 1 of a map with its channels last, or the batch axis")
        return replace(value, shape=shape)
    if perm[0] != 0:
        raise Refusal("moves the batch axis")
    to_last, to_first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    if value.channels_last and perm == to_first:
        return replace(value, shape=shape, channels_last=False)
    if not value.channels_last and perm == to_last and reading.frames[value.number] == lifted(value.shape)[1:]:
        return replace(value, shape=shape, channels_last=True)
    return reading.transposed_input(value, tuple(axis - 1 for axis in perm[1:]))


def _soft_max(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """Softmax and LogSoftmax at the end: the host applies them; the arg-max is that of the scores."""
    first = node.opset < 13  # then they run over all axes from this one on
    (axis,) = node.settings(axis=1 if first else -1)
    rank = len(value.shape)
    axis = _axis(axis, rank, value)
    extent = math.prod(value.shape[axis:]) if first else value.shape[axis]
    if extent == math.prod(value.shape):
        value = reading.flat(value)
    elif first or value.axis(axis) != 1 or reading.frames[value.number] != lifted(value.natural)[1:]:
        raise Refusal(f"must run over all the scores of a frame, or over the channels, not over axis {axis} of shape "
                      f"{value.shape}")  # fmt: skip
    return replace(value, function="softmax" if node.op == "Softmax" else "log_softmax")


def _axis(axis: int, rank: int, value: Value) -> int:
    if not -rank <= axis < rank:
        raise Refusal(f"has no axis {axis} in shape {value.shape}")
    return axis % rank


def _arg_max(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    axis, keep, last = node.settings(axis=0, keepdims=1, select_last_index=0)
    if last:
        raise Refusal("takes the last of equal scores, which is not supported")
    place = _axis(axis, len(value.shape), value)
    shape = (*value.shape[:place], *([1] if keep else []), *value.shape[place + 1 :])
    return _best(reading, value, place, shape)


def _top_k(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    axis, largest, _, attribute = node.settings(axis=-1, largest=1, sorted=1, k=None)
    (count,) = parameters_in(inputs, 1)
    if ([attribute] if count is None else whole_numbers(count)) != [1] or not largest:
        raise Refusal("only the one largest score (k = 1) is supported")
    place = _axis(axis, len(value.shape), value)
    return _best(reading, value, place, (*value.shape[:place], 1, *value.shape[place + 1 :]))


def _best(reading: Reading, value: Value, axis: int, shape: tuple[int, ...]) -> Value:
    if axis == 0 or value.shape[axis] != math.prod(value.shape):
        raise Refusal(f"must run over all the scores of a frame, not over axis {axis} of shape {value.shape}")
    made = reading.add(Best(), reading.flat(value), frame=())
    return replace(made, shape=shape, function=None, index=True)


def _cast(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    kind = cast_target(node)
    if not (kind.kind == "f" or (value.index and kind.kind in "iu")):
        raise Refusal(f"a cast of activations to {kind} is not supported, only to floats")
    return replace(value, kind=str(kind))


def _same(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """Identity, and Dropout in inference."""
    if node.op == "Dropout":
        node.settings(ratio=0.5, seed=0, is_test=1)
        training = parameters_in(inputs, 2)[1]
        if training is not None and training.any():
            raise Refusal("must be in inference mode")
    return value


def _sum(reading: Reading, node: Node, values: Sequence[Value]) -> Value:
    """Add, Sub and Sum of branches."""
    node.settings()
    if len(values) == 1:
        return values[0]
    values = list(values)
    if node.op == "Sub":
        values[1] = _scaled(reading, values[1], -_ONE, _ZERO)
    for value in values[1:]:
        if value.shape != values[0].shape:
            raise Refusal(f"adds branches of shapes {values[0].shape} and {value.shape}; they must have one shape")
    return reading.add(Sum(), *_alike(reading, values))


def _concat(reading: Reading, node: Node, values: Sequence[Value]) -> Value:
    """Branches side by side along their channels, or along the axis of vectors."""
    (axis,) = node.settings(axis=None)
    if axis is None:
        raise Refusal("names no axis")
    rank = len(values[0].shape)
    shown = " and ".join(str(value.shape) for value in values)
    if any(len(value.shape) != rank for value in values) or not -rank <= axis < rank:
        raise Refusal(f"has no axis {axis} in each of {shown}")
    axis %= rank
    if len(values) == 1:
        return values[0]
    if len({value.number for value in values}) < len(values):
        raise Refusal("joins a branch with itself: let the weights behind it take each of its channels once")
    naturals = [lifted(value.natural) for value in values]
    vectors = [math.prod(value.shape) == value.shape[axis] for value in values]
    if len({value.channels_last for value in values}) > 1 or not (
        all(vectors) or (values[0].axis(axis) == 1 and len({natural[2:] for natural in naturals}) == 1)
    ):
        raise Refusal(f"joins {shown} along axis {axis}; only channels can be joined, of maps of one height and width")
    sides = [reading.flat(value) for value in values] if all(vectors) else _alike(reading, values)
    frames = [reading.frames[side.number] for side in sides]
    frame = (sum(frame[0] for frame in frames), *frames[0][1:])
    if len({frame[1:] for frame in frames}) > 1:
        raise Refusal(f"joins {shown} along axis {axis}, which lie in frames of other shapes: {frames}")
    extent = sum(value.shape[axis] for value in values)
    shape = (*values[0].shape[:axis], extent, *values[0].shape[axis + 1 :])
    return replace(reading.add(Concat(), *sides, frame=frame), shape=shape)


def _alike(reading: Reading, values: Sequence[Value]) -> list[Value]:
    """``values`` with frames that have one rank, and their channels on one axis."""
    if len({value.channels_last for value in values}) > 1:
        raise Refusal("joins a map with its channels last and one with its channels first")
    ranks = {len(reading.frames[value.number]) for value in values}
    return list(values) if len(ranks) == 1 else [reading.flat(value) for value in values]


STEPS: dict[str, Callable[[Reading, Node, Inputs, Value], Value]] = {
    "Add": _arithmetic,
    "ArgMax": _arg_max,
    "AveragePool": average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Conv": convolution,
    "Div": _arithmetic,
    "Dropout": _same,
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "HardSigmoid": _hard_sigmoid,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _soft_max,
    "MatMul": _matmul,
    "MaxPool": max_pool,
    "Mul": _arithmetic,
    "Neg": _neg,
    "PRelu": _leaky_relu,
    "ReduceMean": reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _smooth,
    "Softmax": _soft_max,
    "Squeeze": _reshape,
    "Sub": _arithmetic,
    "Tanh": _smooth,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
"""The function of each operator on one tensor that depends on the input."""

JOINS: dict[str, Callable[[Reading, Node, Sequence[Value]], Value]] = {
    "Add": _sum,
    "Concat": _concat,
    "Sub": _sum,
    "Sum": _sum,
}
"""The function of each operator on several tensors that depend on the input."""

RESHAPING = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that change no value."""
AFTER_FUNCTION = frozenset({"ArgMax", "TopK"})
"""Operators that may follow a softmax: they need the scores only."""
