"""Reads and checks an ONNX file: the nodes that its output depends on, in topological order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.budget import Budget, check_shape
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.importers.content import content_of
from fewbit.importers.onnx_external import check_external

Array = NDArray[Any]

QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "qonnx", "finn", "")
"""Domains of the operators that QONNX adds, today's first. Older exports have other names, or no domain at all; ONNX
itself has no operator of the same name."""
CODE_KEY = "fewbit_code"
"""Key of the annotation of quantized weights with the name of their weight code, which :mod:`fewbit.exporters.qonnx`
writes."""
QONNX_OPS = frozenset({"Quant", "IntQuant", "BipolarQuant", "MultiThreshold", "Trunc"})
"""Operators that QONNX adds."""
CHANNELS_LAST_DOMAIN = "qonnx.custom_op.channels_last"
"""Domain of the standard operators that qonnx wraps for activations, and kernels, with channels last."""
DEFAULT_OPSET = 13
"""Version of the standard operators in a file that states none."""

_NARROW = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
"""Bits of the integer types that are packed in bytes."""

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
"""Types of the attributes whose default is None; the type of any other attribute is that of its default."""


class Refusal(FewbitError):
    """Why a node cannot be lowered. The reader that walks the graph puts the names of file and node in front."""


@dataclass(frozen=True)
class Node:
    """A node: ``label`` names it to the user, ``attributes`` are plain values, ``opset`` its domain's version."""

    name: str
    label: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int = DEFAULT_OPSET

    @property
    def is_qonnx(self) -> bool:
        """Whether QONNX adds this operator."""
        return self.op in QONNX_OPS and self.domain in QONNX_DOMAINS

    def settings(self, **defaults: Any) -> list[Any]:
        """The attributes named in ``defaults``, in that order. Refuses one of another name."""
        for name, value in self.attributes.items():
            if name not in defaults:
                raise Refusal(f"its attribute {name!r} is not supported")
            expected_type = _ATTRIBUTE_KINDS.get(name, type(defaults[name]))
            fits = isinstance(value, expected_type) and not (isinstance(value, float) and not math.isfinite(value))
            if isinstance(value, list):
                entry = float if name == "value_floats" else int
                fits = fits and all(isinstance(number, entry) for number in value)
            if not fits:
                shown = repr(value) if isinstance(value, (int, float, str)) else type(value).__name__
                raise Refusal(f"its attribute {name!r} cannot be {shown}")
        return [self.attributes.get(name, default) for name, default in defaults.items()]


@dataclass(frozen=True)
class Graph:
    """The part of a file's graph that its outputs depend on.

    Attributes
    ----------
    input : str
        Name of the one input tensor.
    outputs : tuple of str
        Names of the output tensors.
    input_type : str
        Element type of the input as NumPy names it: ``float32``, ``uint8``.
    input_shape : tuple of int
        With the batch axis, which is 1: a network computes one frame.
    batch : int
        Extent of the batch axis in the file; 1 if it is symbolic.
    annotation : str or None
        The input's ``finn_datatype``, if the file annotates one.
    codes : dict
        Names of the weight codes that the file annotates (:data:`CODE_KEY`), by tensor.
    nodes : tuple of Node
        In topological order.
    constants : dict
        Initializers by name. Those of 2 or 4 bits are int8 or uint8 arrays.
    narrow : dict
        Number type of the constants of 2 or 4 bits, by name.
    budget : Budget
        Memory that the constants take so far, and its limit.
    """

    input: str
    outputs: tuple[str, ...]
    input_type: str
    input_shape: tuple[int, ...]
    batch: int
    annotation: str | None
    codes: Mapping[str, str]
    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    budget: Budget
    narrow: Mapping[str, DType] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """Name of the only output tensor."""
        (output,) = self.outputs
        return output


