"""Reads float ONNX networks, as PyTorch and Keras export them for inference, into graphs of float layers.

The reader walks the graph from its input to its output, in topological order. It refuses, naming the node: products of
two activations, and unknown ops and attributes. A message has every node that stands in the way.
"""

from __future__ import annotations

from pathlib import Path

from fewbit.golden.errors import FewbitError
from fewbit.importers.float_onnx.batch_norm import fold_scales
from fewbit.importers.float_onnx.layers import Best, Smooth
from fewbit.importers.float_onnx.network import FloatNetwork
from fewbit.importers.float_onnx.operators import AFTER_FUNCTION, JOINS, RESHAPING, STEPS
from fewbit.importers.float_onnx.values import Reading, Value
from fewbit.importers.obstacles import Obstacles
from fewbit.importers.onnx_constants import constant_result
from fewbit.importers.onnx_graph import Array, Graph, Node, Refusal, inputs_of, read
from fewbit.importers.onnx_visit import Inputs, Visitor, readers_of, unsupported
from fewbit.importers.qonnx.ops import NEAREST

_FLOATS = ("float16", "float32", "float64")


def load(path: str | Path) -> FloatNetwork:
    """The float network in the ONNX file ``path``; a softmax or sigmoid at its end is left to the host.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or no ONNX file, or holds something unsupported; the message names every
        node that stands in the way.
    """
    path = Path(path)
    graph = read(path)
    try:
        return _read(graph, str(path), path.stem)
    except Obstacles:
        raise
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None


def operators() -> list[str]:
    """Operators that a tensor which depends on the input can go through."""
    return sorted(STEPS.keys() | JOINS.keys() | {"Shape"})


def _read(graph: Graph, path: str, name: str) -> FloatNetwork:
    if graph.input_type not in _FLOATS:
        raise FewbitError(f"input {graph.input!r}: must be float32, not {graph.input_type}")
    reading = Reading(graph)

    def step(node: Node, inputs: Inputs, values: list[Value], times: int) -> Value:
        return _step(reading, node, inputs, values)

    def constant(node: Node, inputs: Inputs) -> Array:
        return constant_result(node, [value for value in inputs if value is not None], graph.budget)

    visitor = Visitor(step=step, constant=constant, check=_check_supported)
    (output,) = visitor.visit(graph, reading.source, readers_of(graph), path)
    return _network(reading, name, output)


def _check_supported(node: Node) -> None:
    """Raises Refusal, with the nearest operator that works, if no tensor can go through ``node``."""
    if node.domain or (node.op not in STEPS and node.op not in JOINS and node.op != "Shape"):
        raise unsupported(node, NEAREST, " in a float network")


def _step(reading: Reading, node: Node, inputs: Inputs, values: list[Value]) -> Value:
    least, most = inputs_of(node.op)
    if not least <= len(inputs) <= most:
        raise Refusal(f"cannot have {len(inputs)} inputs")
    if any(value.index for value in values) and node.op not in RESHAPING:
        raise Refusal("nothing can follow the arg-max but a change of shape or integer type")
    if any(value.function for value in values) and node.op not in AFTER_FUNCTION | RESHAPING:
        raise Refusal("follows a softmax, which only the end of a network can do")
    if len(values) > 1 or node.op not in STEPS:
        if node.op not in JOINS:
            raise Refusal(
                "takes two tensors that both depend on the input, and hardware is made for sums (Add) and "
                "concatenations (Concat) of such only"
            )
        if len(values) < len(inputs):
            raise Refusal("joins branches with constants: only tensors that depend on the input can be joined")
        return JOINS[node.op](reading, node, values)
    return STEPS[node.op](reading, node, inputs, values[0])


def _network(reading: Reading, name: str, output: Value) -> FloatNetwork:
    draft = reading.draft
    draft.output = output.number
    shape, function = output.shape[1:], output.function
    if output.channels_last and not output.index:
        raise FewbitError("the output has its channels last: end the network in front of the last Transpose")
    best = draft.layers.get(draft.output)
    scores = draft.reads[draft.output][0] if isinstance(best, Best) else draft.output
    while isinstance(smooth := draft.layers.get(scores), Smooth) and len(draft.readers(scores)) <= 1:
        if function is not None:
            raise FewbitError(f"ends in a {function} of a {smooth.name}, and the host applies one of them only")
        before = draft.reads[scores][0]
        function = None if isinstance(best, Best) else smooth.name
        draft.remove(scores)
        scores = before
    fold_scales(draft)
    network = draft.network(
        name=name,
        shape=reading.frames[0],
        output_shape=shape,
        output_function=None if output.index else function,
        input_batch=reading.batch,
        input_shape=reading.input_shape,
        input_order=reading.input_order,
    )
    if not network.products:
        raise FewbitError("has no convolution and no dense layer: there is nothing to quantize")
    return network
