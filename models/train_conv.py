"""Train the shipped few-bit convolutional networks and export them as integers.

A pixel becomes a level, 0..3 or 0..15, by thresholds common to all pixels. Each stage is a convolution with
weights of -1 and +1 (or -1, 0, +1), thresholds of each channel that give a level 0..3, and optionally max
pooling. The last layer is dense, followed by an arg-max. The hardware computes in integers only; padding is
level 0.

``mnist-conv``
    For the smallest boards. Its speed is limited by the weight bits that block RAM delivers: a frame reads
    MACs times bits per weight, and the iCE40UP5K reads 480 bits per cycle.
``fashion-conv``
    For Fashion-MNIST (Xiao et al., arXiv 1708.07747) and mid-sized FPGAs.

The method is that of ``train.py``: straight-through gradients, batch-norm folded to thresholds,
distillation from a float teacher, and warped copies of the training set. Weights below 0.7 of the mean
magnitude become 0 in ternary layers (Ternary Weight Networks, Li et al., arXiv 1605.04711). The network
after the last epoch is the result. The last 5,000 training images are held out and were used to choose
the recipes; the test images are used once, at the end, on the exported integer network.

    pip install . torch==2.13.0
    python models/train_conv.py mnist-conv --data mnist
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.golden.codes import BINARY, TERNARY
from fewbit.golden.dtype import DType
from fewbit.golden.network import (
    ArgMax,
    Conv,
    Dense,
    Flatten,
    Layer,
    Linear,
    Network,
    Pool,
    TensorType,
    Threshold,
)
from fewbit.models.script import preset_job
from fewbit.models.training import (
    CLASSES,
    Level,
    Recipe,
    Sign,
    Student,
    Ternary,
    as_it_is,
    distil,
    fold,
    integer_accuracy,
)

SHIPPED = 2000
"""The first so many test images of Fashion-MNIST come with fewbit. Of MNIST, all do."""

UP5K_BITS = 480
"""Bits that the block RAMs of an iCE40UP5K read in a cycle: 30 RAMs of 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A convolution with its activation; followed by max pooling of ``pool`` x ``pool`` if ``pool`` is above 1."""

    filters: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    pool: int = 1


@dataclass(frozen=True, kw_only=True)
class ConvNet(Recipe):
    """A convolutional network and its training parameters."""

    stages: tuple[Stage, ...]
    code: str = "binary"  # or ternary
    input_thresholds: tuple[int, ...] = (64, 128, 192)
    activation_bits: int = 2
    data: str = "mnist"


PRESETS = {
    "mnist-conv": ConvNet(
        stages=(
            Stage(filters=16, stride=2, padding=1),
            Stage(filters=24, stride=2, padding=1),
            Stage(filters=32),
            Stage(filters=32),
        ),
        code="ternary",
        epochs=50,
        copies=10,
        warp=1.0,
    ),
    "fashion-conv": ConvNet(
        stages=(
            Stage(filters=24, stride=2, padding=1),
            Stage(filters=32, padding=1, pool=2),
            Stage(filters=64, padding=1, pool=2),
        ),
        code="ternary",
        input_thresholds=tuple(range(16, 256, 16)),
        epochs=14,
        copies=7,
        warp=0.5,
        teacher_epochs=4,
        teacher_filters=(24, 48),
        teacher_warp=0.5,
        flip=True,
        data="fashion-mnist",
    ),
}


class ConvStudent(Student):
    """The network during training: real-valued latent weights, quantized in the forward pass, and batch-norms."""

    def __init__(self, recipe: ConvNet) -> None:
        super().__init__()
        self.recipe = recipe
        self.top = (1 << recipe.activation_bits) - 1
        self.quantize = (Sign if recipe.code == "binary" else Ternary).apply
        self.weights, self.norms = nn.ParameterList(), nn.ModuleList()
        channels, side = 1, 28
        for stage in recipe.stages:
            shape = (stage.filters, channels, stage.kernel, stage.kernel)
            self.weights.append(torch.empty(shape).uniform_(-0.1, 0.1))
            norm = nn.BatchNorm2d(stage.filters)
            nn.init.constant_(norm.bias, self.top / 2)  # the middle of the levels
            self.norms.append(norm)
            channels = stage.filters
            side = ((side + 2 * stage.padding - stage.kernel) // stage.stride + 1) // stage.pool
        inputs = channels * side * side
        self.weights.append(torch.empty(CLASSES, inputs).uniform_(-0.1, 0.1))
        self.scale = nn.Parameter(torch.tensor(1 / math.sqrt(inputs)))

    def forward(self, images: Tensor) -> Tensor:
        x = torch.zeros(images.shape)
        for threshold in self.recipe.input_thresholds:
            x += images >= threshold
        x = x[:, None]
        for stage, weight, norm in zip(self.recipe.stages, self.weights, self.norms):
            x = norm(F.conv2d(x, self.quantize(weight), stride=stage.stride, padding=stage.padding))
            if stage.pool > 1:  # pooling before the monotonic activation gives the same levels and a better gradient
                x = F.max_pool2d(x, stage.pool)
            x = Level.apply(x, self.top)
        return F.linear(x.flatten(1), self.quantize(self.weights[-1])) * self.scale


def to_network(student: ConvStudent, name: str) -> Network:
    """Convert the trained student to an integer network with uint8 pixels as input and the class index as output."""
    recipe = student.recipe
    if student.scale.item() <= 0:
        raise ValueError(f"the scale of the scores must be positive for arg-max, not {student.scale.item()}")
    code = {"binary": BINARY, "ternary": TERNARY}[recipe.code]
    pixels = np.array([recipe.input_thresholds])
    kind = DType("uint", pixels.size.bit_length())
    layers: list[Layer] = [
        Threshold(name="pixels", thresholds=pixels, sign=np.array([1]), dtype=kind, base=0),
    ]
    weights = [student.quantize(weight).detach().numpy().astype(np.int64) for weight in student.weights]
    for number, (stage, weight, norm) in enumerate(zip(recipe.stages, weights, student.norms), 1):
        conv = Conv(
            name=f"conv{number}", weights=weight, code=code, stride=(stage.stride,) * 2, padding=(stage.padding,) * 4
        )
        low, high = conv.bounds(kind)
        thresholds, sign = fold(norm, np.arange(student.top) + 0.5, low, high)
        kind = DType("uint", recipe.activation_bits)
        layers += [conv, Threshold(name=f"act{number}", thresholds=thresholds, sign=sign, dtype=kind, base=0)]
        if stage.pool > 1:
            side = (stage.pool,) * 2
            layers.append(Pool(name=f"pool{number}", mode="max", kernel=side, stride=side))
    layers += [Flatten(name="flatten"), Dense(name="dense", weights=weights[-1], code=code), ArgMax(name="class")]
    return Network(name=name, input=TensorType(DType("uint", 8), (1, 28, 28)), layers=tuple(layers))


def cost(network: Network) -> dict[str, int]:
    """Weights, weight bits and MACs of a frame, and the least number of cycles on an iCE40UP5K.

    The cycles assume that all block RAMs deliver weights in every cycle.
    """
    weights = bits = macs = read = 0
    for layer, output in zip(network.layers, network.types.values()):
        if isinstance(layer, Linear):
            positions = output.size // layer.outputs
            weights += layer.weights.size
            bits += layer.weights.size * layer.code.bits
            macs += layer.weights.size * positions
            read += layer.weights.size * layer.code.bits * positions
    return {"weights": weights, "weight_bits": bits, "macs": macs, "up5k_cycles_at_least": -(-read // UP5K_BITS)}


def main() -> None:
    preset, recipe, job = preset_job("train_conv.py", __doc__, PRESETS)
    student, teacher_held_out = distil(recipe, job.data, lambda: ConvStudent(recipe))
    network = to_network(student, preset)
    facts = {"data": recipe.data, **job.export(network, student, as_it_is)}
    facts |= {"teacher_held_out_accuracy": teacher_held_out, **cost(network)}
    if recipe.data != "mnist":
        shipped = job.data.test_images[:SHIPPED], job.data.test_labels[:SHIPPED]
        facts["shipped_images_accuracy"] = integer_accuracy(network, *shipped)
    job.write(recipe, facts)


if __name__ == "__main__":
    main()