def read(path: Path, several_outputs: bool = False) -> Graph:
    """The graph in the ONNX file ``path``.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or no ONNX file, or its graph has more than one input, or more than one output
        without ``several_outputs``.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise FewbitError(f"{path}: reading ONNX needs the onnx package: pip install onnx") from None
    content = content_of(path)
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RecursionError):
        raise FewbitError(f"{path}: not a whole ONNX file") from None
    if not model.HasField("graph"):
        raise FewbitError(f"{path}: not a whole ONNX file")
    if not model.graph.node:
        raise FewbitError(f"{path}: its graph has no nodes: there is nothing to compute")
    versions = {_domain(entry.domain): entry.version for entry in model.opset_import}
    if model.functions:
        raise FewbitError(f"{path}: model functions are not supported: inline them first")
    try:
        return _index(model.graph, path.parent, versions, several_outputs)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None


def inputs_of(op: str) -> tuple[int, int]:
    """How many inputs a standard op has, at least and at most."""
    from onnx import defs

    schema = defs.get_schema(op)
    return schema.min_input, schema.max_input


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _index(graph: Any, folder: Path, versions: Mapping[str, int], several_outputs: bool) -> Graph:
    if graph.sparse_initializer:
        raise FewbitError("sparse initializers are not supported")
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    _refuse_twice("initializers are named", (tensor.name for tensor in graph.initializer))
    _refuse_twice("inputs are named", (value.name for value in graph.input))
    budget = Budget()
    inputs = [value for value in graph.input if value.name not in tensors]
    for what, values in (("input", inputs), ("output", graph.output)):
        if len(values) != 1 and not (several_outputs and what == "output" and values):
            raise FewbitError(_not_one(what, [value.name for value in values]))
    source, sinks = inputs[0], [value.name for value in graph.output]
    _refuse_twice("outputs are named", sinks)
    nodes = _reachable(graph.node, sinks, {source.name, *tensors}, versions, budget)
    used = {name for node in nodes for name in node.inputs}
    shape = _shape(source)
    annotations = {
        _text(entry.value)
        for annotation in graph.quantization_annotation
        if annotation.tensor_name == source.name
        for entry in annotation.quant_parameter_tensor_names
        if entry.key == "finn_datatype"
    }
    if len(annotations) > 1:
        raise FewbitError(f"input {source.name!r}: is annotated as {' and as '.join(sorted(annotations))}")
    return Graph(
        input=source.name,
        outputs=tuple(sinks),
        input_type=_element_type(source),
        input_shape=(1, *shape[1:]),
        batch=max(1, shape[0]),
        annotation=annotations.pop() if annotations else None,
        codes={
            _text(annotation.tensor_name): _text(entry.value)
            for annotation in graph.quantization_annotation
            for entry in annotation.quant_parameter_tensor_names
            if entry.key == CODE_KEY
        },
        nodes=nodes,
        constants={name: _array(tensor, folder, budget) for name, tensor in tensors.items() if name in used},
        budget=budget,
        narrow=_narrow_types(graph.node, nodes, tensors),
    )


def _narrow_types(protos: Iterable[Any], nodes: Iterable[Node], tensors: Mapping[str, Any]) -> dict[str, DType]:
    """Number type of each tensor of 2 or 4 bits, which its array, of 8 bits, does not tell.

    ``nodes`` are in topological order. Operators keep the type, unless they are there to change it.
    """
    kinds = {name: tensor.data_type for name, tensor in tensors.items()}
    for proto in protos:
        # The value of a Constant or a ConstantOfShape.
        held = [entry.t.data_type for entry in proto.attribute if entry.HasField("t")]
        kinds.update({name: held[0] for name in proto.output[:1] if held})
    narrow = {name: DType.parse(kind) for name, number in kinds.items() if (kind := _type_name(number)) in _NARROW}
    for node in nodes:
        sources = node.inputs[1:2] if node.op == "CastLike" else node.inputs
        if node.op == "Cast":
            kind = _type_name(node.attributes["to"]) if isinstance(node.attributes.get("to"), int) else ""
            found = [DType.parse(kind)] if kind in _NARROW else []
        elif node.op in ("DequantizeLinear", "Shape", "Size"):
            found = []
        else:
            found = [narrow[name] for name in sources if name in narrow]
        if found:
            narrow.update(dict.fromkeys(node.outputs, found[0]))
    return narrow


def _not_one(what: str, names: list[str]) -> str:
    """Why a graph cannot have the inputs or outputs (``what``) ``names``, and what to do."""
    if not names:
        return f"the graph has no {what}"
    shown = ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")
    return (
        f"the graph must have one {what}, not {len(names)} ({shown}): cut it down to one with "
        f"onnx.utils.extract_model, and build one network for each"
    )


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    """Raises FewbitError if a name occurs twice: ONNX forbids it, and readers differ in which of the two they use."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise FewbitError(f"two {what} {name!r}")
        seen.add(name)


def _reachable(
    protos: Any, outputs: list[str], sources: set[str], versions: Mapping[str, int], budget: Budget
) -> tuple[Node, ...]:
    """The nodes that ``outputs`` depend on, in topological order; ``sources`` are the input and the constants."""
    makers: dict[str, int] = {}
    for index, proto in enumerate(protos):
        for name in proto.output:
            if name in makers or name in sources:
                raise FewbitError(f"{_label(proto, index)}: the tensor {name!r} is made twice")
            if name:
                makers[name] = index
    for output in outputs:
        if output not in makers:
            raise FewbitError(f"no node makes the output {output!r}")
    order: dict[int, None] = {}
    pending = [(makers[output], False) for output in reversed(outputs)]
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
            raise FewbitError(f"{label}: depends on its own output")
        open_nodes.add(index)
        pending.append((index, True))
        for name in reversed(protos[index].input):
            if name in makers:
                pending.append((makers[name], False))
            elif name and name not in sources:
                raise FewbitError(f"{label}: nothing makes its input {name!r}")
    return tuple(_node(protos[index], index, versions, budget) for index in order)


