"""Train the shipped few-bit MNIST networks and export them as integers.

Every weight is -1 or +1. A pixel becomes one bit or a level 0..3 by thresholds common to all pixels;
a hidden activation is one bit (-1, +1) or a level 0..3. What runs in hardware is therefore

    acc = w @ x,    level = number of t with sign * acc >= t    (per neuron)

and an arg-max over the last layer's accumulators, all in integers.

Method
    * Straight-through gradients through sign and round, latent weights clipped to [-1, 1], batch-norm
      before each activation: BinaryNet (Courbariaux et al., arXiv 1602.02830). Two-bit activations
      as in DoReFa-Net (Zhou et al., arXiv 1606.06160).
    * Batch-norm and activation fold to integer thresholds: FINN (Umuroglu et al., arXiv 1612.07119).
      The last layer has one common scale instead, which arg-max does not need.
    * A small float convolutional network teaches: distillation (Hinton et al., arXiv 1503.02531).
    * Images warped by small affine and elastic maps (Simard et al., ICDAR 2003): copies of the
      training set are warped and labelled by the teacher once, and each epoch takes the next copy.

The last epoch is the result: no checkpoint is chosen. The last 5,000 training images are held out,
to choose the recipes; the test images are used once, at the end, on the exported integers. On one
core ``mnist-small`` takes about 6 minutes and ``mnist-large`` about 8.

    pip install . torch==2.13.0
    python models/train.py mnist-small --data mnist -o mnist-small.safetensors
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.file import save
from fewbit.golden.network import ArgMax, Dense, Flatten, Layer, Network, TensorType, Threshold
from fewbit.golden.run import run

HELD_OUT = 5000
PIXELS = 28 * 28
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One network and how it is trained."""

    hidden: tuple[int, ...]
    input_thresholds: tuple[int, ...]  # one: a pixel is -1 or +1; three: a level 0..3
    activation_bits: int  # 1: -1 or +1; 2: a level 0..3
    epochs: int
    copies: int  # of the training set: the original and warped ones
    warp: float  # strength of the warp; 1 is up to 10 degrees, 10 % and about a pixel
    batch: int = 256
    lr: float = 1e-2
    distill: float = 0.8  # share of the teacher in the loss
    temperature: float = 1.0
    teacher_epochs: int = 5
    seed: int = 1


PRESETS = {
    "mnist-small": Recipe(
        hidden=(128, 64),
        input_thresholds=(64, 128, 192),
        activation_bits=2,
        epochs=160,
        copies=8,
        warp=0.5,
    ),
    "mnist-large": Recipe(
        hidden=(512, 512),
        input_thresholds=(64, 128, 192),
        activation_bits=2,
        epochs=50,
        copies=10,
        warp=1.0,
    ),
}


# Data


@dataclass(frozen=True, kw_only=True)
class Mnist:
    """Images (N, 28, 28) uint8 and labels (N,) int64."""

    train_images: Tensor
    train_labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def read_idx(folder: Path, name: str) -> Tensor:
    """An idx file of unsigned bytes, plain or gzipped."""
    for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            with opened(path, "rb") as file:
                raw = file.read()
            axes = raw[3]
            shape = np.frombuffer(raw, ">u4", axes, offset=4)
            return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())
    print(f"the data folder must hold {name} or {name}.gz, {folder} does not", file=sys.stderr)
    raise SystemExit(2)


def load_mnist(folder: Path) -> Mnist:
    images = read_idx(folder, "train-images-idx3-ubyte")
    labels = read_idx(folder, "train-labels-idx1-ubyte").long()
    return Mnist(
        train_images=images[:-HELD_OUT],
        train_labels=labels[:-HELD_OUT],
        held_out_images=images[-HELD_OUT:],
        held_out_labels=labels[-HELD_OUT:],
        test_images=read_idx(folder, "t10k-images-idx3-ubyte"),
        test_labels=read_idx(folder, "t10k-labels-idx1-ubyte").long(),
    )


def shift(images: Tensor, pixels: int) -> Tensor:
    """Each of ``images`` (N, H, W) moved by up to ``pixels`` along both axes; zeros move in."""
    count, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4)
    top, left = torch.randint(0, 2 * pixels + 1, (2, count, 1))
    rows = (top + torch.arange(height))[:, :, None]
    columns = (left + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns]


