"""Networks: a chain of frozen layers that check themselves. Integers from the first layer to the last."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import BIPOLAR, DType, Ints
from fewbit.golden.errors import FewbitError


@dataclass(frozen=True)
class TensorType:
    """What flows between two layers: the number kind of an element, and the shape of one frame (no batch axis)."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def frozen_array(values: Any, dtype: Any) -> Ints:
    """A read-only copy of ``values`` in C order as ``dtype``; FewbitError if that would change a value."""
    source = np.asarray(values)
    array = np.array(source, dtype=dtype, order="C")
    if not np.array_equal(array, source, equal_nan=array.dtype.kind == "f"):
        raise FewbitError(f"values must fit {array.dtype}, got {source.dtype} that do not")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, kw_only=True, eq=False)
class _Record:
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
class Layer(_Record):
    """One step of a network. ``kind`` names it in files and reports; ``output`` types it and refuses a wrong input."""

    kind: ClassVar[str]
    name: str

    def output(self, source: TensorType) -> TensorType:
        """Type of the output for an input of type ``source``. Raises FewbitError if the layer cannot take it."""
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flatten(Layer):
    """Frame of any shape to one axis, C order. Costs nothing in hardware."""

    kind: ClassVar[str] = "flatten"

    def output(self, source: TensorType) -> TensorType:
        return TensorType(source.dtype, (source.size,))


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense(Layer):
    """Matrix-vector product ``y[o] = sum_i weights[o, i] * x[i]``, exact.

    Parameters
    ----------
    weights : int array (outputs, inputs)
        Levels of ``code``.
    code : Code
        How a weight is stored.
    """

    kind: ClassVar[str] = "dense"
    weights: Ints
    code: Code

    def __post_init__(self) -> None:
        weights = self._freeze("weights", np.int32, 2)
        if weights.size == 0:
            raise FewbitError(f"{self._label()}: weights must not be empty, got shape {weights.shape}")
        if not self.code.contains(weights):
            wrong = weights[~np.isin(weights, self.code.levels)][0]
            raise FewbitError(f"{self._label()}: weight {wrong} is no level of the {self.code} code")

    @property
    def outputs(self) -> int:
        return int(self.weights.shape[0])

    @property
    def inputs(self) -> int:
        return int(self.weights.shape[1])

    def bounds(self, source: DType) -> tuple[Ints, Ints]:
        """Lowest and highest sum each output can reach, (outputs,) int64 each, for inputs of kind ``source``.

        Raises
        ------
        FewbitError
            If a sum needs more than 64 bits.
        """
        positive = np.maximum(self.weights, 0).sum(1, dtype=np.int64).astype(object)
        negative = np.minimum(self.weights, 0).sum(1, dtype=np.int64).astype(object)
        low = positive * source.min + negative * source.max
        high = positive * source.max + negative * source.min
        if low.min() < -(1 << 63) or high.max() >= 1 << 63:
            largest = max(low.min(), high.max(), key=abs)
            raise FewbitError(f"{self._label()}: sums up to {largest} need more than 64 bits")
        return low.astype(np.int64), high.astype(np.int64)

    def output(self, source: TensorType) -> TensorType:
        if source.shape != (self.inputs,):
            raise FewbitError(f"{self._label()}: takes {self.inputs} inputs on one axis, not {source}")
        low, high = self.bounds(source.dtype)
        return TensorType(DType.holding(int(low.min()), int(high.max())), (self.outputs,))


