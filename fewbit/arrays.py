"""Arrays in files: NumPy's ``.npy``, and idx, the format in which MNIST is published."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: str | Path) -> Ints:
    """The array in ``path``: a ``.npy`` file, or an idx file, raw or gzipped. Nothing in it is executed.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or of another kind.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except OSError as error:
        raise FewbitError(f"{path}: {(error.strerror or 'not a whole gzip file').lower()}") from None
    except (EOFError, zlib.error):
        raise FewbitError(f"{path}: not a whole gzip file") from None
    if content[:6] == b"\x93NUMPY":
        return _npy(path, content)
    if content[:2] == b"\0\0" and len(content) >= 4 and content[2] in _IDX_TYPES:
        return _idx(path, content)
    raise FewbitError(f"{path}: holds no array; hand in a .npy file or an idx file (MNIST's format), raw or .gz")


def write(path: str | Path, array: Ints) -> None:
    """Writes ``array`` to ``path`` as ``.npy``, aside first and then renamed. Raises FewbitError if it cannot."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise FewbitError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None


def check_writable(path: str | Path) -> None:
    """Raises FewbitError if ``path`` cannot be written: better before the work than after it."""
    path = Path(path)
    if path.is_dir():
        raise FewbitError(f"cannot write {path}: is a directory")
    if not path.parent.is_dir():
        raise FewbitError(f"cannot write {path}: no such file or directory")
    if not os.access(path.parent, os.W_OK):
        raise FewbitError(f"cannot write {path}: permission denied")


def _npy(path: Path, content: bytes) -> Ints:
    from io import BytesIO

    try:
        array = np.load(BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FewbitError(f"{path}: not a whole .npy file of numbers ({error})") from None
    return np.asarray(array)


def _idx(path: Path, content: bytes) -> Ints:
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4) if len(content) >= 4 + 4 * axes else None
    kind = np.dtype(_IDX_TYPES[content[2]])
    if shape is None or len(content) != 4 + 4 * axes + int(np.prod(shape, dtype=np.int64)) * kind.itemsize:
        raise FewbitError(f"{path}: not a whole idx file")
    array = np.frombuffer(content, kind, offset=4 + 4 * axes).reshape([int(extent) for extent in shape])
    return array.astype(kind.newbyteorder("="))
