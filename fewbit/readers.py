"""Reads a network from a file, whatever kind of file it is."""

from __future__ import annotations

from pathlib import Path

from fewbit.golden import file
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network


def load(path: str | Path, *, input: str | None = None) -> Network:
    """The network in ``path``: a native ``.safetensors``, or a QONNX ``.onnx``.

    Parameters
    ----------
    path : str or Path
    input : str, optional
        For ONNX: what a float input is made of, such as ``uint8/255``; see :func:`fewbit.importers.qonnx.reader.load`.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or foreign, or holds a network that fewbit cannot take.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", ".onnx"):
        raise FewbitError(
            f"{path}: a network is a .safetensors or an .onnx file, not {suffix or 'one without a suffix'}"
        )
    if path.is_dir():
        raise FewbitError(f"{path}: is a directory")
    if suffix == ".onnx":
        from fewbit.importers.qonnx import reader as qonnx

        return qonnx.load(path, input=input)
    if input is not None:
        raise FewbitError(f"{path}: input={input!r} is for ONNX files; this one says what its input is")
    return file.load(path)
