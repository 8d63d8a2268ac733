"""Sliding windows over maps."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fewbit.golden.dtype import Ints


def windows(
    x: Ints, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int], fill: int = 0
) -> Ints:
    """All windows of the maps ``x``, padded with ``fill``. Without padding, the result is a view of ``x``.

    # (N, C, H, W) -> (N, rows, columns, kernel height, kernel width, C)

    Parameters
    ----------
    kernel : (height, width)
    stride : (rows, columns)
    padding : (top, left, bottom, right)
    """
    top, left, bottom, right = padding
    if any(padding):
        x = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)], constant_values=fill)
    views = sliding_window_view(x, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    return views.transpose(0, 2, 3, 4, 5, 1)