def warp(images: Tensor, strength: float) -> Tensor:
    """Each of ``images`` (N, 28, 28) uint8 turned, scaled, sheared, moved and bent at random."""
    count = len(images)

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count) - 1) * limit * strength

    turn, shear, grow = uniform(math.radians(10)), uniform(0.1), 1 + uniform(0.1)
    cos, sin = torch.cos(turn) * grow, torch.sin(turn) * grow
    affine = torch.stack([cos, shear - sin, uniform(1 / 14), sin, cos, uniform(1 / 14)], 1).view(-1, 2, 3)
    grid = F.affine_grid(affine, [count, 1, 28, 28], align_corners=False)
    bend = F.interpolate(torch.randn(count, 2, 7, 7), size=(28, 28), mode="bicubic", align_corners=False)
    grid += bend.permute(0, 2, 3, 1) * (0.6 / 14 * strength)
    warped = F.grid_sample(images[:, None].float(), grid, align_corners=False)
    return warped[:, 0].round().to(torch.uint8)


# Networks


class Sign(torch.autograd.Function):
    """-1 or +1, +1 at zero; the gradient passes where the input is within [-1, 1]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class Level(torch.autograd.Function):
    """The nearest of the levels 0..3, half up; the gradient passes within half a level of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.floor(x + 0.5).clamp_(0, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * ((x >= -0.5) & (x <= 3.5))


class Student(nn.Module):
    """The few-bit network, with real-valued latent weights and batch-norms while it trains."""

    def __init__(self, recipe: Recipe) -> None:
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
        activation = (Sign if self.recipe.activation_bits == 1 else Level).apply
        for weight, norm in zip(self.weights, self.norms):
            x = activation(norm(F.linear(x, Sign.apply(weight))))
        return F.linear(x, Sign.apply(self.weights[-1])) * self.scale


def make_teacher() -> nn.Module:
    """A float convolutional network of two stages, about 99.4 % on MNIST; takes what ``as_float`` gives."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(512, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, CLASSES),
    )  # fmt: skip


def as_float(images: Tensor) -> Tensor:
    """(N, 28, 28) uint8 -> (N, 1, 28, 28) in [0, 1]."""
    return images[:, None].float() / 255


def train_teacher(data: Mnist, epochs: int) -> nn.Module:
    """Every batch is warped anew; a one-cycle step and smoothed labels."""
    teacher = make_teacher()
    batches = len(data.train_images) // 128 + 1
    optimizer = torch.optim.Adam(teacher.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs * batches)
    for _ in range(epochs):
        teacher.train()
        for index in torch.randperm(len(data.train_images)).split(128):
            scores = teacher(as_float(warp(data.train_images[index], 1.0)))
            loss = F.cross_entropy(scores, data.train_labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    teacher.eval()
    return teacher


@torch.no_grad()
def scores_of(model: nn.Module, images: Tensor) -> Tensor:
    """Scores (N, 10) of ``model`` in evaluation mode."""
    model.eval()
    return torch.cat([model(part) for part in images.split(1000)])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Percent of frames whose largest score is at the label."""
    return 100 * float((scores.argmax(1) == labels).float().mean())


@torch.no_grad()
def make_copies(data: Mnist, teacher: nn.Module, recipe: Recipe) -> list[tuple[Tensor, Tensor]]:
    """The training images and warped copies of them, each with the teacher's scores."""
    copies = []
    for number in range(recipe.copies):
        images = data.train_images
        if number:
            images = torch.cat([warp(part, recipe.warp) for part in images.split(1000)])
        copies.append((images, scores_of(teacher, as_float(images))))
    return copies


def train_student(data: Mnist, copies: list[tuple[Tensor, Tensor]], recipe: Recipe) -> Student:
    """Adam with a cosine step on the labels and the teacher's scores, one copy an epoch."""
    torch.manual_seed(recipe.seed)
    student = Student(recipe)
    optimizer = torch.optim.Adam(student.parameters(), lr=recipe.lr)
    batches = math.ceil(len(data.train_images) / recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * batches)
    for epoch in range(recipe.epochs):
        student.train()
        images, wanted = copies[epoch % len(copies)]
        for index in torch.randperm(len(images)).split(recipe.batch):
            scores = student(images[index])
            loss = (1 - recipe.distill) * F.cross_entropy(scores, data.train_labels[index])
            if recipe.distill:
                t = recipe.temperature
                loss = loss + recipe.distill * t * t * F.kl_div(
                    F.log_softmax(scores / t, 1), F.softmax(wanted[index] / t, 1), reduction="batchmean"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for weight in student.weights:
                    weight.clamp_(-1, 1)
        if epoch % 10 == 9 or epoch == recipe.epochs - 1:
            held_out = accuracy(scores_of(student, data.held_out_images), data.held_out_labels)
            print(f"epoch {epoch + 1}: loss {loss.item():.3f}, held out {held_out:.2f} %", flush=True)
    return student


# Export


def fold(norm: nn.BatchNorm1d, levels: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer thresholds (outputs, T) and signs (outputs,) of a batch-norm and the activation behind it.

    The activation's level is the number of ``levels`` (T,) that ``gain * acc + offset`` reaches, where ``acc`` runs
    from ``low`` to ``high`` (outputs,). A gain of zero gives a constant level: its thresholds are always or never met.
    """
    state = norm.state_dict()
    gain, bias, mean, variance = (
        state[name].double().numpy() for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gain / np.sqrt(variance + norm.eps)
    distance = levels - (bias - mean * gain)[:, None]  # the level is reached where gain * acc >= distance
    sign = np.where(gain < 0, -1, 1)
    size = np.abs(gain)[:, None]
    exact = np.where(size > 0, distance / np.where(size > 0, size, 1), np.where(distance <= 0, -np.inf, np.inf))
    least, most = np.minimum(low * sign, high * sign), np.maximum(low * sign, high * sign)
    return np.clip(np.ceil(exact), least[:, None], most[:, None] + 1).astype(np.int64), sign


def to_network(student: Student, name: str) -> Network:
    """The trained student as a network of integers: uint8 pixels in, class index out."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--data", type=Path, required=True, help="folder with the MNIST idx files, plain or .gz")
    parser.add_argument("--epochs", type=int, help="default: the preset's")
    parser.add_argument("--seed", type=int, help="default: the preset's")
    parser.add_argument("-o", "--out", type=Path, help="default: PRESET.safetensors; a .json goes beside it")
    args = parser.parse_args()
    changes = {key: getattr(args, key) for key in ("epochs", "seed") if getattr(args, key) is not None}
    recipe = replace(PRESETS[args.preset], **changes)
    out = args.out or Path(f"{args.preset}.safetensors")
    torch.set_num_threads(1)  # faster than more, at these sizes
    start = time.time()
    data = load_mnist(args.data)

    torch.manual_seed(recipe.seed)
    teacher = train_teacher(data, recipe.teacher_epochs)
    held_out = accuracy(scores_of(teacher, as_float(data.held_out_images)), data.held_out_labels)
    print(f"teacher: held out {held_out:.2f} %, {time.time() - start:.0f} s", flush=True)
    student = train_student(data, make_copies(data, teacher, recipe), recipe)

    network = to_network(student, args.preset)
    save(network, out)
    predicted = run(network, data.test_images.numpy()).output
    exact = 100 * float((predicted == data.test_labels.numpy()).mean())
    float_says = accuracy(scores_of(student, data.test_images), data.test_labels)
    print(f"test {exact:.2f} % in integers, {float_says:.2f} % in torch, {time.time() - start:.0f} s; wrote {out}")
    record = {
        "command": f"python models/train.py {args.preset} --data DIR --epochs {recipe.epochs} --seed {recipe.seed}",
        "test_accuracy": exact,
        "torch_accuracy": float_says,
        "held_out_accuracy": accuracy(scores_of(student, data.held_out_images), data.held_out_labels),
        "sizes": [PIXELS, *recipe.hidden, CLASSES],
        "weight_bits": sum(weight.numel() for weight in student.weights),
        "seconds": round(time.time() - start),
        "recipe": asdict(recipe),
    }
    out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
