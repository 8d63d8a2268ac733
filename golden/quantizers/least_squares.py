"""The scale with the least squared error for given levels, and that error."""

from __future__ import annotations

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.quantizers.weight_vectors import Floats, Groups


def least_squares_scales(weights: Floats, levels: Ints, groups: Groups) -> Floats:
    """``sum(weight * level) / sum(level**2)`` of every group, 0 where every level is 0.  # (W,), (W,) -> (groups,)

    This is the scale of least squared error: the remaining error is orthogonal to the levels. For levels -1 and +1 it
    is the mean magnitude (XNOR-Net, arXiv 1603.05279); for -1, 0 and +1 the mean magnitude of the weights whose level
    is not 0 (Ternary Weight Networks, arXiv 1605.04711).
    """
    products, squares = groups.sum(weights * levels), groups.sum(levels.astype(np.float64) ** 2)
    return np.divide(products, squares, out=np.zeros(groups.count), where=squares > 0)


def squared_errors(weights: Floats, levels: Ints, scales: Floats, groups: Groups) -> Floats:
    """``sum((weight - scale * level)**2)`` of every group.  # (W,), (W,), (groups,) -> (groups,)"""
    return groups.sum((weights - groups.each(scales) * levels) ** 2)
