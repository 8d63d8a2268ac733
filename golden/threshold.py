"""Threshold activations: the level is the number of thresholds reached."""

from __future__ import annotations

import numpy as np

from fewbit.golden.dtype import Ints


def threshold_level(x: Ints, thresholds: Ints, sign: Ints) -> Ints:
    """``level[n, c, ...] = number of t in thresholds[c] with sign[c] * x[n, c, ...] >= t``, int64.

    # (N, C, ...), (C, T), (C,) -> (N, C, ...); with one row, (N, ...), (1, T), (1,) -> (N, ...)
    """
    if len(thresholds) == 1:
        shared: Ints = np.searchsorted(thresholds[0], x * sign[0], side="right").astype(np.int64)
        return shared
    level = np.empty(x.shape, np.int64)
    for channel, row in enumerate(thresholds):
        level[:, channel] = np.searchsorted(row, x[:, channel] * np.int64(sign[channel]), side="right")
    return level
