"""A node of a QONNX graph with its inputs, and the weights among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Array, Node, Refusal

Constant = Array | QuantizedConstant


@dataclass(frozen=True)
class Call:
    """A node and its inputs: constants, the tensor that hangs on the graph's input, None for one left out."""

    node: Node
    inputs: tuple[Constant | Tensor | None, ...]

    def parameters(self, least: int, most: int) -> list[Array | None]:
        """The inputs after the first as constants, ``least`` to ``most`` of them, None for those left out."""
        found = list(self.inputs[1:])
        while found and found[-1] is None:
            found.pop()
        if not least <= len(found) <= most:
            raise Refusal(f"cannot have {len(found) + 1} inputs")
        if not isinstance(self.inputs[0], Tensor):
            raise Refusal("its first input must be the activations, and the others constants")
        return [None if value is None else plain(value) for value in found] + [None] * (most - len(found))

    def given(self, count: int) -> list[Array]:
        """Exactly ``count`` constants after the first input."""
        values = [value for value in self.parameters(count, count) if value is not None]
        if len(values) != count:
            raise Refusal(f"needs all its {count + 1} inputs")
        return values


def plain(value: Constant | Tensor) -> Array:
    """A constant as the array that the graph has."""
    assert not isinstance(value, Tensor)
    return value.value if isinstance(value, QuantizedConstant) else value


def weights(value: Constant | Tensor | None, axes: str, count: int) -> QuantizedConstant:
    """A constant as weights on ``count`` axes: quantized, or whole numbers as they are."""
    if value is None:
        raise Refusal("lacks its weights")
    assert not isinstance(value, Tensor)
    if not isinstance(value, QuantizedConstant):
        if value.dtype != np.float32:
            raise Refusal(f"its weights are {value.dtype}, not float32")
        if not np.isfinite(value).all() or (value != np.round(value)).any() or (np.abs(value) > 1 << 16).any():
            raise Refusal("its weights are floats: quantize them first")
        one, none = np.ones((), np.float32), np.zeros((), np.float32)
        value = QuantizedConstant(
            value.astype(np.int64), np.broadcast_to(one, value.shape), np.broadcast_to(none, value.shape)
        )
    if value.levels.ndim != count or value.levels.size == 0:
        raise Refusal(f"its weights must have {axes} axes, not shape {value.levels.shape}")
    return value


def matrix(value: Constant | Tensor | None, transposed: bool) -> QuantizedConstant:
    """A constant as weights (inputs, outputs), which it holds the other way round if ``transposed``."""
    found = weights(value, "two", 2)
    return found.map(np.transpose) if transposed else found
