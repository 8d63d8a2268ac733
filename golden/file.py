"""The native model file: a ``.safetensors`` file whose metadata holds the list of layers as JSON. No code is executed
when it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from fewbit.golden.budget import Budget, check_file_size
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import LAYERS, InputQuantizer, Network, TensorType
from fewbit.golden.write import write

FORMAT = "fewbit"
CHAIN, GRAPH = 1, 2
"""Versions of the format. In version 1 each layer reads the one before it; in version 2 layers may name their inputs,
and the host may arrange inputs and outputs. :func:`save` uses version 1 if possible, since older releases can read
it."""
_HOST = {"input_batch", "input_order", "input_shape", "output_function", "output_sizes"}
"""Fields of a network that say what the host does with inputs and outputs. The file has them only if they are set."""
_MOST_HEADER = 1 << 20
"""Largest header in bytes: names, shapes and the description. A layer takes about 300 bytes."""
_ITEMSIZES = {"U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F32": 4, "F64": 8}
"""Bytes of an element, for each type that :func:`save` writes."""


def save(network: Network, path: str | Path) -> None:
    """Write ``network`` to ``path``. If this fails, the old file is unchanged (:func:`fewbit.golden.write.write`)."""
    tensors: dict[str, Any] = {}
    description = {
        "name": network.name,
        "input": _describe(network.input),
        "output_shape": network.output_shape,
        "layers": [
            {"kind": layer.kind} | _take(layer, f"layers.{index}", tensors)
            for index, layer in enumerate(network.layers)
        ],
    }
    if network.input_quantizer is not None:
        description["input_quantizer"] = _take(network.input_quantizer, "input_quantizer", tensors)
    description |= {
        field.name: getattr(network, field.name)
        for field in fields(network)
        if field.name in _HOST and getattr(network, field.name) != field.default
    }
    tensors["output_scale"], tensors["output_bias"] = network.output_scale, network.output_bias
    # A single entry, because safetensors writes several entries in no fixed order.
    version = GRAPH if any(layer.inputs for layer in network.layers) or _HOST & description.keys() else CHAIN
    metadata = {FORMAT: json.dumps({"version": version, "network": description})}
    write(path, save_tensors(tensors, metadata))


def load(path: str | Path) -> Network:
    """Read the network that :func:`save` wrote to ``path``; it equals the one that was saved.

    Raises
    ------
    FewbitError
        If the file is missing, truncated, of another program or of a newer version, or describes an invalid network.
    """
    path = Path(path)
    budget = Budget()
    try:
        _check_header(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: _tensor(file, name, budget) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise FewbitError(f"{path}: no such file") from None
    except OSError as error:
        raise FewbitError(f"{path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise FewbitError(f"{path}: not a whole .safetensors file ({error})") from None
    if FORMAT not in metadata:
        raise FewbitError(f"{path}: a .safetensors file without a fewbit network in it")
    try:
        described = json.loads(metadata[FORMAT])
        version = described["version"]
        if version not in (CHAIN, GRAPH):
            raise FewbitError(f"written in version {version} of the format, this reads {CHAIN} to {GRAPH}")
        return _network(described["network"], tensors, budget)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    except RecursionError:
        raise FewbitError(f"{path}: the network description is damaged: its lists nest too deep") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise FewbitError(f"{path}: the network description is damaged ({type(error).__name__}: {error})") from None


def _check_header(path: Path) -> None:
    """Raise FewbitError if the file, or its header, is too large for a network."""
    with path.open("rb") as file:
        check_file_size(os.fstat(file.fileno()).st_size)
        length = int.from_bytes(file.read(8), "little")
    if _MOST_HEADER < length <= path.stat().st_size:  # the safetensors package rejects a header beyond the end of file
        raise FewbitError(f"has a header of {length:,} bytes, {_MOST_HEADER:,} are the most")


def _tensor(file: Any, name: str, budget: Budget) -> Any:
    part = file.get_slice(name)
    kind = part.get_dtype()
    if kind not in _ITEMSIZES:
        raise FewbitError(f"tensor {name!r}: its element type {kind} is not one of {', '.join(_ITEMSIZES)}")
    budget.take(part.get_shape(), _ITEMSIZES[kind], f"tensor {name!r}")
    return file.get_tensor(name)


def _network(description: dict[str, Any], tensors: dict[str, Any], budget: Budget) -> Network:
    kinds = {layer.kind: layer for layer in LAYERS}
    layers = []
    for index, entry in enumerate(description["layers"]):
        kind = entry.pop("kind")
        if kind not in kinds:
            raise FewbitError(f"layer {entry.get('name')!r} is of the unknown kind {kind!r}")
        layers.append(_give(kinds[kind], entry, f"layers.{index}", tensors, budget))
    quantizer = description.get("input_quantizer")
    shape = description["output_shape"]
    if shape is not None:
        _checked("network", "output_shape", "shape", shape)
    frame = _checked("network", "the shape of its input", "shape", description["input"]["shape"])
    return Network(
        name=_checked("network", "name", "str", description["name"]),
        input=TensorType(DType.parse(description["input"]["dtype"]), tuple(frame)),
        layers=tuple(layers),
        input_quantizer=quantizer and _give(InputQuantizer, quantizer, "input_quantizer", tensors, budget),
        output_scale=tensors["output_scale"],
        output_bias=tensors["output_bias"],
        output_shape=None if shape is None else tuple(shape),
        **_host(description),
    )


def _host(description: dict[str, Any]) -> dict[str, Any]:
    """Those of the fields :data:`_HOST` that the file has."""
    kinds = {field.name: str(field.type) for field in fields(Network)}
    values = {name: _checked("network", name, kinds[name], description[name]) for name in _HOST & description.keys()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _describe(kind: TensorType) -> dict[str, Any]:
    return {"dtype": str(kind.dtype), "shape": list(kind.shape)}


def _take(record: Any, prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``record`` that go to the JSON. Its arrays are added to ``tensors``; weights are packed by
    their code."""
    plain: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name == "weights":
            plain["shape"] = list(value.shape)
            value = record.code.pack(value)
        if isinstance(value, np.ndarray):
            tensors[f"{prefix}.{field.name}"] = _narrow(value)
        else:
            plain[field.name] = str(value) if isinstance(value, (Code, DType)) else value
    if not plain.get("inputs", True):  # empty: it reads the layer before it
        del plain["inputs"]
    return plain


