"""Folds constants through standard ONNX operators with onnx's reference evaluator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fewbit.golden.budget import Budget, check_shape
from fewbit.importers.onnx_graph import Array, Node, Refusal, numeric

_KINDS = frozenset({
    "Acos", "Acosh", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd",
    "BitwiseNot", "BitwiseOr", "BitwiseXor", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "CumSum",
    "DepthToSpace", "DequantizeLinear", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Gelu", "Gemm",
    "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Hardmax", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "Mean", "Min", "Mish", "Mod", "Not",
    "OneHot", "Or", "PRelu", "Pad", "QuantizeLinear", "Range", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu",
    "ScatterElements", "ScatterND", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Softmax", "Softplus",
    "Softsign", "SpaceToDepth", "Split", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Tile", "Trilu", "Where",
    "Xor",
})  # fmt: skip
"""Operators whose result has a size that is known from their inputs, and that need little memory beside it. Others,
such as convolutions, loops and random numbers, do not make constants in files of networks."""


def evaluated_operators() -> frozenset[str]:
    """Operators that :func:`evaluated` takes."""
    return _KINDS


def evaluated(node: Node, inputs: list[Array], budget: Budget) -> Array:
    """The first result of ``node``, an operator of ONNX itself, for constant ``inputs``.

    The size of the result is inferred, and taken from ``budget``, before anything is computed.

    Raises
    ------
    FewbitError
        If the operator is not supported, does not fit its inputs, or its result is larger than the rest of ``budget``.
    """
    from onnx import checker, helper, reference, shape_inference

    if node.op not in _KINDS:
        raise Refusal("this op is not supported on constants")
    model = _model(node, inputs)
    try:
        kind, shape = _result(shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    except (shape_inference.InferenceError, checker.ValidationError, ValueError, TypeError) as error:
        raise Refusal(f"does not fit its inputs: {_first_line(error)}") from None
    if shape is None or kind is None or not numeric(kind):
        raise Refusal("this op is not supported on these constants: the size of its result is not known beforehand")
    check_shape(shape, "its result")
    budget.take(shape, kind.itemsize, "its result")
    values = {entry.name: value for entry, value in zip(model.graph.input, inputs)}
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = np.asarray(reference.ReferenceEvaluator(helper.make_model(
                model.graph, opset_imports=model.opset_import, ir_version=model.ir_version
            )).run(None, values)[0])  # fmt: skip
    except Exception as error:  # whatever an operator of the evaluator raises for inputs that do not fit
        raise Refusal(f"cannot be worked out: {_first_line(error)}") from None
    return result


def _model(node: Node, inputs: list[Array]) -> Any:
    """A model of ``node`` alone, whose inputs are constants too, so that shapes can be inferred from their values."""
    from onnx import helper, numpy_helper

    try:
        names = [f"i{place}" for place in range(len(inputs))]
        tensors = [numpy_helper.from_array(np.asarray(x, order="C"), name) for x, name in zip(inputs, names)]
        values = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
        attributes = {
            name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for name, value in node.attributes.items()
        }
        made = helper.make_node(node.op, names, [f"o{place}" for place in range(len(node.outputs))], **attributes)
        graph = helper.make_graph([made], "constant", values, [helper.make_empty_tensor_value_info("o0")], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)], ir_version=8)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refusal(f"does not fit its inputs: {_first_line(error)}") from None


def _result(model: Any) -> tuple[np.dtype[Any] | None, tuple[int, ...] | None]:
    """Element type and shape of the one output; None where they are not known."""
    from onnx import helper

    kind = model.graph.output[0].type.tensor_type
    if not kind.HasField("shape") or any(not extent.HasField("dim_value") for extent in kind.shape.dim):
        return None, None
    try:
        return helper.tensor_dtype_to_np_dtype(kind.elem_type), tuple(extent.dim_value for extent in kind.shape.dim)
    except (KeyError, TypeError, ValueError):
        return None, None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