def _label(proto: Any, index: int) -> str:
    op = "".join(letter if letter.isprintable() else "?" for letter in _text(proto.op_type))
    return f"node {_text(proto.name)!r} ({op})" if proto.name else f"node {index} ({op})"


def _text(value: str | bytes) -> str:
    """A protobuf string, which comes as bytes where it is not UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _node(proto: Any, index: int, versions: Mapping[str, int], budget: Budget) -> Node:
    label = _label(proto, index)
    try:
        _refuse_twice("attributes are named", (_text(entry.name) for entry in proto.attribute))
        attributes = {_text(entry.name): _attribute(entry, budget) for entry in proto.attribute}
    except FewbitError as error:
        raise FewbitError(f"{label}: {error}") from None
    return Node(
        name=_text(proto.name),
        label=label,
        op=_text(proto.op_type),
        domain=_domain(_text(proto.domain)),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
        opset=versions.get(_domain(_text(proto.domain)), DEFAULT_OPSET),
    )


def _attribute(proto: Any, budget: Budget) -> Any:
    from onnx import AttributeProto, helper

    if proto.type == AttributeProto.TENSOR:
        return _array(proto.t, None, budget)
    if proto.type not in (
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
    ):
        raise FewbitError(f"its attribute {proto.name!r} is not supported")
    value = helper.get_attribute_value(proto)
    return _text(value) if isinstance(value, bytes) else value


def numeric(kind: np.dtype[Any]) -> bool:
    """Whether ``kind`` is a built-in boolean, integer or float type of NumPy, not a string, complex or 8-bit float."""
    return kind.kind in "biuf" and kind.isbuiltin == 1


def _array(tensor: Any, folder: Path | None, budget: Budget) -> Array:
    """``tensor`` as an array. ``folder`` is that of the model file, for external data; None refuses external data."""
    from onnx import TensorProto, helper, numpy_helper

    external = tensor.data_location == TensorProto.EXTERNAL
    if external and folder is None:
        raise FewbitError(f"tensor {tensor.name!r}: external data are not supported here")
    if any(extent < 0 for extent in tensor.dims):
        raise FewbitError(f"tensor {tensor.name!r}: a negative extent")
    try:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError):
        raise FewbitError(f"tensor {tensor.name!r}: its element type {tensor.data_type} is not known") from None
    narrow = _type_name(tensor.data_type) in _NARROW
    if not numeric(kind) and not narrow:
        raise FewbitError(
            f"tensor {tensor.name!r}: its element type {_type_name(tensor.data_type)} is not supported, only "
            "integers, floats and booleans"
        )
    budget.take(list(tensor.dims), kind.itemsize, f"tensor {tensor.name!r}")
    if external and folder is not None:
        size = math.prod(tensor.dims)
        held = -(-size * _NARROW[_type_name(tensor.data_type)] // 8) if narrow else size * kind.itemsize
        check_external(tensor, folder, held)
    try:
        values = np.asarray(numpy_helper.to_array(tensor, "" if folder is None else str(folder)))
        return (
            values.astype(np.int8 if _type_name(tensor.data_type).startswith("int") else np.uint8) if narrow else values
        )
    except (ValueError, TypeError, LookupError, OSError, ArithmeticError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FewbitError(f"tensor {tensor.name!r} cannot be read: {reason}") from None
    except Exception as error:  # onnx's own checker error for external data derives from Exception only
        if type(error).__module__.startswith("onnx"):
            raise FewbitError(f"tensor {tensor.name!r} cannot be read: {str(error).splitlines()[0]}") from None
        raise


def _type_name(number: int) -> str:
    """Name of an element type; its number if it has none."""
    from onnx import TensorProto

    try:
        return str(TensorProto.DataType.Name(number).lower())
    except ValueError:
        return str(number)


def _element_type(value: Any) -> str:
    from onnx import helper

    try:
        return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except (KeyError, TypeError, ValueError):
        return "unknown"


def _shape(value: Any) -> tuple[int, ...]:
    """Shape of an input, its batch axis first; a symbolic batch axis is 0."""
    if not value.type.tensor_type.HasField("shape"):
        raise FewbitError(f"input {value.name!r}: its shape is unknown")
    shape = [extent.dim_value for extent in value.type.tensor_type.shape.dim]
    if len(shape) < 2:
        raise FewbitError(f"input {value.name!r}: needs a batch axis and at least one more, not shape {tuple(shape)}")
    if any(extent < 1 for extent in shape[1:]):
        raise FewbitError(f"input {value.name!r}: only its batch axis may be symbolic")
    if shape[0] < 0:
        raise FewbitError(f"input {value.name!r}: cannot have shape {tuple(shape)}")
    check_shape(shape, f"input {value.name!r}")
    return tuple(shape)
