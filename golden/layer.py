"""Base classes of layers, which are immutable and validate themselves, and the type of the tensors between layers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fewbit.golden.budget import check_shape
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError


@dataclass(frozen=True)
class TensorType:
    """Type of a tensor between two layers: number kind of the elements, and shape of one frame, without a batch axis.

    Raises FewbitError if the shape is invalid or too large; see :mod:`fewbit.golden.budget`.
    """

    dtype: DType
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_shape(self.shape, "a frame")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


Range = tuple[Ints, Ints]
"""Lowest and highest values: two arrays with one entry for each index on the first axis of a frame."""


def whole_range(kind: TensorType) -> Range:
    """The full range of a tensor of type ``kind``.  # () -> (C,), (C,) int64"""
    low, high = (np.full(kind.shape[:1] or 1, end, np.int64) for end in (kind.dtype.min, kind.dtype.max))
    return low, high


def frozen_array(values: Any, dtype: Any) -> Ints:
    """Return a read-only copy of ``values`` in C order as ``dtype``. Raises FewbitError if this changes a value."""
    source = np.asarray(values)
    with np.errstate(invalid="ignore"):  # values that do not fit are detected below
        array = np.array(source, dtype=dtype, order="C")
    if not np.array_equal(array, source, equal_nan=array.dtype.kind == "f"):
        raise FewbitError(f"values must fit {array.dtype}, got {source.dtype} that do not")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A frozen dataclass that may contain arrays; two records are equal if all their fields are equal."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    def __hash__(self) -> int:
        values = (getattr(self, field.name) for field in fields(self))
        return hash((type(self), *(v.tobytes() if isinstance(v, np.ndarray) else v for v in values)))

    def _freeze(self, name: str, dtype: Any, dimensions: int) -> Ints:
        try:
            array = frozen_array(getattr(self, name), dtype)
        except (FewbitError, TypeError, ValueError, OverflowError) as error:
            raise FewbitError(f"{self._label()}: {name}: {error}") from None
        if array.ndim != dimensions:
            raise FewbitError(f"{self._label()}: {name} must have {dimensions} axes, not {array.ndim}")
        object.__setattr__(self, name, array)
        return array

    def _label(self) -> str:
        return f"layer {getattr(self, 'name', '')!r}"


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and left.dtype == right.dtype and np.array_equal(left, right)
    return bool(left == right)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer(Record, ABC):
    """One operation of a network: it computes one output tensor from its input tensors.

    Layers with one input derive from :class:`OneInput`, layers with several from :class:`fewbit.golden.join.Join`.

    Parameters
    ----------
    name : str
        Unique in a network.
    inputs : tuple of str
        Names of the layers whose outputs this layer reads; :data:`fewbit.golden.graph.INPUT` is the network's input.
        If empty, it reads the layer directly before it.
    """

    kind: ClassVar[str]
    """Name of this class in files and reports."""
    joins: ClassVar[bool] = False
    """Whether layers of this class read two inputs or more."""

    name: str
    inputs: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name of the layer in messages."""
        return self._label()

    @abstractmethod
    def output_of(self, sources: Sequence[TensorType]) -> TensorType:
        """Type of the output for inputs of these types. Raises FewbitError if the layer cannot take them."""

    @abstractmethod
    def step_of(self, sources: Sequence[TensorType], tensors: Sequence[Ints], quality: int | None = None) -> Ints:
        """The output for ``tensors``, int64 of types ``sources``, exact.

        # (N, \\*shape) of each input -> (N, \\*output shape)

        ``quality`` limits how many signed digits of a multiplier are used; None uses all.
        """

    def output_range_of(self, sources: Sequence[TensorType], inputs: Sequence[Callable[[], Range]]) -> Range:
        """Lowest and highest output at any quality, for each index on the first axis of a frame. The default is the
        full range of the output's number kind.

        Parameters
        ----------
        sources : sequence of TensorType
            Types of the inputs.
        inputs : sequence of callable
            For each input, a function that returns its range.
        """
        return whole_range(self.output_of(sources))

    def memory_bits(self, source: TensorType) -> int:
        """Number of bits of the stored weights or thresholds, if the first input has type ``source``."""
        return 0

    def operations(self, source: TensorType) -> int:
        """Number of elementary operations for one frame, if the first input has type ``source``: multiply-accumulates,
        additions, comparisons, or elements of pooling windows."""
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class OneInput(Layer):
    """A layer that reads one tensor."""

    @abstractmethod
    def output(self, source: TensorType) -> TensorType:
        """Type of the output for an input of type ``source``. Raises FewbitError if the layer cannot take it."""

    @abstractmethod
    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        """The output for ``x``, int64 of type ``source``, exact.  # (N, \\*source.shape) -> (N, \\*output shape)

        ``quality`` limits how many signed digits of a multiplier are used; None uses all.
        """

    def output_range(self, source: TensorType, inputs: Callable[[], Range]) -> Range:
        """Lowest and highest output at any quality, for each index on the first axis of a frame. ``inputs`` returns the
        range of the input. The default is the full range of the output's number kind."""
        return whole_range(self.output(source))

    def output_of(self, sources: Sequence[TensorType]) -> TensorType:
        (source,) = sources
        return self.output(source)

    def step_of(self, sources: Sequence[TensorType], tensors: Sequence[Ints], quality: int | None = None) -> Ints:
        (source,), (x,) = sources, tensors
        return self.step(source, x, quality)

    def output_range_of(self, sources: Sequence[TensorType], inputs: Sequence[Callable[[], Range]]) -> Range:
        (source,), (input_range,) = sources, inputs
        return self.output_range(source, input_range)
