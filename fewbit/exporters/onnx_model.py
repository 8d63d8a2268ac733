"""An ONNX model that grows node by node, with the shape of every tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

QONNX_DOMAIN = "qonnx.custom_op.general"
OPSET, QONNX_OPSET, IR_VERSION = 13, 1, 8
"""Versions that every reader of QONNX takes: 13 is the oldest in which a softmax runs over one axis."""


class OnnxModel:
    """A model with one input and one output.

    Attributes
    ----------
    batch : int
        First extent of every activation.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._values: dict[str, Any] = {}
        self._annotations: dict[str, dict[str, str]] = {}
        self._names: set[str] = set()

    def name(self, wanted: str) -> str:
        """``wanted``, or the next name after it that is not taken; taken from now on."""
        name, number = wanted, 1
        while name in self._names or not name:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name

    def tensor(self, wanted: str, shape: Iterable[int], element: Any = np.float32, activation: bool = True) -> str:
        """A tensor of a new name; ``shape`` is that of one frame if it is an ``activation``."""
        from onnx import helper

        name = self.name(wanted)
        extents = [self.batch, *shape] if activation else list(shape)
        self._values[name] = helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(element)), extents
        )
        return name

    def constant(self, wanted: str, value: Any, element: Any = np.float32) -> str:
        """An initializer."""
        from onnx import numpy_helper

        name = self.name(wanted)
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(value, element), name))
        return name

    def node(self, op: str, inputs: Iterable[str], output: str, domain: str = "", **attributes: Any) -> str:
        """A node named after its one output; returns that."""
        from onnx import helper

        self._nodes.append(helper.make_node(op, list(inputs), [output], output, domain=domain, **attributes))
        return output

    def annotate(self, tensor: str, key: str, value: str) -> None:
        """A note on a tensor, such as its ``finn_datatype``."""
        self._annotations.setdefault(tensor, {})[key] = value

    def content(self, title: str, source: str, sink: str) -> bytes:
        """The bytes of the model file."""
        from onnx import StringStringEntryProto, TensorAnnotation, helper

        from fewbit.version import __version__

        inner = [value for name, value in self._values.items() if name not in (source, sink)]
        graph = helper.make_graph(
            self._nodes, title, [self._values[source]], [self._values[sink]], self._initializers, value_info=inner
        )
        for tensor, notes in self._annotations.items():
            entries = [StringStringEntryProto(key=key, value=value) for key, value in notes.items()]
            graph.quantization_annotation.append(
                TensorAnnotation(tensor_name=tensor, quant_parameter_tensor_names=entries)
            )
        domains = dict.fromkeys(["", *(node.domain for node in self._nodes)])
        opsets = [helper.make_opsetid(domain, QONNX_OPSET if domain else OPSET) for domain in domains]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fewbit", producer_version=__version__
        )
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def column(values: NDArray[Any], rank: int) -> NDArray[Any]:
    """Values of channels in the shape in which they broadcast over activations with ``rank`` axes, the batch first."""
    return values.reshape(1, -1, *[1] * (rank - 2))
