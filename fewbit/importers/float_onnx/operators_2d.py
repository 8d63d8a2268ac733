"""How the operators on maps become float layers: convolution and pooling. A map with one axis has height 1."""

from __future__ import annotations

from dataclasses import replace

from fewbit.importers.float_onnx.inputs import Inputs, parameters_in, product, weights_in
from fewbit.importers.float_onnx.layers import FloatPool
from fewbit.importers.float_onnx.values import Reading, Value, lifted
from fewbit.importers.onnx_constants import whole_numbers
from fewbit.importers.onnx_graph import Node, Refusal
from fewbit.importers.onnx_window import Window

_LARGEST_DILATION = 64


def convolution(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    rank = len(value.shape)
    if rank not in (3, 4):
        raise Refusal(f"takes maps of shape (1, channels, height, width) or (1, channels, length), not {value.shape}")
    auto_pad, dilations, groups, kernel, pads, strides = node.settings(
        auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None
    )
    weights = weights_in(inputs, value, rank)
    extents = weights.shape[2:]
    if kernel is not None and tuple(kernel) != extents:
        raise Refusal(f"its kernel_shape {kernel} is not that of its weights, {list(extents)}")
    steps = [1] * len(extents) if dilations is None else dilations
    if len(steps) != len(extents) or any(not 1 <= step <= _LARGEST_DILATION for step in steps):
        raise Refusal(
            f"its attribute 'dilations' must be {len(extents)} whole numbers from 1 to {_LARGEST_DILATION}, not {steps}"
        )
    reach = [(extent - 1) * step + 1 for extent, step in zip(extents, steps)]
    window = Window.of(value.shape, reach, strides, pads, None, auto_pad)
    if groups < 1 or len(weights) % groups or value.shape[1] != weights.shape[1] * groups:
        raise Refusal(f"weights of shape {weights.shape} in {groups} groups do not fit activations of {value.shape}")
    positions = window.positions(lifted(value.shape))
    if rank == 3:
        weights = weights[:, :, None]
    shape = (1, len(weights), *positions[4 - rank :])
    dilation = (1 if rank == 3 else steps[0], steps[-1])
    bias = parameters_in(inputs, 2)[1]
    return product(reading, node, reading.map(value), weights, bias, shape, window, groups, dilation)


def max_pool(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    return _pooled(reading, value, "max", Window.maximal(node, value.shape))


def average_pool(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    return _pooled(reading, value, "mean", Window.averaging(node, value.shape))


def global_pool(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    node.settings()
    whole = value.shape[2:]
    window = Window.of(value.shape, whole, list(whole), None, None, "NOTSET")
    return _pooled(reading, value, "mean" if node.op == "GlobalAveragePool" else "max", window)


def _pooled(reading: Reading, value: Value, mode: str, window: Window) -> Value:
    rank = len(value.shape)
    value = reading.map(value)
    positions = window.positions(lifted(value.shape))
    layer = FloatPool(mode=mode, kernel=window.kernel, stride=window.stride, padding=window.padding)
    made = reading.add(layer, value, frame=(value.shape[1], *positions))
    return replace(made, shape=(*value.shape[:2], *positions[4 - rank :]))


def reduce_mean(reading: Reading, node: Node, inputs: Inputs, value: Value) -> Value:
    """ReduceMean over height, width or both; the axes are an input since opset 18."""
    keep, nothing, attribute = node.settings(keepdims=1, noop_with_empty_axes=0, axes=None)
    (constant,) = parameters_in(inputs, 1)
    axes = attribute if constant is None else whole_numbers(constant)
    if not axes and nothing:
        return value
    rank = len(value.shape)
    valid = axes and rank in (3, 4) and all(-rank <= axis < rank for axis in axes)
    natural = {value.axis(axis % rank) for axis in axes} if valid else set()
    if not natural or not natural <= set(range(2, rank)):
        raise Refusal(f"takes the mean over height and width of a map, not over axes {axes} of shape {value.shape}")
    extents = lifted(value.natural)
    last = rank - 1
    kernel = extents[2] if rank == 4 and 2 in natural else 1, extents[3] if last in natural else 1
    window = Window.of(value.natural, kernel[4 - rank :], list(kernel[4 - rank :]), None, None, "NOTSET")
    upright = replace(value, shape=value.natural, channels_last=False)
    result = _pooled(reading, upright, "mean", window)
    shape = list(value.shape)
    for axis in sorted((axis % rank for axis in axes), reverse=True):
        shape[axis : axis + 1] = [1] if keep else []
    still = value.channels_last and max(extents[2] // kernel[0], extents[3] // kernel[1]) > 1
    if still and not keep:
        raise Refusal("takes the mean over one axis of a map with its channels last: transpose it back in front of it")
    return replace(result, shape=tuple(shape), channels_last=still)
