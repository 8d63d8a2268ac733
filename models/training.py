"""Common functions of the training scripts: data, straight-through gradients, distillation, folding to thresholds."""

from __future__ import annotations

import gzip
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.golden.network import Network
from fewbit.golden.run import run

HELD_OUT = 5000
PIXELS = 28 * 28
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Parameters of the training of a student by a teacher."""

    epochs: int
    copies: int  # copies of the training set: the original and warped ones
    warp: float  # strength of the warp; 1 is up to 10 degrees, 10 % and about a pixel
    batch: int = 256
    lr: float = 1e-2
    distill: float = 0.8  # weight of the teacher's scores in the loss
    temperature: float = 1.0
    teacher_epochs: int = 5
    teacher_filters: tuple[int, int] = (16, 32)
    teacher_warp: float = 1.0
    flip: bool = False  # whether warped images are mirrored at random
    seed: int = 1


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
    """Read an idx file of unsigned bytes, plain or gzipped. Exits with status 2 if it is missing."""
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
    """Read MNIST, or a data set in its format; the last :data:`HELD_OUT` training images are held out."""
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
    """Shift each of ``images`` (N, H, W) at random by up to ``pixels`` along both axes; new pixels are zero."""
    count, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4)
    top, left = torch.randint(0, 2 * pixels + 1, (2, count, 1))
    rows = (top + torch.arange(height))[:, :, None]
    columns = (left + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns]


def warp(images: Tensor, strength: float) -> Tensor:
    """Rotate, scale, shear, shift and bend each of ``images`` (N, 28, 28) uint8 at random."""
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


def vary(images: Tensor, strength: float, flip: bool) -> Tensor:
    """Warp ``images``; if ``flip`` is set, also mirror half of them."""
    warped = warp(images, strength)
    if not flip:
        return warped
    return torch.where(torch.rand(len(images), 1, 1) < 0.5, warped.flip(2), warped)


class Sign(torch.autograd.Function):
    """Sign as -1 or +1, with +1 at zero. The gradient passes where the input is within [-1, 1]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class Ternary(torch.autograd.Function):
    """Sign as -1, 0 or +1, with 0 below 0.7 of the mean magnitude. The gradient passes within [-1, 1]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sign(x) * (x.abs() > 0.7 * x.abs().mean())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class Level(torch.autograd.Function):
    """Rounds half up to a level 0..``top``. The gradient passes from half a level below 0 to half a level above top."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.top = top
        return torch.floor(x + 0.5).clamp_(0, top)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ((x >= -0.5) & (x <= ctx.top + 0.5)), None


class Student(nn.Module):
    """A few-bit network during training: takes uint8 images and has real-valued latent ``weights``."""

    weights: nn.ParameterList


S = TypeVar("S", bound=Student)


def make_teacher(first: int = 16, second: int = 32) -> nn.Module:
    """A float network of two convolutions with ``first`` and ``second`` filters, about 99.4 % on MNIST.

    Its input is (N, 1, 28, 28) floats in [0, 1], as :func:`as_float` gives them.
    """
    return nn.Sequential(
        nn.Conv2d(1, first, 5), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5), nn.BatchNorm2d(second), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(16 * second, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, CLASSES),
    )  # fmt: skip


def as_float(images: Tensor) -> Tensor:
    """Convert images to floats.  # (N, 28, 28) uint8 -> (N, 1, 28, 28) float in [0, 1]"""
    return images[:, None].float() / 255


@torch.no_grad()
def scores_of(model: nn.Module, images: Tensor) -> Tensor:
    """Scores (N, 10) of ``model`` in evaluation mode."""
    model.eval()
    return torch.cat([model(part) for part in images.split(1000)])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Percentage of frames whose largest score is that of the label."""
    return 100 * float((scores.argmax(1) == labels).float().mean())


def fit(
    model: nn.Module,
    data: Mnist,
    loss: Callable[[int, Tensor], Tensor],
    *,
    epochs: int,
    batch: int,
    lr: float,
    one_cycle: bool = False,
    takes: Callable[[Tensor], Tensor] = as_float,
    every: int = 0,
    after_step: Callable[[], object] = lambda: None,
) -> None:
    """Train ``model`` in place by Adam with a cosine or one-cycle schedule, and leave it in evaluation mode.

    Parameters
    ----------
    loss : function
        Loss of a batch, from the number of the epoch and the indices of the batch's training images.
    takes : function
        Converts uint8 images to the input of ``model``.
    every : int
        The held-out accuracy is printed every so many epochs and at the end; 0: never.
    after_step : function
        Called after each update of the weights.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    steps = epochs * math.ceil(len(data.train_images) / batch)
    schedule: torch.optim.lr_scheduler.LRScheduler
    if one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(epochs):
        model.train()
        for index in torch.randperm(len(data.train_images)).split(batch):
            value = loss(epoch, index)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                after_step()
        if every and (epoch % every == every - 1 or epoch == epochs - 1):
            held_out = held_out_accuracy(model, data, takes)
            print(f"epoch {epoch + 1}: loss {value.item():.4f}, held out {held_out:.2f} %", flush=True)
    model.eval()


