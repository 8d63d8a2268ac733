"""Which weights share a scale, and sums over the weights that do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError

Floats = NDArray[np.float64]

AXES = ("tensor", "channel", "inputs", "outputs")


@dataclass(frozen=True)
class Groups:
    """An array of weights in which each belongs to one of ``count`` groups.

    Parameters
    ----------
    index : int array (weights,)
        Group of every weight.
    count : int
        Number of groups.
    """

    index: Ints
    count: int

    def sum(self, values: Any) -> Floats:
        """Sum of ``values`` over each group.  # (weights,) -> (count,)"""
        return np.bincount(self.index, values, self.count).astype(np.float64)

    def each(self, values: Floats) -> Floats:
        """For every weight, the value of its group.  # (count,) -> (weights,)"""
        return np.asarray(values[self.index])

    def by_sign(self, weights: Floats) -> Groups:
        """Twice as many groups: the negative weights of group g are in group 2g + 1, all others in 2g."""
        return Groups(2 * self.index + (weights < 0), 2 * self.count)


@dataclass(frozen=True)
class WeightVectors:
    """How a matrix of weights (outputs, inputs) is divided into vectors that share a scale.

    Parameters
    ----------
    axis : ``"tensor"``, ``"channel"``, ``"inputs"`` or ``"outputs"``
        ``tensor``: one vector; ``channel``: one for each output; ``inputs``: ``length`` neighbouring inputs of an
        output;
        ``outputs``: ``length`` neighbouring outputs of an input. The last two are figures 5 and 6 of the
        quality-scalable
        multiplier paper.
    length : int
        0 for tensor and channel. The last vector of a row or column may be shorter.

    Raises
    ------
    FewbitError
        If the axis is unknown, or the length does not suit it.
    """

    axis: str = "channel"
    length: int = 0

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise FewbitError(f"the axis of weight vectors must be one of {', '.join(AXES)}, not {self.axis!r}")
        if self.runs and self.length < 1:
            raise FewbitError(f"vectors along {self.axis} have a length of 1 or more, not {self.length}")
        if not self.runs and self.length:
            raise FewbitError(f"one scale a {self.axis} takes no vector length, not {self.length}")

    @property
    def runs(self) -> bool:
        """Whether the scales of one output may differ from input to input."""
        return self.axis in ("inputs", "outputs")

    def length_in(self, shape: tuple[int, int]) -> int:
        """Number of weights in a full vector, for a matrix of ``shape``."""
        outputs, inputs = shape
        return {
            "tensor": outputs * inputs,
            "channel": inputs,
            "inputs": min(self.length, inputs),
            "outputs": min(self.length, outputs),
        }[self.axis]

    def scales_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Shape of the scales of a matrix of ``shape``: (outputs, vectors), or for the axis ``outputs`` (vectors,
        inputs)."""
        outputs, inputs = shape
        length = self.length_in(shape)
        if self.axis == "tensor":
            return 1, 1
        return (-(-outputs // length), inputs) if self.axis == "outputs" else (outputs, -(-inputs // length))

    def groups(self, shape: tuple[int, int]) -> Groups:
        """The vector of every weight of a matrix of ``shape``; both are numbered in C order."""
        rows, columns = self.scales_shape(shape)
        row, column = (index.ravel() for index in np.indices(shape))
        length = self.length_in(shape)
        index = {
            "tensor": 0 * row,
            "channel": row,
            "inputs": row * columns + column // length,
            "outputs": row // length * columns + column,
        }[self.axis]
        return Groups(index, rows * columns)

    def __str__(self) -> str:
        return f"{self.axis}({self.length})" if self.runs else self.axis
