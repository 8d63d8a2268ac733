"""Weights of an ONNX model that lie in files beside it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fewbit.golden.errors import FewbitError


def check_external(tensor: Any, folder: Path, size: int) -> None:
    """Checks that the data of ``tensor``, of ``size`` bytes, are a file in ``folder``, which is that of the model.

    A tensor that states no length gets ``size``, so that no more than that is read from a large file.

    Raises
    ------
    FewbitError
        If the file is missing or lies outside of the folder, also behind a link, or another length is stated.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    names = (PurePosixPath(location), PureWindowsPath(location))
    outside = any(name.anchor or ".." in name.parts for name in names)
    try:
        file = (folder / location).resolve()
        outside = outside or not location or not file.is_relative_to(folder.resolve())
        missing = not outside and not file.exists()
        outside = outside or not (missing or file.is_file())
    except (OSError, ValueError, RuntimeError):
        outside = True
    if outside:
        raise FewbitError(
            f"tensor {tensor.name!r}: its external data must be a file in the folder of the model, not {location!r}"
        )
    if missing:
        raise FewbitError(f"tensor {tensor.name!r} cannot be read: its external data, {location!r}, are missing")
    if "length" not in entries:
        tensor.external_data.add(key="length", value=str(size))
    elif entries["length"] != str(size):
        raise FewbitError(
            f"tensor {tensor.name!r}: says {entries['length']} bytes of external data, its shape has {size}"
        )
