"""TensorFlow Lite's operators as integer layers, each with the rounding of its reference kernel.

An activation is carried as the integer of the file less its zero point, so that the real 0 is the integer 0, also in
the padding of a convolution. Its type has the bits that this takes: ``uint8`` behind a fused ReLU, whose zero point
is the least integer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from fewbit.exact import Curve, exact
from fewbit.golden.budget import check_shape
from fewbit.golden.codes import integer
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.linear import Linear
from fewbit.golden.network import (
    Add,
    Concat,
    Conv,
    Dense,
    Flatten,
    Pool,
    Threshold,
)
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.levels import first_reaching, levels_of
from fewbit.importers.lowering.sums import integer_gains
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.lowering.weights import narrowest_code
from fewbit.importers.onnx_graph import Refusal
from fewbit.importers.tflite import model as file
from fewbit.importers.tflite.arithmetic import Multiplier

_ENDS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-(1 << 15), (1 << 15) - 1)}

_TOO_WIDE = "its integers need more than the 32 bits that TensorFlow Lite computes in"
_WIDE = 1 << 20
"""A level beyond every type and zero point."""

_ADD_SHIFT = 20
"""Bits by which the kernel of ADD widens its inputs before it scales them."""


@dataclass(frozen=True)
class Call:
    """An operator with its surroundings."""

    builder: Builder
    model: file.Model
    operator: file.Operator
    active: dict[int, Tensor]

    def tensor(self, place: int) -> file.Tensor:
        """Input ``place`` as the file has it."""
        return self.model.tensors[self.operator.inputs[place]]

    def has(self, place: int) -> bool:
        return place < len(self.operator.inputs) and self.operator.inputs[place] >= 0

    def activation(self, place: int = 0) -> Tensor:
        """Input ``place`` as the integers of the network. Refuses a constant."""
        number = self.operator.inputs[place]
        if number not in self.active:
            raise Refusal(f"its input {self.tensor(place).name!r} must be an activation, not a constant")
        return self.active[number]

    def constant(self, place: int) -> Ints:
        values = self.tensor(place).values
        if values is None:
            raise Refusal(f"its input {self.tensor(place).name!r} must be a constant")
        return values

    @property
    def output(self) -> file.Tensor:
        return self.model.tensors[self.operator.outputs[0]]

    def option(self, name: str) -> Any:
        """0 where the operator has no record of options, as for the kernels."""
        return self.operator.options.get(name, 0)

    def factors(self, rows: str, columns: str) -> tuple[int, int]:
        """Two options that must be 1 or more, such as strides."""
        values = int(self.option(rows)), int(self.option(columns))
        if min(values) < 1:
            raise Refusal(f"its options {rows} and {columns} must be 1 or more, not {values[0]} and {values[1]}")
        return values


def ends(tensor: file.Tensor) -> tuple[int, int]:
    """Least and largest integer of a quantized activation. Refuses other types."""
    if tensor.kind not in _ENDS:
        raise Refusal(f"its tensor {tensor.name!r} is {tensor.kind}: only int8, uint8 and int16 activations")
    if tensor.scale.size != 1:
        raise Refusal(f"its tensor {tensor.name!r} has {tensor.scale.size} scales; activations have one")
    low, high = _ENDS[tensor.kind]
    if not low <= tensor.zero[0] <= high:
        raise Refusal(f"its tensor {tensor.name!r} has the zero point {tensor.zero[0]}, which is not {tensor.kind}")
    return low, high


def curve_of(tensor: file.Tensor) -> Curve:
    """From an integer less its zero point to the real that it stands for."""
    return Curve().scaled(exact(tensor.scale.astype(np.float64)), exact([0]))


def _level(tensor: file.Tensor, real: float) -> int:
    """The integer nearest to ``real``: the kernels divide in float32, and round half away from zero."""
    with np.errstate(over="ignore"):
        quotient = float(np.float32(real) / np.float32(tensor.scale[0]))
    size = int(np.floor(min(abs(quotient), _WIDE) + 0.5))
    return int(tensor.zero[0]) + (size if real >= 0 else -size)


def _limits(call: Call) -> tuple[int, int]:
    """Ends of the output after its fused activation, which rounds half away from zero."""
    low, high = ends(call.output)
    place = call.option("FusedActivationFunction")
    level = partial(_level, call.output)

    if place == 0:
        return low, high
    if place == 1:  # RELU
        return max(low, level(0.0)), high
    if place == 2:  # RELU_N1_TO_1
        return max(low, level(-1.0)), min(high, level(1.0))
    if place == 3:  # RELU6
        return max(low, level(0.0)), min(high, level(6.0))
    raise Refusal(f"its fused activation {place} is not supported; RELU, RELU6 and RELU_N1_TO_1 are")


def rounded(call: Call, tensor: Tensor, function: Callable[[Ints], Ints], limits: tuple[int, int], rows: int) -> Tensor:
    """``tensor`` through a function that never falls, from integers to those of the output, cut to ``limits``.

    Parameters
    ----------
    function : callable
        # (rows, n) -> (rows, n) int64, from the network's integers to the file's.
    rows : int
        1, or the channels where each has a function of its own.
    """
    zero = int(call.output.zero[0])
    shape = tensor.shape[: -len(tensor.frame)] + tensor.frame if tensor.frame else tensor.shape
    result = levels_of(call.builder, tensor, function, limits, zero, rows, curve_of(call.output))
    return replace(result, shape=shape)


def _product(call: Call, tensor: Tensor, layer: Linear, filters: file.Tensor, is_dense: bool) -> Tensor:
    """A product with its bias and requantization."""
    if (filters.zero != 0).any():
        raise Refusal("its weights have a zero point; export them symmetric")
    if filters.scale.size not in (1, layer.outputs):
        raise Refusal(f"its weights have {filters.scale.size} scales for {layer.outputs} outputs")
    bias = np.zeros(layer.outputs, np.int64)
    if call.has(2):
        if call.tensor(2).kind not in ("INT32", "INT64"):
            raise Refusal(f"its biases must be int32 or int64, not {call.tensor(2).kind}")
        bias = call.constant(2).astype(np.int64).ravel()
        if bias.size != layer.outputs:
            raise Refusal(f"has {bias.size} biases for {layer.outputs} outputs")
    source, output = call.tensor(0), call.output
    limits = _limits(call)
    product = source.scale.astype(np.float64) * filters.scale.astype(np.float64)
    multiplier = Multiplier.of(np.resize(product / output.scale.astype(np.float64), layer.outputs))
    sums = call.builder.add(layer, tensor, chain=None, quantized=False, curve=Curve())
    low, high = layer.bounds(tensor.type.dtype)
    largest = np.maximum(np.abs(low + bias), np.abs(high + bias))
    if not multiplier.exact_to(largest):
        raise Refusal(_TOO_WIDE)
    zero = int(output.zero[0])

    scaled = multiplier.rounded_once if is_dense else multiplier

    def kernel(x: Ints) -> Ints:
        return scaled(x + bias[:, None]) + zero

    return rounded(call, replace(sums, low=low, high=high), kernel, limits, layer.outputs)


def _padding(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]
) -> tuple[int, int, int, int]:
    """Above, left, below and right of a map: ``SAME`` puts the odd one below and on the right."""
    padding = call.option("Padding")
    if padding not in (0, 1):
        raise Refusal(f"its padding {padding} is not supported; SAME and VALID are")
    pads = []
    for size, extent, step in zip(sizes, kernel, stride):
        total = max((-(-size // step) - 1) * step + extent - size, 0)
        pads.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = pads
    if padding == 1:  # VALID
        top = left = bottom = right = 0
    check_shape((sizes[0] + top + bottom, sizes[1] + left + right), "its map with padding")
    if kernel[0] > sizes[0] + top + bottom or kernel[1] > sizes[1] + left + right:
        raise Refusal(f"its kernel of {tuple(kernel)} is larger than a map of {tuple(sizes)}; use padding SAME")
    return top, left, bottom, right


def _map(tensor: Tensor) -> Tensor:
    if len(tensor.frame) != 3:
        raise Refusal(f"takes maps of shape (1, height, width, channels), not a frame of shape {tensor.frame}")
    return tensor


def _dilated(weights: Ints, factors: Sequence[int]) -> Ints:
    """``weights`` (O, I, H, W) with zeros between their rows and columns."""
    if tuple(factors) == (1, 1):
        return weights
    outputs, inputs, *extents = weights.shape
    shape = outputs, inputs, *((size - 1) * factor + 1 for size, factor in zip(extents, factors))
    check_shape(shape, "its dilated kernel")
    wide = np.zeros(shape, np.int64)
    wide[:, :, :: factors[0], :: factors[1]] = weights
    return wide


def _weights(call: Call, axes: int) -> Ints:
    """The constant weights, input 1."""
    filters = call.tensor(1)
    if len(filters.shape) != axes or filters.kind not in ("INT8", "INT4"):
        raise Refusal(f"its weights must be int8 or int4 of {axes} axes, not {filters.kind} of shape {filters.shape}")
    return call.constant(1).astype(np.int64)


def _conv(call: Call, depthwise: bool = False) -> Tensor:
    tensor, filters = _map(call.activation()), call.tensor(1)
    weights = _weights(call, 4)
    channels = tensor.frame[0]
    if depthwise:
        weights, groups = weights.transpose(3, 0, 1, 2), channels
    else:
        weights, groups = weights.transpose(0, 3, 1, 2), channels // max(1, weights.shape[3])
    if weights.shape[1] * groups != channels or weights.shape[0] % groups:
        raise Refusal(f"its weights of shape {filters.shape} do not fit a map of {channels} channels")
    weights = _dilated(weights, call.factors("DilationHFactor", "DilationWFactor"))
    stride = call.factors("StrideH", "StrideW")
    layer = Conv(
        name=call.builder.name(Conv),
        weights=weights,
        code=_code(weights),
        stride=stride,
        padding=_padding(call, tensor.frame[1:], weights.shape[2:], stride),
        groups=groups,
    )
    return _product(call, tensor, layer, filters, is_dense=False)


def _code(weights: Ints) -> Any:
    """The narrowest code of plain integers that holds ``weights``, zeros among them."""
    code = narrowest_code(weights)
    return code if code.has_zero or (weights != 0).all() else integer(2)


def _dense(call: Call) -> Tensor:
    tensor, filters = _flat(call, call.activation()), call.tensor(1)
    weights = _weights(call, 2)
    if call.option("WeightsFormat"):
        raise Refusal("its weights are shuffled; export them in the default format")
    if tensor.frame != weights.shape[1:]:
        raise Refusal(f"its weights of shape {weights.shape} do not fit {tensor.frame[0]} inputs")
    layer = Dense(name=call.builder.name(Dense), weights=weights, code=_code(weights))
    return _product(call, tensor, layer, filters, is_dense=True)


def _flat(call: Call, tensor: Tensor) -> Tensor:
    """One axis, in the order of the file: channels last."""
    if len(tensor.frame) == 1:
        return tensor
    layer = Flatten(name=call.builder.name(Flatten), channels_last=True)
    low, high = (np.atleast_1d(pick(edge)) for pick, edge in ((np.min, tensor.low), (np.max, tensor.high)))
    flat = call.builder.add(layer, tensor, low=low, high=high)
    return replace(flat, shape=(1, *flat.frame))


def _reshape(call: Call) -> Tensor:
    tensor, shape = call.activation(), call.output.shape
    _same_scale(call, 0)
    if call.has(1) and not _gives(call.constant(1), shape):
        raise Refusal(f"its constant shape and that of its output {call.output.name!r}, {shape}, differ")
    if shape == call.tensor(0).shape:
        return tensor
    if sum(extent > 1 for extent in shape) <= 1 and len(shape) == 2:
        return _flat(call, tensor)
    if len(tensor.frame) == 1 and sum(extent > 1 for extent in shape) <= 1:
        return tensor
    raise Refusal(f"cannot reshape {call.tensor(0).shape} to {shape}; flattening to one axis is supported")


def _gives(stated: Ints, shape: Sequence[int]) -> bool:
    """Whether ``stated`` is ``shape``, but for an extent of -1."""
    return stated.size == len(shape) and all(one in (-1, extent) for one, extent in zip(stated.ravel(), shape))


def _same_scale(call: Call, *places: int) -> None:
    for place in places:
        source, output = call.tensor(place), call.output
        if not (np.array_equal(source.scale, output.scale) and np.array_equal(source.zero, output.zero)):
            raise Refusal("its input and output have different scales, which its kernel does not convert")


def _clipped(call: Call, tensor: Tensor) -> Tensor:
    """Cut to the limits of the fused activation, where they cut anything."""
    low, high = _limits(call)
    zero = int(call.output.zero[0])
    if tensor.low.min() >= low - zero and tensor.high.max() <= high - zero:
        return replace(tensor, curve=curve_of(call.output))
    return rounded(call, tensor, lambda x: x + zero, (low, high), 1)


def _window(call: Call, mode: str) -> tuple[Tensor, Pool]:
    tensor = _map(call.activation())
    kernel, stride = call.factors("FilterHeight", "FilterWidth"), call.factors("StrideH", "StrideW")
    padding = _padding(call, tensor.frame[1:], kernel, stride)
    return tensor, Pool(name=call.builder.name(Pool), mode=mode, kernel=kernel, stride=stride, padding=padding)


def _max_pool(call: Call) -> Tensor:
    _same_scale(call, 0)
    tensor, layer = _window(call, "max")
    return _clipped(call, call.builder.add(layer, tensor))


def _average_pool(call: Call) -> Tensor:
    _same_scale(call, 0)
    tensor, layer = _window(call, "sum")
    if any(layer.padding):
        raise Refusal("averages windows that reach beyond the map, whose divisor differs; use padding VALID")
    elements, zero = layer.kernel[0] * layer.kernel[1], int(call.output.zero[0])
    sums = call.builder.add(layer, tensor, curve=Curve())

    def kernel(x: Ints) -> Ints:
        total = x + elements * zero
        half = elements // 2
        return np.where(total > 0, (total + half) // elements, -((half - total) // elements))

    return rounded(call, sums, kernel, _limits(call), 1)


def _mean(call: Call) -> Tensor:
    tensor = _map(call.activation())
    if call.tensor(1).kind != "INT32":
        raise Refusal(f"its axes must be int32, not {call.tensor(1).kind}")
    axes = {int(axis) % 4 for axis in np.atleast_1d(call.constant(1)).ravel()}
    if axes != {1, 2}:
        raise Refusal(f"takes the mean over axes {sorted(axes)}; over height and width is supported")
    size = tensor.frame[1], tensor.frame[2]
    layer = Pool(name=call.builder.name(Pool), mode="sum", kernel=size, stride=size)
    sums = call.builder.add(layer, tensor, curve=Curve())
    output = call.output
    # The kernel folds the divisor into the multiplier: as a shift, and a quotient of the multiplier.
    elements, zero = size[0] * size[1], int(output.zero[0])
    parts = _ratio(call, sums)
    shift = min(elements.bit_length() - 1, 32, 31 + int(parts.shift[0]))
    parts = Multiplier((parts.multiplier << shift) // elements, parts.shift - shift)

    def kernel(x: Ints) -> Ints:
        return parts(x) + zero

    flat = rounded(call, sums, kernel, ends(output), 1)
    return flat if call.option("KeepDims") else _flat(call, flat)


def _add(call: Call) -> Tensor:
    places = (0, 1)
    tensors, files = [call.activation(place) for place in places], [call.tensor(place) for place in places]
    if tensors[0].frame != tensors[1].frame:
        raise Refusal(f"adds frames of shape {tensors[0].frame} and {tensors[1].frame}; they must be alike")
    output, limits = call.output, _limits(call)
    ends(files[0]), ends(files[1])
    # 2 * max in float32, all else in float64, as the kernel prepares it.
    with np.errstate(over="ignore"):
        twice = float(np.float32(2) * max(files[0].scale[0], files[1].scale[0]))
    if not np.isfinite(twice):
        raise Refusal("its scales are beyond float32")
    scales = [Multiplier.of(np.array([float(one.scale[0]) / twice])) for one in files]
    last = Multiplier.of(np.array([twice / ((1 << _ADD_SHIFT) * float(output.scale[0]))]))
    zero = int(output.zero[0])
    tables = []
    for tensor, multiplier in zip(tensors, scales):
        x = np.arange(int(tensor.low.min()), int(tensor.high.max()) + 1)
        tables.append((x, multiplier((x << _ADD_SHIFT)[None])[0]))
    low, high = limits
    totals = tables[0][1].min() + tables[1][1].min(), tables[0][1].max() + tables[1][1].max()
    if not last.exact_to(np.array([max(-totals[0], totals[1])])):
        raise Refusal(_TOO_WIDE)
    borders = first_reaching(
        lambda total: last(total) + zero, np.arange(low + 1, high + 1), *(np.array([end]) for end in totals)
    )[0]
    levels = np.searchsorted(borders, tables[0][1][:, None] + tables[1][1][None], side="right")
    ratio = _slope(*tables[0]) / _slope(*tables[1])
    found = integer_gains(tables[0][0], tables[1][0], levels, len(borders), ratio)
    if found is None:
        raise Refusal("no integer gains give the sums of its kernel; scale its inputs alike")
    gains, thresholds = found
    joined = call.builder.join(partial(Add, gains=np.array(gains)), tensors, curve=Curve(), chain=None)
    threshold = Threshold(
        name=call.builder.name(Threshold), thresholds=thresholds[None], sign=np.array([1]),
        dtype=DType.spanning(low - zero, high - zero), base=low - zero,
    )  # fmt: skip
    return call.builder.add(threshold, joined, curve=curve_of(output), chain=None, quantized=True)


def _slope(x: Ints, scaled: Ints) -> Fraction:
    return Fraction(int(scaled[-1] - scaled[0]), max(1, int(x[-1] - x[0])))


def _concat(call: Call) -> Tensor:
    places = range(len(call.operator.inputs))
    tensors = [call.activation(place) for place in places]
    _same_scale(call, *places)
    axes = len(call.output.shape)
    if call.option("Axis") not in (-1, axes - 1):
        raise Refusal("joins along another axis than the channels")
    if call.option("FusedActivationFunction"):
        raise Refusal("has a fused activation, which its kernel does not take")
    return call.builder.join(Concat, tensors, curve=curve_of(call.output), chain=None, quantized=True)


def _ratio(call: Call, tensor: Tensor, in_single: bool = False) -> Multiplier:
    """The scale of the first input over that of the output, by which the integers of ``tensor`` are multiplied.

    Parameters
    ----------
    in_single : bool
        Whether the kernel divides in float32, not float64.
    """
    source, output = call.tensor(0), call.output
    with np.errstate(over="ignore"):
        quotient = source.scale / output.scale
    if not np.isfinite(quotient).all():
        raise Refusal(_TOO_WIDE)
    if not in_single:
        quotient = source.scale.astype(np.float64) / output.scale.astype(np.float64)
    parts = Multiplier.of(quotient.astype(np.float64))
    if not parts.exact_to(np.array([max(-int(tensor.low.min()), int(tensor.high.max()))])):
        raise Refusal(_TOO_WIDE)
    return parts


def _quantize(call: Call) -> Tensor:
    source, output = call.tensor(0), call.output
    ends(source)
    parts = _ratio(call, call.activation())
    zero = int(output.zero[0])
    return rounded(call, call.activation(), lambda x: parts(x) + zero, ends(output), 1)


def _dequantize(call: Call) -> Tensor:
    if call.output.kind != "FLOAT32":
        raise Refusal(f"its output must be float32, not {call.output.kind}")
    return call.activation()


def _table(function: Callable[[Ints], Ints], call: Call) -> Tensor:
    """A function that never falls, as a table of the integers: its kernel rounds the real result."""
    source, output = call.tensor(0), call.output
    scale, zero = float(output.scale[0]), int(output.zero[0])
    inner, low_high = float(source.scale[0]), ends(output)

    def kernel(x: Ints) -> Ints:
        with np.errstate(over="ignore"):
            real = function((np.float32(inner) * x).astype(np.float32)) / np.float32(scale)
        level = np.floor(np.abs(real) + 0.5) * np.sign(real)
        return np.asarray(np.clip(np.clip(level, -_WIDE, _WIDE).astype(np.int64) + zero, *low_high), np.int64)

    return rounded(call, call.activation(), kernel, low_high, 1)


def _sigmoid(x: Any) -> Any:
    return np.asarray(1 / (1 + np.exp(-x)))


def _relu(call: Call, least: float, most: float | None) -> Tensor:
    parts = _ratio(call, call.activation(), in_single=True)
    low, high = ends(call.output)
    zero = int(call.output.zero[0])
    low = max(low, _level(call.output, least))
    high = high if most is None else min(high, _level(call.output, most))
    return rounded(call, call.activation(), lambda x: parts(x) + zero, (low, high), 1)


def _softmax(call: Call) -> Tensor:
    """It keeps the order of the scores, so that the class stays; the scores are those in front of it."""
    if call.operator.outputs[0] not in call.model.outputs:
        raise Refusal("is supported at the end of a model only")
    if call.option("Beta") != 1:
        raise Refusal(f"its beta is {call.option('Beta')}; 1 is supported")
    return call.activation()


@dataclass(frozen=True)
class Kind:
    """What an operator looks like in a file.

    Attributes
    ----------
    lower : callable
        Gives its result.
    least, most : int
        Inputs.
    record : str
        Its record of options.
    needed : bool
        Whether the kernel cannot do without the record.
    floats : bool
        Whether its result may be a float.
    converts : bool
        Whether input and result are of different types.
    """

    lower: Callable[[Call], Tensor]
    least: int = 1
    most: int = 1
    record: str = "NONE"
    needed: bool = False
    floats: bool = False
    converts: bool = False


OPERATORS: dict[str, Kind] = {
    "ADD": Kind(_add, 2, 2, "AddOptions"),
    "AVERAGE_POOL_2D": Kind(_average_pool, 1, 1, "Pool2DOptions", needed=True),
    "CONCATENATION": Kind(_concat, 1, 1000, "ConcatenationOptions"),
    "CONV_2D": Kind(_conv, 2, 3, "Conv2DOptions", needed=True),
    "DEPTHWISE_CONV_2D": Kind(partial(_conv, depthwise=True), 2, 3, "DepthwiseConv2DOptions", needed=True),
    "DEQUANTIZE": Kind(_dequantize, 1, 1, "DequantizeOptions", floats=True, converts=True),
    "FULLY_CONNECTED": Kind(_dense, 2, 3, "FullyConnectedOptions"),
    "LOGISTIC": Kind(partial(_table, _sigmoid)),
    "MAX_POOL_2D": Kind(_max_pool, 1, 1, "Pool2DOptions", needed=True),
    "MEAN": Kind(_mean, 2, 2, "ReducerOptions"),
    "QUANTIZE": Kind(_quantize, 1, 1, "QuantizeOptions", converts=True),
    "RELU": Kind(partial(_relu, least=0.0, most=None)),
    "RELU6": Kind(partial(_relu, least=0.0, most=6.0)),
    "RESHAPE": Kind(_reshape, 1, 2, "ReshapeOptions"),
    "SOFTMAX": Kind(_softmax, 1, 1, "SoftmaxOptions", needed=True, floats=True),
    "SQUEEZE": Kind(_reshape, 1, 1, "SqueezeOptions"),
    "TANH": Kind(partial(_table, np.tanh)),
}
"""Every operator that is read."""


def lowered(call: Call) -> Tensor:
    """The result of an operator, whose inputs, options and types are those of its kind.

    Raises
    ------
    FewbitError
        If they are not, or are not supported.
    """
    operator, kind = call.operator, OPERATORS[call.operator.name]
    if not kind.least <= len(operator.inputs) <= kind.most or len(operator.outputs) != 1:
        raise Refusal(f"cannot have {len(operator.inputs)} inputs and {len(operator.outputs)} outputs")
    if min(operator.inputs[: kind.least]) < 0:
        raise Refusal("lacks an input")
    if operator.record not in (kind.record, "NONE"):
        raise Refusal(f"its options are {operator.record}, those of another operator")
    if kind.needed and operator.record == "NONE":
        raise Refusal("lacks its options")
    if call.output.values is not None or operator.outputs[0] in call.active:
        raise Refusal(f"writes the tensor {call.output.name!r}, which is a constant, the input or written before")
    sources = [call.model.tensors[number] for number in operator.inputs if number in call.active]
    for tensor in [*sources, call.output]:
        if kind.floats and tensor.kind == "FLOAT32":
            continue
        ends(tensor)
        if not kind.converts and tensor.kind != "INT8":
            raise Refusal(f"its tensor {tensor.name!r} is {tensor.kind}; quantize the model with int8 activations")
    result = kind.lower(call)
    if _extents(result.frame) != _extents((*call.output.shape[-1:], *call.output.shape[:-1])):
        frame = (*result.frame[1:], *result.frame[:1])
        raise Refusal(f"its output {call.output.name!r} has the shape {call.output.shape}, not {(1, *frame)}")
    return result


def _extents(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent > 1)
