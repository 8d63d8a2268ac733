"""Operators on integers of the file (the QOperator format of onnxruntime).

Products are requantized by the arithmetic of the operator's reference: which sum reaches which level is found by
bisection of it, so that all roundings are those of the reference. For QLinearConv and QLinearMatMul, which ONNX
defines, the reference is ``onnx.reference``: the sum is multiplied by a float32 in float64, the zero point is added,
and the result is rounded half to even. For the operators that onnxruntime adds (domain ``com.microsoft``), it is
onnxruntime on a CPU with fused multiply-add: all in float32, and the zero point of products is added after rounding.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from fewbit.exact import exact
from fewbit.golden.dtype import Ints
from fewbit.importers.lowering import pools
from fewbit.importers.lowering.builder import Builder, float32
from fewbit.importers.lowering.float_steps import Floats
from fewbit.importers.lowering.levels import levels_of
from fewbit.importers.lowering.products import dense
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_call import Call, plain
from fewbit.importers.onnx_graph import Array, Node, Refusal
from fewbit.importers.onnx_linear import check_scale, parameters_of
from fewbit.importers.onnx_walk import Join, Step
from fewbit.importers.qdq import joins
from fewbit.importers.qdq.linear import Codes, dequantize, quantize
from fewbit.importers.qonnx import ops, ops_2d

_INT32 = (1 << 31) - 1
_LARGEST_RATIO = 1e30
"""Largest ratio of scales with which sums of two activations stay finite in float32."""


def _array(call: Call, place: int) -> Array | None:
    """Constant input ``place``; None if it is left out."""
    value = call.inputs[place] if place < len(call.inputs) else None
    if isinstance(value, Tensor):
        raise Refusal("its weights, scales and zero points must be constants")
    return None if value is None else plain(value)


def _codes(call: Call, place: int) -> Codes:
    """Scale and zero point of an activation: inputs ``place`` and ``place + 1``."""
    scale, zero = _array(call, place), _array(call, place + 1)
    if scale is None:
        raise Refusal("lacks a scale")
    if zero is None:
        raise Refusal("lacks a zero point, which says of which type its integers are")
    if zero.dtype not in (np.int8, np.uint8) or call.node.inputs[place + 1] in call.narrow:
        raise Refusal("takes and gives integers of 8 bits only: export the network in the QDQ format for others")
    return Codes.of(scale, zero)


def _activation(call: Call, place: int) -> Tensor:
    value = call.inputs[place] if place < len(call.inputs) else None
    if not isinstance(value, Tensor):
        raise Refusal("joins branches with constants: only tensors that depend on the input can be joined")
    return value


def _centred(builder: Builder, tensor: Tensor, codes: Codes) -> Tensor:
    """The integers of the file less their zero point."""
    return builder.affine(replace(tensor, integral=False), None, exact([-codes.zero]), "sub", _single(codes.zero))


def _single(value: int) -> Floats:
    return np.array([value], np.float32)


def _quotient(divisor: Floats, *factors: Floats) -> Floats:
    """The product of ``factors`` over ``divisor`` in float32."""
    with np.errstate(all="ignore"):
        product: Floats = np.ones(1, np.float32)
        for factor in factors:
            product = np.asarray(product * factor, np.float32)
        result: Floats = np.asarray(product / divisor, np.float32)
    if not np.isfinite(result).all():
        raise Refusal("its scales are so far apart that their quotient is beyond float32")
    return result


def _weights(call: Call, place: int, axis: int) -> tuple[QuantizedConstant, Floats]:
    """Weights with their scale and zero point, inputs ``place`` and those behind it, as integers and their scales."""
    values, scale, zero = (_array(call, place + offset) for offset in range(3))
    if values is None or scale is None:
        raise Refusal("lacks its weights or their scale")
    if values.dtype.kind not in "iu":
        raise Refusal(f"its weights must be integers, not {values.dtype}")
    check_scale(scale)
    outputs = values.shape[axis] if axis < values.ndim else 1
    fits = scale.size == 1 or scale.shape == (outputs,)
    if not fits or not (np.isfinite(scale) & (scale > 0)).all():
        raise Refusal("needs one scale above 0 for its weights, or one for each output")
    zero = np.zeros((), values.dtype) if zero is None else zero
    one, offset = parameters_of(values.shape, np.ones((), np.float32), zero, axis, 0)
    return QuantizedConstant(values.astype(np.int64), one, offset), float32(scale).ravel()


def _requantized(
    builder: Builder, sums: Tensor, bias: Array | None, multiplier: Floats, codes: Codes, doubled: bool
) -> Tensor:
    """Integer sums with a bias, multiplied and rounded to the integers of ``codes``.

    The layer of ``sums`` has weights without their common divisor, which the gain of ``sums`` restores.

    Parameters
    ----------
    multiplier : float32 array (1,) or (outputs,)
    doubled : bool
        Whether the product is computed in float64 and the zero point is added before rounding, else in float32 and
        after it.
    """
    outputs = sums.frame[0]
    offsets = np.array([int(value) for value in np.resize(sums.gains.shift, outputs)], np.int64)
    if bias is not None:
        if bias.dtype.kind not in "iu" or bias.size != outputs:
            raise Refusal(f"needs {outputs} integers as its bias, not {bias.dtype} of shape {bias.shape}")
        offsets = offsets + bias.ravel().astype(np.int64)
    gains = np.array([int(value) for value in np.resize(sums.gains.gain, outputs)], np.int64)
    ends = [gains * np.resize(end, outputs) + offsets for end in (sums.low, sums.high)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    if max(-low.min(), high.max()) > _INT32:
        raise Refusal("its sums need more than the 32 bits that its operator computes in")
    alike = multiplier.size == 1 and (offsets == offsets[0]).all() and (gains == gains[0]).all()
    rows = 1 if alike else outputs
    factor, gain, offset = np.resize(multiplier, rows)[:, None], gains[:rows, None], offsets[:rows, None]

    def kernel(x: Ints) -> Ints:
        total = gain * x + offset
        with np.errstate(over="ignore"):
            if doubled:
                real = np.rint(total * factor.astype(np.float64) + codes.zero)
            else:
                real = np.rint(total.astype(np.float32) * factor).astype(np.float64) + codes.zero
        return np.asarray(np.clip(real, codes.low, codes.high), np.int64)

    made = levels_of(builder, sums, kernel, (codes.low, codes.high), codes.zero, rows, codes.curve)
    return codes.integers(made)


def _convolution(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """QLinearConv."""
    source, output = _codes(call, 1), _codes(call, 6)
    weights, scale = _weights(call, 3, 0)
    plain_call = Call(_without(call.node, channels_last=0), (tensor, weights))
    sums = ops_2d.convolution(builder, plain_call, _centred(builder, tensor, source))
    multiplier = _quotient(output.scale, source.scale, scale)
    return _requantized(builder, sums, _array(call, 8), multiplier, output, doubled=True)


def _matmul(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """QLinearMatMul."""
    call.node.settings()
    source, output = _codes(call, 1), _codes(call, 6)
    weights, scale = _weights(call, 3, 1)
    _check_matrix(weights)
    sums = dense(builder, _centred(builder, tensor, source), weights)
    return _requantized(builder, sums, None, _quotient(output.scale, source.scale, scale), output, doubled=True)


def _gemm(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """QGemm; without a scale of its output, that is a float."""
    alpha, trans_a, trans_b = call.node.settings(alpha=1.0, transA=0, transB=0)
    if trans_a or len(tensor.shape) != 2:
        raise Refusal(f"takes activations on two axes, not transposed, not shape {tensor.shape}")
    if alpha <= 0:
        raise Refusal(f"its alpha must be above 0, not {alpha}")
    source, bias = _codes(call, 1), _array(call, 6)
    weights, scale = _weights(call, 3, 0 if trans_b else 1)
    _check_matrix(weights)
    sums = dense(builder, _centred(builder, tensor, source), weights.map(np.transpose) if trans_b else weights)
    factors = np.array([alpha], np.float32), source.scale, scale
    if _array(call, 7) is not None:
        output = _codes(call, 7)
        return _requantized(builder, sums, bias, _quotient(output.scale, *factors), output, doubled=False)
    offset = exact([0]) if bias is None else exact(bias.ravel())
    return builder.affine(builder.affine(sums, None, offset), exact(_quotient(_single(1), *factors)), None)


def _check_matrix(weights: QuantizedConstant) -> None:
    if weights.levels.ndim != 2 or weights.levels.size == 0:
        raise Refusal(f"its weights must have two axes, not shape {weights.levels.shape}")


def _global_mean(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """QLinearGlobalAveragePool."""
    _without(call.node, channels_last=0).settings()
    source, output = _codes(call, 1), _codes(call, 3)
    if len(tensor.shape) != 4:
        raise Refusal(f"takes maps of shape (1, channels, height, width), not {tensor.shape}")
    size = tensor.shape[2], tensor.shape[3]
    centred = builder.affine_levels(builder.map(_centred(builder, tensor, source)), "its input")
    sums = pools.pool(builder, centred, "sum", size, size, (0, 0, 0, 0))
    divisor = _quotient(_single(1), output.scale, _single(size[0] * size[1]))
    multiplier = _quotient(divisor, source.scale)
    return _requantized(builder, sums, None, multiplier, output, doubled=False)


def _through(step: Step) -> Step:
    """The operator on reals that is ``step``, between two quantizers."""

    def lowered(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
        source, output = _codes(call, 1), _codes(call, 3)
        real = dequantize(builder, tensor, source)
        made = step(builder, Call(_without(call.node, channels_last=0), (real,)), real)
        return quantize(builder, made, output)

    return lowered


def _without(node: Node, **expected: int) -> Node:
    """``node`` without attributes that must have the values ``expected``."""
    for name, value in expected.items():
        if node.attributes.get(name, value) != value:
            raise Refusal(f"its attribute {name!r} must be {value}, not {node.attributes[name]!r}")
    attributes = {name: value for name, value in node.attributes.items() if name not in expected}
    return replace(node, op=node.op.removeprefix("QLinear"), attributes=attributes)


def _add(builder: Builder, call: Call) -> Tensor:
    """QLinearAdd: each side times its scale over that of the output, in float32 with fused multiply-add."""
    call.node.settings()
    sides = [_activation(call, place) for place in (0, 3)]
    first, second, output = (_codes(call, place) for place in (1, 4, 6))
    if sides[0].shape != sides[1].shape:
        raise Refusal(f"adds branches of shapes {sides[0].shape} and {sides[1].shape}; they must have one shape")
    ratios = [_quotient(output.scale, side.scale) for side in (first, second)]
    if max(ratio[0] for ratio in ratios) > _LARGEST_RATIO:
        raise Refusal(f"its scales are more than {_LARGEST_RATIO:.0e} apart")
    fixed = np.float32(output.zero) - (ratios[0] * np.float32(first.zero) + ratios[1] * np.float32(second.zero))

    def levels(*values: Ints) -> Ints:
        # A product of 8 and 24 bits, and its sum with a float32, are exact in float64: one rounding, as fused.
        a, b = (side.chain.run(x)[:, 0].astype(np.float64) if side.chain else x for side, x in zip(sides, values))
        behind = (b * ratios[1] + fixed.astype(np.float64)).astype(np.float32)
        total = (a[:, None] * ratios[0] + behind.astype(np.float64)).astype(np.float32)
        return np.asarray(np.clip(np.rint(total), output.low, output.high).astype(np.int64) - output.low)

    slopes = [Fraction(float(ratio[0])) for ratio in ratios]
    made = None
    if sides[0].layer != sides[1].layer:
        made = joins.weighted(builder, sides, levels, slopes, output.dtype, output.low - output.zero)
    if made is None:
        raise Refusal("no integer gains give the sums of its kernel: export the network in the QDQ format")
    return output.integers(made)


def _concat(builder: Builder, call: Call) -> Tensor:
    """QLinearConcat: inputs are scale and zero point of the output, then each activation with its own."""
    (axis,) = call.node.settings(axis=None)
    if axis is None or len(call.inputs) % 3 != 2:
        raise Refusal("needs an axis, and a scale and a zero point for its output and each input")
    output = _codes(call, 0)
    places = range(2, len(call.inputs), 3)
    reals = [dequantize(builder, _activation(call, place), _codes(call, place + 1)) for place in places]
    return quantize(builder, joins.concat(builder, reals, axis), output)


_STANDARD: dict[str, Step] = {"QLinearConv": _convolution, "QLinearMatMul": _matmul}
_MICROSOFT: dict[str, Step] = {
    "QGemm": _gemm,
    "QLinearGlobalAveragePool": _global_mean,
    "QLinearAveragePool": _through(ops_2d.average_pool),
    "QLinearLeakyRelu": _through(ops.STEPS["LeakyRelu"]),
    "QLinearSigmoid": _through(ops.STEPS["Sigmoid"]),
}
STEPS: dict[str, Step] = {**_STANDARD, **_MICROSOFT}
"""The function that lowers each operator."""
JOINS: dict[str, Join] = {"QLinearAdd": _add, "QLinearConcat": _concat}
"""The function that lowers each operator on several tensors that depend on the input."""
MICROSOFT_OPS = frozenset({*_MICROSOFT, *JOINS})
"""Operators that onnxruntime adds."""
