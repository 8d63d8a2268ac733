"""Realistic operands for multipliers, from trained networks, for :mod:`benchmarks.activity`.

Activations are the signed sums of the first layer of the shipped ``mnist-small``, over its test images. Weights come
from a small float network, 784-64-64-10, because most shipped networks have weights of one or two bits. That network is
trained here on the 10,000 shipped test images; it is used only as a source of weights. The 64 x 64 weights of its
second layer are in ``weights.npz`` as 16-bit integers.

    python -m benchmarks.operands    # train the network again, and write weights.npz
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.models import shipped
from fewbit import arrays, models
from fewbit.golden.dtype import Ints
from fewbit.golden.run import run

WEIGHTS = Path(__file__).with_name("weights.npz")
SOURCES = ("network", "pixels", "uniform")
HOLD = 16
"""Number of consecutive products with the same weight, if weights are held."""

Floats = npt.NDArray[np.float64]


class Operands(NamedTuple):
    """Signed operands of consecutive products, each (products, streams)."""

    a: Ints
    b: Ints


def operands(source: str, width: int, products: int, streams: int, *, held: bool) -> Operands:
    """Activations ``a`` and weights ``b`` in the order of a matrix-vector unit. The result is always the same.

    Parameters
    ----------
    source : str
        ``network``: sums of ``mnist-small``, and weights of the float network. ``pixels``: as activations, the middle
        16 x 16 pixels of the test images minus 128. ``uniform``: random numbers, ``a`` uniform and ``b`` normal with a
        standard deviation of 2/7 of the largest.
    width : int
        Bits of each operand.
    products, streams : int
        Number of consecutive products, and of independent streams.
    held : bool
        Whether a weight is held for :data:`HOLD` products, with the activations of consecutive images. Otherwise the
        operands are those of a dot product, and both change with each product.
    """
    if source == "uniform":
        rng = np.random.default_rng(1)
        a = rng.integers(-(1 << width - 1), 1 << width - 1, (products, streams))
        top = (1 << width - 1) - 1
        b = np.clip(np.rint(rng.normal(0, top / 3.5, (products, streams))), -top, top).astype(np.int64)
        return Operands(a, b[np.arange(products) // HOLD] if held else b)
    activations = _quantize(_pixels() if source == "pixels" else _sums(), width)
    weights = _quantize(np.load(WEIGHTS)["weights"].astype(np.float64), width)
    images, inputs = activations.shape
    outputs = len(weights)
    product, stream = np.arange(products)[:, None], np.arange(streams)[None]
    if held:
        place = product // HOLD + stream * -(-products // HOLD)
        image = product + 7 * stream
    else:
        place, image = product + 97 * stream, 7 * stream + 0 * product
    # Consecutive places are consecutive terms of a dot product; the factor 5 gives the streams different outputs.
    input_, output = place % inputs, (place // inputs + 5 * stream) % outputs
    return Operands(activations[image % images, input_], weights[output, input_ % weights.shape[1]])


def _quantize(values: Floats, width: int) -> Ints:
    """Scale and round to signed integers of ``width`` bits, the largest magnitude to the largest integer."""
    top = (1 << width - 1) - 1
    return np.rint(values * (top / np.abs(values).max())).astype(np.int64)


@cache
def _sums() -> Floats:
    """Sums of the first dense layer of mnist-small.  # (1024 images, 64 outputs)"""
    network = shipped("mnist-small")
    first = [layer.kind for layer in network.layers].index("dense")
    tensors = run(network, arrays.read(models.TEST_IMAGES)[:1024]).tensors
    return np.asarray(tensors[first + 1][:, :64], np.float64)


@cache
def _pixels() -> Floats:
    """The middle 16 x 16 pixels of the test images, -128 to 127.  # (1024 images, 256 pixels)"""
    return np.asarray(arrays.read(models.TEST_IMAGES)[:1024, 6:22, 6:22].reshape(1024, 256), np.float64) - 128


def train(epochs: int = 12, seed: int = 1) -> tuple[Floats, float]:
    """Train the float network; return the weights (64, 64) of its second layer, and its training accuracy, 0 to 1."""
    images = arrays.read(models.TEST_IMAGES).reshape(-1, 784) / 255.0
    labels = arrays.read(models.TEST_LABELS).astype(np.int64)
    rng = np.random.default_rng(seed)
    sizes = (784, 64, 64, 10)
    weights = [rng.normal(0, np.sqrt(2 / n), (m, n)) for n, m in pairwise(sizes)]
    offsets = [np.zeros(m) for m in sizes[1:]]
    speeds = [np.zeros_like(value) for value in (*weights, *offsets)]
    for epoch in range(epochs):
        for batch in np.array_split(rng.permutation(len(images)), 100):
            layers = _forward(images[batch], weights, offsets)
            scores = np.exp(layers[-1] - layers[-1].max(1, keepdims=True))
            error = scores / scores.sum(1, keepdims=True)
            error[np.arange(len(batch)), labels[batch]] -= 1
            error /= len(batch)
            slopes: list[Floats] = []
            steps: list[Floats] = []
            for k in reversed(range(3)):
                steps.insert(0, error.sum(0))
                slopes.insert(0, error.T @ layers[k] + 1e-4 * weights[k])
                error = error @ weights[k] * (layers[k] > 0)
            rate = 0.1 * (1 - epoch / epochs)
            for speed, value, slope in zip(speeds, (*weights, *offsets), (*slopes, *steps)):
                speed *= 0.9
                speed -= rate * slope
                value += speed
    right = _forward(images, weights, offsets)[-1].argmax(1) == labels
    return weights[1], float(right.mean())


def _forward(x: Floats, weights: list[Floats], offsets: list[Floats]) -> list[Floats]:
    layers = [x]
    for k, (weight, offset) in enumerate(zip(weights, offsets)):
        total = layers[-1] @ weight.T + offset
        layers.append(np.maximum(total, 0) if k < len(weights) - 1 else total)
    return layers


def main() -> None:
    weights, right = train()
    np.savez_compressed(WEIGHTS, weights=_quantize(weights, 16).astype(np.int16))
    print(
        f"{WEIGHTS.name}: {WEIGHTS.stat().st_size} bytes; {100 * right:.2f} % of the images it was trained on are right"
    )


if __name__ == "__main__":
    main()
