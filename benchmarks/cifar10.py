"""CIFAR-10: images from a tar archive of JPEG files, or from the data set's own binary files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_RECORD = 1 + 3 * 32 * 32
"""Bytes of an image in a binary file: its class, and the pixels of the three channels."""


def load_test_images(path: Path, count: int | None = None) -> tuple[Ints, Ints]:
    """The first ``count`` test images of each class, or all: pixels uint8 (N, 32, 32, 3), and classes (N,).

    Parameters
    ----------
    path : Path
        A tar archive of JPEG files ``test/CLASS/*.jpg``, or the file ``test_batch.bin`` of the binary version of
        https://www.cs.toronto.edu/~kriz/cifar.html.

    Raises
    ------
    FewbitError
        If the file cannot be read, has no such images, or Pillow is missing for JPEG files.
    """
    try:
        images, labels = _binary(path) if path.suffix == ".bin" else _archive(path)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise FewbitError(f"{path}: {error}") from None
    if not len(images):
        raise FewbitError(f"{path}: has no files test/CLASS/*.jpg of CIFAR-10's classes")
    if count is not None:
        first = np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(len(CLASSES))])
        images, labels = images[first], labels[first]
    return images, labels


def _binary(path: Path) -> tuple[Ints, Ints]:
    content = np.fromfile(path, np.uint8)
    if len(content) % _RECORD or content.reshape(-1, _RECORD)[:, 0].max(initial=0) >= len(CLASSES):
        raise FewbitError(f"{path}: is not a binary file of CIFAR-10, of {_RECORD:,} bytes an image")
    records = content.reshape(-1, _RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0].astype(np.int64)


def _archive(path: Path) -> tuple[Ints, Ints]:
    pairs = [(_decoded(file, path), label) for file, label in _files(path)]
    images = np.array([image for image, _ in pairs], np.uint8)
    return images, np.array([label for _, label in pairs], np.int64)


def _files(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    with tarfile.open(path) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if len(parts) == 3 and parts[0] == "test" and parts[1] in CLASSES and member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                yield content, CLASSES.index(parts[1])


def _decoded(file: IO[bytes], path: Path) -> Ints:
    try:
        from PIL import Image
    except ImportError:
        raise FewbitError("JPEG files need Pillow: pip install pillow") from None
    pixels = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
    if pixels.shape != (32, 32, 3):
        raise FewbitError(f"{path}: an image has the shape {pixels.shape}, not (32, 32, 3)")
    return pixels
