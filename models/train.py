"""Train the shipped few-bit MNIST networks and export them as integers.

Every weight is -1 or +1. A pixel becomes one bit or a level 0..3 by thresholds common to all pixels;
a hidden activation is one bit (-1, +1) or a level 0..3. The hardware therefore computes, in integers,

    acc = w @ x,    level = number of thresholds t with sign * acc >= t    (per neuron)

and the arg-max over the accumulators of the last layer.

Method
    * Straight-through gradients through sign and round, latent weights clipped to [-1, 1], batch-norm
      before each activation: BinaryNet (Courbariaux et al., arXiv 1602.02830). Two-bit activations
      as in DoReFa-Net (Zhou et al., arXiv 1606.06160).
    * Batch-norm and activation fold to integer thresholds: FINN (Umuroglu et al., arXiv 1612.07119).
      The last layer has one common scale instead, which arg-max does not need.
    * Distillation (Hinton et al., arXiv 1503.02531) from a small float convolutional network.
    * Images warped by small affine and elastic maps (Simard et al., ICDAR 2003): several copies of
      the training set are warped and scored by the teacher once; each epoch uses the next copy.

The network after the last epoch is the result; no checkpoint is selected. The last 5,000 training
images are held out and were used to choose the recipes. The test images are used once, at the end,
on the exported integer network. On one core ``mnist-small`` takes about 6 minutes and
``mnist-large`` about 8.

    pip install . torch==2.13.0
    python models/train.py mnist-small --data mnist -o mnist-small.safetensors
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.network import ArgMax, Dense, Flatten, Layer, Network, TensorType, Threshold
from fewbit.models.script import preset_job
from fewbit.models.training import (
    CLASSES,
    PIXELS,
    Level,
    Recipe,
    Sign,
    Student,
    as_it_is,
    distil,
    fold,
)


@dataclass(frozen=True, kw_only=True)
class Mlp(Recipe):
    """A multilayer perceptron and its training parameters."""

    hidden: tuple[int, ...]
    input_thresholds: tuple[int, ...]  # one: a pixel is -1 or +1; three: a level 0..3
    activation_bits: int  # 1: -1 or +1; 2: a level 0..3


PRESETS = {
    "mnist-small": Mlp(
        hidden=(128, 64),
        input_thresholds=(64, 128, 192),
        activation_bits=2,
        epochs=160,
        copies=8,
        warp=0.5,
    ),
    "mnist-large": Mlp(
        hidden=(512, 512),
        input_thresholds=(64, 128, 192),
        activation_bits=2,
        epochs=50,
        copies=10,
        warp=1.0,
    ),
}


class MlpStudent(Student):
    """The network during training: real-valued latent weights, quantized in the forward pass, and batch-norms."""

    def __init__(self, recipe: Mlp) -> None:
        super().__init__()
        self.recipe = recipe
        sizes = (PIXELS, *recipe.hidden, CLASSES)
        self.weights = nn.ParameterList(
            torch.empty(outputs, inputs).uniform_(-0.1, 0.1) for inputs, outputs in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(outputs) for outputs in recipe.hidden)
        self.scale = nn.Parameter(torch.tensor(1 / math.sqrt(sizes[-2])))
        for norm in self.norms if recipe.activation_bits == 2 else ():
            nn.init.constant_(norm.get_parameter("bias"), 1.5)  # the middle of the levels

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        x = torch.zeros(pixels.shape)
        for threshold in self.recipe.input_thresholds:
            x += pixels >= threshold
        if len(self.recipe.input_thresholds) == 1:
            x = 2 * x - 1
        one_bit = self.recipe.activation_bits == 1
        for weight, norm in zip(self.weights, self.norms):
            x = norm(F.linear(x, Sign.apply(weight)))
            x = Sign.apply(x) if one_bit else Level.apply(x, 3)
        return F.linear(x, Sign.apply(self.weights[-1])) * self.scale


def to_network(student: MlpStudent, name: str) -> Network:
    """Convert the trained student to an integer network with uint8 pixels as input and the class index as output."""
    recipe = student.recipe
    if student.scale.item() <= 0:
        raise ValueError(f"the scale of the scores must be positive for arg-max, not {student.scale.item()}")
    kinds = {1: (BIPOLAR, -1, np.array([0.0])), 2: (DType("uint", 2), 0, np.array([0.5, 1.5, 2.5]))}
    kind, base, _ = kinds[len(recipe.input_thresholds).bit_length()]
    pixels = np.array([recipe.input_thresholds])
    layers: list[Layer] = [
        Flatten(name="flatten"),
        Threshold(name="pixels", thresholds=pixels, sign=np.array([1]), dtype=kind, base=base),
    ]
    for index, weight in enumerate(student.weights, 1):
        binary = np.where(weight.detach().numpy() >= 0, 1, -1)
        dense = Dense(name=f"dense{index}", weights=binary, code=BINARY)
        layers.append(dense)
        if index < len(student.weights):
            low, high = dense.bounds(kind)
            kind, base, levels = kinds[recipe.activation_bits]
            norm = student.norms[index - 1]
            assert isinstance(norm, nn.BatchNorm1d)
            thresholds, sign = fold(norm, levels, low, high)
            layers.append(Threshold(name=f"act{index}", thresholds=thresholds, sign=sign, dtype=kind, base=base))
    layers.append(ArgMax(name="class"))
    return Network(name=name, input=TensorType(DType("uint", 8), (28, 28)), layers=tuple(layers))


def main() -> None:
    preset, recipe, job = preset_job("train.py", __doc__, PRESETS)
    student, _ = distil(recipe, job.data, lambda: MlpStudent(recipe))
    facts = job.export(to_network(student, preset), student, as_it_is)
    facts["sizes"] = [PIXELS, *recipe.hidden, CLASSES]
    facts["weight_bits"] = sum(weight.numel() for weight in student.weights)
    job.write(recipe, facts)


if __name__ == "__main__":
    main()
