"""Walks an ONNX graph from its input to its output, in topological order, and lowers one node after another.

A dialect says how: the function that lowers each operator, and what may follow what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fewbit.exact import Curve, exact
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.importers.lowering import joins
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.float_steps import FloatChain
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.obstacles import Obstacles
from fewbit.importers.onnx_call import Call, Constant, plain
from fewbit.importers.onnx_constants import constant_result
from fewbit.importers.onnx_graph import Graph, Node, Refusal
from fewbit.importers.onnx_visit import Inputs, Visitor, readers_of, unsupported
from fewbit.input_kind import InputKind

RESHAPING = frozenset({"Cast", "Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})
"""Ops that change no value: tensors of integer type and the result of the arg-max may pass through them."""
AFTER_FUNCTION = frozenset({"ArgMax", "TopK"})
"""Ops that may follow a softmax: they need the scores only."""

Step = Callable[[Builder, Call, Tensor], Tensor]
Join = Callable[[Builder, Call], Tensor]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How the operators of a kind of ONNX file are lowered.

    Attributes
    ----------
    steps : mapping
        The function that lowers each operator on one tensor that depends on the graph's input.
    joins : mapping
        The function that lowers each operator on several such tensors.
    wrappers : mapping
        The function that lowers the operators of a domain, in place of ``steps``.
    supported : callable
        Whether ``steps`` or ``joins`` takes the operator of a node, which its domain decides too.
    nearest : mapping
        What works in place of an operator that is not supported.
    check : callable (node, tensors)
        Raises Refusal if the integer types of ``tensors`` do not let ``node`` take them.
    constant : callable (call, graph)
        The result of a node whose inputs are all constant; None if it is that of ONNX, an array.
    finish : callable (builder, tensor)
        Completes a tensor that is an output of the graph.
    """

    steps: Mapping[str, Step]
    joins: Mapping[str, Join]
    supported: Callable[[Node], bool]
    nearest: Mapping[str, str]
    check: Callable[[Node, Sequence[Tensor]], None]
    constant: Callable[[Call, Graph], Constant | None]
    wrappers: Mapping[str, Step] = field(default_factory=dict)
    finish: Callable[[Builder, Tensor], Tensor] = lambda builder, tensor: tensor


def network_of(graph: Graph, path: str, name: str, source: Tensor, dialect: Dialect) -> Network:
    """The network ``name`` of ``graph``, whose input is ``source``; ``path`` is for messages.

    Raises
    ------
    FewbitError
        If something is not supported; the message names every node that stands in the way.
    """
    try:
        return _network(graph, path, name, source, dialect)
    except Obstacles:
        raise
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None


def source_of(graph: Graph, option: str | None, dtype: DType | None, integral: bool) -> Tensor:
    """The input of ``graph``: of ``dtype``, or a float32 that ``option`` says to be computed from integers.

    Raises
    ------
    FewbitError
        If ``option`` is not understood, or the file says otherwise.
    """
    stated = None if option is None else InputKind.parse(option)
    chain, curve = FloatChain(), Curve()
    if stated is not None:
        if dtype is not None and (stated.step or stated.dtype != dtype):
            raise FewbitError(f"input {graph.input!r}: is {dtype} in the file already, so that it cannot be {option}")
        dtype = stated.dtype
        if stated.step is not None and stated.number is not None:
            chain = chain.then(stated.step, np.array([stated.number]))
            curve = curve.scaled(exact([stated.scale]), exact([0]))
    return Tensor.source(graph.input_shape, dtype, curve, chain, integral)


def _network(graph: Graph, path: str, name: str, source: Tensor, dialect: Dialect) -> Network:
    readers = readers_of(graph)
    source = _read_by(source, readers[graph.input])
    builder = Builder(source, graph.batch)

    def step(node: Node, inputs: Inputs, tensors: list[Tensor], times: int) -> Tensor:
        return _read_by(_step(builder, Call(node, inputs, graph.narrow), tensors, dialect), times)

    def constant(node: Node, inputs: Inputs) -> Constant:
        return _constant(Call(node, inputs, graph.narrow), graph, dialect)

    visitor = Visitor(step=step, constant=constant, check=lambda node: _check_supported(node, dialect))
    outputs = [dialect.finish(builder, output) for output in visitor.visit(graph, source, readers, path)]
    if len(outputs) == 1:
        return builder.network(name, outputs[0])
    return builder.network(name, *joins.outputs(builder, outputs))


def _read_by(tensor: Tensor, readers: int) -> Tensor:
    several = readers > 1
    return replace(tensor, shared=tensor.shared or several, forked=tensor.forked or several)


def _step(builder: Builder, call: Call, tensors: list[Tensor], dialect: Dialect) -> Tensor:
    node = call.node
    if node.op not in RESHAPING:
        if any(tensor.index for tensor in tensors):
            raise Refusal("nothing can follow the arg-max but a change of shape or integer type")
        if any(tensor.function for tensor in tensors) and node.op not in AFTER_FUNCTION:
            raise Refusal("follows a softmax, which only the end of a network can be: end the network there")
        dialect.check(node, tensors)
    if len(tensors) > 1 and node.op in dialect.joins:
        return dialect.joins[node.op](builder, call)
    if len(tensors) > 1:
        raise Refusal(
            "takes two tensors that both depend on the input, and hardware is made for sums (Add) and concatenations "
            "(Concat) of such only"
        )
    if node.domain in dialect.wrappers:
        return dialect.wrappers[node.domain](builder, call, tensors[0])
    if node.op not in dialect.steps:
        raise Refusal("joins branches with constants: only tensors that depend on the input can be joined")
    return dialect.steps[node.op](builder, call, tensors[0])


def _check_supported(node: Node, dialect: Dialect) -> None:
    """Raises Refusal, with the nearest operator that works, if no tensor can go through ``node``."""
    if not dialect.supported(node) and not (node.op == "Shape" and node.domain == ""):
        raise unsupported(node, dialect.nearest)


def _constant(call: Call, graph: Graph, dialect: Dialect) -> Constant:
    """The result of a node whose inputs are all constant. Quantized weights stay quantized when they are reshaped."""
    node = call.node
    special = dialect.constant(call, graph)
    if special is not None:
        return special
    values = [value for value in call.inputs if value is not None]
    if values and isinstance(first := values[0], QuantizedConstant) and node.op in RESHAPING - {"Cast", "Dropout"}:
        rest = [plain(value) for value in values[1:]]
        return first.map(lambda part: constant_result(node, [part, *rest], graph.budget))
    return constant_result(node, [plain(value) for value in values], graph.budget)
