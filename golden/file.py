"""The native model file: a ``.safetensors`` whose metadata holds the layer list as JSON. Nothing in it is executed."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import LAYERS, InputQuantizer, Network, TensorType

FORMAT = "fewbit"
VERSION = 1


def save(network: Network, path: str | Path) -> None:
    """Writes ``network`` to ``path``, aside first and then renamed, so that a file is whole or absent."""
    path = Path(path)
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
    tensors["output_scale"], tensors["output_bias"] = network.output_scale, network.output_bias
    # One entry only: the order of several is not the same from one save to the next.
    metadata = {FORMAT: json.dumps({"version": VERSION, "network": description})}
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(save_tensors(tensors, metadata))
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise FewbitError(f"cannot write {path}: {error.strerror}") from None


def load(path: str | Path) -> Network:
    """The network in ``path``; ``load(save(net)) == net``.

    Raises
    ------
    FewbitError
        If the file is missing, truncated, foreign, of a newer version, or describes no valid network.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
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
        if described["version"] != VERSION:
            raise FewbitError(f"written in version {described['version']} of the format, this reads {VERSION}")
        return _network(described["network"], tensors)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FewbitError(f"{path}: the network description is damaged ({type(error).__name__}: {error})") from None


def _network(description: dict[str, Any], tensors: dict[str, Any]) -> Network:
    kinds = {layer.kind: layer for layer in LAYERS}
    layers = []
    for index, entry in enumerate(description["layers"]):
        kind = entry.pop("kind")
        if kind not in kinds:
            raise FewbitError(f"layer {entry.get('name')!r} is of the unknown kind {kind!r}")
        layers.append(_give(kinds[kind], entry, f"layers.{index}", tensors))
    quantizer = description.get("input_quantizer")
    shape = description["output_shape"]
    return Network(
        name=description["name"],
        input=TensorType(DType.parse(description["input"]["dtype"]), tuple(description["input"]["shape"])),
        layers=tuple(layers),
        input_quantizer=quantizer and _give(InputQuantizer, quantizer, "input_quantizer", tensors),
        output_scale=tensors["output_scale"],
        output_bias=tensors["output_bias"],
        output_shape=None if shape is None else tuple(shape),
    )


def _describe(kind: TensorType) -> dict[str, Any]:
    return {"dtype": str(kind.dtype), "shape": list(kind.shape)}


def _take(record: Any, prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """Plain fields of ``record`` for the JSON; its arrays go to ``tensors``, weights packed by their code."""
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
    return plain


def _narrow(array: Any) -> Any:
    """Integers in the narrowest kind that holds them all; a layer widens its own again. Reals as they are."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    least, most = int(array.min()), int(array.max())
    kinds = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64)
    return array.astype(next(kind for kind in kinds if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max))


def _give(record: Any, plain: dict[str, Any], prefix: str, tensors: dict[str, Any]) -> Any:
    """The inverse of :func:`_take`."""
    values = dict(plain)
    shape = values.pop("shape", None)
    if "code" in values:
        values["code"] = Code.parse(values["code"])
    if "dtype" in values:
        values["dtype"] = DType.parse(values["dtype"])
    names = {field.name for field in fields(record)}
    values |= {name: tensors[f"{prefix}.{name}"] for name in names if f"{prefix}.{name}" in tensors}
    if shape is not None:
        values["weights"] = values["code"].unpack(values["weights"], tuple(shape))
    return record(**values)
