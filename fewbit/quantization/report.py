"""Text report of a quantization."""

from __future__ import annotations

import numpy as np

from fewbit.importers.float_onnx.layers import Product
from fewbit.importers.float_onnx.network import FloatNetwork
from fewbit.quantization.quantize import Quantization
from fewbit.report import table

_FLOAT_BITS = 32


def describe(quantization: Quantization) -> str:
    """Table of the layers with code, error of the weights and memory; then the types and scales of the activations.

    The memory is computed by equation 12 of the quality-scalable multiplier paper.
    """
    rows = []
    for name, weights in quantization.weights.items():
        levels = weights.levels
        rows.append(
            (
                name,
                weights.code,
                weights.rule,
                f"{weights.vectors}, two signs" if weights.negative_scales is not None else weights.vectors,
                levels.size,
                f"{np.unique(levels).size} of {weights.code.levels.size}",
                f"{100 * weights.relative_error:.2f}",
                f"{100 * np.mean(levels == 0):.1f}",
                quantization.scale_bits(name) or "-",
                quantization.memory_bits(name),
            )
        )
    columns = (
        "layer", "code", "rule", "a scale each", "weights", "levels used", "error %", "zeros %", "scale bits",
        "memory bits",
    )  # fmt: skip
    weights_in_all = sum(weights.levels.size for weights in quantization.weights.values())
    bits = sum(quantization.memory_bits(name) for name in quantization.weights)
    floats = _FLOAT_BITS * weights_in_all
    lines = [
        table(columns, rows, left=4),
        "",
        f"{weights_in_all:,} weights in {bits:,} bits, {floats / bits:.2f} times fewer than in float32",
    ]
    if isinstance(quantization.source, FloatNetwork):
        assert quantization.input is not None
        chosen = quantization.activations
        kinds = [f"{activation.dtype} of {float(activation.scale):.4g}" for activation in chosen.values()]
        sums = max(place + 1 for place, layer in enumerate(quantization.source.layers) if isinstance(layer, Product))
        if sums > max(chosen, default=0):
            kinds.append("sums")
        lines.append(f"activations: input {quantization.input.dtype}, then " + ", ".join(kinds))
    return "\n".join(lines)
