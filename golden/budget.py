"""How large what a file describes may be: checked before memory is taken for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fewbit.golden.errors import FewbitError

MOST_AXES = 31
"""Of a frame; NumPy takes one more, which counts the frames."""
MOST_ELEMENTS = 1 << 24
"""Of a frame or of a constant."""
MOST_BYTES = 1 << 28
"""Of all constants of a network, those between two nodes included."""
MOST_FILE_BYTES = 1 << 27
"""Of a model file, which is in memory beside what is made of it."""


def check_shape(shape: Sequence[int], what: str) -> None:
    """Raises FewbitError, beginning with ``what``, unless ``shape`` is one that a tensor may have.

    Extents below 1 pass: whether a tensor may be empty is for its user to say.
    """
    if len(shape) > MOST_AXES:
        raise FewbitError(f"{what} has {len(shape)} axes, {MOST_AXES} are the most")
    if any(isinstance(extent, bool) or not isinstance(extent, (int, np.integer)) for extent in shape):
        raise FewbitError(f"{what} must have whole numbers for extents, not {tuple(shape)}")
    elements = math.prod(max(0, int(extent)) for extent in shape)
    if elements > MOST_ELEMENTS:
        raise FewbitError(f"{what} has the shape {tuple(shape)}: {MOST_ELEMENTS:,} elements are the most")


class Budget:
    """What one file's constants may take together.

    Attributes
    ----------
    bytes : int
        Taken so far.
    """

    def __init__(self) -> None:
        self.bytes = 0

    def take(self, shape: Sequence[int], itemsize: int, what: str) -> None:
        """Counts a tensor of ``shape``, of ``itemsize`` bytes an element, that is about to be made.

        Raises
        ------
        FewbitError
            Beginning with ``what``, if the tensor is too large, or all so far together are.
        """
        check_shape(shape, what)
        self.bytes += math.prod(shape) * itemsize
        if self.bytes > MOST_BYTES:
            raise FewbitError(
                f"{what} of shape {tuple(shape)} brings the constants of the file to {self.bytes:,} bytes, "
                f"{MOST_BYTES:,} are the most"
            )


def check_file_size(size: int) -> None:
    """Raises FewbitError if a model file of ``size`` bytes is larger than any network for which there is hardware."""
    if size > MOST_FILE_BYTES:
        raise FewbitError(f"has {size:,} bytes, and a model file {MOST_FILE_BYTES:,} at most")
