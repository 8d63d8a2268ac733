"""Reads networks from files: which reader takes which kind of file stands in one table."""

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
    """What reads one kind of file.

    Parameters
    ----------
    network : callable
        Path, and what a float input is made of or None, to a network in integers.
    source : callable
        Path to a network to be quantized: one of floats, or of integers.
    """

    network: Callable[[Path, str | None], Network]
    source: Callable[[Path], FloatNetwork | Network]


def _native(path: Path, input: str | None = None) -> Network:
    if input is not None:
        raise FewbitError(f"{path}: input={input!r} is for ONNX files; this one says what its input is")
    return file.load(path)


def _qonnx(path: Path, input: str | None) -> Network:
    from fewbit.importers.qonnx import reader

    return reader.load(path, input=input)


def _onnx_source(path: Path) -> FloatNetwork | Network:
    from fewbit.importers.float_onnx import reader
    from fewbit.importers.onnx_graph import QONNX_DOMAINS, read

    quantized = any(node.domain in QONNX_DOMAINS for node in read(path).nodes)
    return _qonnx(path, None) if quantized else reader.load(path)


READERS = {".safetensors": Reader(_native, _native), ".onnx": Reader(_qonnx, _onnx_source)}
"""Readers by the suffix of what they read."""


def load(model: str | Path, *, input: str | None = None) -> Network:
    """The network in a file, or the one of that name that comes with fewbit.

    Parameters
    ----------
    model : str or Path
        A native ``.safetensors``, a QONNX ``.onnx``, or a name such as ``mnist-small`` where there is no such file.
    input : str, optional
        For ONNX: what a float input is made of, such as ``uint8/255``; see :func:`fewbit.importers.qonnx.reader.load`.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or foreign, or holds a network that fewbit cannot take.
    """
    path, reader = _found(model, models.shipped())
    return reader.network(path, input)


def load_source(model: str | Path) -> FloatNetwork | Network:
    """The network to quantize in a file, or the one of that name that comes with fewbit.

    Parameters
    ----------
    model : str or Path
        A float ``.onnx``, a QONNX one, a native ``.safetensors``, or a name such as ``lenet5`` where there is no such
        file.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or foreign, or holds what no reader can take.
    """
    path, reader = _found(model, models.shipped() | models.floats())
    return reader.source(path)


def _found(model: str | Path, shipped: dict[str, Path]) -> tuple[Path, Reader]:
    """The file of ``model``, and its reader."""
    path = Path(model)
    if not path.exists():
        path = shipped.get(str(model), path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        *others, last = READERS
        known = f"a {', a '.join(others)} or an {last}"
        raise FewbitError(f"{path}: a network is {known} file, not {path.suffix.lower() or 'one without a suffix'}")
    if path.is_dir():
        raise FewbitError(f"{path}: is a directory")
    return path, reader
