"""Inputs of a node as constants and weights, and the product that they make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fewbit.importers.float_onnx.layers import Product
from fewbit.importers.float_onnx.values import Reading, Value, lifted
from fewbit.importers.onnx_graph import Array, Node, Refusal
from fewbit.importers.onnx_window import Window

Inputs = tuple[Value | Array | None, ...]


def parameters_in(inputs: Inputs, count: int) -> list[Array | None]:
    """The inputs after the first, which must be constants, padded with None to ``count``."""
    if not isinstance(inputs[0], Value):
        raise Refusal("its first input must be the activations, and the others constants")
    rest = [None if isinstance(value, Value) else value for value in inputs[1:]]
    return rest + [None] * (count - len(rest))


def constants_in(inputs: Inputs, count: int) -> list[Array]:
    found = [value for value in parameters_in(inputs, count) if value is not None]
    if len(found) != count:
        raise Refusal(f"needs all its {count + 1} inputs")
    return found


def weights_in(inputs: Inputs, value: Value, axes: int) -> Array:
    """The second input as float64 weights."""
    weights = inputs[1] if len(inputs) > 1 else None
    if inputs[0] is not value or weights is None or isinstance(weights, Value):
        raise Refusal("its first input must be the activations, its second one constant weights")
    if str(weights.dtype) != value.kind or weights.ndim != axes or not weights.size or not np.isfinite(weights).all():
        raise Refusal(
            f"its weights must be finite {value.kind} numbers on {axes} axes, not {weights.dtype} {weights.shape}"
        )
    return weights.astype(np.float64)


def product(
    reading: Reading,
    node: Node,
    value: Value,
    weights: Array,
    bias: Array | None,
    shape: tuple[int, ...],
    window: Window | None = None,
    groups: int = 1,
    dilation: tuple[int, int] = (1, 1),
) -> Value:
    """The sums of a product, of ``shape`` in the source graph."""
    outputs = len(weights)
    if bias is not None and str(bias.dtype) != value.kind:
        raise Refusal(f"its bias must be {value.kind}, not {bias.dtype}")
    vector = np.zeros(outputs) if bias is None else bias.astype(np.float64).ravel()
    if vector.size not in (1, outputs) or not np.isfinite(vector).all():
        raise Refusal(f"its bias must be {outputs} finite numbers")
    layer = Product(
        name=reading.name_of(node.name, "dense" if window is None else "conv"),
        weights=weights,
        bias=np.broadcast_to(vector, outputs),
        groups=groups,
        dilation=dilation,
    )
    if window is not None:
        layer = replace(layer, stride=window.stride, padding=window.padding)
    made = reading.add(layer, value, frame=shape[1:] if window is None else lifted(shape)[1:])
    return replace(made, shape=shape)
