"""Threshold activations: the level of an input is the number of thresholds that it reaches."""

from __future__ import annotations

import numpy as np

from fewbit.golden.dtype import Ints

_FEW = 16
"""Number of thresholds up to which comparing with all of them is faster than a search for each channel."""


def threshold_level(x: Ints, thresholds: Ints, sign: Ints) -> Ints:
    """``level[n, c, ...] = number of t in thresholds[c] with sign[c] * x[n, c, ...] >= t``, int64.

    # (N, C, ...), (C, T), (C,) -> (N, C, ...); with one row, (N, ...), (1, T), (1,) -> (N, ...)
    """
    if len(thresholds) == 1:
        shared: Ints = np.searchsorted(thresholds[0], x * sign[0], side="right").astype(np.int64)
        return shared
    return row_levels(x.swapaxes(0, 1), thresholds, sign).swapaxes(0, 1)


def row_levels(x: Ints, thresholds: Ints, sign: Ints) -> Ints:
    """``level[r, ...] = number of t in thresholds[r] with sign[r] * x[r, ...] >= t``, int64.

    # (R, ...), (R, T), (R,) -> (R, ...)
    """
    axes = (-1,) + (1,) * (x.ndim - 1)
    signed = x * sign.astype(np.int64).reshape(axes)
    if thresholds.shape[1] > _FEW:
        rows = [np.searchsorted(row, values, side="right") for row, values in zip(thresholds, signed)]
        return np.array(rows, np.int64).reshape(x.shape)
    level = np.zeros(x.shape, np.int64)
    for threshold in thresholds.T:
        level += signed >= threshold.reshape(axes)
    return level
