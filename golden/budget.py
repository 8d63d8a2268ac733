"""Limits on the sizes that a file may describe, checked before memory is allocated for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fewbit.golden.errors import FewbitError

MOST_AXES = 31
"""Most axes of a frame; NumPy allows one more, which counts the frames."""
MOST_ELEMENTS = 1 << 24
"""Most elements of a frame or of a constant."""
MOST_BYTES = 1 << 28
"""Most bytes of all constants of a network together, including intermediate ones."""
MOST_FILE_BYTES = 1 << 27
"""Most bytes of a model file, which is in memory together with the network made from it."""


def check_shape(shape: Sequence[int], what: str) -> None:
    """Raises FewbitError, with a message that begins with ``what``, unless ``shape`` is allowed for a tensor.

    Extents below 1 are accepted: the caller decides whether a tensor may be empty.
    """
    if len(shape) > MOST_AXES:
        raise FewbitError(f"{what} has {len(shape)} axes, {MOST_AXES} are the most")
    if any(isinstance(extent, bool) or not isinstance(extent, (int, np.integer)) for extent in shape):
        raise FewbitError(f"{what} must have whole numbers for extents, not {tuple(shape)}")
    elements = math.prod(max(0, int(extent)) for extent in shape)
    if elements > MOST_ELEMENTS:
        raise FewbitError(f"{what} has the shape {tuple(shape)}: {MOST_ELEMENTS:,} elements are the most")


class Budget:
    """Counts the bytes of the constants of one file against :data:`MOST_BYTES`.

    Attributes
    ----------
    bytes : int
        Bytes counted so far.
    """

    def __init__(self) -> None:
        self.bytes = 0

    def take(self, shape: Sequence[int], itemsize: int, what: str) -> None:
        """Counts a tensor of ``shape`` and ``itemsize`` bytes an element, before it is allocated.

        Raises
        ------
        FewbitError
            With a message that begins with ``what``, if the tensor is too large, or all tensors together are.
        """
        check_shape(shape, what)
        self.bytes += math.prod(shape) * itemsize
        if self.bytes > MOST_BYTES:
            raise FewbitError(
                f"{what} of shape {tuple(shape)} brings the constants of the file to {self.bytes:,} bytes, "
                f"{MOST_BYTES:,} are the most"
            )


def check_file_size(size: int) -> None:
    """Raises FewbitError if a model file of ``size`` bytes is larger than any network that fewbit supports."""
    if size > MOST_FILE_BYTES:
        raise FewbitError(f"has {size:,} bytes; a model file has at most {MOST_FILE_BYTES:,}")
