"""An ONNX file, read and checked: the nodes that its output hangs on, in order. Knows nothing of networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.errors import FewbitError

Array = NDArray[Any]

QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
LARGEST = 1 << 28
"""Elements that a tensor may have."""


_ATTRIBUTE_KINDS: dict[str, type] = {
    "axes": list,
    "axis": int,
    "consumed_inputs": list,
    "dilations": list,
    "ends": list,
    "k": int,
    "kernel_shape": list,
    "max": float,
    "min": float,
    "narrow": int,
    "pads": list,
    "perm": list,
    "signed": int,
    "starts": list,
    "strides": list,
    "to": int,
    "value": np.ndarray,
    "value_float": float,
    "value_floats": list,
    "value_int": int,
    "value_ints": list,
}
"""Of those attributes that have no default to tell."""


class Refusal(FewbitError):
    """Why a node cannot be taken; whoever walks the graph puts file and node in front."""


@dataclass(frozen=True)
class Node:
    """A node: ``label`` names it to the user, ``attributes`` are plain values."""

    name: str
    label: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def settings(self, **defaults: Any) -> list[Any]:
        """The attributes named in ``defaults``, in that order. Refuses one of another name."""
        for name, value in self.attributes.items():
            if name not in defaults:
                raise Refusal(f"its attribute {name!r} is not supported")
            wanted = _ATTRIBUTE_KINDS.get(name, type(defaults[name]))
            if not isinstance(value, wanted) or (isinstance(value, float) and not math.isfinite(value)):
                shown = repr(value) if isinstance(value, (int, float, str)) else type(value).__name__
                raise Refusal(f"its attribute {name!r} cannot be {shown}")
        return [self.attributes.get(name, default) for name, default in defaults.items()]


@dataclass(frozen=True)
class Graph:
    """The part of a file's graph that its one output hangs on.

    Attributes
    ----------
    input, output : str
        Names of the one input and the one output tensor.
    input_type : str
        Element type of the input as NumPy names it: ``float32``, ``uint8``.
    input_shape : tuple of int
        With the batch axis, which is 1.
    annotation : str or None
        The input's ``finn_datatype``, if the file annotates one.
    nodes : tuple of Node
        In topological order.
    constants : dict
        Initializers by name.
    """

    input: str
    output: str
    input_type: str
    input_shape: tuple[int, ...]
    annotation: str | None
    nodes: tuple[Node, ...]
    constants: dict[str, Array]


def read(path: Path) -> Graph:
    """The graph in the ONNX file ``path``.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or foreign, or its graph has not one input and one output.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise FewbitError(f"{path}: reading ONNX needs the onnx package: pip install onnx") from None
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise FewbitError(f"{path}: {reason}") from None
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError):
        raise FewbitError(f"{path}: not a whole ONNX file") from None
    imported = {_domain(entry.domain) for entry in model.opset_import}
    if not model.graph.node or not imported:
        raise FewbitError(f"{path}: not a whole ONNX file")
    if model.functions:
        raise FewbitError(f"{path}: model functions are not supported: inline them first")
    try:
        graph = _index(model.graph, path.parent)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    for node in graph.nodes:
        if node.domain not in imported:
            raise FewbitError(
                f"{path}: {node.label}: its domain {node.domain!r} is not imported: not a whole ONNX file"
            )
    return graph


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _index(graph: Any, folder: Path) -> Graph:
    if graph.sparse_initializer:
        raise FewbitError("sparse initializers are not supported")
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in tensors]
    for what, values in (("input", inputs), ("output", graph.output)):
        if len(values) != 1:
            raise FewbitError(f"the graph must have one {what}, not {len(values)}")
    source, sink = inputs[0], graph.output[0]
    nodes = _reachable(graph.node, sink.name, {source.name, *tensors})
    used = {name for node in nodes for name in node.inputs}
    annotations = {
        annotation.tensor_name: _text(entry.value)
        for annotation in graph.quantization_annotation
        for entry in annotation.quant_parameter_tensor_names
        if entry.key == "finn_datatype"
    }
    return Graph(
        input=source.name,
        output=sink.name,
        input_type=_element_type(source),
        input_shape=_shape(source),
        annotation=annotations.get(source.name),
        nodes=nodes,
        constants={name: _array(tensor, folder) for name, tensor in tensors.items() if name in used},
    )


