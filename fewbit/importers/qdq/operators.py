"""How each operator of a QDQ file is lowered: as in QONNX files, but for quantizers, joins and integer operators."""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.joins import total
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_call import Call
from fewbit.importers.onnx_graph import QONNX_OPS, Node, Refusal
from fewbit.importers.onnx_walk import Join, Step
from fewbit.importers.qdq import integers, joins
from fewbit.importers.qdq.linear import dequantize_linear, quantize_linear
from fewbit.importers.qonnx import ops

MICROSOFT = "com.microsoft"
"""Domain of onnxruntime's own operators."""

_WAITING = frozenset({"Relu", "Clip", "LeakyRelu", "HardSigmoid", "Sigmoid", "Tanh", "QuantizeLinear"})
"""Operators that a sum of two activations goes through while it waits for its quantizer."""
_ON_BOTH = frozenset({"MaxPool", "GlobalMaxPool", "Concat", "ArgMax", "TopK"})
"""Operators that take integers of the file as well as floats."""


def _settled(step: Step) -> Step:
    def settled_step(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
        return step(builder, call, joins.settled(builder, tensor))

    return settled_step


def _add(builder: Builder, call: Call) -> Tensor:
    """Add, Sub and Sum of tensors that depend on the input."""
    call.node.settings()
    return total(builder, call.node.op, _tensors(builder, call), joins.add)


def _concat(builder: Builder, call: Call) -> Tensor:
    (axis,) = call.node.settings(axis=None)
    return joins.concat(builder, _tensors(builder, call), axis)


def _tensors(builder: Builder, call: Call) -> list[Tensor]:
    tensors = [joins.settled(builder, value) for value in call.inputs if isinstance(value, Tensor)]
    if len(tensors) < len(call.inputs):
        raise Refusal("joins branches with constants: only tensors that depend on the input can be joined")
    return tensors


_OWN = frozenset({*QONNX_OPS, "Sign"})

STEPS: dict[str, Step] = {
    **{op: step if op in _WAITING else _settled(step) for op, step in ops.STEPS.items() if op not in _OWN},
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    **integers.STEPS,
}
"""The function that lowers each operator."""

JOINS: dict[str, Join] = {"Add": _add, "Sub": _add, "Sum": _add, "Concat": _concat, **integers.JOINS}
"""The function that lowers each operator on several tensors that depend on the input."""

NEAREST = {
    **ops.NEAREST,
    "ConvInteger": "quantize statically (quantize_static), so that its output is quantized too",
    "MatMulInteger": "quantize statically (quantize_static), so that its output is quantized too",
    "DynamicQuantizeLinear": "its scale depends on the frame; quantize statically (quantize_static)",
    "DynamicQuantizeMatMul": "its scale depends on the frame; quantize statically (quantize_static)",
    "QLinearMul": "a product of two activations",
    "QLinearSoftmax": "end the network in front of it, and let the host apply it",
}
"""What works in place of an operator that is not supported."""


def operators() -> list[str]:
    """Operators that a tensor which depends on the input can go through."""
    return sorted(STEPS.keys() | JOINS.keys() | {"Shape"})


def supported(node: Node) -> bool:
    """Whether :data:`STEPS` or :data:`JOINS` takes this operator of this domain."""
    known = node.op in STEPS or node.op in JOINS
    if node.domain == MICROSOFT:
        return known and (node.op in integers.MICROSOFT_OPS or node.op in ("QuantizeLinear", "DequantizeLinear"))
    return known and node.domain == "" and node.op not in integers.MICROSOFT_OPS


def check(node: Node, tensors: Sequence[Tensor]) -> None:
    """Raises Refusal if ``node`` takes integers and one of ``tensors`` is a float, or the other way round."""
    if node.op in _ON_BOTH and len({tensor.integral for tensor in tensors}) == 1:
        return
    takes_integers = node.op == "DequantizeLinear" or node.op in integers.STEPS or node.op in integers.JOINS
    if takes_integers and not all(tensor.integral for tensor in tensors):
        raise Refusal("takes integers, and one of its inputs is not: put a QuantizeLinear before it")
    if not takes_integers and any(tensor.integral for tensor in tensors):
        raise Refusal("takes floats, and one of its inputs is of an integer type: put a DequantizeLinear before it")
