"""Writes networks as QONNX: standard ONNX nodes, MultiThreshold, and quantized weights.

Every tensor of the file holds the integers of the network as float32 numbers, and is annotated with their type. A layer
becomes the node of its name, with nodes around it for what ONNX has no attribute for:

===========  ==================================================================================================
layer        nodes
===========  ==================================================================================================
dense        MatMul with weights through Quant or BipolarQuant; the scale of a weight is that of its vector
conv         Conv, likewise
threshold    MultiThreshold; where a row counts falling inputs, a Mul by the signs in front of it
pool         MaxPool; or AveragePool and a Mul by the size of the window, with a Round where that is no power of two
affine       Mul, Add
add          Mul by each gain, Add or Sum
concat       Concat
flatten      Flatten; with channels last, behind a Transpose
argmax       ArgMax
===========  ==================================================================================================

What the host does with inputs and outputs stands at both ends: a Transpose and a MultiThreshold of the float input; a
Mul, an Add, a Reshape and a final function of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fewbit.exporters.onnx_model import QONNX_DOMAIN, OnnxModel, column
from fewbit.golden.dtype import BIPOLAR, DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.input_range import tensor_range, threshold_range
from fewbit.golden.layer import TensorType
from fewbit.golden.network import (
    Add,
    Affine,
    ArgMax,
    Concat,
    Conv,
    Dense,
    Flatten,
    Layer,
    Linear,
    Network,
    Pool,
    Threshold,
)
from fewbit.importers.onnx_graph import CODE_KEY

LARGEST = (1 << 24) - 1
"""Largest integer of a network that is executed in float32: from here on float32 skips integers."""
LARGEST_ROUNDED = 1 << 20
"""Largest sum of a pooling window that its float32 mean gives again."""
_FUNCTIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax", "log_softmax": "LogSoftmax"}


def content(network: Network) -> bytes:
    """``network`` as the bytes of a QONNX model; see the head of this module.

    The model takes ``network.input_batch`` frames. Executed in float32, it gives the integers of the golden model.

    Raises
    ------
    FewbitError
        If an integer of the network can be too large for float32.
    """
    return _Writer(network).content()


class _Writer:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.model = OnnxModel(network.input_batch)

    def content(self) -> bytes:
        network = self.network
        source, tensor = self._input()
        tensors = [tensor]
        for number, (layer, read) in enumerate(zip(network.layers, network.reads), 1):
            self.check(layer, LARGEST, "QONNX computes in float32, which counts to")
            output = _WRITERS[type(layer)](self, layer, [tensors[place] for place in read])
            self.annotate(output, network.tensor_types[number].dtype)
            tensors.append(output)
        return self.model.content(network.name, source, self._output(tensors[-1]))

    def check(self, layer: Layer, largest: int, why: str) -> None:
        """Raises FewbitError if an integer that ``layer`` gives can be larger."""
        low, high = tensor_range(self.network, self.network.index(layer) + 1)
        reached = max(-int(low.min()), int(high.max()))
        if reached > largest:
            raise FewbitError(
                f"{layer.label}: its integers reach {reached:,}, and {why} {largest:,}: quantize it with fewer bits or "
                "smaller scales, or save the network as .safetensors"
            )

    # what layers are made of

    def step(self, op: str, inputs: Sequence[str], wanted: str, kind: TensorType, **more: Any) -> str:
        """A node of which the float32 output is called ``wanted``, or similar, and has this shape."""
        return self.model.node(op, inputs, self.model.tensor(wanted, kind.shape), **more)

    def reshaped(self, tensor: str, wanted: str, kind: TensorType, element: Any = np.float32) -> str:
        """``tensor`` with frames of another shape."""
        target = self.model.constant(f"{wanted}/shape", [0, *kind.shape], np.int64)
        return self.model.node("Reshape", [tensor, target], self.model.tensor(wanted, kind.shape, element))

    def annotate(self, tensor: str, dtype: DType) -> None:
        self.model.annotate(tensor, "finn_datatype", "BINARY" if dtype == DType("uint", 1) else str(dtype).upper())

    def times(self, tensor: str, factors: Any, name: str, kind: TensorType) -> str:
        """``tensor`` times constants of channels, or times one; as it is where all are 1."""
        factors = np.atleast_1d(factors)
        if (factors == 1).all():
            return tensor
        return self.step("Mul", [tensor, self._vector(f"{name}/factor", factors, kind)], f"{name}/scaled", kind)

    def plus(self, tensor: str, terms: Any, name: str, kind: TensorType) -> str:
        """``tensor`` plus constants of channels, or plus one; as it is where all are 0."""
        terms = np.atleast_1d(terms)
        if not terms.any():
            return tensor
        return self.step("Add", [tensor, self._vector(f"{name}/term", terms, kind)], f"{name}/shifted", kind)

    def _vector(self, name: str, values: Ints, kind: TensorType) -> str:
        if (values == values[0]).all():
            return self.model.constant(name, values[0])
        rank = 1 + len(kind.shape)
        shaped = column(values, rank) if values.size == kind.shape[0] else values.reshape(1, *kind.shape)
        return self.model.constant(name, shaped)

    def thresholds(self, tensor: str, rows: Any, name: str, source: TensorType, dtype: DType, base: int) -> str:
        """MultiThreshold: ``base + step * number of thresholds reached``."""
        kind = TensorType(dtype, source.shape)
        layout = {"data_layout": "NCW"} if len(source.shape) == 2 else {}  # qonnx would take NWC
        return self.step(
            "MultiThreshold",
            [tensor, self.model.constant(f"{name}/thresholds", rows)],
            name,
            kind,
            domain=QONNX_DOMAIN,
            out_scale=float(dtype.step),
            out_bias=float(base),
            out_dtype=str(dtype).upper(),
            **layout,
        )

    def weights(self, layer: Linear, arrange: Callable[[Ints], Ints]) -> str:
        """Quantized weights: floats through Quant or BipolarQuant, in the axes that ``arrange`` makes of (outputs,
        ...)."""
        levels, scales = map(arrange, _levels_and_scales(layer))
        stored = _without_repeats(scales)
        scale = self.model.constant(f"{layer.name}/scale", stored)
        floats = self.model.constant(f"{layer.name}/floats", levels * scales)
        output = self.model.tensor(f"{layer.name}/weights", levels.shape, activation=False)
        if layer.code.signs_only and levels.all():  # a scale of 0 makes a level 0
            self.model.node("BipolarQuant", [floats, scale], output, QONNX_DOMAIN)
            dtype = BIPOLAR
        else:
            low, high = int(layer.code.levels[0]), int(layer.code.levels[-1])
            dtype = DType.holding(min(low, -1), max(high, 1))
            zero = self.model.constant(f"{layer.name}/zero", 0)
            bits = self.model.constant(f"{layer.name}/bits", dtype.bits)
            form = {"signed": 1, "narrow": int(-low == high == dtype.max), "rounding_mode": "ROUND"}
            self.model.node("Quant", [floats, scale, zero, bits], output, QONNX_DOMAIN, **form)
        if stored.size == 1 and stored.item() == 1:
            self.annotate(output, dtype)
        self.model.annotate(output, CODE_KEY, layer.code.name)
        return output

    # the two ends

    def _input(self) -> tuple[str, str]:
        """The graph's input, and the tensor that holds the integers of the network's input."""
        network = self.network
        shape = network.input.shape if network.input_shape is None else network.input_shape
        source = tensor = self.model.tensor("input", shape)
        integers, quantizer = network.input, network.input_quantizer
        if quantizer is None:
            self.annotate(source, integers.dtype)
        if network.input_order:
            shape = tuple(shape[axis] for axis in network.input_order)
            order = [0, *(axis + 1 for axis in network.input_order)]
            arranged = TensorType(integers.dtype, shape)
            tensor = self.step("Transpose", [tensor], "input/arranged", arranged, perm=order)
        if shape != integers.shape:
            tensor = self.reshaped(tensor, "input/frame", integers)
        if quantizer is not None:
            tensor = self.times(tensor, quantizer.sign, "input", integers)
            rows = quantizer.thresholds[None]
            tensor = self.thresholds(tensor, rows, "input/quantized", integers, integers.dtype, quantizer.base)
            self.annotate(tensor, integers.dtype)
        return source, tensor

    def _output(self, tensor: str) -> str:
        network = self.network
        kind = network.output
        if not isinstance(network.layers[-1], ArgMax):
            tensor = self.times(tensor, network.output_scale, "output", kind)
            tensor = self.plus(tensor, network.output_bias, "output", kind)
            if network.output_function is not None:
                softmax = {"axis": 1} if "softmax" in network.output_function else {}
                op = _FUNCTIONS[network.output_function]
                tensor = self.step(op, [tensor], f"output/{network.output_function}", kind, **softmax)
        if network.output_shape is not None:
            element = np.int64 if isinstance(network.layers[-1], ArgMax) else np.float32
            tensor = self.reshaped(tensor, "output", TensorType(kind.dtype, network.output_shape), element)
        return tensor


def _levels_and_scales(layer: Linear) -> tuple[Ints, Ints]:
    """Level and scale of each weight; a level of scale 0 is 0.  # () -> (outputs, ...), (outputs, ...) int64"""
    levels = layer.weights.astype(np.int64)
    if layer.scales is None:
        return levels, np.ones_like(levels)
    outputs, channels, *kernel = layer.weights.shape
    scales, negative = (
        np.moveaxis(layer.each_scale(part).reshape(outputs, *kernel, channels), -1, 1)
        for part in (layer.scales, layer.scales if layer.negative_scales is None else layer.negative_scales)
    )
    scales = np.where(levels < 0, negative, scales)
    return np.where(scales == 0, 0, levels), np.where(scales == 0, 1, scales)


