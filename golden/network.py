"""A trained network: a graph of immutable layers that validate themselves. All values are integers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from fewbit.golden.budget import check_shape
from fewbit.golden.dtype import BIPOLAR, DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.graph import INPUT, named, tensor_readers, tensors_read, unnamed
from fewbit.golden.join import Add, Concat, Join
from fewbit.golden.layer import Layer, OneInput, Range, Record, TensorType
from fewbit.golden.linear import Conv, Dense, Linear, checked_window, whole_numbers, window_positions
from fewbit.golden.threshold import threshold_level
from fewbit.golden.window import windows


@dataclass(frozen=True, kw_only=True, eq=False)
class Flatten(OneInput):
    """Reshape a frame of any shape to one axis, in C order; with ``channels_last``, a map is read row by row with its
    channels last. Takes no hardware."""

    kind: ClassVar[str] = "flatten"
    channels_last: bool = False

    def places(self, shape: tuple[int, ...]) -> Ints:
        """Position of each output element in the C order of a frame of ``shape``.  # () -> (size,)"""
        order = np.arange(int(np.prod(shape))).reshape(shape)
        return (order.transpose(1, 2, 0) if self.channels_last and len(shape) == 3 else order).ravel()

    def output(self, source: TensorType) -> TensorType:
        return TensorType(source.dtype, (source.size,))

    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        return x.reshape(len(x), source.size)[:, self.places(source.shape)]

    def output_range(self, source: TensorType, inputs: Callable[[], Range]) -> Range:
        places, shape = self.places(source.shape), source.shape
        low, high = (
            np.broadcast_to(end.reshape(-1, *[1] * (len(shape) - 1)), shape).ravel()[places] for end in inputs()
        )
        return low, high