@dataclass(frozen=True, kw_only=True, eq=False)
class Threshold(Layer):
    """Activation and requantization: ``level = number of t with sign * x >= t``, ``y = base + step * level``.

    Batch normalization, activation and requantization fold into it; a negative gain is a ``sign`` of -1.

    Parameters
    ----------
    thresholds : int array (channels, T)
        Ascending along the second axis. One row serves every channel; else channels are the *first* axis of a frame.
    sign : int array (channels,)
        +1 or -1 for each row.
    dtype : DType
        Kind of the output. ``step`` is 2 for bipolar, else 1.
    base : int
        Output at level 0.
    """

    kind: ClassVar[str] = "threshold"
    thresholds: Ints
    sign: Ints
    dtype: DType
    base: int

    def __post_init__(self) -> None:
        thresholds = self._freeze("thresholds", np.int64, 2)
        sign = self._freeze("sign", np.int8, 1)
        if thresholds.size == 0:
            raise FewbitError(f"{self._label()}: needs a threshold, got shape {thresholds.shape}")
        if sign.shape != thresholds.shape[:1] or not np.isin(sign, (-1, 1)).all():
            raise FewbitError(f"{self._label()}: sign must be +1 or -1 for each of {len(thresholds)} rows")
        if (np.diff(thresholds, axis=1) < 0).any():
            raise FewbitError(f"{self._label()}: thresholds must ascend")
        top = self.base + self.dtype.step * thresholds.shape[1]
        if not self.dtype.contains(np.array([self.base, top])):
            raise FewbitError(f"{self._label()}: levels {self.base} to {top} do not fit {self.dtype}")

    @property
    def channels(self) -> int:
        return int(self.thresholds.shape[0])

    def output(self, source: TensorType) -> TensorType:
        if self.channels != 1 and (not source.shape or source.shape[0] != self.channels):
            raise FewbitError(f"{self._label()}: has {self.channels} channels, the input is {source}")
        return TensorType(self.dtype, source.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(Layer):
    """Fixed-point gain and offset a channel, ``y[c] = scale[c] * x[c] + bias[c]``, on one axis.

    It stands where a network ends in a gain that differs between classes, so that arg-max sees comparable scores.

    Parameters
    ----------
    scale, bias : int array (channels,)
    """

    kind: ClassVar[str] = "affine"
    scale: Ints
    bias: Ints

    def __post_init__(self) -> None:
        scale, bias = self._freeze("scale", np.int64, 1), self._freeze("bias", np.int64, 1)
        if scale.shape != bias.shape or scale.size == 0:
            raise FewbitError(f"{self._label()}: scale and bias must have one length, not {scale.size} and {bias.size}")

    def output(self, source: TensorType) -> TensorType:
        if source.shape != self.scale.shape:
            raise FewbitError(f"{self._label()}: has {self.scale.size} channels, the input is {source}")
        ends = [
            int(s) * x + int(b) for s, b in zip(self.scale, self.bias) for x in (source.dtype.min, source.dtype.max)
        ]
        try:
            return TensorType(DType.holding(min(ends), max(ends)), source.shape)
        except FewbitError:
            raise FewbitError(f"{self._label()}: sums up to {max(ends, key=abs)} need more than 64 bits") from None


@dataclass(frozen=True, kw_only=True, eq=False)
class ArgMax(Layer):
    """Index of the largest score; the lowest index among equals. Ends a network."""

    kind: ClassVar[str] = "argmax"

    def output(self, source: TensorType) -> TensorType:
        if len(source.shape) != 1:
            raise FewbitError(f"{self._label()}: takes scores on one axis, not {source}")
        return TensorType(DType("uint", max(1, (source.size - 1).bit_length())), ())


LAYERS: tuple[type[Layer], ...] = (Flatten, Dense, Threshold, Affine, ArgMax)
"""Every layer kind that a file can hold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputQuantizer(_Record):
    """How a float32 input becomes the network's integers: ``level = number of t with sign * x >= t``, elementwise.

    Parameters
    ----------
    thresholds : float32 array (T,)
        Ascending.
    sign : int
        +1 or -1.
    base : int
        Output at level 0; a level more is one ``step`` of the network's input kind more.
    """

    thresholds: Ints
    sign: int
    base: int

    def __post_init__(self) -> None:
        thresholds = self._freeze("thresholds", np.float32, 1)
        if thresholds.size == 0 or (np.diff(thresholds) < 0).any() or self.sign not in (-1, 1):
            raise FewbitError("input quantizer: needs ascending thresholds, and a sign of +1 or -1")

    def _label(self) -> str:
        return "input quantizer"


@dataclass(frozen=True, kw_only=True, eq=False)
class Network(_Record):
    """A trained network in integers.

    Parameters
    ----------
    name : str
    input : TensorType
        Kind and shape of one input frame.
    layers : tuple of Layer
        In order; an ArgMax can only be the last.
    input_quantizer : InputQuantizer or None
        How the source model's float32 input becomes ``input``; None where inputs are integers already.
    output_scale, output_bias : float64 array (channels,) or (1,)
        ``scores * scale + bias`` is the source model's output tensor; meaningless after ArgMax.
    output_shape : tuple of int or None
        Shape of one frame of the source model's output tensor; None if it is that of the last layer.

    Raises
    ------
    FewbitError
        If a layer cannot take what the one before it gives; the message names the layer.
    """

    name: str
    input: TensorType
    layers: tuple[Layer, ...]
    input_quantizer: InputQuantizer | None = None
    output_scale: Ints = (1.0,)  # type: ignore[assignment]
    output_bias: Ints = (0.0,)  # type: ignore[assignment]
    output_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._freeze("output_scale", np.float64, 1)
        self._freeze("output_bias", np.float64, 1)
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise FewbitError(f"network {self.name!r} has no layers")
        if self.input.size == 0 or any(extent < 1 for extent in self.input.shape):
            raise FewbitError(f"network {self.name!r}: an input of shape {self.input.shape} is empty")
        names = [layer.name for layer in self.layers]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise FewbitError(f"network {self.name!r}: two layers are named {min(twice)!r}")
        for layer in self.layers[:-1]:
            if isinstance(layer, ArgMax):
                raise FewbitError(f"{layer._label()}: an arg-max can only be the last layer")
        output = self.types[-1]
        for name in ("output_scale", "output_bias"):
            if getattr(self, name).size not in (1, output.size):
                raise FewbitError(f"network {self.name!r}: {name} must have 1 or {output.size} entries")
        if self.output_shape is not None and int(np.prod(self.output_shape)) != output.size:
            raise FewbitError(f"network {self.name!r}: {output.size} outputs do not fill shape {self.output_shape}")
        if self.input_quantizer is not None:
            quantizer = self.input_quantizer
            top = quantizer.base + self.input.dtype.step * quantizer.thresholds.size
            if not self.input.dtype.contains(np.array([quantizer.base, top])):
                raise FewbitError(f"input quantizer: levels {quantizer.base} to {top} do not fit {self.input.dtype}")

    def _label(self) -> str:
        return f"network {self.name!r}"

    @cached_property
    def types(self) -> tuple[TensorType, ...]:
        """Type of the input and of every layer's output, ``len(layers) + 1`` of them."""
        types = [self.input]
        for layer in self.layers:
            types.append(layer.output(types[-1]))
        return tuple(types)

    @property
    def output(self) -> TensorType:
        return self.types[-1]

    @property
    def scores(self) -> TensorType:
        """Type of the scores: what goes into the last arg-max, or the output where there is none."""
        return self.types[-2] if isinstance(self.layers[-1], ArgMax) else self.types[-1]

    @property
    def classifies(self) -> bool:
        """Whether the largest integer score is the network's answer: it ends in ArgMax, or in one positive scale."""
        if isinstance(self.layers[-1], ArgMax):
            return True
        one_scale = (self.output_scale == self.output_scale[0]).all() and self.output_scale[0] > 0
        one_bias = (self.output_bias == self.output_bias[0]).all()
        return bool(one_scale and one_bias and len(self.output.shape) == 1 and self.output.size > 1)


__all__ = [
    "BIPOLAR",
    "LAYERS",
    "Affine",
    "ArgMax",
    "Dense",
    "Flatten",
    "InputQuantizer",
    "Layer",
    "Network",
    "TensorType",
    "Threshold",
]
