"""What quantization did to each layer, as text."""

from __future__ import annotations

import numpy as np

from fewbit.importers.float_onnx.network import FloatNetwork
from fewbit.quantization.quantize import Quantization
from fewbit.report import table

_FLOAT_BITS = 32


def describe(made: Quantization) -> str:
    """Layers with their codes, how far their weights moved, and their memory by equation 12 of the quality-scalable
    multiplier paper; then the activations."""
    rows = []
    for name, weights in made.weights.items():
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
                made.scale_bits(name) or "-",
                made.memory_bits(name),
            )
        )
    columns = (
        "layer", "code", "rule", "a scale each", "weights", "levels used", "error %", "zeros %", "scale bits",
        "memory bits",
    )  # fmt: skip
    weights_in_all = sum(weights.levels.size for weights in made.weights.values())
    bits = sum(made.memory_bits(name) for name in made.weights)
    floats = _FLOAT_BITS * weights_in_all
    lines = [
        table(columns, rows, left=4),
        "",
        f"{weights_in_all:,} weights in {bits:,} bits, {floats / bits:.2f} times fewer than in float32",
    ]
    if isinstance(made.source, FloatNetwork):
        assert made.input is not None
        kinds = [f"{one.dtype} of {one.scale:.4g}" if one else "sums" for one in made.activations]
        lines.append(f"activations: input {made.input.dtype}, then " + ", ".join(kinds))
    return "\n".join(lines)
