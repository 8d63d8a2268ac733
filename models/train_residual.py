"""Train the shipped few-bit residual network and export it as integers.

A pixel becomes a level, 0..15, by thresholds common to all pixels. A convolution is followed by residual blocks: two
convolutions of 3x3, the second of which is added to a connection around both, and a threshold a channel to a level 0..3
behind each convolution or sum. The connection is the block's input itself, or a convolution of 1x1 where a block
changes the size of the map. It joins the sums of the second convolution with a gain that is a power of two, so that the
sum of both is one of integers, and batch normalization stands behind it: all that runs in hardware is integers. The sum
of each channel and a dense layer with an arg-max end the network.

The method is that of ``train_conv.py``: straight-through gradients, ternary weights cut at 0.7 of their mean magnitude,
batch normalization folded to thresholds, distillation from a float teacher, and warped copies of the training set. The
blocks are those of "Deep Residual Learning for Image Recognition" (He et al., arXiv 1512.03385), with the activation
behind the sum.

    pip install . torch==2.13.0
    python models/train_residual.py fashion-resnet --data fashion-mnist
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.golden.codes import TERNARY
from fewbit.golden.dtype import DType
from fewbit.golden.graph import unnamed
from fewbit.golden.network import (
    Add,
    ArgMax,
    Conv,
    Dense,
    Flatten,
    Layer,
    Network,
    Pool,
    TensorType,
    Threshold,
)
from fewbit.models.script import preset_job
from fewbit.models.train_conv import SHIPPED
from fewbit.models.training import CLASSES, Level, Recipe, Student, Ternary, as_it_is, distil, fold, integer_accuracy


@dataclass(frozen=True, kw_only=True)
class Block:
    """Two convolutions of 3x3, the first with a stride, and the gain of the connection around them."""

    filters: int
    stride: int = 1
    gain: int = 8


@dataclass(frozen=True, kw_only=True)
class ResNet(Recipe):
    """One network and how it is trained."""

    filters: int  # of the first convolution, of 3x3 with a stride of 2
    blocks: tuple[Block, ...]
    input_thresholds: tuple[int, ...] = tuple(range(16, 256, 16))
    activation_bits: int = 2
    data: str = "fashion-mnist"


PRESETS = {
    "fashion-resnet": ResNet(
        filters=16,
        blocks=(Block(filters=16), Block(filters=32, stride=2, gain=4), Block(filters=64, stride=2, gain=4)),
        epochs=21,
        copies=7,
        warp=0.5,
        teacher_epochs=4,
        teacher_filters=(24, 48),
        teacher_warp=0.5,
        flip=True,
    ),
}


class ResidualStudent(Student):
    """The few-bit network, with real-valued latent weights and batch-norms while it trains."""

    def __init__(self, recipe: ResNet) -> None:
        super().__init__()
        self.recipe = recipe
        self.top = (1 << recipe.activation_bits) - 1
        self.weights, self.norms = nn.ParameterList(), nn.ModuleList()
        self._layer(recipe.filters, 1, 3)
        channels, side = recipe.filters, 14
        for block in recipe.blocks:
            self._layer(block.filters, channels, 3)
            self._layer(block.filters, block.filters, 3)
            if (block.stride, block.filters) != (1, channels):
                self.weights.append(torch.empty(block.filters, channels, 1, 1).uniform_(-0.1, 0.1))
            channels, side = block.filters, (side - 1) // block.stride + 1
        self.side = side
        self.weights.append(torch.empty(CLASSES, channels).uniform_(-0.1, 0.1))
        # An exponent, since the arg-max of the integer scores needs a positive scale.
        self.log_scale = nn.Parameter(torch.tensor(-math.log(side * side * math.sqrt(channels))))

    def _layer(self, filters: int, channels: int, kernel: int) -> None:
        self.weights.append(torch.empty(filters, channels, kernel, kernel).uniform_(-0.1, 0.1))
        norm = nn.BatchNorm2d(filters)
        nn.init.constant_(norm.bias, self.top / 2)  # the middle of the levels
        self.norms.append(norm)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.zeros(images.shape)
        for threshold in self.recipe.input_thresholds:
            x += images >= threshold
        weights, norms = (Ternary.apply(weight) for weight in self.weights), iter(self.norms)
        x = self._active(F.conv2d(x[:, None], next(weights), stride=2, padding=1), next(norms))
        for block in self.recipe.blocks:
            inner = self._active(F.conv2d(x, next(weights), stride=block.stride, padding=1), next(norms))
            total = F.conv2d(inner, next(weights), padding=1)
            around = x if total.shape == x.shape else F.conv2d(x, next(weights), stride=block.stride)
            x = self._active(total + block.gain * around, next(norms))
        return F.linear(x.sum((2, 3)), next(weights)) * self.log_scale.exp()

    def _active(self, sums: Tensor, norm: nn.Module) -> Tensor:
        return Level.apply(norm(sums), self.top)


def to_network(student: ResidualStudent, name: str) -> Network:
    """The trained student as a network of integers: uint8 pixels in, class index out."""
    recipe = student.recipe
    pixels = np.array([recipe.input_thresholds])
    levels = DType("uint", recipe.activation_bits)
    weights = (Ternary.apply(weight).detach().numpy().astype(np.int64) for weight in student.weights)
    norms = iter(student.norms)
    kind = DType("uint", pixels.size.bit_length())
    layers: list[Layer] = [Threshold(name="pixels", thresholds=pixels, sign=np.array([1]), dtype=kind, base=0)]

    def conv(where: str, stride: int = 1, padding: int = 1, inputs: tuple[str, ...] = ()) -> Conv:
        layer = Conv(name=where, weights=next(weights), code=TERNARY, stride=(stride,) * 2, padding=(padding,) * 4,
                     inputs=inputs)  # fmt: skip
        layers.append(layer)
        return layer

    def active(where: str, low: np.ndarray, high: np.ndarray) -> None:
        thresholds, sign = fold(next(norms), np.arange(student.top) + 0.5, low, high)
        layers.append(Threshold(name=where, thresholds=thresholds, sign=sign, dtype=levels, base=0))

    active("act", *conv("conv", stride=2).bounds(kind))
    source, channels = "act", recipe.filters
    for number, block in enumerate(recipe.blocks, 1):
        first = conv(f"block{number}_conv1", block.stride, inputs=(source,))
        active(f"block{number}_act1", *first.bounds(levels))
        second, around = conv(f"block{number}_conv2"), source
        low, high = second.bounds(levels)
        gain = block.gain
        if (block.stride, block.filters) == (1, channels):
            low, high = low + gain * levels.min, high + gain * levels.max
        else:
            short = conv(f"block{number}_short", block.stride, 0, inputs=(source,))
            low, high = (end + gain * more for end, more in zip((low, high), short.bounds(levels)))
            around = short.name
        layers.append(Add(name=f"block{number}_add", gains=np.array([1, gain]), inputs=(second.name, around)))
        source, channels = f"block{number}_act", block.filters
        active(source, low, high)
    side = (student.side,) * 2
    layers += [
        Pool(name="pool", mode="sum", kernel=side, stride=side),
        Flatten(name="flatten"),
        Dense(name="dense", weights=next(weights), code=TERNARY),
        ArgMax(name="class"),
    ]
    return Network(name=name, input=TensorType(DType("uint", 8), (1, 28, 28)), layers=unnamed(layers))


def main() -> None:
    preset, recipe, job = preset_job("train_residual.py", __doc__, PRESETS)
    student, teacher_held_out = distil(recipe, job.data, lambda: ResidualStudent(recipe))
    network = to_network(student, preset)
    facts = {"data": recipe.data, **job.export(network, student, as_it_is)}
    shipped = job.data.test_images[:SHIPPED], job.data.test_labels[:SHIPPED]
    facts["shipped_images_accuracy"] = integer_accuracy(network, *shipped)
    job.write(recipe, facts | {"teacher_held_out_accuracy": teacher_held_out})


if __name__ == "__main__":
    main()
