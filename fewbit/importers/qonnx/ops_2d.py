"""How the QONNX ops on maps are lowered: convolution and pooling. A map with one axis is a map of height 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fewbit.exact import exact
from fewbit.importers.lowering import pools as network_pools
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.products import conv
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_call import Call, weights
from fewbit.importers.onnx_constants import whole_numbers
from fewbit.importers.onnx_graph import Refusal
from fewbit.importers.onnx_window import Window

_LARGEST_DILATION = 64


def convolution(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Conv."""
    auto_pad, dilations, groups, kernel, pads, strides = call.node.settings(
        auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None
    )
    _, bias = call.parameters(1, 2)
    one_axis = len(tensor.shape) == 3
    levels = weights(call.inputs[1], "three" if one_axis else "four", 3 if one_axis else 4)
    extents = levels.levels.shape[2:]
    if kernel is not None and tuple(kernel) != extents:
        raise Refusal(f"its kernel_shape {kernel} is not that of its weights, {list(extents)}")
    if one_axis:
        levels = levels.map(lambda part: part[:, :, None])
        dilations = [1, *dilations] if dilations is not None and len(dilations) == 1 else dilations
        strides = [1, *strides] if strides is not None and len(strides) == 1 else strides
        pads = [0, pads[0], 0, pads[1]] if pads is not None and len(pads) == 2 else pads
    dilation = _steps("dilations", dilations)
    reach = [(extent - 1) * step + 1 for extent, step in zip(levels.levels.shape[2:], dilation)]
    maps = _maps(builder, tensor)
    window = Window.of(maps.shape, reach, strides, pads, None, auto_pad)
    sums = conv(builder, maps, levels, window.stride, window.padding, groups, dilation)
    if bias is not None:
        outputs = sums.shape[1]
        if bias.shape != (outputs,):
            raise Refusal(f"needs a bias of shape ({outputs},), not {bias.shape}")
        sums, (vector,) = builder.vectors(sums, bias.reshape(1, outputs, 1, 1))
        sums = builder.affine(sums, None, exact(vector))
    return sums.without_height() if one_axis else sums


def _maps(builder: Builder, tensor: Tensor) -> Tensor:
    """``tensor`` with channels first, a map with one axis as a map of height 1."""
    return builder.transposed_input(tensor).with_height()


def _steps(name: str, values: Any) -> tuple[int, int]:
    values = [1, 1] if values is None else values
    if len(values) != 2 or any(value < 1 for value in values) or max(values) > _LARGEST_DILATION:
        raise Refusal(f"its attribute {name!r} must be 2 whole numbers from 1 to {_LARGEST_DILATION}, not {values}")
    return values[0], values[1]


def max_pool(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """MaxPool; only its values are supported, not its indices."""
    window = Window.maximal(call.node, tensor.shape)
    call.constants(0)
    pooled = network_pools.max_pool(builder, _maps(builder, tensor), window.kernel, window.stride, window.padding)
    return pooled.without_height() if len(tensor.shape) == 3 else pooled


def average_pool(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """AveragePool; every window must have the same divisor."""
    window = Window.averaging(call.node, tensor.shape)
    call.constants(0)
    pooled = network_pools.mean(builder, _maps(builder, tensor), window.kernel, window.stride, window.padding)
    return pooled.without_height() if len(tensor.shape) == 3 else pooled


def global_pool(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """GlobalMaxPool and GlobalAveragePool."""
    call.node.settings()
    call.constants(0)
    if len(tensor.shape) not in (3, 4):
        raise Refusal(f"takes maps of shape (1, channels, height, width), not {tensor.shape}")
    maps = _maps(builder, tensor)
    whole = maps.shape[2], maps.shape[3]
    if call.node.op == "GlobalAveragePool":
        pooled = network_pools.mean(builder, maps, whole, whole)
    else:
        pooled = network_pools.max_pool(builder, maps, whole, whole, (0, 0, 0, 0))
    return pooled.without_height() if len(tensor.shape) == 3 else pooled


def reduce_mean(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """ReduceMean over height, width or both; the axes are an input since opset 18."""
    keep, nothing, attribute = call.node.settings(keepdims=1, noop_with_empty_axes=0, axes=None)
    (constant,) = call.parameters(0, 1)
    axes = attribute if constant is None else whole_numbers(constant)
    if not axes and nothing:
        return tensor
    rank = len(tensor.shape)
    given = {axis % rank for axis in axes} if axes and all(-rank <= axis < rank for axis in axes) else set()
    chosen = {tensor.axis(axis) for axis in given}  # as they lie in the frame
    if rank not in (3, 4) or not chosen or not chosen <= {2, 3}:
        raise Refusal(f"takes the mean over height and width of a map, not over axes {axes} of shape {tensor.shape}")
    order = tensor.order
    maps = _maps(builder, tensor.transposed(tuple(np.argsort(order))) if order else tensor)
    heights = {3} if rank == 3 else chosen
    kernel = maps.shape[2] if 2 in heights else 1, maps.shape[3] if 3 in heights else 1
    result = network_pools.mean(builder, maps, kernel, kernel)
    result = result.without_height() if rank == 3 else result
    result = result.transposed(order) if order else result
    if keep:
        return result
    if result.order:
        result = builder.flat(result)
    shape = tuple(extent for axis, extent in enumerate(result.shape) if axis not in given)
    return replace(result, shape=shape)
