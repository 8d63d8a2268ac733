"""Reads float ONNX networks, as PyTorch and Keras export them for inference, into chains of float layers.

The reader walks the one chain from the graph's input to its output. It refuses, naming the node:
branches, products of two activations, and unknown ops and attributes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.golden.budget import check_shape
from fewbit.golden.errors import FewbitError
from fewbit.importers.float_onnx.batch_norm import Scale, fold_scales
from fewbit.importers.float_onnx.network import Best, Flat, FloatLayer, FloatNetwork, FloatPool, Product, Relu
from fewbit.importers.onnx_constants import (
    axes_of,
    broadcasts,
    constant_result,
    reshaped,
    squeezed,
    unsqueezed,
    whole_numbers,
)
from fewbit.importers.onnx_graph import Array, Graph, Node, Refusal, inputs_of, read
from fewbit.importers.onnx_window import Window


def load(path: str | Path) -> FloatNetwork:
    """The float network in the ONNX file ``path``; a softmax at its end is dropped.

    Raises
    ------
    FewbitError
        If the file is missing, truncated or no ONNX file, or holds something unsupported; the message names the
        node.
    """
    path = Path(path)
    graph = read(path)
    try:
        return float_network(graph, path.stem)
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None


def float_network(graph: Graph, name: str) -> FloatNetwork:
    """``graph`` as a float network. Raises FewbitError, naming the node, if it holds something unsupported."""
    if graph.input_type != "float32":
        raise FewbitError(f"input {graph.input!r}: must be float32, not {graph.input_type}")
    if graph.batch > 1:
        raise FewbitError(f"input {graph.input!r}: its batch axis must be 1 or symbolic, not {graph.batch}")
    reader = _Reader(graph.input_shape)
    constants: dict[str, Array] = dict(graph.constants)
    newest, user = graph.input, None
    for node in graph.nodes:
        try:
            active = [name for name in node.inputs if name not in constants and name]
            if node.op == "Shape" and active == [newest]:
                constants[node.outputs[0]] = constant_result(node, [np.empty(reader.shape, np.uint8)], graph.budget)
                continue
            if not active:
                inputs = [constants[name] for name in node.inputs if name]
                constants[node.outputs[0]] = constant_result(node, inputs, graph.budget)
                continue
            if len(active) > 1 or active[0] != newest:
                shared = f", as {user.label} does" if user is not None and len(active) == 1 else ""
                raise Refusal(f"depends on more than the node before it{shared}: branches are not supported")
            reader.take(node, [constants.get(name) for name in node.inputs])
            newest, user = node.outputs[0], node
        except FewbitError as error:
            raise FewbitError(f"{node.label}: {error}") from None
    if graph.output != newest:
        raise FewbitError(f"the output {graph.output!r} is not what the last node makes")
    return reader.network(name)


class _Reader:
    """The layers so far, and the shape of their output with its batch axis."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.steps: list[FloatLayer | Scale] = []
        self.input = self.shape = shape
        self.softmax = False

    def take(self, node: Node, inputs: list[Array | None]) -> None:
        """Appends the step of ``node``; ``inputs`` are its constants, None for activations and omitted inputs."""
        step = _STEPS.get(node.op) if node.domain == "" else None
        if step is None:
            raise Refusal("this op is not supported in a float network")
        least, most = inputs_of(node.op)
        if not least <= len(inputs) <= most:
            raise Refusal(f"cannot have {len(inputs)} inputs")
        if self.softmax and node.op not in _AFTER_SOFTMAX:
            raise Refusal("follows a softmax, which only the end of a network can do")
        if self.steps and isinstance(self.steps[-1], Best) and node.op not in _RESHAPING:
            raise Refusal("nothing can follow the arg-max but a change of shape")
        step(self, node, inputs)

    def network(self, name: str) -> FloatNetwork:
        layers = fold_scales(self.steps)
        if not any(isinstance(layer, Product) for layer in layers):
            raise FewbitError("has no convolution and no dense layer: there is nothing to quantize")
        return FloatNetwork(name=name, shape=self.input[1:], layers=layers, output_shape=self.shape[1:])

    def convolution(self, node: Node, inputs: list[Array | None]) -> None:
        auto_pad, dilations, groups, kernel, pads, strides = node.settings(
            auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None
        )
        weights, bias = _weights(inputs, 4), _optional(inputs, 2)
        if kernel and tuple(kernel) != weights.shape[2:]:
            raise Refusal(f"its kernel_shape {kernel} is not that of its weights, {list(weights.shape[2:])}")
        window = Window.of(self.shape, weights.shape[2:], strides, pads, dilations, auto_pad)
        if groups < 1 or len(weights) % groups or self.shape[1] != weights.shape[1] * groups:
            raise Refusal(f"weights of shape {weights.shape} in {groups} groups do not fit activations of {self.shape}")
        self._product(node, weights, bias, stride=window.stride, padding=window.padding, groups=groups)
        self.shape = (1, len(weights), *window.positions(self.shape))

    def gemm(self, node: Node, inputs: list[Array | None]) -> None:
        alpha, beta, trans_a, trans_b = node.settings(alpha=1.0, beta=1.0, transA=0, transB=0)
        weights, bias = _weights(inputs, 2), _optional(inputs, 2)
        if trans_a or len(self.shape) != 2:
            raise Refusal(f"takes activations on two axes, not transposed, not shape {self.shape}")
        self._dense(node, alpha * (weights if trans_b else weights.T), None if bias is None else beta * bias)

    def matmul(self, node: Node, inputs: list[Array | None]) -> None:
        node.settings()
        self._dense(node, _weights(inputs, 2).T, None)

    def _dense(self, node: Node, weights: Array, bias: Array | None) -> None:
        if len(self.shape) != 2 or self.shape[1] != weights.shape[1]:
            raise Refusal(f"{weights.shape[1]} inputs do not fit activations of shape {self.shape}: flatten them first")
        self._product(node, weights, bias)
        self.shape = (1, len(weights))

    def _product(self, node: Node, weights: Array, bias: Array | None, **window: Any) -> None:
        outputs = len(weights)
        if bias is not None and bias.dtype != np.float32:
            raise Refusal(f"its bias must be float32, not {bias.dtype}")
        bias = np.zeros(outputs) if bias is None else bias.astype(np.float64).ravel()
        if bias.size not in (1, outputs) or not np.isfinite(bias).all():
            raise Refusal(f"its bias must be {outputs} finite numbers")
        names = {step.name for step in self.steps if isinstance(step, Product)}
        kind = "conv" if weights.ndim == 4 else "dense"
        name = re.sub(r"\W+", "_", node.name).strip("_")
        if not name or name in names:
            name = f"{kind}_{len(names)}"
        bias = np.broadcast_to(bias, outputs)
        self.steps.append(Product(name=name, weights=weights, bias=bias, **window))

    def arithmetic(self, node: Node, inputs: list[Array | None]) -> None:
        """Add, Sub, Mul, Div with a constant on either side."""
        node.settings()
        if len(inputs) != 2:
            raise Refusal(f"cannot have {len(inputs)} inputs")
        left = inputs[1] is None
        constant = inputs[0] if left else inputs[1]
        if constant is None:
            raise Refusal("needs a constant beside the activations")
        vector, unit, zero = self._vector(constant), np.ones(1), np.zeros(1)
        if node.op == "Div" and (left or (vector == 0).any()):
            raise Refusal("divides by the activations, or by 0")
        gain, shift = {
            "Add": (unit, vector),
            "Sub": (-unit, vector) if left else (unit, -vector),
            "Mul": (vector, zero),
            "Div": (1 / np.where(vector == 0, 1, vector), zero),
        }[node.op]
        self.steps.append(Scale(node.label, gain, shift))

    def batch_normalization(self, node: Node, inputs: list[Array | None]) -> None:
        epsilon, _, training, spatial, _ = node.settings(
            epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1, consumed_inputs=None
        )
        if training or not spatial:
            raise Refusal("must be in inference mode, one mean and variance a channel")
        channels = self.shape[1]
        if any(constant is not None and constant.dtype != np.float32 for constant in inputs):
            raise Refusal("its parameters must be float32")
        vectors = [constant.astype(np.float64) for constant in inputs[1:] if constant is not None]
        if len(vectors) != 4 or any(v.shape != (channels,) or not np.isfinite(v).all() for v in vectors):
            raise Refusal(f"needs {channels} finite numbers of each parameter for activations of shape {self.shape}")
        gain, bias, mean, variance = vectors
        if (variance + epsilon <= 0).any():
            raise Refusal("a variance is not positive")
        factor = gain / np.sqrt(variance + epsilon)
        self.steps.append(Scale(node.label, factor, bias - mean * factor))

    def _vector(self, constant: Array) -> Array:
        """``constant`` as float64 (1,) or (channels,)."""
        if constant.dtype != np.float32 or not np.isfinite(constant).all():
            raise Refusal("its constant must be finite float32 numbers")
        constant = constant.astype(np.float64)
        if constant.size == 1 and constant.ndim <= len(self.shape):
            return constant.reshape(1)
        if not broadcasts(constant, self.shape):
            raise Refusal(f"a constant of shape {constant.shape} does not fit activations of shape {self.shape}")
        whole = np.broadcast_to(constant, self.shape)[0].reshape(self.shape[1], -1)
        if (whole != whole[:, :1]).any():
            raise Refusal("its constant differs within a channel")
        return np.asarray(whole[:, 0])

    def relu(self, node: Node, inputs: list[Array | None]) -> None:
        node.settings()
        self.steps.append(Relu())

    def max_pool(self, node: Node, inputs: list[Array | None]) -> None:
        self._pool("max", Window.maximal(node, self.shape))

    def average_pool(self, node: Node, inputs: list[Array | None]) -> None:
        self._pool("mean", Window.averaging(node, self.shape))

    def global_pool(self, node: Node, inputs: list[Array | None]) -> None:
        node.settings()
        whole = self.shape[2:]
        window = Window.of(self.shape, whole, list(whole), None, None, "NOTSET")
        self._pool("mean" if node.op == "GlobalAveragePool" else "max", window)

    def _pool(self, mode: str, window: Window) -> None:
        self.steps.append(FloatPool(mode=mode, kernel=window.kernel, stride=window.stride, padding=window.padding))
        self.shape = (*self.shape[:2], *window.positions(self.shape))

    def reshape(self, node: Node, inputs: list[Array | None]) -> None:
        """Flatten, Reshape, Squeeze and Unsqueeze: to one axis anywhere, to a map only at the input."""
        constants = [constant for constant in inputs if constant is not None]
        shape = self.shape
        if node.op == "Flatten":
            (axis,) = node.settings(axis=1)
            if axis not in (1, 1 - len(shape)):
                raise Refusal(f"must keep the batch axis, not flatten up to axis {axis}")
            result: tuple[int, ...] = (1, math.prod(shape[1:]))
        elif node.op == "Reshape":
            (allow_zero,) = node.settings(allowzero=0)
            if len(constants) != 1:
                raise Refusal("needs a constant shape")
            result = reshaped(shape, whole_numbers(constants[0]), bool(allow_zero))
        elif node.op == "Squeeze":
            result = squeezed(shape, axes_of(node, constants))
        else:
            result = unsqueezed(shape, axes_of(node, constants) or [])
        self._reshaped(result)

    def _reshaped(self, result: tuple[int, ...]) -> None:
        shape, self.shape = self.shape, result
        if result == shape or (self.steps and isinstance(self.steps[-1], Best)):
            return
        if result[:1] != (1,):
            raise Refusal(f"must keep the batch axis, not make {result} of {shape}")
        if len(result) < 2:
            raise Refusal(f"must leave a frame an axis, not make {result} of {shape}")
        check_shape(result, "its result")
        if not self.steps:
            self.input = result
        elif len(result) == 2:
            self.steps.append(Flat())
        else:
            raise Refusal(f"only the input may be reshaped to {result}, not activations of shape {shape}")

    def soft_max(self, node: Node, inputs: list[Array | None]) -> None:
        """Softmax and LogSoftmax keep the order of the scores, so that they are dropped."""
        (axis,) = node.settings(axis=-1)
        self._check_over_scores(axis)
        self.softmax = True

    def arg_max(self, node: Node, inputs: list[Array | None]) -> None:
        axis, keep, last = node.settings(axis=0, keepdims=1, select_last_index=0)
        if last:
            raise Refusal("takes the last of equal scores, which is not supported")
        self._check_over_scores(axis)
        self.steps.append(Best())
        self.shape = (1, 1) if keep else (1,)

    def _check_over_scores(self, axis: int) -> None:
        if len(self.shape) != 2 or axis not in (1, -1):
            raise Refusal(f"must run over all the scores of a frame, not over axis {axis} of shape {self.shape}")

    def nothing(self, node: Node, inputs: list[Array | None]) -> None:
        """Identity, and Dropout in inference."""


