"""Every integer tensor of a quantized ONNX file, as onnx's reference evaluator computes it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

MICROSOFT = "com.microsoft"
OPSET = 21
"""The first version of which the reference evaluator has all quantizers; the older ones compute the same."""

ZERO_POINTS = {
    "QuantizeLinear": 2, "QLinearConv": 7, "QLinearMatMul": 7, "QGemm": 8, "QLinearAdd": 7, "QLinearConcat": 1,
    "QLinearGlobalAveragePool": 4, "QLinearAveragePool": 4, "QLinearLeakyRelu": 4, "QLinearSigmoid": 4,
}  # fmt: skip
"""Which input of an operator is the zero point of its output. Other operators on integers keep that of their input."""


def integers(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of 16-bit or narrower integers that depends on the input, less its zero point, by its name.

    Operators of ONNX are executed by onnx's reference evaluator, those that onnxruntime adds by onnxruntime.

    Parameters
    ----------
    x : float32 array (N, ...)
        Frames.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OPSET
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    active, zeros = {model.graph.input[0].name}, {}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = ""
        if active.isdisjoint(node.input):
            continue
        active.update(node.output)
        place = ZERO_POINTS.get(node.op_type)
        if place is not None:
            named = len(node.input) > place
            zeros[node.output[0]] = int(np.ravel(constants[node.input[place]])[0]) if named else 0
        elif node.input[0] in zeros and node.op_type != "DequantizeLinear":
            zeros[node.output[0]] = zeros[node.input[0]]
    names = list(zeros)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    added = [executed(op) for op in sorted({node.op_type for node in model.graph.node if node.domain == MICROSOFT})]
    with np.errstate(over="ignore", invalid="ignore"):  # of exponentials, in the branch of a sigmoid that is not taken
        results = ReferenceEvaluator(model, new_ops=added).run(None, {model.graph.input[0].name: x})
    return {name: values.astype(np.int64) - zeros[name] for name, values in zip(names, results)}


@cache
def executed(op: str) -> type[OpRun]:
    """An operator that onnxruntime adds, for the reference evaluator."""

    def run(self: OpRun, *inputs: np.ndarray, **attributes: Any) -> tuple[np.ndarray, ...]:
        names = [name for name in self.onnx_node.input if name]
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in zip(names, inputs)
        ]
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.onnx_node.output]
        graph = helper.make_graph([self.onnx_node], "one", values, outputs)
        versions = [helper.make_opsetid("", 13), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return tuple(session.run(None, dict(zip(names, inputs))))

    return type(op, (OpRun,), {"op_domain": MICROSOFT, "_run": run})


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with float64 between its quantizers, in place of float32: sums are exact but for one rounding in 2**53.

    Scales keep their values, and biases are the float32 numbers that DequantizeLinear gives.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            levels, scale, zero = (constants[name] for name in node.input)
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
            scale, zero = (_spread(one, levels, axis) for one in (scale, zero))
            whole = levels.astype(np.int64) - zero.astype(np.int64)
            is_bias = levels.dtype == np.int32 and levels.ndim < 2
            constants[node.output[0]] = (
                (whole.astype(np.float32) * scale).astype(np.float64) if is_bias else whole * scale.astype(np.float64)
            )
        else:
            kept.append(node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float64) if value.dtype == np.float32 else value, name)
        for name, value in constants.items()
        if name in used
    )
    return model


def _spread(values: np.ndarray, levels: np.ndarray, axis: int) -> np.ndarray:
    shape = [1] * levels.ndim
    if values.size > 1:
        shape[axis] = values.size
    return values.reshape(shape)
