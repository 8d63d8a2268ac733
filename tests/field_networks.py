"""Networks of the shapes that the field publishes, with random parameters, as its exporters spell them.

FINN's TFC and CNV as Brevitas exports them; a LeNet-5 as QKeras exports it (channels last around every convolution,
weight scales that are powers of two, ``quantized_relu``); a residual network as PyTorch exports it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx_models import GraphBuilder


class Field(GraphBuilder):
    """A graph with random parameters of its own."""

    def __init__(self, *shape: int, seed: int = 1, **settings: Any) -> None:
        super().__init__(*shape, **settings)
        self.rng = np.random.default_rng(seed)

    def norm(self, channels: int, spread: float) -> None:
        """Batch normalization of sums of this spread, some gains of it negative."""
        rng = self.rng
        gain = rng.choice([-1, 1, 1, 1], channels) * rng.uniform(0.5, 1.5, channels)
        mean, variance = rng.normal(0, spread / 4, channels), spread**2 * rng.uniform(0.5, 2, channels)
        self.batch_norm(gain, rng.normal(0, 0.2, channels), mean, variance)

    def binary(self, *shape: int) -> str:
        return self.bipolar(x=self.constant(self.rng.normal(size=shape)))


def tfc() -> Field:
    """784-64-64-64-10, binary weights and activations, on pixels / 255."""
    graph = Field(1, 28, 28)
    graph.op("Mul", 2)
    graph.op("Sub", 1)
    graph.bipolar()
    graph.node("Reshape", graph.x, graph.constant([-1, 784], np.int64))
    for inputs, outputs in ((784, 64), (64, 64), (64, 64)):
        x = graph.x
        graph.node("MatMul", x, graph.node("Transpose", graph.binary(outputs, inputs), perm=[1, 0]))
        graph.norm(outputs, np.sqrt(inputs))
        graph.bipolar()
    x = graph.x
    graph.node("MatMul", x, graph.node("Transpose", graph.binary(10, 64), perm=[1, 0]))
    for op, value in (("Sub", 0.3), ("Div", 7.9), ("Mul", 1.1), ("Add", -0.2)):  # a normalization of all scores alike
        graph.op(op, value)
    return graph


CNV_CONVOLUTIONS = (
    (3, 64, False), (64, 64, True), (64, 128, False), (128, 128, True), (128, 256, False), (256, 256, False),
)  # fmt: skip
"""Input and output channels of CNV's convolutions, and whether a pooling follows."""


def cnv() -> Field:
    """FINN's CNV: six 3x3 convolutions, three dense layers; binary weights and activations, 8-bit pixels."""
    graph = Field(3, 32, 32, annotation="UINT8")
    graph.op("Div", 255)
    graph.op("Mul", 2)
    graph.op("Sub", 1)
    graph.quant(1 / 128, bits=8)
    for inputs, outputs, pooled in CNV_CONVOLUTIONS:
        x = graph.x
        graph.conv(graph.binary(outputs, inputs, 3, 3), x=x, kernel_shape=[3, 3])
        graph.norm(outputs, np.sqrt(9 * inputs) / (2 if inputs == 3 else 1))
        graph.bipolar()
        if pooled:
            graph.node("MaxPool", graph.x, kernel_shape=[2, 2], strides=[2, 2])
    graph.flatten()
    for inputs, outputs in ((256, 512), (512, 512)):
        x = graph.x
        graph.node("MatMul", x, graph.binary(inputs, outputs))
        graph.norm(outputs, np.sqrt(inputs))
        graph.bipolar()
    x = graph.x
    graph.node("MatMul", x, graph.binary(512, 10))
    graph.op("Mul", 0.05)
    return graph


def powers(graph: Field, *shape: int, bits: int = 4) -> str:
    """Weights as ``quantized_bits(bits, 0, alpha="auto_po2")``: a scale that is a power of two for each output."""
    floats = graph.constant(graph.rng.normal(0, 0.3, shape))
    scale = 2.0 ** graph.rng.integers(-4, -1, (1,) * (len(shape) - 1) + shape[-1:])
    return graph.quant(scale, bits=bits, narrow=1, x=floats)


def quantized_relu(graph: Field, bits: int, integer: int) -> None:
    """``quantized_relu(bits, integer)``."""
    graph.op("Relu")
    graph.quant(2.0 ** (integer - bits), bits=bits, signed=0)


def keras_lenet() -> Field:
    """LeNet-5 with channels last: 6c5-p2-16c5-p2-120-84-10, as qkeras' networks come through tf2onnx."""
    graph = Field(28, 28, 1)
    graph.quant(2.0**-4, bits=4, signed=0)
    for inputs, outputs, pad in ((1, 6, 2), (6, 16, 0)):
        graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])
        x = graph.x
        kernels = graph.node("Transpose", powers(graph, 5, 5, inputs, outputs), perm=[3, 2, 0, 1])
        graph.node("Conv", x, kernels, graph.constant(graph.rng.normal(0, 0.1, outputs)), pads=[pad] * 4)
        graph.node("Transpose", graph.x, perm=[0, 2, 3, 1])
        quantized_relu(graph, 3, 2)
        graph.node("Transpose", graph.x, perm=[0, 3, 1, 2])
        graph.node("MaxPool", graph.x, kernel_shape=[2, 2], strides=[2, 2])
        graph.node("Transpose", graph.x, perm=[0, 2, 3, 1])
    graph.node("Reshape", graph.x, graph.constant([-1, 400], np.int64))
    for inputs, outputs in ((400, 120), (120, 84), (84, 10)):
        x = graph.x
        graph.node("MatMul", x, powers(graph, inputs, outputs))
        graph.op("Add", graph.rng.normal(0, 0.1, outputs))
        if outputs > 10:
            quantized_relu(graph, 3, 3)
    graph.node("Softmax", graph.x, axis=-1)
    return graph


def residual() -> Field:
    """Two residual blocks of eight and sixteen channels on a map of 14x14, 4-bit weights with real scales."""
    graph = Field(1, 28, 28)

    def conv(source: str, inputs: int, outputs: int, size: int, stride: int) -> str:
        floats = graph.constant(graph.rng.normal(size=(outputs, inputs, size, size)))
        weights = graph.quant(graph.rng.uniform(0.2, 0.4, (outputs, 1, 1, 1)), bits=4, narrow=1, x=floats)
        graph.conv(weights, x=source, pads=[size // 2] * 4, strides=[stride] * 2)
        graph.norm(outputs, 3 * size * np.sqrt(inputs))
        return graph.x

    def act(bits: int = 4, scale: float = 0.173) -> str:
        graph.op("Relu")
        return graph.quant(scale, bits=bits, signed=0)

    graph.quant(1 / 15, bits=4, signed=0)
    conv(graph.x, 1, 8, 3, 2)
    skip = act()
    for inputs, outputs, stride in ((8, 8, 1), (8, 16, 2)):
        conv(skip, inputs, outputs, 3, stride)
        conv(act(), outputs, outputs, 3, 1)
        branch = graph.quant(0.117, bits=5)
        if stride > 1:
            conv(skip, inputs, outputs, 1, stride)
            skip = graph.quant(0.095, bits=5)
        graph.node("Add", branch, skip)
        skip = act(4, 0.149)
    graph.node("GlobalAveragePool", graph.x)
    graph.quant(0.061, bits=6, signed=0)
    graph.flatten()
    x = graph.x
    graph.node("MatMul", x, graph.quant(0.1, bits=4, narrow=1, x=graph.constant(graph.rng.normal(0, 0.3, (16, 10)))))
    graph.op("Add", graph.rng.normal(0, 0.1, 10))
    return graph
