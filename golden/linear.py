"""Layers with weights: dense and convolutional, with weights of any code and fixed-point scales."""

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
"""Number of values that are recoded to signed digits at a time."""

_MOST_ELEMENTS = 1 << 24
"""Number of window elements that a convolution keeps in memory at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(OneInput):
    """Multiplication by weights, exact: each output is ``sum_i scale * level * x[i]`` over its inputs ``i``.

    A level is a value of the weight code. Scales are integers. The weights of a *vector* share a scale: ``vector``
    neighbouring weights along the inputs of one output or, with ``across``, along the outputs of one input. Scales are
    multiplied by canonic-signed-digit multipliers, and the weights of a ``csd`` code consist of such digits, too;
    ``quality`` limits how many of the digits are used.

    Parameters
    ----------
    weights : int array
        Levels of ``code``; the first axis is the outputs.
    code : Code
        The weight code.
    scales : int array (outputs, vectors) or, with ``across``, (vectors, inputs); None
        If None, every scale is 1. The last vector may be shorter.
    negative_scales : int array, None
        Scales of negative levels, if they differ: level ``-1`` then means ``-negative_scales``. From Trained Ternary
        Quantization, arXiv 1612.01064.
    vector : int
        Number of weights that share a scale; 0 without scales.
    across : bool
        Whether vectors run across outputs instead of along inputs: Figures 6 and 5 of the quality-scalable multiplier
        paper.
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
            raise FewbitError(f"{self._label()}: weight {wrong} is not a level of the {self.code} code")
        if self.scales is None:
            if self.negative_scales is not None or self.vector or self.across:
                raise FewbitError(f"{self._label()}: negative_scales, vector and across are only allowed with scales")
            return
        along = self.outputs if self.across else self.fan_in
        if not 1 <= self.vector <= along:
            raise FewbitError(f"{self._label()}: a vector has 1 to {along} weights, not {self.vector}")
        vectors = -(-along // self.vector)
        expected = (vectors, self.fan_in) if self.across else (self.outputs, vectors)
        for name in ("scales", "negative_scales"):
            if getattr(self, name) is None:
                continue
            scales = self._freeze(name, np.int64, 2)
            if scales.shape != expected:
                raise FewbitError(f"{self._label()}: {name} must have the shape {expected}, not {scales.shape}")
            if np.abs(scales).max() >= 1 << csd.WIDEST - 1:
                raise FewbitError(f"{self._label()}: {name} must fit {csd.WIDEST} signed bits")

    @property
    def outputs(self) -> int:
        return int(self.weights.shape[0])

    @property
    def fan_in(self) -> int:
        """Number of inputs of one output."""
        return int(self.weights[0].size)

    @property
    def matrix(self) -> Ints:
        """Levels as (outputs, inputs), the inputs in the order in which the hardware reads them."""
        return self.weights

    @abstractmethod
    def position(self) -> Dense:
        """The matrix-vector product that is computed at one position, with inputs in the order of :attr:`matrix`. In a
        convolution with groups, each group of its rows has different inputs."""

    @cached_property
    def scale_kind(self) -> DType | None:
        """The narrowest number kind that can hold every scale; None without scales."""
        if self.scales is None:
            return None
        arrays = [self.scales, *([] if self.negative_scales is None else [self.negative_scales])]
        return DType.holding(min(int(scales.min()) for scales in arrays), max(int(scales.max()) for scales in arrays))

    @cached_property
    def digits(self) -> int:
        """The largest number of signed digits of a scale or a ``csd`` weight: with this quality the layer is exact. 0
        if it has neither."""
        multipliers = [scales for scales in (self.scales, self.negative_scales) if scales is not None]
        if self.code.digit_width is not None:
            multipliers.append(self.weights)
        recoded = (digits for values in multipliers for digits in _recoded(values))
        return max((int((digits != 0).sum(-1).max()) for digits in recoded), default=0)

    def factors(self, quality: int | None = None) -> Ints:
        """``scale * level`` of every weight, (outputs, inputs) int64, with the ``quality`` most significant signed
        digits.

        A quality of None, or of at least :attr:`digits`, is exact.
        """
        digits = self.digits if quality is None else quality
        levels = self.matrix.astype(np.int64)
        if self.code.digit_width is not None:
            levels = truncate(levels, digits)
        if self.scales is None:
            return levels
        scales = self.each_scale(truncate(self.scales, digits))
        if self.negative_scales is not None:
            scales = np.where(levels < 0, self.each_scale(truncate(self.negative_scales, digits)), scales)
        return levels * scales

    def each_scale(self, scales: Ints) -> Ints:
        """Repeat ``scales``, an array like :attr:`scales`, for every weight.

        # (outputs, vectors), or with ``across`` (vectors, inputs) -> (outputs, inputs)
        """
        if self.across:
            return np.repeat(scales, self.vector, axis=0)[: self.outputs]
        return np.repeat(scales, self.vector, axis=1)[:, : self.fan_in]

    def lane_kind(self, source: DType) -> DType:
        """Number kind of the elements at the lanes, for inputs of kind ``source``."""
        return source

    def bounds(self, source: DType) -> tuple[Ints, Ints]:
        """Lowest and highest sum of each output at any quality, (outputs,) int64 each, for inputs of kind ``source``.

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
        if self.digits:  # at a quality of 0 all sums are 0
            lows.append(0 * lows[0])
            highs.append(0 * highs[0])
        least, most = np.min(lows, axis=0), np.max(highs, axis=0)
        if least.min() < -(1 << 63) or most.max() >= 1 << 63:
            largest = max(least.min(), most.max(), key=abs)
            raise FewbitError(f"{self._label()}: sums up to {largest} need more than 64 bits")
        return least.astype(np.int64), most.astype(np.int64)

    @abstractmethod
    def products(self, source: TensorType, x: Ints, factors: Ints) -> Ints:
        """Compute the output for ``x`` with given ``factors`` (outputs, inputs) instead of :meth:`factors`.

        # (N, \\*source.shape) -> (N, \\*output shape)
        """

    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        return self.products(source, x, self.factors(quality))

    def memory_bits(self, source: TensorType) -> int:
        return self.weights.size * self.code.bits

    def operations(self, source: TensorType) -> int:
        """Number of multiply-accumulates for one frame, including those with padding."""
        return self.output(source).size * self.fan_in

    def output_range(self, source: TensorType, inputs: Callable[[], Range]) -> Range:
        return self.bounds(source.dtype)

    def _sums(self, factors: Ints, source: DType, x: Ints) -> Ints:
        """Sums of products.  # (outputs, inputs), (N, inputs) -> (N, outputs)"""
        if self.digits:
            return product(x, factors, source)
        return matvec(x, factors, self.code, source)

    def sum_kind(self, source: DType) -> DType:
        """The narrowest number kind that can hold every sum, for inputs of kind ``source``."""
        low, high = self.bounds(source)
        return DType.holding(int(low.min()), int(high.max()))


def truncate(values: Ints, quality: int) -> Ints:
    """Keep only the ``quality`` most significant canonic signed digits of ``values``.  # (...) -> (...) int64"""
    blocks = [csd.value(csd.keep(digits, quality)) for digits in _recoded(values)]
    return np.concatenate(blocks or [np.zeros(0, np.int64)]).reshape(values.shape)


def _recoded(values: Ints) -> Iterator[Ints]:
    """Signed digits of ``values`` in C order, in blocks: all at once would take a hundred times the memory of the
    values.
    """
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
    """Convert the field ``name`` to a tuple. Raises FewbitError unless it has ``length`` integers."""
    values = tuple(getattr(layer, name))
    if len(values) != length:
        raise FewbitError(f"{layer._label()}: {name} must be {length} numbers, not {len(values)}")
    if any(isinstance(value, bool) or not isinstance(value, (int, np.integer)) for value in values):
        raise FewbitError(f"{layer._label()}: {name} must be whole numbers, not {values}")
    object.__setattr__(layer, name, tuple(int(value) for value in values))


def checked_window(
    layer: Any, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    """Raise FewbitError unless kernel, stride and padding are valid for a window. Converts the layer's ``stride`` and
    ``padding`` to tuples."""
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
    """Number of rows and columns of windows over a map of type ``source``, (channels, height, width).

    Raises FewbitError if ``source`` is not a map, or is smaller than the kernel.
    """
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
    """Convolution over a map: a matrix-vector product at every position of the window, exact.

    ``y[o, r, c] = sum_{i, u, v} weights[o, i, u, v] * x[g(o) + i, r * stride[0] + u - top, c * stride[1] + v - left]``,
    where ``g(o)`` is the first channel of the output's group. Outside the map ``x`` is 0. This is so for bipolar
    inputs, too: with padding, the lanes receive 0 in addition to -1 and +1 (:meth:`lane_kind`).

    Parameters
    ----------
    weights : int array (outputs, channels / groups, kernel height, kernel width)
    stride : (rows, columns)
    padding : (top, left, bottom, right)
        Each less than the kernel.
    groups : int
        Divides outputs and channels; the outputs of a group use only the channels of this group. A depthwise
        convolution has as many groups as channels.
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
        """Number of channels of the input map."""
        return int(self.weights.shape[1]) * self.groups

    @property
    def matrix(self) -> Ints:
        """Levels as (outputs, inputs); the inputs are those of the window row by row, channels last."""
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
                maps = x[part, group * channels : (group + 1) * channels]
                vectors = windows(maps, self.kernel, self.stride, self.padding).reshape(-1, self.fan_in)
                group_outputs = slice(group * outputs, (group + 1) * outputs)
                sums = self._sums(factors[group_outputs], kind, vectors).reshape(len(maps), rows, columns, outputs)
                y[part, group_outputs] = sums.transpose(0, 3, 1, 2)
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
