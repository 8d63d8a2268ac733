"""Visits the nodes of an ONNX graph in topological order, and collects everything that stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from fewbit.golden.errors import FewbitError
from fewbit.importers.obstacles import Obstacles
from fewbit.importers.onnx_constants import constant_result
from fewbit.importers.onnx_graph import Graph, Node, Refusal


class Shaped(Protocol):
    """A tensor that depends on the graph's input."""

    @property
    def shape(self) -> tuple[int, ...]: ...


T = TypeVar("T", bound=Shaped)
Inputs = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Visitor(Generic[T]):
    """What a reader does with the nodes of a graph.

    Attributes
    ----------
    step : callable (node, inputs, tensors, readers)
        The result of a node, of whose ``inputs`` some are ``tensors`` that depend on the graph's input; ``readers``
        times it is read.
    constant : callable (node, inputs)
        The result of a node whose inputs are all constant.
    check : callable (node)
        Raises Refusal if no such tensor can go through the node, whatever its inputs are.
    """

    step: Callable[[Node, Inputs, list[T], int], T]
    constant: Callable[[Node, Inputs], Any]
    check: Callable[[Node], None]

    def visit(self, graph: Graph, source: T, readers: Mapping[str, int], path: str) -> list[T]:
        """The outputs of ``graph``, in order, from its input ``source``; ``path`` is for messages.

        What depends on a refused node is not known. It is only checked for operators that are refused anywhere.

        Raises
        ------
        Obstacles
            With a line for each node that stands in the way.
        FewbitError
            If an output does not depend on the input.
        """
        unknown: set[str] = set()
        found: list[str] = []
        tensors: dict[str, T] = {graph.input: source}
        constants: dict[str, Any] = dict(graph.constants)
        for node in graph.nodes:
            try:
                if not unknown.isdisjoint(node.inputs):
                    unknown.update(node.outputs)
                    self.check(node)
                    continue
                active = [tensors[name] for name in node.inputs if name in tensors]
                inputs = tuple(tensors.get(name, constants.get(name)) for name in node.inputs)
                for name, value in zip(node.inputs, inputs):
                    if name and value is None:
                        raise Refusal(f"takes {name!r}, an output that is not supported")
                if node.op == "Shape" and node.domain == "" and active:
                    shape = np.empty(active[0].shape, np.uint8)
                    constants[node.outputs[0]] = constant_result(node, [shape], graph.budget)
                elif not active:
                    constants[node.outputs[0]] = self.constant(node, inputs)
                else:
                    self.check(node)
                    output = carrier(node, readers.keys())
                    tensors[output] = self.step(node, inputs, active, readers[output])
            except FewbitError as error:
                found.append(f"{node.label}: {error}")
                unknown.update(node.outputs)
        if found:
            raise Obstacles(path, found)
        for output in graph.outputs:
            if output not in tensors:
                raise FewbitError(f"the output {output!r} does not depend on the input")
        return [tensors[output] for output in graph.outputs]


def readers_of(graph: Graph) -> Counter[str]:
    """How many times each tensor is read, by nodes and as an output of the graph."""
    return Counter(name for node in graph.nodes for name in node.inputs) + Counter(graph.outputs)


def carrier(node: Node, needed: Collection[str]) -> str:
    """Name of the output that carries the activations. Refuses a node with another output that is ``needed``."""
    place = 1 if node.op == "TopK" else 0
    if len(node.outputs) <= place:
        raise Refusal(f"cannot have {len(node.outputs)} outputs")
    for index, name in enumerate(node.outputs):
        if index != place and name in needed:
            raise Refusal(f"its output {name!r} is not supported")
    return node.outputs[place]


def unsupported(node: Node, nearest: Mapping[str, str], where: str = "") -> Refusal:
    """That ``node`` is not supported (``where``), with the ``nearest`` operator that works, if there is one."""
    instead = nearest.get(node.op)
    return Refusal(f"this op is not supported{where}" + (f": {instead}" if instead else ""))
