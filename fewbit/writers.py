"""Writes networks to files. :data:`WRITERS` has the writer of each file format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fewbit.golden import file
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network
from fewbit.golden.write import write


def _qonnx(network: Network, path: Path) -> None:
    try:
        from fewbit.exporters import qonnx

        content = qonnx.content(network)
    except ImportError:
        raise FewbitError(f"{path}: writing ONNX needs the onnx package: pip install onnx") from None
    write(path, content)


def _native(network: Network, path: Path) -> None:
    file.save(network, path)


WRITERS: dict[str, Callable[[Network, Path], None]] = {".onnx": _qonnx, ".safetensors": _native}
"""Writers by file suffix."""


def export(network: Network, path: str | Path) -> None:
    """Write ``network`` to a file that other programs read.

    Parameters
    ----------
    network : Network
    path : str or Path
        ``.onnx`` for QONNX (:mod:`fewbit.exporters.qonnx`), which qonnx executes with the integers of the golden model;
        ``.safetensors`` for the native format. If writing fails, an old file is unchanged.

    Raises
    ------
    FewbitError
        If the suffix is another one, the file cannot be written, or an integer of the network can be too large for the
        float32 numbers of QONNX.
    """
    check_suffix(path)
    WRITERS[Path(path).suffix.lower()](network, Path(path))


def check_suffix(path: str | Path) -> None:
    """Raises FewbitError if no writer is for the suffix of ``path``."""
    suffix = Path(path).suffix
    if suffix.lower() not in WRITERS:
        raise FewbitError(
            f"{path}: the output must be a file {' or '.join(WRITERS)}, not {suffix or 'one without a suffix'}"
        )
