"""What a layer is: a frozen record that checks itself, and the type of what flows between two of them."""

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
    """What flows between two layers: the number kind of an element, and the shape of one frame (no batch axis).

    Raises FewbitError on a shape that is no tensor's; see :mod:`fewbit.golden.budget`.
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
"""Lowest and highest values, one each for every place on the first axis of a frame."""


def whole_range(kind: TensorType) -> Range:
    """All that a tensor of type ``kind`` can hold.  # () -> (C,), (C,) int64"""
    low, high = (np.full(kind.shape[:1] or 1, end, np.int64) for end in (kind.dtype.min, kind.dtype.max))
    return low, high


def frozen_array(values: Any, dtype: Any) -> Ints:
    """A read-only copy of ``values`` in C order as ``dtype``; FewbitError if that would change a value."""
    source = np.asarray(values)
    with np.errstate(invalid="ignore"):  # what does not fit is found below
        array = np.array(source, dtype=dtype, order="C")
    if not np.array_equal(array, source, equal_nan=array.dtype.kind == "f"):
        raise FewbitError(f"values must fit {array.dtype}, got {source.dtype} that do not")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A frozen dataclass with arrays in it, equal when all its fields are."""

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


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer(Record, ABC):
    """One step of a network: what it gives for what it reads.

    Layers with one input are a :class:`OneInput`; those that join several are a :class:`fewbit.golden.join.Join`.

    Parameters
    ----------
    name : str
        Different from that of every other layer of a network.
    inputs : tuple of str
        Names of the layers whose outputs it reads, :data:`fewbit.golden.graph.INPUT` for the input of the network;
        empty: the layer before it.
    """

    kind: ClassVar[str]
    """What files and reports call layers of this class."""
    joins: ClassVar[bool] = False
    """Whether layers of this class read two inputs or more."""

    name: str
    inputs: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What a message calls it."""
        return self._label()

    @abstractmethod
    def output_of(self, sources: Sequence[TensorType]) -> TensorType:
        """Type of the output for inputs of these types. Raises FewbitError if the layer cannot take them."""

    @abstractmethod
    def step_of(self, sources: Sequence[TensorType], tensors: Sequence[Ints], quality: int | None = None) -> Ints:
        """The output for ``tensors``, int64 of types ``sources``, exact.

        # (N, \\*shape) of each input -> (N, \\*output shape)

        ``quality`` caps the signed digits that count in a multiplication; None is all.
        """

    def output_range_of(self, sources: Sequence[TensorType], inputs: Sequence[Callable[[], Range]]) -> Range:
        """Lowest and highest output at any quality, for each place on the first axis of a frame: by default all that
        the kind of the output holds.

        Parameters
        ----------
        sources : sequence of TensorType
            Of the inputs.
        inputs : sequence of callable
            Each gives the same of one input.
        """
        return whole_range(self.output_of(sources))

    def memory_bits(self, source: TensorType) -> int:
        """Bits of the weights or thresholds that it stores, for a first input of type ``source``."""
        return 0

    def operations(self, source: TensorType) -> int:
        """Elementary operations a frame, for a first input of type ``source``: multiply-accumulates, additions,
        comparisons, elements of windows."""
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

        ``quality`` caps the signed digits that count in a multiplication; None is all.
        """

    def output_range(self, source: TensorType, inputs: Callable[[], Range]) -> Range:
        """Lowest and highest output at any quality, for each place on the first axis of a frame; ``inputs`` gives the
        same of the input. By default all that the kind of the output holds."""
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
