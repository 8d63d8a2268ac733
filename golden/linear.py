"""Layers that multiply: dense and convolutional, with weights of any code and scales in fixed point."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fewbit.golden import csd
from fewbit.golden.budget import check_shape
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.layer import OneInput, Range, TensorType, frozen_array
from fewbit.golden.matvec import matvec, product
from fewbit.golden.window import windows

_BLOCK = 1 << 16
"""Values whose signed digits are worked out at a time."""

_MOST_ELEMENTS = 1 << 24
"""Elements of windows that a convolution holds at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(OneInput):
    """A product with weights, exact: each output is ``sum_i scale * level * x[i]`` over the inputs that it sees.

    Levels are those of the code. Scales are integers, shared by the weights of a *vector*: ``vector`` neighbours along
    the inputs of an output, or ``across`` the outputs of an input. A scale meets the data in a canonic-signed-digit
    multiplier, and the levels of a ``csd`` code are such digits too; ``quality`` caps how many of them count.

    Parameters
    ----------
    weights : int array
        Levels of ``code``, outputs first.
    code : Code
        How a weight is stored.
    scales : int array (outputs, vectors) or, across, (vectors, inputs); None
        None: every scale is 1. The last vector may be shorter.
    negative_scales : int array, None
        Of negative levels, where theirs differ: ``-1`` then stands for ``-negative_scales``. As in Trained Ternary
        Quantization, arXiv 1612.01064.
    vector : int
        Weights that share a scale; 0 without scales.
    across : bool
        Whether vectors run across outputs; else along inputs. Figures 6 and 5 of the quality-scalable multiplier paper.
    """

    axes: ClassVar[int]
    weights: Ints
    code: Code
    scales: Ints | None = None
    negative_scales: Ints | None = None
    vector: int = 0
    across: bool = False

    def __post_init__(self) -> None:
        weights = self._freeze("weights", np.int32, self.axes)
        if weights.size == 0:
            raise FewbitError(f"{self._label()}: weights must not be empty, got shape {weights.shape}")
        if not self.code.contains(weights):
            wrong = weights[~np.isin(weights, self.code.levels)][0]
            raise FewbitError(f"{self._label()}: weight {wrong} is no level of the {self.code} code")
        if self.scales is None:
            if self.negative_scales is not None or self.vector or self.across:
                raise FewbitError(f"{self._label()}: without scales it has no vectors and no scales of negative levels")
            return
        along = self.outputs if self.across else self.fan_in
        if not 1 <= self.vector <= along:
            raise FewbitError(f"{self._label()}: a vector has 1 to {along} weights, not {self.vector}")
        vectors = -(-along // self.vector)
        wanted = (vectors, self.fan_in) if self.across else (self.outputs, vectors)
        for name in ("scales", "negative_scales"):
            if getattr(self, name) is None:
                continue
            scales = self._freeze(name, np.int64, 2)
            if scales.shape != wanted:
                raise FewbitError(f"{self._label()}: {name} must have the shape {wanted}, not {scales.shape}")
            if np.abs(scales).max() >= 1 << csd.WIDEST - 1:
                raise FewbitError(f"{self._label()}: {name} must fit {csd.WIDEST} signed bits")

    @property
    def outputs(self) -> int:
        return int(self.weights.shape[0])

    @property
    def fan_in(self) -> int:
        """Inputs that one output sees."""
        return int(self.weights[0].size)

    @property
    def matrix(self) -> Ints:
        """Levels as (outputs, inputs), the inputs in the order in which hardware takes them."""
        return self.weights

    @abstractmethod
    def position(self) -> Dense:
        """The product at one position, of inputs in the order of :attr:`matrix`. With groups its rows go in shares, and
        each share has inputs of its own."""

    @cached_property
    def scale_kind(self) -> DType | None:
        """The narrowest kind that holds every scale; None without scales."""
        if self.scales is None:
            return None
        both = [self.scales, *([] if self.negative_scales is None else [self.negative_scales])]
        return DType.holding(min(int(one.min()) for one in both), max(int(one.max()) for one in both))

    @cached_property
    def digits(self) -> int:
        """Most signed digits that a scale, or a weight of a ``csd`` code, has: at this quality all is exact. Else 0."""
        wide = [one for one in (self.scales, self.negative_scales) if one is not None]
        if self.code.digit_width is not None:
            wide.append(self.weights)
        return max((int((digits != 0).sum(-1).max()) for one in wide for digits in _recoded(one)), default=0)

    def factors(self, quality: int | None = None) -> Ints:
        """``scale * level`` of every weight, (outputs, inputs) int64, with the ``quality`` most significant digits.

        A quality of None, or at or above :attr:`digits`, is exact.
        """
        kept = self.digits if quality is None else quality
        levels = self.matrix.astype(np.int64)
        if self.code.digit_width is not None:
            levels = truncate(levels, kept)
        if self.scales is None:
            return levels
        scales = self.each_scale(truncate(self.scales, kept))
        if self.negative_scales is not None:
            scales = np.where(levels < 0, self.each_scale(truncate(self.negative_scales, kept)), scales)
        return levels * scales

    def each_scale(self, scales: Ints) -> Ints:
        """The scale of every weight, of such as :attr:`scales`.  # (outputs, vectors) -> (outputs, inputs)"""
        if self.across:
            return np.repeat(scales, self.vector, axis=0)[: self.outputs]
        return np.repeat(scales, self.vector, axis=1)[:, : self.fan_in]

    def lane_kind(self, source: DType) -> DType:
        """Kind of the elements as the lanes see them, for inputs of kind ``source``."""
        return source

    def bounds(self, source: DType) -> tuple[Ints, Ints]:
        """Lowest and highest sum each output can reach at any quality, (outputs,) int64 each, for inputs of kind
        ``source``.

        Raises
        ------
        FewbitError
            If a sum needs more than 64 bits.
        """
        lows, highs = [], []
        for quality in range(1, self.digits + 1) or (None,):
            factors = self.factors(quality)
            positive = np.maximum(factors, 0).sum(1, dtype=np.int64).astype(object)
            negative = np.minimum(factors, 0).sum(1, dtype=np.int64).astype(object)
            lows.append(positive * source.min + negative * source.max)
            highs.append(positive * source.max + negative * source.min)
        if self.digits:  # a quality of 0
            lows.append(0 * lows[0])
            highs.append(0 * highs[0])
        least, most = np.min(lows, axis=0), np.max(highs, axis=0)
        if least.min() < -(1 << 63) or most.max() >= 1 << 63:
            largest = max(least.min(), most.max(), key=abs)
            raise FewbitError(f"{self._label()}: sums up to {largest} need more than 64 bits")
        return least.astype(np.int64), most.astype(np.int64)

    @abstractmethod
    def products(self, source: TensorType, x: Ints, factors: Ints) -> Ints:
        """:meth:`step` with ``factors`` (outputs, inputs), such as :meth:`factors` gives, for the weights."""

    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        return self.products(source, x, self.factors(quality))

    def memory_bits(self, source: TensorType) -> int:
        return self.weights.size * self.code.bits

    def operations(self, source: TensorType) -> int:
        """The inputs that each element of the output sees, padding among them."""
        return self.output(source).size * self.fan_in

    def output_range(self, source: TensorType, inputs: Callable[[], Range]) -> Range:
        return self.bounds(source.dtype)

    def _sums(self, factors: Ints, source: DType, x: Ints) -> Ints:
        """# (outputs, inputs), (N, inputs) -> (N, outputs)"""
        if self.digits:
            return product(x, factors, source)
        return matvec(x, factors, self.code, source)

    def sum_kind(self, source: DType) -> DType:
        """The narrowest kind that holds every sum."""
        low, high = self.bounds(source)
        return DType.holding(int(low.min()), int(high.max()))


def truncate(values: Ints, quality: int) -> Ints:
    """The ``quality`` most significant canonic signed digits of ``values``.  # (...) -> (...) int64"""
    blocks = [csd.value(csd.keep(digits, quality)) for digits in _recoded(values)]
    return np.concatenate(blocks or [np.zeros(0, np.int64)]).reshape(values.shape)


def _recoded(values: Ints) -> Iterator[Ints]:
    """Digits of ``values`` in C order, block by block: together they take a hundred times what the values do."""
    flat = values.ravel()
    return (csd.recode(flat[start : start + _BLOCK], csd.WIDEST) for start in range(0, flat.size, _BLOCK))


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense(Linear):
    """Matrix-vector product ``y[o] = sum_i weights[o, i] * x[i]``, exact; ``weights`` (outputs, inputs)."""

    kind: ClassVar[str] = "dense"
    axes: ClassVar[int] = 2

    def position(self) -> Dense:
        return self

    def output(self, source: TensorType) -> TensorType:
        if source.shape != (self.fan_in,):
            raise FewbitError(f"{self._label()}: takes {self.fan_in} inputs on one axis, not {source}")
        return TensorType(self.sum_kind(source.dtype), (self.outputs,))

    def products(self, source: TensorType, x: Ints, factors: Ints) -> Ints:
        return self._sums(factors, source.dtype, x)


def whole_numbers(layer: Any, name: str, length: int) -> None:
    """Makes a tuple of the field ``name``. Raises FewbitError unless it holds ``length`` integers."""
    values = tuple(getattr(layer, name))
    if len(values) != length:
        raise FewbitError(f"{layer._label()}: {name} must be {length} numbers, not {len(values)}")
    if any(isinstance(one, bool) or not isinstance(one, (int, np.integer)) for one in values):
        raise FewbitError(f"{layer._label()}: {name} must be whole numbers, not {values}")
    object.__setattr__(layer, name, tuple(int(one) for one in values))


def checked_window(
    layer: Any, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    """Raises FewbitError unless kernel, stride and padding are those of a window; makes tuples of the layer's."""
    for name, length in (("stride", 2), ("padding", 4)):
        whole_numbers(layer, name, length)
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise FewbitError(
            f"{layer._label()}: kernel and stride must be at least 1 and padding 0, not {kernel}, {stride}, {padding}"
        )
    top, left, bottom, right = padding
    if max(top, bottom) >= kernel[0] or max(left, right) >= kernel[1]:
        raise FewbitError(
            f"{layer._label()}: padding must be less than the kernel {kernel[0]}x{kernel[1]}, not {padding}"
        )


def window_positions(
    layer: Any, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int], source: TensorType
) -> tuple[int, int]:
    """Rows and columns of windows over a map ``source``, (channels, height, width); FewbitError if there are none."""
    if len(source.shape) != 3:
        raise FewbitError(f"{layer._label()}: takes a map of (channels, height, width), not {source}")
    channels, height, width = source.shape
    top, left, bottom, right = padding
    height, width = height + top + bottom, width + left + right
    check_shape((channels, height, width), f"{layer._label()}: its input with padding")
    if kernel[0] > height or kernel[1] > width:
        padded = " with its padding" if any(padding) else ""
        raise FewbitError(
            f"{layer._label()}: a kernel of {kernel[0]}x{kernel[1]} is larger than the map of {height}x{width}{padded}"
        )
    return (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(Linear):
    """Convolution over a map, as a product at every position of its window; exact.

    ``y[o, r, c] = sum_{i, u, v} weights[o, i, u, v] * x[g(o) + i, r * stride[0] + u - top, c * stride[1] + v - left]``,
    with ``g(o)`` the first channel of the output's group. Outside the map ``x`` is 0, for bipolar inputs too: a lane
    then sees 0 beside -1 and +1 (:meth:`lane_kind`).

    Parameters
    ----------
    weights : int array (outputs, channels / groups, kernel height, kernel width)
    stride : (rows, columns)
    padding : (top, left, bottom, right)
        Each less than the kernel.
    groups : int
        Divides outputs and channels; outputs of a group see its channels only. Depthwise: as many as channels.
    """

    kind: ClassVar[str] = "conv"
    axes: ClassVar[int] = 4
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_window(self, self.kernel, self.stride, self.padding)
        if self.groups < 1 or self.outputs % self.groups:
            raise FewbitError(f"{self._label()}: groups must divide the {self.outputs} outputs, not {self.groups}")

    @property
    def kernel(self) -> tuple[int, int]:
        return int(self.weights.shape[2]), int(self.weights.shape[3])

    @property
    def channels(self) -> int:
        """Of the input map."""
        return int(self.weights.shape[1]) * self.groups

    @property
    def matrix(self) -> Ints:
        """Levels as (outputs, inputs): row by row of the window, channels last."""
        return self.weights.transpose(0, 2, 3, 1).reshape(self.outputs, -1)

    def lane_kind(self, source: DType) -> DType:
        return DType("int", 2) if source.kind == "bipolar" and any(self.padding) else source

    def output(self, source: TensorType) -> TensorType:
        rows, columns = window_positions(self, self.kernel, self.stride, self.padding, source)
        if source.shape[0] != self.channels:
            raise FewbitError(f"{self._label()}: takes {self.channels} channels, the input is {source}")
        return TensorType(self.sum_kind(source.dtype), (self.outputs, rows, columns))

    def products(self, source: TensorType, x: Ints, factors: Ints) -> Ints:
        kind = self.lane_kind(source.dtype)
        rows, columns = window_positions(self, self.kernel, self.stride, self.padding, source)
        y = np.empty((len(x), self.outputs, rows, columns), np.int64)
        channels, outputs = self.channels // self.groups, self.outputs // self.groups
        frames = max(1, _MOST_ELEMENTS // (rows * columns * self.fan_in))
        for start in range(0, len(x), frames):
            part = slice(start, start + frames)
            for group in range(self.groups):
                seen = x[part, group * channels : (group + 1) * channels]
                vectors = windows(seen, self.kernel, self.stride, self.padding).reshape(-1, self.fan_in)
                own = slice(group * outputs, (group + 1) * outputs)
                sums = self._sums(factors[own], kind, vectors).reshape(len(seen), rows, columns, outputs)
                y[part, own] = sums.transpose(0, 3, 1, 2)
        return y

    def position(self) -> Dense:
        return Dense(
            name=self.name,
            weights=self.matrix,
            code=self.code,
            scales=self.scales,
            negative_scales=self.negative_scales,
            vector=self.vector,
            across=self.across,
        )


__all__ = ["Conv", "Dense", "Linear", "checked_window", "frozen_array", "truncate", "whole_numbers", "window_positions"]
