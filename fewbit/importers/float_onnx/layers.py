"""The layers of a float network, which NumPy executes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.window import windows

Floats = NDArray[np.floating[Any]]


class FloatLayer(ABC):
    """A function of one tensor, or of several where branches are joined."""

    @abstractmethod
    def run(self, *inputs: Floats) -> Floats:
        """The output (N, ...) for ``inputs`` (N, ...)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Product(FloatLayer):
    """A dense layer, or a convolution, with the bias of each output.

    Parameters
    ----------
    name : str
    weights : float array (outputs, inputs) or (outputs, channels / groups, kernel height, kernel width)
    bias : float array (outputs,)
    stride : (rows, columns)
    padding : (top, left, bottom, right)
    groups : int
        As in :class:`fewbit.golden.linear.Conv`.
    dilation : (rows, columns)
        Distance of neighbouring weights of the kernel on the map.
    """

    name: str
    weights: Floats
    bias: Floats
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)

    @property
    def convolves(self) -> bool:
        return self.weights.ndim == 4

    @property
    def matrix(self) -> Floats:
        """Weights as (outputs, inputs), inputs in the order of hardware: row by row of the window, channels last."""
        if not self.convolves:
            return self.weights
        return self.weights.transpose(0, 2, 3, 1).reshape(len(self.weights), -1)

    def from_matrix(self, matrix: Any) -> Any:
        """The inverse of :attr:`matrix`, for an array of any type."""
        if not self.convolves:
            return matrix
        outputs, channels, height, width = self.weights.shape
        return matrix.reshape(outputs, height, width, channels).transpose(0, 3, 1, 2)

    def with_matrix(self, matrix: Floats) -> Product:
        return replace(self, weights=self.from_matrix(matrix))

    def dilated(self, weights: Any) -> Any:
        """``weights``, of the shape of :attr:`weights`, with zeros in between: the dilated kernel on the map."""
        extents = [(extent - 1) * step + 1 for extent, step in zip(weights.shape[2:], self.dilation)]
        kernel = np.zeros((*weights.shape[:2], *extents), weights.dtype)
        kernel[:, :, :: self.dilation[0], :: self.dilation[1]] = weights
        return kernel

    def run(self, *inputs: Floats) -> Floats:
        (x,) = inputs
        if not self.convolves:
            return np.asarray(x @ self.weights.T.astype(x.dtype) + self.bias.astype(x.dtype))
        matrix = self.matrix.astype(x.dtype).reshape(self.groups, -1, self.matrix.shape[1])
        channels, sums = self.weights.shape[1], []
        rows, columns = self.dilation
        reach = (self.weights.shape[2] - 1) * rows + 1, (self.weights.shape[3] - 1) * columns + 1
        for group, group_matrix in enumerate(matrix):
            part = x[:, group * channels : (group + 1) * channels]
            seen = windows(part, reach, self.stride, self.padding)[:, :, :, ::rows, ::columns]
            sums.append(seen.reshape(-1, group_matrix.shape[1]) @ group_matrix.T)
        y = np.concatenate(sums, axis=1).reshape(*seen.shape[:3], -1) + self.bias.astype(x.dtype)
        return np.asarray(y.transpose(0, 3, 1, 2))


@dataclass(frozen=True, kw_only=True)
class FloatPool(FloatLayer):
    """The maximum or the mean of every window of a map; padding is ignored by a maximum and counts as 0 in a mean."""

    mode: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def elements(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def run(self, *inputs: Floats) -> Floats:
        fill: Any = -np.inf if self.mode == "max" else 0
        seen = windows(inputs[0], self.kernel, self.stride, self.padding, fill)
        pooled = seen.max((3, 4)) if self.mode == "max" else seen.mean((3, 4))
        return np.asarray(pooled.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Clip(FloatLayer):
    """``min(max(x, low), high)``; None is no limit."""

    low: float | None = None
    high: float | None = None

    def run(self, *inputs: Floats) -> Floats:
        (x,) = inputs
        x = x if self.low is None else np.maximum(x, self.low)
        return np.asarray(x if self.high is None else np.minimum(x, self.high))


@dataclass(frozen=True)
class Relu(Clip):
    """``max(x, 0)``."""

    low: float | None = 0


@dataclass(frozen=True, eq=False)
class Bend(FloatLayer):
    """``x`` where that is 0 or above, else ``slope[c] * x``: a leaky ReLU; slopes are above 0, (1,) or (channels,)."""

    slope: Floats

    def run(self, *inputs: Floats) -> Floats:
        (x,) = inputs
        return np.asarray(np.where(x >= 0, x, x * over_frame(self.slope, x)))


@dataclass(frozen=True)
class Smooth(FloatLayer):
    """``sigmoid`` or ``tanh``."""

    name: str

    def run(self, *inputs: Floats) -> Floats:
        (x,) = inputs
        return np.asarray(np.tanh(x) if self.name == "tanh" else (1 + np.tanh(x / 2)) / 2)


@dataclass(frozen=True, eq=False)
class Scale(FloatLayer):
    """``gain[c] * x[c] + shift[c]``.

    Parameters
    ----------
    gain, shift : float64 array (1,) or (channels,)
    """

    gain: Floats
    shift: Floats

    def run(self, *inputs: Floats) -> Floats:
        (x,) = inputs
        return np.asarray(x * over_frame(self.gain, x) + over_frame(self.shift, x))


def over_frame(vector: Floats, x: Floats) -> Floats:
    """``vector``, (1,) or (channels,), so that it broadcasts over ``x`` (N, channels, ...)."""
    return vector.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 2))


@dataclass(frozen=True)
class Flat(FloatLayer):
    """Flattens a frame to one axis in C order; ``channels_last`` puts the channels of a map last before that."""

    channels_last: bool = False

    def run(self, *inputs: Floats) -> Floats:
        (x,) = inputs
        return (x.transpose(0, 2, 3, 1) if self.channels_last and x.ndim == 4 else x).reshape(len(x), -1)


@dataclass(frozen=True)
class Sum(FloatLayer):
    """The sum of branches, element by element."""

    def run(self, *inputs: Floats) -> Floats:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return np.asarray(total)


@dataclass(frozen=True)
class Concat(FloatLayer):
    """Branches side by side along the first axis of a frame."""

    def run(self, *inputs: Floats) -> Floats:
        return np.concatenate(inputs, axis=1)


@dataclass(frozen=True)
class Best(FloatLayer):
    """Index of the largest score. Ends a network."""

    def run(self, *inputs: Floats) -> Floats:
        return np.asarray(np.argmax(inputs[0], axis=1))
