"""How each QONNX op is lowered: one function for each op, in one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from fewbit.exact import exact, square_root
from fewbit.golden.budget import check_shape
from fewbit.importers.lowering import joins
from fewbit.importers.lowering.builder import Builder, channels_last_order, float32
from fewbit.importers.lowering.products import dense
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_call import Call, matrix, plain
from fewbit.importers.onnx_constants import (
    axes_of,
    broadcasts,
    cast_target,
    flattened,
    reshaped,
    squeezed,
    unsqueezed,
    whole_numbers,
)
from fewbit.importers.onnx_graph import CHANNELS_LAST_DOMAIN, QONNX_OPS, Array, Node, Refusal
from fewbit.importers.qonnx.ops_2d import average_pool, convolution, global_pool, max_pool, reduce_mean
from fewbit.importers.qonnx.qcdq import Codes, clip_codes, dequantize_linear, quantize_linear
from fewbit.importers.qonnx.quantizer import bipolar_quant, multi_threshold, quant, sign
from fewbit.importers.qonnx.trunc import trunc


def _matmul(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    call.node.settings()
    call.constants(1)
    return dense(builder, tensor, matrix(call.inputs[1], False))


def _gemm(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    alpha, beta, trans_a, trans_b = call.node.settings(alpha=1.0, beta=1.0, transA=0, transB=0)
    _, bias = call.parameters(1, 2)
    if trans_a or len(tensor.shape) != 2:
        raise Refusal(f"takes activations on two axes, not transposed, not shape {tensor.shape}")
    tensor = dense(builder, tensor, matrix(call.inputs[1], bool(trans_b)))
    tensor = builder.affine(tensor, exact([alpha]), None)
    if bias is None:
        return tensor
    tensor, (vector,) = builder.vectors(tensor, bias)
    return builder.affine(tensor, None, exact([beta]) * exact(vector))


def _arithmetic(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Add, Sub, Mul, Div with a constant on either side."""
    call.node.settings()
    constants = [value for value in call.inputs if value is not None and not isinstance(value, Tensor)]
    if len(call.inputs) != 2 or len(constants) != 1:
        raise Refusal(f"cannot have {len(call.inputs)} inputs")
    left = isinstance(call.inputs[1], Tensor)
    tensor, (constant,) = builder.vectors(tensor, plain(constants[0]))
    real = exact(constant)
    if call.node.op == "Add":
        return builder.affine(tensor, None, real, "add", constant)
    if call.node.op == "Sub":
        return builder.affine(
            tensor, exact([-1 if left else 1]), real if left else -real, "rsub" if left else "sub", constant
        )
    if call.node.op == "Mul":
        return builder.affine(tensor, real, None, "mul", constant)
    if left:
        raise Refusal("divides by the activations")
    if (constant == 0).any():
        raise Refusal("divides by zero")
    return builder.affine(tensor, 1 / real, None, "div", constant)


def _add_branches(builder: Builder, call: Call) -> Tensor:
    """Add, Sub and Sum of tensors that depend on the input."""
    call.node.settings()
    return joins.total(builder, call.node.op, _all_tensors(call))


def _concat_branches(builder: Builder, call: Call) -> Tensor:
    """Concat of tensors that depend on the input."""
    (axis,) = call.node.settings(axis=None)
    return joins.concat(builder, _all_tensors(call), axis)


def _all_tensors(call: Call) -> list[Tensor]:
    tensors = [value for value in call.inputs if isinstance(value, Tensor)]
    if len(tensors) < len(call.inputs) or (call.node.op in ("Add", "Sub") and len(tensors) != 2):
        raise Refusal("joins branches with constants: only tensors that depend on the input can be joined")
    return tensors


