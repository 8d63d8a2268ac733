"""Reads networks from files. :data:`READERS` has the reader of each file format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewbit import models
from fewbit.golden import file
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network

if TYPE_CHECKING:
    from fewbit.importers.float_onnx.network import FloatNetwork


@dataclass(frozen=True)
class Reader:
    """Reader of a file format.

    Parameters
    ----------
    network : callable (path, input)
        Reads an integer network. ``input`` says from which integers a float input is computed, or is None.
    source : callable (path)
        Reads a network to be quantized: a float network or an integer network.
    """

    network: Callable[[Path, str | None], Network]
    source: Callable[[Path], FloatNetwork | Network]


def _native(path: Path, input: str | None = None) -> Network:
    if input is not None:
        raise FewbitError(f"{path}: input={input!r} is for ONNX files; this file defines its own input")
    return file.load(path)


def _onnx(path: Path, input: str | None) -> Network:
    from fewbit.importers.onnx_graph import read
    from fewbit.importers.qdq import reader as qdq
    from fewbit.importers.qonnx import reader as qonnx

    graph = read(path, several_outputs=True)
    load_graph = qdq.load_graph if qdq.recognizes(graph) else qonnx.load_graph
    return load_graph(graph, path, input)


def _onnx_source(path: Path) -> FloatNetwork | Network:
    from fewbit.importers.float_onnx import reader
    from fewbit.importers.onnx_graph import read
    from fewbit.importers.qdq.reader import recognizes

    graph = read(path, several_outputs=True)
    quantized = recognizes(graph) or any(node.is_qonnx for node in graph.nodes)
    return _onnx(path, None) if quantized else reader.load(path)


def _tflite(path: Path, input: str | None = None) -> Network:
    from fewbit.importers.tflite import reader

    if input is not None:
        raise FewbitError(f"{path}: input={input!r} is for ONNX files; this file defines its own input")
    return reader.load(path)


READERS = {
    ".safetensors": Reader(_native, _native),
    ".onnx": Reader(_onnx, _onnx_source),
    ".tflite": Reader(_tflite, _tflite),
}
"""Readers by file suffix."""


def supported_operators() -> dict[str, list[str]]:
    """The ONNX operators that each reader takes, from its own table, by what the reader reads."""
    from fewbit.importers.float_onnx import reader
    from fewbit.importers.onnx_constants import constant_operators
    from fewbit.importers.qdq import operators as qdq
    from fewbit.importers.qonnx import ops

    return {
        "QONNX networks": ops.operators(),
        "QDQ networks, and those of operators on integers": qdq.operators(),
        "float ONNX networks, for fewbit quantize": reader.operators(),
        "constants of all": constant_operators(),
    }


def load(model: str | Path, *, input: str | None = None) -> Network:
    """Load an integer network from a file, or a network that comes with fewbit by its name.

    Parameters
    ----------
    model : str or Path
        A native ``.safetensors`` file, a QONNX or QDQ ``.onnx`` file, a ``.tflite`` file or, if there is no such file,
        a name such as ``mnist-small``.
    input : str, optional
        For ONNX: integers from which a float input is computed, such as ``uint8/255``; see
        :func:`fewbit.importers.qonnx.reader.load`.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or of another format, or the network is not supported.
    """
    path, reader = _found(model, models.shipped())
    return reader.network(path, input)


def load_source(model: str | Path) -> FloatNetwork | Network:
    """Load a network to quantize from a file, or a network that comes with fewbit by its name.

    Parameters
    ----------
    model : str or Path
        A float ``.onnx`` file, a QONNX ``.onnx`` file, a native ``.safetensors`` file or, if there is no such file, a
        name such as ``lenet5``.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or of another format, or the network is not supported.
    """
    path, reader = _found(model, models.shipped() | models.floats())
    return reader.source(path)


def _found(model: str | Path, shipped: dict[str, Path]) -> tuple[Path, Reader]:
    """File and reader of ``model``. Raises FewbitError if the suffix is unknown or the path is a directory."""
    path = Path(model)
    if not path.exists():
        path = shipped.get(str(model), path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        *others, last = READERS
        known = f"{', '.join(others)} or {last}"
        raise FewbitError(
            f"{path}: a network must be a file {known}, not {path.suffix.lower() or 'one without a suffix'}"
        )
    if path.is_dir():
        raise FewbitError(f"{path}: is a directory")
    return path, reader
