"""Reads and writes arrays: NumPy's ``.npy`` format, and idx, the format of MNIST (read only)."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from fewbit.golden import write as files
from fewbit.golden.budget import MOST_AXES
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

MOST_BYTES = 1 << 29
"""Largest size of an unpacked array: almost three times that of all CIFAR-10 images as bytes."""
_MOST_HEADER = 1 << 14
"""Largest size of the header of an array, in bytes. NumPy has a similar limit."""

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: str | Path) -> Ints:
    """Read the array in a ``.npy`` or idx file, raw or gzipped. Pickled objects are not loaded.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or of another format, or the array has more than :data:`MOST_BYTES`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if os.fstat(file.fileno()).st_size > MOST_BYTES + _MOST_HEADER:
                raise _too_large(path)
            with gzip.open(file) as unzipped:
                content = _read(path, cast(BinaryIO, unzipped) if zipped else file)
    except OSError as error:
        raise FewbitError(f"{path}: {(error.strerror or 'not a complete gzip file').lower()}") from None
    except (EOFError, zlib.error):
        raise FewbitError(f"{path}: not a complete gzip file") from None
    if content[:6] == b"\x93NUMPY":
        return _npy(path, content)
    if content[:2] == b"\0\0" and len(content) >= 4 and content[2] in _IDX_TYPES:
        return _idx(path, content)
    raise FewbitError(f"{path}: holds no array; pass a .npy file or an idx file (MNIST's format), raw or .gz")


def read_rows(path: str | Path, what: str) -> Ints:
    """Read an array of several items with :func:`read`. ``what`` says what the items are, for messages.

    Raises
    ------
    FewbitError
        If :func:`read` raises it, or the array is a single number.
    """
    array = read(path)
    if array.ndim == 0:
        raise FewbitError(f"{path}: holds a single number, not {what} (N, ...)")
    return array


def _read(path: Path, file: BinaryIO) -> bytearray:
    """Read all of ``file`` in pieces, because the unpacked size of a gzip file is not known in advance."""
    content = bytearray()
    while piece := file.read(1 << 20):
        content += piece
        if len(content) > MOST_BYTES + _MOST_HEADER:
            raise _too_large(path)
    return content


def _too_large(path: Path) -> FewbitError:
    return FewbitError(f"{path}: holds more than {MOST_BYTES:,} bytes, which is the limit: pass fewer frames")


def write(path: str | Path, array: Ints) -> None:
    """Write ``array`` to ``path`` in the ``.npy`` format.

    A regular file is replaced by the complete new one, or not at all; devices and pipes are written to. See
    :func:`fewbit.golden.write.write`. Raises FewbitError if the path is not writable.
    """
    content = BytesIO()
    np.save(content, array, allow_pickle=False)
    files.write(path, content.getvalue())


def _npy(path: Path, content: bytearray) -> Ints:
    file = BytesIO(content[:_MOST_HEADER])
    try:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, by_columns, kind = reader(file)
    except Exception as error:  # the header is a Python literal, which may be wrong in any way
        raise FewbitError(f"{path}: not a complete .npy file of numbers (its header: {_first_line(error)})") from None
    if kind.kind not in "biuf":
        raise FewbitError(f"{path}: not a complete .npy file of numbers (its type is {kind})")
    array = _filled(content, file.tell(), shape, kind)
    if array is None:
        raise FewbitError(f"{path}: not a complete .npy file of numbers (its header says {kind} {_short(shape)})")
    return array.reshape(shape[::-1]).transpose() if by_columns else array.reshape(shape)


def _idx(path: Path, content: bytearray) -> Ints:
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4)]
    kind = np.dtype(_IDX_TYPES[content[2]])
    array = _filled(content, start, shape, kind) if len(content) >= start else None
    if array is None:
        raise FewbitError(f"{path}: not a complete idx file")
    return array.reshape(shape)


def _filled(content: bytearray, start: int, shape: Sequence[int], kind: np.dtype[Any]) -> Ints | None:
    """Numbers of type ``kind`` from byte ``start`` on, in native byte order, as an array with one axis.

    None if ``shape`` is not possible, or the number of bytes does not match it.
    """
    fits = len(shape) <= MOST_AXES + 1 and all(isinstance(extent, int) and extent >= 0 for extent in shape)
    # Python integers, because a product of extents may overflow 64 bits. Extents of 0 count as 1: NumPy refuses shapes
    # with an extent that is too large even if another one is 0.
    fits = fits and math.prod(max(1, extent) for extent in shape) <= MOST_BYTES
    if not fits or len(content) - start != math.prod(shape) * kind.itemsize:
        return None
    array = np.frombuffer(content, kind, offset=start)
    return array if kind.isnative else array.byteswap(inplace=True).view(kind.newbyteorder("="))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _short(shape: object) -> str:
    text = str(shape)
    return text if len(text) <= 100 else f"{text[:100]}..."
