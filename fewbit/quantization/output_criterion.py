"""Bands of a layer chosen by what the network makes of data."""

from __future__ import annotations

import numpy as np

from fewbit.golden.quantizers.bands import Criterion
from fewbit.importers.float_onnx.network import FloatNetwork, Floats, Product


def output_criterion(network: FloatNetwork, name: str, frames: Floats, scores: Floats) -> Criterion:
    """How far ``network`` is from ``scores`` on ``frames`` with given weights in the product ``name``: the percentage
    of frames that it puts into another class, plus the mean cross entropy of the right one. Needs no labels.

    Classes come first, since the paper's scales are too small for the levels: scores shrink, which an entropy alone
    punishes, but not the answer.
    """
    place = next(i for i, one in enumerate(network.layers) if isinstance(one, Product) and one.name == name)
    product = network.layers[place]
    assert isinstance(product, Product)
    x, wanted = network.run(frames, stop=place), _flat(scores).argmax(1)

    def criterion(reals: Floats) -> float:
        y = _flat(network.with_products({name: product.with_matrix(reals)}).run(x, place, network.scores_at))
        y = y - y.max(1, keepdims=True)
        entropy = np.log(np.exp(y).sum(1)) - y[np.arange(len(y)), wanted]
        return float(np.mean(100 * (y.argmax(1) != wanted) + entropy))

    return criterion


def _flat(scores: Floats) -> Floats:
    return scores.reshape(len(scores), -1).astype(np.float64)
