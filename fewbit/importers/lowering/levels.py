"""Levels by the arithmetic of the source itself: from which integer on does its function reach each level?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fewbit.exact import Curve
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.network import Threshold
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Refusal


def first_reaching(function: Callable[[Ints], Ints], levels: Ints, low: Ints, high: Ints) -> Ints:
    """The least x from ``low`` to ``high`` with ``function(x) >= level``, ``high + 1`` where there is none.

    Parameters
    ----------
    function : callable
        Never falls; takes and gives (channels, n) int64.
    levels : int64 array (n,)
    low, high : int64 array (channels,)
        Ends of x.

    Returns
    -------
    int64 array (channels, n)
    """
    least = np.repeat(np.asarray(low, np.int64)[:, None], len(levels), 1)
    most = np.repeat(np.asarray(high, np.int64)[:, None] + 1, len(levels), 1)
    while (least < most).any():
        middle = (least + most) >> 1
        reached = function(np.minimum(middle, np.asarray(high)[:, None])) >= levels
        reached |= middle > np.asarray(high)[:, None]
        least, most = np.where(reached, least, middle + 1), np.where(reached, middle, most)
    return least


def levels_of(
    builder: Builder,
    tensor: Tensor,
    function: Callable[[Ints], Ints],
    limits: tuple[int, int],
    zero: int,
    rows: int,
    curve: Curve,
) -> Tensor:
    """``tensor`` through a function that never falls, by a Threshold layer.

    Parameters
    ----------
    function : callable
        # (rows, n) -> (rows, n) int64, from the network's integers to those of the source.
    limits : tuple of int
        Least and largest integer of the source, to which the result is cut.
    zero : int
        The integer of the source that the network has as 0.
    rows : int
        1, or the channels where each has a function of its own.
    curve : Curve
        From an integer of the result to its real.

    Raises
    ------
    Refusal
        If the result has one level only.
    """
    low, high = limits
    least, most = (np.broadcast_to(edge, rows) if edge.size in (1, rows) else np.full(rows, pick(edge))
                   for edge, pick in ((tensor.low, np.min), (tensor.high, np.max)))  # fmt: skip
    if high - low < 1:
        raise Refusal("its output has one level only")
    thresholds = first_reaching(function, np.arange(low + 1, high + 1), least, most)
    layer = Threshold(
        name=builder.name(Threshold),
        thresholds=thresholds,
        sign=np.ones(rows, np.int64),
        dtype=DType.spanning(low - zero, high - zero),
        base=low - zero,
    )
    return builder.add(layer, tensor, curve=curve, chain=None, quantized=True)