def operators() -> list[str]:
    """Operators that a float network may have."""
    return sorted(_STEPS)


def _weights(inputs: list[Array | None], axes: int) -> Array:
    """The second input as float64 weights."""
    weights = inputs[1] if len(inputs) > 1 else None
    if inputs[0] is not None or weights is None:
        raise Refusal("its first input must be the activations, its second one constant weights")
    if weights.dtype != np.float32 or weights.ndim != axes or not weights.size or not np.isfinite(weights).all():
        raise Refusal(f"its weights must be finite float32 numbers on {axes} axes, not {weights.dtype} {weights.shape}")
    return weights.astype(np.float64)


def _optional(inputs: list[Array | None], place: int) -> Array | None:
    return inputs[place] if len(inputs) > place else None


_STEPS: dict[str, Callable[[_Reader, Node, list[Array | None]], None]] = {
    "Add": _Reader.arithmetic,
    "ArgMax": _Reader.arg_max,
    "AveragePool": _Reader.average_pool,
    "BatchNormalization": _Reader.batch_normalization,
    "Conv": _Reader.convolution,
    "Div": _Reader.arithmetic,
    "Dropout": _Reader.nothing,
    "Flatten": _Reader.reshape,
    "Gemm": _Reader.gemm,
    "GlobalAveragePool": _Reader.global_pool,
    "GlobalMaxPool": _Reader.global_pool,
    "Identity": _Reader.nothing,
    "LogSoftmax": _Reader.soft_max,
    "MatMul": _Reader.matmul,
    "MaxPool": _Reader.max_pool,
    "Mul": _Reader.arithmetic,
    "Relu": _Reader.relu,
    "Reshape": _Reader.reshape,
    "Softmax": _Reader.soft_max,
    "Squeeze": _Reader.reshape,
    "Sub": _Reader.arithmetic,
    "Unsqueeze": _Reader.reshape,
}
_RESHAPING = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_AFTER_SOFTMAX = ("ArgMax", "Dropout", *_RESHAPING)