def _reachable(protos: Any, output: str, given: set[str]) -> tuple[Node, ...]:
    """The nodes that ``output`` hangs on, in topological order."""
    makers: dict[str, int] = {}
    for index, proto in enumerate(protos):
        for name in proto.output:
            if name in makers or name in given:
                raise FewbitError(f"{_label(proto, index)}: the tensor {name!r} is made twice")
            if name:
                makers[name] = index
    if output not in makers:
        raise FewbitError(f"no node makes the output {output!r}")
    order: dict[int, None] = {}
    pending = [(makers[output], False)]
    open_nodes: set[int] = set()
    while pending:
        index, done = pending.pop()
        if done:
            order[index] = None
            open_nodes.discard(index)
            continue
        if index in order:
            continue
        label = _label(protos[index], index)
        if index in open_nodes:
            raise FewbitError(f"{label}: hangs on its own output")
        open_nodes.add(index)
        pending.append((index, True))
        for name in reversed(protos[index].input):
            if name in makers:
                pending.append((makers[name], False))
            elif name and name not in given:
                raise FewbitError(f"{label}: nothing makes its input {name!r}")
    return tuple(_node(protos[index], index) for index in order)


def _label(proto: Any, index: int) -> str:
    op = "".join(letter if letter.isprintable() else "?" for letter in _text(proto.op_type))
    return f"node {_text(proto.name)!r} ({op})" if proto.name else f"node {index} ({op})"


def _text(value: str | bytes) -> str:
    """A protobuf string, which comes as bytes where it is not UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _node(proto: Any, index: int) -> Node:
    label = _label(proto, index)
    return Node(
        name=_text(proto.name),
        label=label,
        op=_text(proto.op_type),
        domain=_domain(_text(proto.domain)),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={_text(entry.name): _attribute(entry, label) for entry in proto.attribute},
    )


def _attribute(proto: Any, label: str) -> Any:
    from onnx import AttributeProto, helper

    if proto.type == AttributeProto.TENSOR:
        return _array(proto.t, Path())
    if proto.type not in (
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
    ):
        raise FewbitError(f"{label}: its attribute {proto.name!r} is not supported")
    value = helper.get_attribute_value(proto)
    return _text(value) if isinstance(value, bytes) else value


def _array(tensor: Any, folder: Path) -> Array:
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL and folder == Path():
        raise FewbitError(f"tensor {tensor.name!r}: external data are not supported here")
    if any(extent < 0 for extent in tensor.dims):
        raise FewbitError(f"tensor {tensor.name!r}: a negative extent")
    try:
        return np.asarray(numpy_helper.to_array(tensor, str(folder)))
    except (ValueError, TypeError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FewbitError(f"tensor {tensor.name!r} cannot be read: {reason}") from None
    except Exception as error:  # onnx's own checker error for external data derives from Exception only
        if type(error).__module__.startswith("onnx"):
            raise FewbitError(f"tensor {tensor.name!r} cannot be read: {str(error).splitlines()[0]}") from None
        raise


def _element_type(value: Any) -> str:
    from onnx import helper

    try:
        return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except (KeyError, TypeError, ValueError):
        return "unknown"


def _shape(value: Any) -> tuple[int, ...]:
    """Shape of an input with its batch axis 1, which a symbolic one is too: a network computes one frame."""
    if not value.type.tensor_type.HasField("shape"):
        raise FewbitError(f"input {value.name!r}: its shape is unknown")
    shape = [extent.dim_value for extent in value.type.tensor_type.shape.dim]
    if len(shape) < 2:
        raise FewbitError(f"input {value.name!r}: needs a batch axis and at least one more, not shape {tuple(shape)}")
    if shape[0] > 1:
        raise FewbitError(f"input {value.name!r}: its batch axis must be 1 or symbolic, not {shape[0]}")
    if any(extent < 1 for extent in shape[1:]):
        raise FewbitError(f"input {value.name!r}: only its batch axis may be symbolic")
    if shape[0] < 0 or int(np.prod(shape[1:], dtype=object)) > LARGEST:
        raise FewbitError(f"input {value.name!r}: cannot have shape {tuple(shape)}")
    return (1, *shape[1:])
