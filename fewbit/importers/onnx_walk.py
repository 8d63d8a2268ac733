"""Walks an ONNX graph from its input to its output, in topological order, and lowers one node after another.

A dialect says how: the function that lowers each operator, and what may follow what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
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
        network, found = _walk(graph, name, source, dialect)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    if network is None:
        raise Obstacles(path, found)
    return network


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


def _walk(graph: Graph, name: str, source: Tensor, dialect: Dialect) -> tuple[Network | None, list[str]]:
    """The network, or None and what stands in its way.

    What depends on a refused node is not known. It is only looked at for operators that are refused anywhere.
    """
    unknown: set[str] = set()
    found: list[str] = []
    readers = Counter(name for node in graph.nodes for name in node.inputs) + Counter(graph.outputs)
    source = _read_by(source, readers[graph.input])
    builder = Builder(source, graph.batch)
    tensors: dict[str, Tensor] = {graph.input: source}
    constants: dict[str, Constant] = dict(graph.constants)
    needed = readers.keys()
    for node in graph.nodes:
        try:
            if not unknown.isdisjoint(node.inputs):
                unknown.update(node.outputs)
                _check_supported(node, dialect)
                continue
            active = [name for name in node.inputs if name in tensors]
            inputs = tuple(tensors.get(name, constants.get(name)) for name in node.inputs)
            for input_name, value in zip(node.inputs, inputs):
                if input_name and value is None:
                    raise Refusal(f"takes {input_name!r}, an output that is not supported")
            if node.op == "Shape" and active:
                constants[node.outputs[0]] = constant_result(
                    node, [np.empty(tensors[active[0]].shape, np.uint8)], graph.budget
                )
            elif not active:
                constants[node.outputs[0]] = _constant(Call(node, inputs, graph.narrow), graph, dialect)
            else:
                output = _output(node, needed)
                made = _step(builder, Call(node, inputs, graph.narrow), [tensors[name] for name in active], dialect)
                tensors[output] = _read_by(made, readers[output])
        except FewbitError as error:
            found.append(f"{node.label}: {error}")
            unknown.update(node.outputs)
    if found:
        return None, found
    for output in graph.outputs:
        if output not in tensors:
            raise FewbitError(f"the output {output!r} does not depend on the input")
    results = [dialect.finish(builder, tensors[output]) for output in graph.outputs]
    if len(results) == 1:
        return builder.network(name, results[0]), []
    return builder.network(name, *joins.outputs(builder, results)), []


def _read_by(tensor: Tensor, readers: int) -> Tensor:
    several = readers > 1
    return replace(tensor, shared=tensor.shared or several, forked=tensor.forked or several)


def _output(node: Node, needed: Collection[str]) -> str:
    """Name of the output that carries the activations. Refuses a node with another output that is used."""
    place = 1 if node.op == "TopK" else 0
    if len(node.outputs) <= place:
        raise Refusal(f"cannot have {len(node.outputs)} outputs")
    for index, name in enumerate(node.outputs):
        if index != place and name in needed:
            raise Refusal(f"its output {name!r} is not supported")
    return node.outputs[place]


def _step(builder: Builder, call: Call, tensors: list[Tensor], dialect: Dialect) -> Tensor:
    node = call.node
    _check_supported(node, dialect)
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
    if dialect.supported(node) or (node.op == "Shape" and node.domain == ""):
        return
    instead = dialect.nearest.get(node.op)
    raise Refusal("this op is not supported" + (f": {instead}" if instead else ""))


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
