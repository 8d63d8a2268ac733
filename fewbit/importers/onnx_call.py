"""A node of an ONNX graph together with its inputs, and how an input is read as weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fewbit.golden.dtype import DType
from fewbit.importers.lowering.builder import float32
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.onnx_graph import Array, Node, Refusal

Constant = Array | QuantizedConstant


@dataclass(frozen=True)
class Call:
    """A node and its inputs: constants, tensors that depend on the graph's input, and None for an omitted input.

    ``narrow`` has the number types of the constants of 2 or 4 bits, by name.
    """

    node: Node
    inputs: tuple[Constant | Tensor | None, ...]
    narrow: Mapping[str, DType] = field(default_factory=dict)

    def parameters(self, least: int, most: int) -> list[Array | None]:
        """The inputs after the first as ``most`` constants, at least ``least`` of them present, the others None."""
        constants = list(self.inputs[1:])
        while constants and constants[-1] is None:
            constants.pop()
        if not least <= len(constants) <= most:
            raise Refusal(f"cannot have {len(constants) + 1} inputs")
        if not isinstance(self.inputs[0], Tensor):
            raise Refusal("its first input must be the activations, and the others constants")
        return [None if value is None else plain(value) for value in constants] + [None] * (most - len(constants))

    def constants(self, count: int) -> list[Array]:
        """The inputs after the first, which must be exactly ``count`` constants."""
        values = [value for value in self.parameters(count, count) if value is not None]
        if len(values) != count:
            raise Refusal(f"needs all its {count + 1} inputs")
        return values


def plain(value: Constant | Tensor) -> Array:
    """The array that a constant is in the graph."""
    assert not isinstance(value, Tensor)
    return value.value if isinstance(value, QuantizedConstant) else value


def weights(value: Constant | Tensor | None, axes: str, count: int) -> QuantizedConstant:
    """A constant with ``count`` axes as weights: quantized weights, or floats that are whole numbers."""
    if value is None:
        raise Refusal("lacks its weights")
    assert not isinstance(value, Tensor)
    if not isinstance(value, QuantizedConstant):
        value = float32(value)
        if not np.isfinite(value).all() or (value != np.round(value)).any() or (np.abs(value) > 1 << 16).any():
            raise Refusal("its weights are floats: quantize them first, a float network with fewbit quantize")
        scale, zero = (np.broadcast_to(np.float32(number), value.shape) for number in (1, 0))
        value = QuantizedConstant(value.astype(np.int64), scale, zero)
    if value.levels.ndim != count or value.levels.size == 0:
        raise Refusal(f"its weights must have {axes} axes, not shape {value.levels.shape}")
    return value


def matrix(value: Constant | Tensor | None, transposed: bool) -> QuantizedConstant:
    """A constant as weights (inputs, outputs); with ``transposed`` the constant is (outputs, inputs)."""
    levels = weights(value, "two", 2)
    return levels.map(np.transpose) if transposed else levels
