"""Layers that join branches: addition and concatenation of tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from fewbit.golden import csd
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.layer import Layer, Range, TensorType


@dataclass(frozen=True, kw_only=True, eq=False)
class Join(Layer):
    """A layer with two or more inputs, which ``inputs`` names in order."""

    joins: ClassVar[bool] = True

    @abstractmethod
    def output_of(self, sources: Sequence[TensorType]) -> TensorType:
        """Type of the output for inputs of these types. Raises FewbitError if the layer cannot take them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Join):
    """Sum of tensors of one shape, element by element: ``y = sum_k gains[k] * x[k]``, exact.

    The gains bring inputs with different quantization scales to a common scale. Example: a residual connection whose
    scale is four times the scale of the sums has a gain of 4. In hardware a gain that is a power of two takes no logic.

    Parameters
    ----------
    gains : int array (inputs,)
        Must not be 0.
    """

    kind: ClassVar[str] = "add"
    gains: Ints

    def __post_init__(self) -> None:
        gains = self._freeze("gains", np.int64, 1)
        if gains.size != len(self.inputs) or not gains.all():
            raise FewbitError(
                f"{self.label}: needs a gain other than 0 for each of {len(self.inputs)} inputs, not {gains.tolist()}"
            )
        if np.abs(gains).max() >= 1 << csd.WIDEST - 1:
            raise FewbitError(f"{self.label}: gains must fit {csd.WIDEST} signed bits")

    def output_of(self, sources: Sequence[TensorType]) -> TensorType:
        shapes = {source.shape for source in sources}
        if len(shapes) > 1:
            raise FewbitError(f"{self.label}: adds inputs of one shape, not {', '.join(map(str, sources))}")
        low, high = self._ends([source.dtype.min for source in sources], [source.dtype.max for source in sources])
        if max(-low, high) >= 1 << 63:
            raise FewbitError(f"{self.label}: sums up to {max(low, high, key=abs)} need more than 64 bits")
        dtype = DType.spanning(low, high)
        return TensorType(dtype, sources[0].shape)

    @cached_property
    def terms(self) -> tuple[tuple[int, int, int], ...]:
        """The output as a sum of shifted inputs, one for each signed digit of a gain: (input, exponent, sign)."""
        digits = csd.recode(self.gains, csd.WIDEST)
        return tuple((int(i), int(exponent), int(digits[i, exponent])) for i, exponent in zip(*np.nonzero(digits)))

    def _ends(self, lows: Sequence[int], highs: Sequence[int]) -> tuple[int, int]:
        ends = [(gain * low, gain * high) for gain, low, high in zip(self.gains.tolist(), lows, highs)]
        return sum(map(min, ends)), sum(map(max, ends))

    def step_of(self, sources: Sequence[TensorType], tensors: Sequence[Ints], quality: int | None = None) -> Ints:
        total = self.gains[0] * tensors[0]
        for gain, x in zip(self.gains[1:], tensors[1:]):
            total = total + gain * x
        return np.asarray(total)

    def output_range_of(self, sources: Sequence[TensorType], inputs: Sequence[Callable[[], Range]]) -> Range:
        low, high = np.int64(0), np.int64(0)
        for gain, ends in zip(self.gains, inputs):
            scaled_ends = [gain * end for end in ends()]
            low, high = low + np.minimum(*scaled_ends), high + np.maximum(*scaled_ends)
        return np.asarray(low), np.asarray(high)

    def operations(self, source: TensorType) -> int:
        """Number of additions, and of multiplications by gains other than 1 and -1."""
        return source.size * (len(self.inputs) - 1 + int((np.abs(self.gains) != 1).sum()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Concat(Join):
    """Concatenation along the first axis of a frame: the channels of maps, the elements of vectors.

    All inputs must have the same quantization scale. The number kind of the output is the narrowest that can hold the
    values of all inputs.
    """

    kind: ClassVar[str] = "concat"

    def output_of(self, sources: Sequence[TensorType]) -> TensorType:
        if not sources[0].shape or len({source.shape[1:] for source in sources}) > 1:
            raise FewbitError(
                f"{self.label}: joins inputs that differ in their first axis only, not {', '.join(map(str, sources))}"
            )
        kinds = {source.dtype for source in sources}
        dtype = kinds.pop()
        if kinds:
            low, high = (pick(getattr(source.dtype, pick.__name__) for source in sources) for pick in (min, max))
            dtype = DType.spanning(low, high)
        return TensorType(dtype, (sum(source.shape[0] for source in sources), *sources[0].shape[1:]))

    def step_of(self, sources: Sequence[TensorType], tensors: Sequence[Ints], quality: int | None = None) -> Ints:
        return np.concatenate(tensors, axis=1)

    def output_range_of(self, sources: Sequence[TensorType], inputs: Sequence[Callable[[], Range]]) -> Range:
        ends = []
        for source, range_of in zip(sources, inputs):
            ends.append([np.broadcast_to(end, source.shape[:1]) for end in range_of()])
        low, high = (np.concatenate(side) for side in zip(*ends))
        return low, high