def _without_repeats(values: Ints) -> Ints:
    """``values`` with an extent of 1 on each axis along which they do not change; a scalar if they are all one."""
    for axis in range(values.ndim):
        first = values.take([0], axis)
        if (values == first).all():
            values = first
    return values.reshape(()) if values.size == 1 else values


def _dense(writer: _Writer, layer: Dense, read: list[str]) -> str:
    weights = writer.weights(layer, np.transpose)
    return writer.step("MatMul", [read[0], weights], layer.name, writer.network.types[layer.name])


def _conv(writer: _Writer, layer: Conv, read: list[str]) -> str:
    weights = writer.weights(layer, np.asarray)
    return writer.step(
        "Conv",
        [read[0], weights],
        layer.name,
        writer.network.types[layer.name],
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.padding,
        group=layer.groups,
    )


def _threshold(writer: _Writer, layer: Threshold, read: list[str]) -> str:
    source = writer.network.source(layer)
    low, high = threshold_range(writer.network, layer)
    sign = layer.sign.astype(np.int64)
    ends = np.sort([sign * low, sign * high], axis=0)
    rows = np.clip(layer.thresholds, ends[0][:, None], ends[1][:, None] + 1)  # else float32 might round them
    tensor = writer.times(read[0], sign, layer.name, source)
    return writer.thresholds(tensor, rows, layer.name, source, layer.dtype, layer.base)


