"""How the QONNX ops on two-dimensional maps are lowered: convolution and pooling."""

from __future__ import annotations

from dataclasses import replace

from fewbit.exact import exact
from fewbit.importers.lowering import pools as network_pools
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.products import conv
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_constants import whole_numbers
from fewbit.importers.onnx_graph import Refusal
from fewbit.importers.onnx_window import Window
from fewbit.importers.qonnx.call import Call, weights


def convolution(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """Conv."""
    auto_pad, dilations, groups, kernel, pads, strides = call.node.settings(
        auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None
    )
    _, bias = call.parameters(1, 2)
    levels = weights(call.inputs[1], "four", 4)
    extents = levels.levels.shape[2:]
    window = Window.of(tensor.shape, extents, strides, pads, dilations, auto_pad)
    if kernel is not None and tuple(kernel) != extents:
        raise Refusal(f"its kernel_shape {kernel} is not that of its weights, {list(extents)}")
    tensor = conv(builder, tensor, levels, window.stride, window.padding, groups)
    if bias is None:
        return tensor
    outputs = tensor.shape[1]
    if bias.shape != (outputs,):
        raise Refusal(f"needs a bias of shape ({outputs},), not {bias.shape}")
    tensor, (vector,) = builder.vectors(tensor, bias.reshape(1, outputs, 1, 1))
    return builder.affine(tensor, None, exact(vector))


def max_pool(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """MaxPool; only its values are supported, not its indices."""
    window = Window.maximal(call.node, tensor.shape)
    call.constants(0)
    return network_pools.max_pool(builder, tensor, window.kernel, window.stride, window.padding)


def average_pool(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """AveragePool; every window must have the same divisor."""
    window = Window.averaging(call.node, tensor.shape)
    call.constants(0)
    return network_pools.mean(builder, tensor, window.kernel, window.stride, window.padding)


def global_pool(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """GlobalMaxPool and GlobalAveragePool."""
    call.node.settings()
    call.constants(0)
    if len(tensor.shape) != 4:
        raise Refusal(f"takes maps of shape (1, channels, height, width), not {tensor.shape}")
    whole = tensor.shape[2], tensor.shape[3]
    if call.node.op == "GlobalAveragePool":
        return network_pools.mean(builder, tensor, whole, whole)
    return network_pools.max_pool(builder, tensor, whole, whole, (0, 0, 0, 0))


def reduce_mean(builder: Builder, call: Call, tensor: Tensor) -> Tensor:
    """ReduceMean over height, width or both; the axes are an input since opset 18."""
    keep, nothing, attribute = call.node.settings(keepdims=1, noop_with_empty_axes=0, axes=None)
    (constant,) = call.parameters(0, 1)
    axes = attribute if constant is None else whole_numbers(constant)
    if not axes and nothing:
        return tensor
    rank = len(tensor.shape)
    chosen = {axis % rank for axis in axes} if axes and all(-rank <= axis < rank for axis in axes) else set()
    if rank != 4 or not chosen or not chosen <= {2, 3}:
        raise Refusal(f"takes the mean over height and width of a map, not over axes {axes} of shape {tensor.shape}")
    kernel = tensor.shape[2] if 2 in chosen else 1, tensor.shape[3] if 3 in chosen else 1
    result = network_pools.mean(builder, tensor, kernel, kernel)
    if keep:
        return result
    shape = tuple(extent for axis, extent in enumerate(result.shape) if axis not in chosen)
    return replace(result, shape=shape)
