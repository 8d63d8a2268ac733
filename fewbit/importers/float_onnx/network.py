"""A float network as a chain of layers that NumPy executes: the input of the quantizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.window import windows

Floats = NDArray[np.floating[Any]]

_BATCH = 250
"""Frames that are executed at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
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
    """

    name: str
    weights: Floats
    bias: Floats
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

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

    def run(self, x: Floats) -> Floats:
        if not self.convolves:
            return np.asarray(x @ self.weights.T.astype(x.dtype) + self.bias.astype(x.dtype))
        matrix = self.matrix.astype(x.dtype).reshape(self.groups, -1, self.matrix.shape[1])
        channels, sums = self.weights.shape[1], []
        for group, group_matrix in enumerate(matrix):
            part = x[:, group * channels : (group + 1) * channels]
            seen = windows(part, self.weights.shape[2:], self.stride, self.padding)
            sums.append(seen.reshape(-1, group_matrix.shape[1]) @ group_matrix.T)
        y = np.concatenate(sums, axis=1).reshape(*seen.shape[:3], -1) + self.bias.astype(x.dtype)
        return np.asarray(y.transpose(0, 3, 1, 2))


@dataclass(frozen=True, kw_only=True)
class FloatPool:
    """The maximum or the mean of every window of a map; padding is ignored by a maximum and counts as 0 in a mean."""

    mode: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def elements(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def run(self, x: Floats) -> Floats:
        fill: Any = -np.inf if self.mode == "max" else 0
        seen = windows(x, self.kernel, self.stride, self.padding, fill)
        pooled = seen.max((3, 4)) if self.mode == "max" else seen.mean((3, 4))
        return np.asarray(pooled.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Relu:
    def run(self, x: Floats) -> Floats:
        return np.maximum(x, 0)


@dataclass(frozen=True)
class Flat:
    """Flattens a frame to one axis in C order; ``channels_last`` puts the channels of a map last before that."""

    channels_last: bool = False

    def run(self, x: Floats) -> Floats:
        return (x.transpose(0, 2, 3, 1) if self.channels_last and x.ndim == 4 else x).reshape(len(x), -1)


@dataclass(frozen=True)
class Best:
    """Index of the largest score. Ends a network."""

    def run(self, x: Floats) -> Floats:
        return np.asarray(np.argmax(x, axis=1))


FloatLayer = Product | FloatPool | Relu | Flat | Best


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNetwork:
    """Float layers in a row.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Of one input frame.
    layers : tuple of FloatLayer
    output_shape : tuple of int
        Of one frame of the source model's output tensor.
    """

    name: str
    shape: tuple[int, ...]
    layers: tuple[FloatLayer, ...]
    output_shape: tuple[int, ...]

    @property
    def products(self) -> list[Product]:
        return [layer for layer in self.layers if isinstance(layer, Product)]

    @property
    def scores_at(self) -> int:
        """How many layers compute the scores: all but an arg-max."""
        return len(self.layers) - isinstance(self.layers[-1], Best)

    @property
    def classes(self) -> int:
        """Scores of a frame."""
        return self.run(np.zeros((1, *self.shape)), stop=self.scores_at).size

    def with_products(self, products: dict[str, Product]) -> FloatNetwork:
        """This network with ``products``, by name, in place of its products of the same names."""
        layers = tuple(
            products.get(layer.name, layer) if isinstance(layer, Product) else layer for layer in self.layers
        )
        return replace(self, layers=layers)

    def flattened_channels_last(self) -> FloatNetwork:
        """This network with maps flattened channels last, the order in which hardware streams them.

        Weights that share a scale in hardware are then neighbours in the matrix of the next product.
        """
        layers: list[FloatLayer] = []
        x = np.zeros((1, *self.shape), np.float32)
        for index, layer in enumerate(self.layers):
            following = next((later for later in self.layers[index:] if isinstance(later, Product)), None)
            if isinstance(layer, Flat) and x.ndim == 4 and not layer.channels_last and following is not None:
                places = np.arange(x.size).reshape(x.shape[1:]).transpose(1, 2, 0).ravel()
                moved = {following.name: replace(following, weights=following.weights[:, places])}
                rest = replace(self, layers=self.layers[index + 1 :]).with_products(moved)
                return replace(self, layers=(*layers, Flat(channels_last=True), *rest.layers))
            layers.append(layer)
            x = layer.run(x)
        return self

    def run(self, x: Floats, start: int = 0, stop: int | None = None) -> Floats:
        """``x`` (N, ...) through the layers from ``start`` up to ``stop``, in float32 as the source model."""
        x = np.asarray(x, np.float32)
        parts = []
        for first in range(0, max(1, len(x)), _BATCH):
            y: Floats = x[first : first + _BATCH]
            with np.errstate(over="ignore", invalid="ignore"):  # as the source model: what overflows is infinite
                for layer in self.layers[start:stop]:
                    y = layer.run(y)
            parts.append(y)
        return np.concatenate(parts)

    def classify(self, x: Floats) -> NDArray[np.int64]:
        """Predicted classes (N,) of frames (N, \\*shape)."""
        return np.asarray(np.argmax(self.run(x, stop=self.scores_at).reshape(len(x), -1), axis=1))