def _pool(writer: _Writer, layer: Pool, read: list[str]) -> str:
    kind = writer.network.types[layer.name]
    window = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding}
    if layer.mode == "max":
        return writer.step("MaxPool", read, layer.name, kind, **window)
    size = math.prod(layer.kernel)
    mean = writer.step("AveragePool", read, layer.name, kind, count_include_pad=1, **window)
    total = writer.times(mean, size, layer.name, kind)
    if size.bit_count() == 1:
        return total
    writer.check(layer, LARGEST_ROUNDED, "a mean in float32 gives sums again that are below")
    return writer.step("Round", [total], f"{layer.name}/sum", kind)


def _affine(writer: _Writer, layer: Affine, read: list[str]) -> str:
    kind = writer.network.types[layer.name]
    return writer.plus(writer.times(read[0], layer.scale, layer.name, kind), layer.bias, layer.name, kind)


def _add(writer: _Writer, layer: Add, read: list[str]) -> str:
    kind = writer.network.types[layer.name]
    sides = [writer.times(tensor, gain, layer.name, kind) for tensor, gain in zip(read, layer.gains)]
    return writer.step("Add" if len(sides) == 2 else "Sum", sides, layer.name, kind)


def _concat(writer: _Writer, layer: Concat, read: list[str]) -> str:
    return writer.step("Concat", read, layer.name, writer.network.types[layer.name], axis=1)


def _flatten(writer: _Writer, layer: Flatten, read: list[str]) -> str:
    (tensor,), source = read, writer.network.source(layer)
    if layer.channels_last and len(source.shape) == 3:
        channels, *rest = source.shape
        last = TensorType(source.dtype, (*rest, channels))
        tensor = writer.step("Transpose", [tensor], f"{layer.name}/channels_last", last, perm=[0, 2, 3, 1])
    return writer.step("Flatten", [tensor], layer.name, writer.network.types[layer.name], axis=1)


def _argmax(writer: _Writer, layer: ArgMax, read: list[str]) -> str:
    output = writer.model.tensor(layer.name, (), np.int64)
    return writer.model.node("ArgMax", read, output, axis=1, keepdims=0)


_WRITERS: dict[type[Layer], Callable[..., str]] = {
    Dense: _dense,
    Conv: _conv,
    Threshold: _threshold,
    Pool: _pool,
    Affine: _affine,
    Add: _add,
    Concat: _concat,
    Flatten: _flatten,
    ArgMax: _argmax,
}
"""The function that writes each kind of layer, for the tensors that it reads; returns the tensor that it gives."""