@dataclass(frozen=True, kw_only=True, eq=False)
class Threshold(OneInput):
    """Activation and requantization: ``level = number of t with sign * x >= t``, ``y = base + step * level``.

    Batch normalization, activation and requantization are merged into it. A negative gain becomes a ``sign`` of -1.

    Parameters
    ----------
    thresholds : int array (channels, T)
        Ascending along the second axis. A single row applies to all elements; otherwise there is a row for each
        channel, and channels are the *first* axis of a frame.
    sign : int array (channels,)
        +1 or -1 for each row.
    dtype : DType
        Number kind of the output. ``step`` is 2 for bipolar, else 1.
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
        if (thresholds[:, 1:] < thresholds[:, :-1]).any():
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

    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        return self.base + self.dtype.step * self.levels(x)

    def levels(self, x: Ints) -> Ints:
        """Number of thresholds that each element of ``x`` reaches.  # (N, ...) -> (N, ...) int64"""
        return threshold_level(x, self.thresholds, self.sign)

    def memory_bits(self, source: TensorType) -> int:
        return self.thresholds.size * source.dtype.bits

    def operations(self, source: TensorType) -> int:
        return source.size * int(self.thresholds.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool(OneInput):
    """Maximum or sum of the elements of each window of a map, for each channel separately.

    Padding is never the maximum, and adds 0 to a sum. A mean is expressed as a sum: the importer moves its divisor into
    the thresholds or the output scale that follow.

    Parameters
    ----------
    mode : ``"max"`` or ``"sum"``
    kernel, stride : (rows, columns)
    padding : (top, left, bottom, right)
        Each less than the kernel.
    """

    kind: ClassVar[str] = "pool"
    mode: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        if self.mode not in ("max", "sum"):
            raise FewbitError(f'{self._label()}: pooling is "max" or "sum", not {self.mode!r}')
        whole_numbers(self, "kernel", 2)
        checked_window(self, self.kernel, self.stride, self.padding)

    def output(self, source: TensorType) -> TensorType:
        positions = window_positions(self, self.kernel, self.stride, self.padding, source)
        dtype, elements = source.dtype, self.kernel[0] * self.kernel[1]
        if self.mode == "sum":
            least, most = elements * dtype.min, elements * dtype.max
            if max(-least, most) >= 1 << 63:
                raise FewbitError(f"{self._label()}: sums up to {most} need more than 64 bits")
            dtype = DType.spanning(least, most)
        return TensorType(dtype, (source.shape[0], *positions))

    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        fill = source.dtype.min if self.mode == "max" else 0
        elements = windows(x, self.kernel, self.stride, self.padding, fill)
        pooled = elements.max((3, 4)) if self.mode == "max" else elements.sum((3, 4))
        return np.ascontiguousarray(pooled.transpose(0, 3, 1, 2))

    def operations(self, source: TensorType) -> int:
        return self.output(source).size * self.kernel[0] * self.kernel[1]

    def output_range(self, source: TensorType, inputs: Callable[[], Range]) -> Range:
        low, high = inputs()
        if self.mode == "max":
            return low, high
        elements = self.kernel[0] * self.kernel[1]
        if any(self.padding):  # all elements of a window except one may be padding
            return np.minimum(low, elements * low), np.maximum(high, elements * high)
        return elements * low, elements * high


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(OneInput):
    """Fixed-point gain and offset for each channel: ``y[c] = scale[c] * x[c] + bias[c]``. Channels are the first axis.

    If the output gain of a network differs between classes, this layer makes the scores comparable for the arg-max.

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
            raise FewbitError(
                f"{self._label()}: scale and bias must have the same length of at least 1, "
                f"not {scale.size} and {bias.size}"
            )

    def output(self, source: TensorType) -> TensorType:
        if source.shape[:1] != self.scale.shape:
            raise FewbitError(f"{self._label()}: has {self.scale.size} channels, the input is {source}")
        ends = [
            int(s) * x + int(b) for s, b in zip(self.scale, self.bias) for x in (source.dtype.min, source.dtype.max)
        ]
        try:
            return TensorType(DType.holding(min(ends), max(ends)), source.shape)
        except FewbitError:
            raise FewbitError(f"{self._label()}: sums up to {max(ends, key=abs)} need more than 64 bits") from None

    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        axes = (-1,) + (1,) * (x.ndim - 2)
        return x * self.scale.reshape(axes) + self.bias.reshape(axes)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArgMax(OneInput):
    """Index of the largest score; of equal scores, the lowest index. Only the last layer can be an ArgMax."""

    kind: ClassVar[str] = "argmax"

    def output(self, source: TensorType) -> TensorType:
        if len(source.shape) != 1:
            raise FewbitError(f"{self._label()}: takes scores on one axis, not {source}")
        return TensorType(DType("uint", max(1, (source.size - 1).bit_length())), ())

    def step(self, source: TensorType, x: Ints, quality: int | None = None) -> Ints:
        return np.asarray(np.argmax(x, axis=1))


LAYERS: tuple[type[Layer], ...] = (Flatten, Dense, Conv, Pool, Threshold, Affine, Add, Concat, ArgMax)
"""The layer classes that a model file can contain."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputQuantizer(Record):
    """Quantization of a float32 input to integers, element by element: ``level = number of t with sign * x >= t``.

    Parameters
    ----------
    thresholds : float32 array (T,)
        Ascending.
    sign : int
        +1 or -1.
    base : int
        Output at level 0. Each further level adds the ``step`` of the network's input kind.
    """

    thresholds: Ints
    sign: int
    base: int

    def __post_init__(self) -> None:
        thresholds = self._freeze("thresholds", np.float32, 1)
        ascending = (thresholds[1:] >= thresholds[:-1]).all() and not np.isnan(thresholds).any()
        if thresholds.size == 0 or not ascending or self.sign not in (-1, 1):
            raise FewbitError("input quantizer: needs ascending thresholds, and a sign of +1 or -1")

    def _label(self) -> str:
        return "input quantizer"


OUTPUT_FUNCTIONS = ("sigmoid", "tanh", "softmax", "log_softmax")
"""Functions with which a source model may end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network(Record):
    """A trained network that computes in integers.

    Parameters
    ----------
    name : str
    input : TensorType
        Number kind and shape of one input frame.
    layers : tuple of Layer
        In topological order: each layer reads outputs of earlier layers, by default of the layer directly before it.
        The last layer gives the network's output; only the last may be an ArgMax.
    input_quantizer : InputQuantizer or None
        Conversion of the source model's float32 input to ``input``; None if the inputs are integers.
    output_scale, output_bias : float64 array (channels,) or (1,)
        ``scores * scale + bias`` is the source model's output tensor. Not used after an ArgMax.
    output_shape : tuple of int or None
        Shape of one frame of the source model's output tensor; None if it is that of the last layer.
    output_function : str or None
        What the host applies to the source model's output tensor at last, in float: one of :data:`OUTPUT_FUNCTIONS`.
        A softmax runs over the first axis of a frame. None of them changes which score is the largest.
    output_sizes : tuple of int
        Where the source model has several output tensors, the number of elements of each: the network's output is all
        of them, one after another. Empty for one output tensor.
    input_batch : int
        Frames that one input tensor of the source model holds.
    input_shape : tuple of int or None
        Shape of one frame of the source model's input tensor, where the host transposes it; else None.
    input_order : tuple of int
        Axes of that frame in the order in which the network takes them, such as (2, 0, 1) for channels last.

    Raises
    ------
    FewbitError
        If a layer cannot process the tensors that it reads; the message names the layer.
    """

    name: str
    input: TensorType
    layers: tuple[Layer, ...]
    input_quantizer: InputQuantizer | None = None
    output_scale: Ints = (1.0,)  # type: ignore[assignment]
    output_bias: Ints = (0.0,)  # type: ignore[assignment]
    output_shape: tuple[int, ...] | None = None
    output_function: str | None = None
    output_sizes: tuple[int, ...] = ()
    input_batch: int = 1
    input_shape: tuple[int, ...] | None = None
    input_order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("output_scale", "output_bias"):
            if not np.isfinite(self._freeze(name, np.float64, 1)).all():
                raise FewbitError(f"network {self.name!r}: {name} must be finite")
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise FewbitError(f"network {self.name!r} has no layers")
        if self.input.size == 0 or any(extent < 1 for extent in self.input.shape):
            raise FewbitError(f"network {self.name!r}: an input of shape {self.input.shape} is empty")
        names = [layer.name for layer in self.layers]
        repeated = {name for name, times in Counter(names).items() if times > 1}
        if repeated:
            raise FewbitError(f"network {self.name!r}: two layers are named {min(repeated)!r}")
        for layer in self.layers[:-1]:
            if isinstance(layer, ArgMax):
                raise FewbitError(f"{layer._label()}: an arg-max can only be the last layer")
        output = self.output
        for name in ("output_scale", "output_bias"):
            if getattr(self, name).size not in (1, output.size):
                raise FewbitError(f"network {self.name!r}: {name} must have 1 or {output.size} entries")
        if self.output_shape is not None:
            check_shape(self.output_shape, f"network {self.name!r}: its output_shape")
            if math.prod(self.output_shape) != output.size or min(self.output_shape, default=1) < 1:
                raise FewbitError(f"network {self.name!r}: {output.size} outputs do not fill shape {self.output_shape}")
        if self.output_function is not None:
            if self.output_function not in OUTPUT_FUNCTIONS:
                known = ", ".join(OUTPUT_FUNCTIONS)
                raise FewbitError(
                    f"network {self.name!r}: output_function must be one of {known}, not {self.output_function!r}"
                )
            if isinstance(self.layers[-1], ArgMax):
                raise FewbitError(f"network {self.name!r}: an arg-max has no output_function")
        if self.output_sizes and (min(self.output_sizes) < 1 or sum(self.output_sizes) != output.size):
            raise FewbitError(
                f"network {self.name!r}: output tensors of {self.output_sizes} elements are not its {output.size} "
                "outputs"
            )
        given = self.input.shape if self.input_shape is None else self.input_shape
        check_shape(given, f"network {self.name!r}: its input_shape")
        if math.prod(given) != self.input.size or min(given, default=1) < 1:
            raise FewbitError(f"network {self.name!r}: an input of shape {given} does not fill {self.input}")
        if self.input_order and sorted(self.input_order) != list(range(len(given))):
            raise FewbitError(f"network {self.name!r}: input_order {self.input_order} does not fit shape {given}")
        if isinstance(self.input_batch, bool) or not isinstance(self.input_batch, int) or self.input_batch < 1:
            raise FewbitError(f"network {self.name!r}: input_batch must be 1 or more, not {self.input_batch}")
        if self.input_quantizer is not None:
            quantizer = self.input_quantizer
            top = quantizer.base + self.input.dtype.step * quantizer.thresholds.size
            if not self.input.dtype.contains(np.array([quantizer.base, top])):
                raise FewbitError(f"input quantizer: levels {quantizer.base} to {top} do not fit {self.input.dtype}")

    def _label(self) -> str:
        return f"network {self.name!r}"

    @cached_property
    def reads(self) -> tuple[tuple[int, ...], ...]:
        """For each layer the numbers of the tensors that it reads: 0 is the network's input, ``k`` the output of layer
        ``k - 1``."""
        return tensors_read(self.layers)

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each tensor, by its number, the indices of the layers that read it."""
        return tensor_readers(self.reads)

    @cached_property
    def tensor_types(self) -> tuple[TensorType, ...]:
        """Type of each tensor, by its number: first the network's input, then the output of every layer."""
        types = [self.input]
        labels = [self._label()]
        for layer, sources in zip(self.layers, self.reads):
            try:
                types.append(layer.output_of([types[number] for number in sources]))
            except FewbitError as error:
                label = f"{layer.label}: "
                raise FewbitError(f"{label}{str(error).removeprefix(label)}") from None
            labels.append(layer.label)
        for label, kind in zip(labels, types):
            if kind.dtype.max >= 1 << 63:
                raise FewbitError(f"{label}: {kind} is beyond the signed 64-bit integers that networks compute in")
        return tuple(types)

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """Type of every layer's output, by the layer's name."""
        return {layer.name: kind for layer, kind in zip(self.layers, self.tensor_types[1:])}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {layer.name: index for index, layer in enumerate(self.layers)}

    def index(self, layer: Layer) -> int:
        """Index of ``layer`` in ``layers``."""
        return self._places[layer.name]

    def sources(self, layer: Layer) -> tuple[TensorType, ...]:
        """Types of the tensors that ``layer`` reads."""
        return tuple(self.tensor_types[number] for number in self.reads[self.index(layer)])

    def source(self, layer: Layer) -> TensorType:
        """Type of the tensor that ``layer`` reads; of the first one if it reads several."""
        return self.sources(layer)[0]

    def before(self, layer: Layer) -> tuple[Layer | None, ...]:
        """The layers whose outputs ``layer`` reads; None stands for the network's input."""
        return tuple(self.layers[number - 1] if number else None for number in self.reads[self.index(layer)])

    def after(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers that read the output of ``layer``, in order."""
        return tuple(self.layers[index] for index in self.readers[self.index(layer) + 1])

    def only_reader(self, tensor: int) -> int | None:
        """Index of the only layer that reads tensor number ``tensor``, if that layer reads no other tensor; else None:
        at forks, at joins and at the end of the network."""
        readers = self.readers[tensor]
        return readers[0] if len(readers) == 1 and len(self.reads[readers[0]]) == 1 else None

    def with_layers(self, layers: Sequence[Layer]) -> Network:
        """A copy of this network with other ``layers``. All their inputs may be named."""
        return replace(self, layers=unnamed(layers))

    @property
    def named_layers(self) -> list[Layer]:
        """The layers with all inputs named, so that layers can be moved, added or removed before
        :meth:`with_layers`."""
        return named(self.layers)

    @property
    def output(self) -> TensorType:
        return self.tensor_types[-1]

    @property
    def scores(self) -> TensorType:
        """Type of the scores: the input of the final ArgMax, or the network's output if there is none."""
        last = self.layers[-1]
        return self.source(last) if isinstance(last, ArgMax) else self.output

    @property
    def scores_tensor(self) -> int:
        """Number of the tensor that holds the scores."""
        return self.reads[-1][0] if isinstance(self.layers[-1], ArgMax) else len(self.layers)

    @cached_property
    def digits(self) -> int:
        """The largest number of signed digits of any scale or ``csd`` weight: with this quality
        :func:`fewbit.golden.run.run` is exact. 0 if no multiplication uses signed digits, so that quality has no
        effect.
        """
        return max((layer.digits for layer in self.layers if isinstance(layer, Linear)), default=0)

    @property
    def classifies(self) -> bool:
        """Whether the index of the largest integer score is the predicted class: the network ends in an ArgMax, or all
        scores are of one output tensor and have the same positive scale and the same bias."""
        if self.output_sizes:
            return False
        if isinstance(self.layers[-1], ArgMax):
            return True
        same_scale = (self.output_scale == self.output_scale[0]).all() and self.output_scale[0] > 0
        same_bias = (self.output_bias == self.output_bias[0]).all()
        return bool(same_scale and same_bias and len(self.output.shape) == 1 and self.output.size > 1)


__all__ = [
    "BIPOLAR",
    "INPUT",
    "LAYERS",
    "Add",
    "Affine",
    "ArgMax",
    "Concat",
    "Conv",
    "Dense",
    "Flatten",
    "InputQuantizer",
    "Join",
    "Layer",
    "Linear",
    "Network",
    "OneInput",
    "Pool",
    "TensorType",
    "Threshold",
]