def held_out_accuracy(model: nn.Module, data: Mnist, takes: Callable[[Tensor], Tensor] = as_float) -> float:
    """Accuracy of ``model`` in percent on the held-out images; ``takes`` converts uint8 images to its input."""
    return accuracy(scores_of(model, takes(data.held_out_images)), data.held_out_labels)


def as_it_is(images: Tensor) -> Tensor:
    """Return ``images`` unchanged: for networks that take uint8 images."""
    return images


def train_teacher(data: Mnist, recipe: Recipe) -> nn.Module:
    """Train a teacher on the training images, each batch warped at random, with label smoothing."""
    teacher = make_teacher(*recipe.teacher_filters)

    def loss(_: int, index: Tensor) -> Tensor:
        scores = teacher(as_float(vary(data.train_images[index], recipe.teacher_warp, recipe.flip)))
        return F.cross_entropy(scores, data.train_labels[index], label_smoothing=0.05)

    fit(teacher, data, loss, epochs=recipe.teacher_epochs, batch=128, lr=4e-3, one_cycle=True)
    return teacher


@torch.no_grad()
def make_copies(data: Mnist, teacher: nn.Module, recipe: Recipe) -> list[tuple[Tensor, Tensor]]:
    """The training images and ``recipe.copies - 1`` warped copies of them, each with the teacher's scores."""
    copies = []
    for number in range(recipe.copies):
        images = data.train_images
        if number:
            images = torch.cat([vary(part, recipe.warp, recipe.flip) for part in images.split(1000)])
        copies.append((images, scores_of(teacher, as_float(images))))
    return copies


def distil(recipe: Recipe, data: Mnist, make: Callable[[], S]) -> tuple[S, float]:
    """Train a teacher and, by distillation from it, the student that ``make`` returns.

    Returns the student and the held-out accuracy of the teacher.
    """
    began = time.time()
    torch.manual_seed(recipe.seed)
    teacher = train_teacher(data, recipe)
    held_out = held_out_accuracy(teacher, data)
    print(f"teacher: held out {held_out:.2f} %, {time.time() - began:.0f} s", flush=True)
    copies = make_copies(data, teacher, recipe)
    torch.manual_seed(recipe.seed)
    student = make()
    train_student(student, data, copies, recipe)
    return student, held_out


def train_student(student: Student, data: Mnist, copies: list[tuple[Tensor, Tensor]], recipe: Recipe) -> None:
    """Train ``student`` in place on labels and teacher's scores, with one copy of the images per epoch.

    The latent weights are clipped to [-1, 1].
    """

    def loss(epoch: int, index: Tensor) -> Tensor:
        images, teacher_scores = copies[epoch % len(copies)]
        scores = student(images[index])
        value = (1 - recipe.distill) * F.cross_entropy(scores, data.train_labels[index])
        if recipe.distill:
            t = recipe.temperature
            value = value + recipe.distill * t * t * F.kl_div(
                F.log_softmax(scores / t, 1), F.softmax(teacher_scores[index] / t, 1), reduction="batchmean"
            )
        return value

    def clip() -> None:
        for weight in student.weights:
            weight.clamp_(-1, 1)

    fit(
        student, data, loss, epochs=recipe.epochs, batch=recipe.batch, lr=recipe.lr, takes=as_it_is, every=10,
        after_step=clip,
    )  # fmt: skip


def integer_accuracy(network: Network, images: Tensor, labels: Tensor, quality: int | None = None) -> float:
    """Accuracy of the golden model in percent on ``images`` (N, 28, 28) uint8, at ``quality`` unless that is None."""
    frames = images.reshape(-1, *network.input.shape)
    parts = [run(network, part.numpy(), quality).output for part in frames.split(1000)]
    return 100 * float((np.concatenate(parts) == labels.numpy()).mean())


def fold(norm: nn.Module, levels: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fold a batch-norm and the following activation into integer thresholds (outputs, T) and signs (outputs,).

    The activation is the number of ``levels`` (T,) that the normalized accumulator reaches. The accumulator lies
    between ``low`` and ``high`` (outputs,).
    """
    state = norm.state_dict()
    gain, bias, mean, variance = (
        state[name].double().numpy() for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gain / np.sqrt(variance + norm.eps)
    return fold_affine(gain, bias - mean * gain, levels, low, high)


def fold_affine(
    gain: np.ndarray, offset: np.ndarray, levels: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fold gain and offset (outputs,) and the following activation into thresholds (outputs, T) and signs (outputs,).

    The activation is the number of ``levels`` (T,) that ``gain * acc + offset`` reaches, where the accumulator ``acc``
    lies between ``low`` and ``high`` (outputs,). For a gain of zero, each threshold is either always or never reached.
    """
    distance = levels - offset[:, None]  # the level is reached if gain * acc >= distance
    sign = np.where(gain < 0, -1, 1)
    size = np.abs(gain)[:, None]
    exact = np.where(size > 0, distance / np.where(size > 0, size, 1), np.where(distance <= 0, -np.inf, np.inf))
    least, most = np.minimum(low * sign, high * sign), np.maximum(low * sign, high * sign)
    return np.clip(np.ceil(exact), least[:, None], most[:, None] + 1).astype(np.int64), sign