def _neg(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    call.node.settings()
    return builder.affine(tensor, exact([-1]), None, "mul", np.array([-1], np.float32))


def _batch_normalization(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    epsilon, _, training, spatial, _ = call.node.settings(
        epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1, consumed_inputs=None
    )
    if training or not spatial:
        raise Refusal("must be in inference mode, one mean and variance a channel")
    channels = tensor.shape[1] if len(tensor.shape) > 1 else 1
    constants = call.constants(4)
    if any(constant.shape != (channels,) for constant in constants):
        raise Refusal(f"needs {channels} of each parameter for activations of shape {tensor.shape}")
    column = (1, channels, *[1] * (len(tensor.shape) - 2))
    tensor, vectors = builder.vectors(tensor, *(constant.reshape(column) for constant in constants))
    gain, bias, mean, variance = (exact(vector) for vector in vectors)
    tiny = np.float32(epsilon)
    spread = variance + Fraction(float(tiny))
    if any(value <= 0 for value in spread):
        raise Refusal("a variance is not positive")
    factor = gain / np.array([square_root(value) for value in spread], object)
    return builder.affine(tensor, factor, bias - mean * factor, "batch_normalization", *vectors, np.array([tiny]))


def _limit(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Relu and Clip."""
    limits: list[Array | float | None] = [0.0, None]
    if call.node.op == "Clip":
        limits = list(call.node.settings(min=None, max=None))
        inputs = call.parameters(0, 2)
        limits = [default if limit is None else limit for limit, default in zip(inputs, limits)]
    else:
        call.node.settings()
    if isinstance(tensor.pending, Codes):
        return clip_codes(tensor, *limits)
    return _clipped(tensor, *limits)


def _clipped(tensor: Tensor, *limits: Array | float | None) -> Tensor:
    bounds = []
    for limit, endless in zip(limits, (-np.inf, np.inf)):
        bound = np.asarray(endless if limit is None else limit, np.float32).ravel()
        if bound.size != 1 or np.isnan(bound[0]):
            raise Refusal("its limits must be numbers")
        bounds.append(bound)
    ends = [Fraction(float(bound[0])) if np.isfinite(bound[0]) else None for bound in bounds]
    if bounds[0][0] > bounds[1][0] or bounds[0][0] == np.inf or bounds[1][0] == -np.inf:
        raise Refusal("its lower limit must not be above its upper one")
    chain = tensor.chain and tensor.chain.then("clip", *bounds)
    return replace(tensor, curve=tensor.curve.clipped(*ends), chain=chain)


def _smooth(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Sigmoid and Tanh: thresholds in front of a quantizer; at the end the host applies them."""
    call.node.settings()
    call.constants(0)
    name = call.node.op.lower()
    return replace(tensor, curve=tensor.curve.smooth(name), chain=tensor.chain and tensor.chain.then(name))


def _leaky_relu(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """LeakyRelu, and PRelu with a slope for all activations or one a channel."""
    if call.node.op == "LeakyRelu":
        (alpha,) = call.node.settings(alpha=0.01)
        slope = np.array([alpha], np.float32)
    else:
        call.node.settings()
        tensor, (slope,) = builder.vectors(tensor, *call.constants(1))
    if (slope < 0).any():
        raise Refusal("falls below 0 and rises above it: only slopes of 0 or more can become thresholds")
    if not slope.any():
        return _clipped(tensor, 0.0, None)
    if not slope.all():
        raise Refusal("has a slope of 0 in some channels only")
    chain = tensor.chain and tensor.chain.then("leaky_relu", slope)
    return replace(tensor, curve=tensor.curve.bent(exact(slope)), chain=chain)


def _hard_sigmoid(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    alpha, beta = call.node.settings(alpha=0.2, beta=0.5)
    gain, shift = (np.array([value], np.float32) for value in (alpha, beta))
    tensor = builder.affine(tensor, exact(gain), None, "mul", gain)
    return _clipped(builder.affine(tensor, None, exact(shift), "add", shift), 0.0, 1.0)


def _soft_max(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Softmax and LogSoftmax at the end: the host applies them; the arg-max is that of the scores."""
    first = call.node.opset < 13  # then they run over all axes from this one on
    (axis,) = call.node.settings(axis=1 if first else -1)
    rank = len(tensor.shape)
    if not -rank <= axis < rank:
        raise Refusal(f"has no axis {axis} in shape {tensor.shape}")
    axis %= rank
    extent = math.prod(tensor.shape[axis:]) if first else tensor.shape[axis]
    if tensor.dtype is None:
        raise Refusal("its input is not quantized: put a Quant before it")
    if extent == math.prod(tensor.shape):
        tensor = builder.flat(tensor)
    elif first or tensor.axis(axis) != 1 or tensor.frame != tensor.shape[1:]:
        raise Refusal(
            f"must run over all scores of a frame, or over the channels, not over axis {axis} of {tensor.shape}"
        )
    return replace(tensor, function="softmax" if call.node.op == "Softmax" else "log_softmax")


def _quantizer(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Quant, BipolarQuant, Sign."""
    make, count = {"BipolarQuant": (bipolar_quant, 1), "Sign": (sign, 0)}.get(call.node.op, (quant, 3))
    if not isinstance(call.inputs[0], Tensor):
        raise Refusal("its scale, zero point and bit width must be constants")
    parameters = call.constants(count)
    tensor = _split_channels(builder, tensor, parameters)
    return builder.quantize(
        tensor, make(call.node, parameters, lambda constant: builder.vectors(tensor, constant)[1][0])
    )


def _split_channels(builder: Builder, tensor: Tensor, parameters: list[Array]) -> Tensor:
    """``tensor``, flattened if the scale or the zero point (``parameters`` 0 and 1) differs within a channel."""
    for parameter in parameters[2:]:
        if not broadcasts(parameter, tensor.shape):
            raise Refusal(f"a parameter of shape {parameter.shape} does not fit activations of shape {tensor.shape}")
    return builder.vectors(tensor, *parameters[:2])[0]


def _trunc(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    if tensor.dtype is None:
        raise Refusal("its activations are not quantized: put a Quant before it")
    parameters = [value for value in call.parameters(4, 5) if value is not None]
    tensor = _split_channels(builder, tensor, parameters)
    return builder.quantize(
        tensor,
        trunc(call.node, parameters, lambda constant: builder.vectors(tensor, constant)[1][0], tensor.real_range),
    )


def _multi_threshold(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    (thresholds,) = call.constants(1)
    scale, bias, _, layout = call.node.settings(out_scale=1.0, out_bias=0.0, out_dtype="", data_layout="")
    thresholds = float32(thresholds)
    if thresholds.ndim != 2 or thresholds.size == 0:
        raise Refusal("its thresholds must be numbers on two axes")
    if np.isnan(thresholds).any():
        raise Refusal("a threshold is not a number")
    layout = layout or {2: "NC", 3: "NWC"}.get(len(tensor.shape), "NCHW")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= len(tensor.shape):
        raise Refusal(f"its data layout {layout} does not fit activations of shape {tensor.shape}")
    rows = np.arange(len(thresholds), dtype=np.float32)
    if len(rows) not in (1, tensor.shape[axis]):
        raise Refusal(f"has thresholds for {len(rows)} channels, the activations have {tensor.shape[axis]}")
    column = [1] * len(tensor.shape)
    column[axis] = len(rows)
    tensor, (index,) = builder.vectors(tensor, rows.reshape(column))
    return builder.quantize(tensor, multi_threshold(thresholds[index.astype(np.int64)], scale, bias))


def _cast(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    kind = cast_target(call.node)
    if tensor.index and kind.kind in "iuf":
        return tensor
    if kind not in (np.float32, np.float64):
        raise Refusal(f"a cast of activations to {kind} is not supported, only to float32 or float64")
    return replace(tensor, integral=False)


def _same(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Identity, and Dropout in inference."""
    if call.node.op == "Dropout":
        call.node.settings(ratio=0.5, seed=0, is_test=1)
        _, training = call.parameters(0, 2)
        if training is not None and training.any():
            raise Refusal("must be in inference mode")
    return tensor


def _round(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Round of whole numbers, which float32 may have missed by little: a sum as the mean times its count."""
    call.node.settings()
    gains = tensor.curve.gains
    if tensor.dtype is None or gains is None or any(x.denominator > 1 for x in (*gains.gain, *gains.shift)):
        raise Refusal("rounds what are not whole numbers already: put a Quant in its place, which has limits")
    return replace(tensor, chain=None)


def _reshape(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    if tensor.order:
        tensor = builder.flat(tensor)
    if call.node.op == "Reshape":
        (allow_zero,) = call.node.settings(allowzero=0)
        (target,) = call.constants(1)
        extents = whole_numbers(target)
        if extents and extents[0] == builder.batch:
            extents[0] = 1
        shape = reshaped(tensor.shape, extents, bool(allow_zero))
    elif call.node.op == "Flatten":
        (axis,) = call.node.settings(axis=1)
        shape = flattened(tensor.shape, axis)
    else:
        axes = axes_of(call.node, [values for values in call.parameters(0, 1) if values is not None])
        if call.node.op == "Unsqueeze" and axes is None:
            raise Refusal("names no axes")
        shape = squeezed(tensor.shape, axes) if call.node.op == "Squeeze" else unsqueezed(tensor.shape, axes or [])
    return replace(tensor, shape=_with_batch(tensor, shape))


def _with_batch(tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    if (not shape or shape[0] != 1) and not tensor.index:
        raise Refusal(f"shape {shape} has no batch axis of 1 in front")
    check_shape(shape, "its result")
    return shape


def _transpose(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    (perm,) = call.node.settings(perm=None)
    perm = list(range(len(tensor.shape)))[::-1] if perm is None else list(perm)
    if sorted(perm) != list(range(len(tensor.shape))):
        raise Refusal(f"its perm {perm} does not fit activations of shape {tensor.shape}")
    if tensor.index:
        return replace(tensor, shape=tuple(tensor.shape[axis] for axis in perm))
    if perm[0] != 0:
        _with_batch(tensor, tuple(tensor.shape[axis] for axis in perm))
        if [axis for axis in perm if tensor.shape[axis] > 1] != sorted(axis for axis in perm if tensor.shape[axis] > 1):
            raise Refusal("moves the batch axis")
    return builder.transposed(tensor, tuple(perm))


def _top_k(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    axis, largest, _, attribute = call.node.settings(axis=-1, largest=1, sorted=1, k=None)
    (count,) = call.parameters(0, 1)
    largest_count = [attribute] if count is None else whole_numbers(count)
    if largest_count != [1] or not largest:
        raise Refusal("only the one largest score (k = 1) is supported")
    shape = list(tensor.shape)
    shape[axis if -len(shape) <= axis < len(shape) else 0] = 1
    return builder.arg_max(tensor, axis, tuple(shape))


def _arg_max(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    axis, keep, last = call.node.settings(axis=0, keepdims=1, select_last_index=0)
    if last:
        raise Refusal("must take the first of equal scores")
    place = axis % len(tensor.shape)
    shape = (*tensor.shape[:place], *([1] if keep else []), *tensor.shape[place + 1 :])
    return builder.arg_max(tensor, axis, shape)


STEPS: dict[str, Callable[[Builder, Call, Tensor], Tensor]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Neg": _neg,
    "BatchNormalization": _batch_normalization,
    "Round": _round,
    "Relu": _limit,
    "Clip": _limit,
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "LeakyRelu": _leaky_relu,
    "PRelu": _leaky_relu,
    "Sigmoid": _smooth,
    "Tanh": _smooth,
    "HardSigmoid": _hard_sigmoid,
    "Softmax": _soft_max,
    "LogSoftmax": _soft_max,
    "Quant": _quantizer,
    "IntQuant": _quantizer,
    "BipolarQuant": _quantizer,
    "Sign": _quantizer,
    "MultiThreshold": _multi_threshold,
    "Trunc": _trunc,
    "Conv": convolution,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalMaxPool": global_pool,
    "GlobalAveragePool": global_pool,
    "ReduceMean": reduce_mean,
    "TopK": _top_k,
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Identity": _same,
    "Dropout": _same,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
}
"""The function that lowers each op."""

JOINS: dict[str, Callable[[Builder, Call], Tensor]] = {
    "Add": _add_branches,
    "Sub": _add_branches,
    "Sum": _add_branches,
    "Concat": _concat_branches,
}
"""The function that lowers each op on several tensors that depend on the input."""

_UPSAMPLING = (
    "hardware makes no map larger; end the network in front of it and let the host repeat pixels, or train with a "
    "convolution on the small map"
)
_RECURRENT = "hardware keeps no state between frames; use convolutions along one axis"
_SMOOTH = "no thresholds give it, since it falls and rises; train with Relu, LeakyRelu or Clip"
NEAREST = {
    "Resize": _UPSAMPLING,
    "Upsample": _UPSAMPLING,
    "ConvTranspose": _UPSAMPLING,
    "DepthToSpace": _UPSAMPLING,
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "Gelu": _SMOOTH,
    "Erf": "it is rising, but has no lowering; train with Relu, Tanh or Clip",
    "HardSwish": _SMOOTH,
    "Mish": _SMOOTH,
    "InstanceNormalization": "it depends on the frame; train with batch normalization",
    "LayerNormalization": "it depends on the frame; train with batch normalization",
    "FloatQuant": "weights and activations must be integers; use Quant",
    "ConvInteger": "export the network in the QDQ format",
    "MatMulInteger": "export the network in the QDQ format",
    "QLinearConv": "export the network in the QDQ format",
    "QLinearMatMul": "export the network in the QDQ format",
    "Pad": "give the padding to the Conv or pooling node behind it, in its attribute pads",
    "LpPool": "use MaxPool or AveragePool",
}
"""What works in place of an op that is not supported."""


CHANNELS_LAST = frozenset({"Conv", "MaxPool", "BatchNormalization"})
"""Ops that qonnx wraps for channels last."""


def channels_last(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """An op of :data:`CHANNELS_LAST`: the op itself on ``tensor`` with channels first, and for Conv on its kernels."""
    rank = len(tensor.shape)
    if rank not in (3, 4):
        raise Refusal(f"takes maps with their channels last, not shape {tensor.shape}")
    inputs = list(call.inputs)
    if call.node.op == "Conv" and isinstance(kernels := call.inputs[1], QuantizedConstant | np.ndarray):

        def first(part: Array) -> Array:
            return np.moveaxis(part, -1, 1) if part.ndim == rank else part

        inputs[1] = kernels.map(first) if isinstance(kernels, QuantizedConstant) else first(kernels)
    wrapped = Call(replace(call.node, domain=""), tuple(inputs))
    result = STEPS[call.node.op](builder, wrapped, builder.channels_first(tensor))
    return builder.transposed(result, channels_last_order(rank))


def operators() -> list[str]:
    """Operators that a tensor which depends on the input can go through."""
    return sorted(STEPS.keys() | JOINS.keys() | {"Shape"})


def supported(node: Node) -> bool:
    """Whether :data:`STEPS` or :data:`JOINS` takes this op of this domain, or it is one of :data:`CHANNELS_LAST`."""
    if node.domain == CHANNELS_LAST_DOMAIN:
        return node.op in CHANNELS_LAST
    return (node.op in STEPS or node.op in JOINS) and (
        node.is_qonnx or (node.domain == "" and node.op not in QONNX_OPS)
    )