def _narrow(array: Any) -> Any:
    """Return an integer array in the narrowest type that can hold its values (layers widen their arrays again), a float
    array unchanged."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    least, most = int(array.min()), int(array.max())
    kinds = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64)
    return array.astype(next(kind for kind in kinds if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max))


def _checked(owner: str, name: str, kind: str, value: Any) -> Any:
    """Return ``value``, which the JSON has for the field ``name`` of ``owner``. Raises FewbitError unless it has the
    type ``kind``: neither JSON nor Python rejects 0.5 where an integer is needed, or "yes" where a bool is."""
    fits, expected = _FIELDS[kind]
    if not fits(value):
        raise FewbitError(f"{owner}: {name} must be {expected}, not {value!r}")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_whole(value: Any, count: int | None = None) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value)) and count in (None, len(value))


_TEXT = (lambda value: isinstance(value, str), "a string")
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": _TEXT,
    "Code": _TEXT,
    "DType": _TEXT,
    "str | None": _TEXT,
    "int": (_is_whole, "a whole number of 64 bits"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "shape": (_are_whole, "a list of whole numbers"),
    "tuple[int, ...]": (_are_whole, "a list of whole numbers"),
    "tuple[int, ...] | None": (_are_whole, "a list of whole numbers"),
    "tuple[str, ...]": (_are_names, "a list of names of layers"),
    "tuple[int, int]": (lambda value: _are_whole(value, 2), "two whole numbers"),
    "tuple[int, int, int, int]": (lambda value: _are_whole(value, 4), "four whole numbers"),
    "Ints": (lambda value: False, "a tensor of the file"),
    "Ints | None": (lambda value: value is None, "a tensor of the file"),
}
"""For each type of a field: a check of its value in the JSON, and a description of valid values for messages."""


def _give(record: Any, plain: dict[str, Any], prefix: str, tensors: dict[str, Any], budget: Budget) -> Any:
    """The inverse of :func:`_take`."""
    values = dict(plain)
    shape = values.pop("shape", None)
    label = f"layer {values['name']!r}" if "name" in values else "input quantizer"
    for field in fields(record):
        if field.name in values:
            _checked(label, field.name, str(field.type), values[field.name])
    if "code" in values:
        values["code"] = Code.parse(values["code"])
    if "dtype" in values:
        values["dtype"] = DType.parse(values["dtype"])
    if "inputs" in values:
        values["inputs"] = tuple(values["inputs"])
    names = {field.name for field in fields(record)}
    values |= {name: tensors[f"{prefix}.{name}"] for name in names if f"{prefix}.{name}" in tensors}
    if shape is not None:
        budget.take(_checked(label, "shape", "shape", shape), 8, f"{label}: the array of its weights")
        if min(shape, default=1) < 1:
            raise FewbitError(f"{label}: weights must not be empty, got shape {tuple(shape)}")
        values["weights"] = values["code"].unpack(values["weights"], tuple(shape))
    return record(**values)
