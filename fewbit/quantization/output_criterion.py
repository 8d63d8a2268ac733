"""Criterion for the quantization bands of a layer: the effect on the outputs of the network."""

from __future__ import annotations

import numpy as np

from fewbit.golden.quantizers.bands import Criterion
from fewbit.importers.float_onnx.layers import Floats, Product
from fewbit.importers.float_onnx.network import FloatNetwork


def output_criterion(network: FloatNetwork, name: str, frames: Floats, scores: Floats) -> Criterion:
    """Return a function that rates weights of the product ``name`` by the outputs of ``network`` on ``frames``.

    The function takes the weights and returns the percentage of frames whose class differs from that of ``scores``,
    plus the mean cross entropy of these classes; less is better. No labels are needed. Of a network whose scores are no
    classes (a single one, a map, or what a sigmoid follows) it is the mean squared error of the scores.

    The percentage dominates, because the scales of the rule ``paper`` are too small for the levels: scores shrink,
    which increases the cross entropy without changing the classes.
    """
    place = next(i for i, layer in enumerate(network.layers) if isinstance(layer, Product) and layer.name == name)
    product = network.layers[place]
    assert isinstance(product, Product)
    wanted = _flat(scores)
    live, classes = network.live(frames, place), wanted.argmax(1)
    axes = sum(extent > 1 for extent in scores.shape[1:])
    classified = axes == 1 and network.output_function not in ("sigmoid", "tanh")

    def criterion(reals: Floats) -> float:
        y = _flat(network.with_products({name: product.with_matrix(reals)}).resume(live, place, network.scores_at))
        if not classified:
            return float(np.mean((y - wanted) ** 2))
        y = y - y.max(1, keepdims=True)
        entropy = np.log(np.exp(y).sum(1)) - y[np.arange(len(y)), classes]
        return float(np.mean(100 * (y.argmax(1) != classes) + entropy))

    return criterion


def _flat(scores: Floats) -> Floats:
    return scores.reshape(len(scores), -1).astype(np.float64)
