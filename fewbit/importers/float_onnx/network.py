"""A float network as a graph of layers that NumPy executes: the input of the quantizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.run import apply_output_function, reordered, shaped
from fewbit.importers.float_onnx.layers import Best, FloatLayer, Floats, Product

BATCH = 250
"""Frames that are executed at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNetwork:
    """Float layers in topological order. Tensors are numbered: 0 is the input, ``k`` the output of layer ``k - 1``.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Of one input frame.
    layers : tuple of FloatLayer
        The last layer gives the output; only the last may be :class:`~fewbit.importers.float_onnx.layers.Best`.
    reads : tuple of tuples of int
        For each layer the numbers of the tensors that it reads; empty if each layer reads the output of the one before.
    output_shape : tuple of int
        Of one frame of the source model's output tensor.
    output_function, input_batch, input_shape, input_order
        What the host does at both ends, as in :class:`fewbit.golden.network.Network`.
    """

    name: str
    shape: tuple[int, ...]
    layers: tuple[FloatLayer, ...]
    reads: tuple[tuple[int, ...], ...] = ()
    output_shape: tuple[int, ...]
    output_function: str | None = None
    input_batch: int = 1
    input_shape: tuple[int, ...] | None = None
    input_order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.reads:
            object.__setattr__(self, "reads", tuple((number,) for number in range(len(self.layers))))

    @property
    def products(self) -> list[Product]:
        return [layer for layer in self.layers if isinstance(layer, Product)]

    @property
    def scores_at(self) -> int:
        """Number of the tensor that holds the scores: the output, or what an arg-max reads."""
        return self.reads[-1][0] if isinstance(self.layers[-1], Best) else len(self.layers)

    @cached_property
    def classes(self) -> int:
        """Scores of a frame."""
        return self.run(np.zeros((1, *self.shape)), stop=self.scores_at).size

    def source_frames(self, frames: Floats) -> Floats:
        """``frames``, (N, ...) as the source model takes them, as frames (N, \\*shape) of the network.

        Raises FewbitError if they have another shape.
        """
        given = self.shape if self.input_shape is None else self.input_shape
        return shaped(reordered(frames, self.shape, given, self.input_order, self.input_batch), self.shape)

    def readers(self, number: int) -> list[int]:
        """The numbers of the tensors that are made from tensor ``number``; one that is read twice counts twice."""
        return [place + 1 for place, read in enumerate(self.reads) for one in read if one == number]

    def with_products(self, products: Mapping[str, Product]) -> FloatNetwork:
        """This network with ``products``, by name, in place of its products of the same names."""
        layers = tuple(
            products.get(layer.name, layer) if isinstance(layer, Product) else layer for layer in self.layers
        )
        return replace(self, layers=layers)

    def run(self, x: Floats, stop: int | None = None) -> Floats:
        """Tensor number ``stop``, by default the output without its function, for ``x`` (N, \\*shape), in float32 as
        the source model."""
        return self.resume({0: np.asarray(x, np.float32)}, 0, stop)

    def outputs(self, x: Floats) -> Floats:
        """The source model's output tensor (N, \\*output_shape) for ``x`` (N, \\*shape)."""
        y = self.run(x)
        if self.output_function is not None:
            y = apply_output_function(self.output_function, y)
        return np.asarray(y).reshape(len(x), *self.output_shape)

    def live(self, x: Floats, start: int) -> dict[int, Floats]:
        """The tensors for ``x`` that layers from ``start`` on read and earlier ones make."""
        wanted = {number for read in self.reads[start:] for number in read if number <= start}
        x = np.asarray(x, np.float32)
        parts: dict[int, list[Floats]] = {number: [] for number in sorted(wanted)}
        for first in range(0, max(1, len(x)), BATCH):
            tensors = self.tensors({0: x[first : first + BATCH]}, 0, start, wanted)
            for number, values in parts.items():
                values.append(tensors[number])
        return {number: np.concatenate(values) for number, values in parts.items()}

    def resume(self, live: Mapping[int, Floats], start: int, stop: int | None = None) -> Floats:
        """Tensor number ``stop`` from the tensors that :meth:`live` gives for ``start``."""
        stop = len(self.layers) if stop is None else stop
        count, parts = len(next(iter(live.values()))), []
        for first in range(0, max(1, count), BATCH):
            part = {number: x[first : first + BATCH] for number, x in live.items()}
            parts.append(self.tensors(part, start, stop, {stop})[stop])
        return np.concatenate(parts)

    def tensors(self, known: Mapping[int, Floats], start: int, stop: int, wanted: set[int]) -> dict[int, Floats]:
        """The tensors ``wanted``, and others, from the ``known`` ones, by the layers from ``start`` up to ``stop``."""
        tensors = dict(known)
        last_reader = {number: place for place in range(start, stop) for number in self.reads[place]}
        with np.errstate(over="ignore", invalid="ignore"):  # as the source model: what overflows is infinite
            for place in range(start, stop):
                read = self.reads[place]
                tensors[place + 1] = self.layers[place].run(*(tensors[number] for number in read))
                for number in set(read) - wanted:
                    if last_reader[number] == place:
                        del tensors[number]
        return tensors

    def classify(self, x: Floats) -> NDArray[np.int64]:
        """Predicted classes (N,) of frames (N, \\*shape)."""
        return np.asarray(np.argmax(self.run(x, stop=self.scores_at).reshape(len(x), -1), axis=1))
