"""Fine-tune the float LeNet-5 with 3-bit weights, and export it as integers.

A weight is ``scale * level`` with a level of 0, +-1, +-2 or +-4, the ``shift3`` code, and a scale of
eight bits that neighbouring weights along the inputs of an output share. A hidden activation is an
unsigned integer; ReLU, bias and requantization fold to integer thresholds a channel. What runs is

    acc = sum scale * level * x,    y = number of thresholds at or below acc

Method
    * To start with, the quantizer's ``nearest`` rule: nearest levels and least-squares scales in turns,
      the scales in fixed point.
    * An activation's step is the one with the least squared error on training images.
    * Fine-tuning: straight-through gradients to the float weights, scales brought up to date at each
      batch; the float network teaches (Hinton et al., arXiv 1503.02531).

It starts from ``lenet5.onnx``. The last epoch is exported; 5,000 training images are held out, to
choose the recipe, and the test images are used once, at the end, on the exported integers. The
record holds the accuracy without retraining too, and that at each quality: at most so many
canonic signed digits of a scale.

    pip install . torch==2.13.0
    python models/train_codes.py --data mnist
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.file import save
from fewbit.golden.fixed_point import fixed_point
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Flatten, Layer, Network, Pool, TensorType, Threshold
from fewbit.golden.quantize import quantize
from fewbit.golden.weight_vectors import WeightVectors
from fewbit.models import FOLDER
from fewbit.models.train_lenet import PRESETS, make_lenet
from fewbit.models.training import (
    Level,
    Mnist,
    accuracy,
    as_float,
    fold_affine,
    integer_accuracy,
    load_mnist,
    scores_of,
    shift,
)

SCALE_BITS = 8
TINY = 1e-12
"""What stands for a scale of 0, of a vector without a weight of that sign."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How weights are quantized, and fine-tuned."""

    code: str = "shift3"
    two_scales: bool = False  # levels of either sign have their own, as in Trained Ternary Quantization
    vector: int = 16  # weights that share a scale
    activation_bits: int = 3
    epochs: int = 8
    batch: int = 128
    lr: float = 1e-3
    distill: float = 0.5  # share of the float network in the loss
    shift: int = 1  # pixels a training image may move
    seed: int = 1


class Quantized(nn.Module):
    """A layer of the float network with weights of a code: ``levels`` and ``integers`` times ``step``."""

    def __init__(self, layer: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.layer = layer
        self.weight: Tensor = layer.get_parameter("weight")
        self.bias: Tensor = layer.get_parameter("bias")
        self.code, self.vector = Code.parse(recipe.code), recipe.vector
        self.levels = torch.from_numpy(self.code.levels).float()
        self.middles = (self.levels[1:] + self.levels[:-1]) / 2
        rows = self.rows().detach().double().numpy()
        vectors = WeightVectors("inputs", self.vector)
        start = quantize(rows, self.code, vectors, rule="nearest", two_scales=recipe.two_scales)
        both = [start.scales, *([] if start.negative_scales is None else [start.negative_scales])]
        self.scales = torch.from_numpy(np.stack(both)).float().flatten(1).clamp(min=TINY)  # (1 or 2, outputs * V)
        self.real = F.pad(torch.ones_like(self.rows()), self.padding()).reshape(-1, self.vector)

    def rows(self) -> Tensor:
        """The weights as (outputs, inputs), channels last."""
        weight = self.weight
        return (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).flatten(1)

    def vectors(self) -> Tensor:
        """The weights cut along the inputs of an output, zeros at the end.  # (outputs * V, N)"""
        return F.pad(self.rows(), self.padding()).reshape(-1, self.vector)

    def padding(self) -> tuple[int, int]:
        return 0, -self.weight[0].numel() % self.vector

    def each(self, vectors: Tensor, scales: Tensor) -> Tensor:
        """The scale of every weight.  # (outputs * V, N), (1 or 2, outputs * V) -> (outputs * V, N or 1)"""
        if len(scales) == 1:
            return scales[0][:, None]
        return torch.where(vectors < 0, scales[1][:, None], scales[0][:, None])

    def nearest(self, ratio: Tensor) -> Tensor:
        """The level next to each weight over its scale; of two equally near, the one nearer to 0."""
        down, up = (torch.bucketize(ratio, self.middles, right=right) for right in (False, True))
        return self.levels[torch.where(ratio > 0, down, up)]

    def refine(self) -> None:
        """Least-squares scales for the levels that the present ones give."""
        vectors = self.vectors()
        levels = self.nearest(vectors / self.each(vectors, self.scales)) * self.real
        wanted, energy = vectors * levels, levels * levels
        signs = [1.0] if len(self.scales) == 1 else [vectors >= 0, vectors < 0]
        products = torch.stack([(wanted * sign).sum(1) for sign in signs])
        squares = torch.stack([(energy * sign).sum(1) for sign in signs])
        self.scales = torch.where(squares > 0, products / squares.clamp(min=1), self.scales)

    @torch.no_grad()
    def integers(self) -> tuple[Tensor, Tensor, float]:
        """Levels (outputs * V, N), scales (1 or 2, outputs * V) as integers, and the step of a scale."""
        integers, places = fixed_point(self.scales.double().numpy(), SCALE_BITS)
        scales, step = torch.from_numpy(integers).float().clamp(min=1), 2.0**-places
        vectors = self.vectors()
        return self.nearest(vectors / self.each(vectors, scales * step)), scales, step

    def unpack(self, vectors: Tensor) -> Tensor:
        """The inverse of :meth:`vectors`."""
        weight = self.weight
        rows = vectors.reshape(len(weight), -1)[:, : weight[0].numel()]
        if weight.dim() == 2:
            return rows
        outputs, channels, height, width = weight.shape
        return rows.reshape(outputs, height, width, channels).permute(0, 3, 1, 2)

    @torch.no_grad()
    def reals(self) -> Tensor:
        levels, scales, step = self.integers()
        return self.unpack(levels * self.each(levels, scales) * step)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.refine()
        weight = self.weight + (self.reals() - self.weight).detach()  # the gradient passes
        if isinstance(self.layer, nn.Conv2d):
            return F.conv2d(x, weight, self.bias, padding=self.layer.padding)
        return F.linear(x, weight, self.bias)


class ChannelsLast(nn.Module):
    """Flattens maps as hardware streams them: row by row, channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Activation(nn.Module):
    """ReLU as an unsigned integer of ``bits`` bits times ``step``; a ReLU as it is while the step is not set."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.top = (1 << bits) - 1
        self.step = 0.0

    def calibrate(self, x: Tensor) -> None:
        """The step of the least squared error on the positive part of ``x``."""
        x = x.clamp(min=0).flatten()
        steps = [float(x.max()) / self.top * part / 40 for part in range(4, 41)]
        errors = [float((Level.apply(x / step, self.top) * step - x).square().sum()) for step in steps]
        self.step = steps[int(np.argmin(errors))]

    def forward(self, x: Tensor) -> Tensor:
        return Level.apply(x / self.step, self.top) * self.step if self.step else x.clamp(min=0)


def read_lenet() -> nn.Sequential:
    """The shipped float network, its maps flattened with their channels last, so that vectors lie as they stream."""
    made = make_lenet(PRESETS["lenet5"])
    stored = onnx.load(FOLDER / "lenet5.onnx").graph.initializer
    with torch.no_grad():
        for parameter, tensor in zip(made.parameters(), stored, strict=True):
            parameter.copy_(torch.from_numpy(numpy_helper.to_array(tensor).copy()))
        at = next(index for index, part in enumerate(made) if isinstance(part, nn.Flatten))
        channels = next(part.out_channels for part in reversed(made[:at]) if isinstance(part, nn.Conv2d))
        made[at] = ChannelsLast()
        weight = next(part for part in made[at:] if isinstance(part, nn.Linear)).weight
        weight.copy_(weight.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1))
    return made.eval()


def quantized(model: nn.Sequential, data: Mnist, recipe: Recipe, bits: int) -> nn.Sequential:
    """The float model with few-bit weights and, where ``bits`` is not 0, with integers for activations."""
    made = nn.Sequential(
        *(
            Quantized(layer, recipe) if isinstance(layer, (nn.Conv2d, nn.Linear))
            else Activation(bits) if isinstance(layer, nn.ReLU) and bits
            else layer
            for layer in model
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        x = as_float(data.train_images[:1000])
        for layer in made:
            if isinstance(layer, Activation):
                layer.calibrate(x)
            x = layer(x)
    return made


def fine_tune(model: nn.Sequential, teacher: nn.Module, data: Mnist, recipe: Recipe) -> None:
    """Train in place; prints the held-out accuracy every third epoch."""
    torch.manual_seed(recipe.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    batches = math.ceil(len(data.train_images) / recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * batches)
    for epoch in range(recipe.epochs):
        model.train()
        for index in torch.randperm(len(data.train_images)).split(recipe.batch):
            images = as_float(shift(data.train_images[index], recipe.shift))
            scores = model(images)
            with torch.no_grad():
                wanted = F.softmax(teacher(images), 1)
            loss = (1 - recipe.distill) * F.cross_entropy(scores, data.train_labels[index])
            loss = loss + recipe.distill * F.cross_entropy(scores, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 3 == 2 or epoch == recipe.epochs - 1:
            held_out = accuracy(scores_of(model, as_float(data.held_out_images)), data.held_out_labels)
            print(f"epoch {epoch + 1}: loss {loss.item():.4f}, held out {held_out:.2f} %", flush=True)
    model.eval()


def to_network(model: nn.Sequential, name: str) -> Network:
    """The quantized model as a network of integers: uint8 pixels in, class index out."""
    kind, step = DType("uint", 8), 1 / 255
    layers: list[Layer] = []
    parts = list(model)
    number = count(1)
    for index, part in enumerate(parts):
        if isinstance(part, Quantized):
            levels, scales, unit = part.integers()
            rows = len(part.weight)
            shared = [one.view(rows, -1).numpy().astype(np.int64) for one in scales]
            common = {
                "weights": part.unpack(levels).numpy().astype(np.int64),
                "code": part.code,
                "scales": shared[0],
                "negative_scales": shared[1] if len(shared) == 2 else None,
                "vector": min(part.vector, part.weight[0].numel()),
            }
            linear: Conv | Dense
            if isinstance(part.layer, nn.Conv2d):
                rows, columns = (int(one) for one in part.layer.padding)
                linear = Conv(name=f"conv{next(number)}", padding=(rows, columns, rows, columns), **common)
            else:
                linear = Dense(name=f"dense{next(number)}", **common)
            layers.append(linear)
            bias = part.bias.detach().double().numpy()
            if index == len(parts) - 1:
                whole = np.round(bias / (unit * step)).astype(np.int64)
                layers += [Affine(name="bias", scale=np.ones_like(whole), bias=whole), ArgMax(name="class")]
                break
            following = parts[index + 1]
            assert isinstance(following, Activation)
            low, high = linear.bounds(kind)
            wanted = (np.arange(following.top) + 0.5) * following.step
            thresholds, sign = fold_affine(np.full(len(bias), unit * step), bias, wanted, low, high)
            kind, step = DType("uint", following.top.bit_length()), following.step
            layers.append(Threshold(name=f"act{linear.name[-1]}", thresholds=thresholds, sign=sign, dtype=kind, base=0))
        elif isinstance(part, nn.MaxPool2d):
            layers.append(Pool(name=f"pool{layers[-1].name[-1]}", mode="max", kernel=(2, 2), stride=(2, 2)))
        elif isinstance(part, ChannelsLast):
            layers.append(Flatten(name="flatten", channels_last=True))
    return Network(name=name, input=TensorType(DType("uint", 8), (1, 28, 28)), layers=tuple(layers))


def file_name(recipe: Recipe) -> str:
    """``lenet5-csd-2-7`` for the code ``csd(2,7)``."""
    code = Code.parse(recipe.code).name.replace("(", "-").replace(",", "-").removesuffix(")")
    return f"lenet5-{code}" + "-two-scales" * recipe.two_scales


def main() -> None:
    recipe = Recipe()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the MNIST idx files, plain or .gz")
    kinds: dict[str, Callable[[str], Any]] = {
        "code": str, "epochs": int, "seed": int, "vector": int, "activation_bits": int
    }  # fmt: skip
    for key, kind in kinds.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, default=getattr(recipe, key), help="%(default)s")
    parser.add_argument("--two-scales", action="store_true", help="levels of either sign have a scale of their own")
    parser.add_argument("--qualities", action="store_true", help="measure the accuracy at every quality too")
    parser.add_argument("-o", "--out", type=Path, help="default: lenet5-CODE.safetensors; a .json goes beside it")
    args = parser.parse_args()
    recipe = replace(recipe, two_scales=args.two_scales, **{key: getattr(args, key) for key in kinds})
    out = args.out or Path(f"{file_name(recipe)}.safetensors")
    torch.set_num_threads(1)
    start = time.time()
    data = load_mnist(args.data)
    teacher = read_lenet()

    at_once = {f"{bits} bits" if bits else "float": quantized(read_lenet(), data, recipe, bits) for bits in (0, 8)}
    model = quantized(read_lenet(), data, recipe, recipe.activation_bits)
    for bits, one in {**at_once, "fine-tuned": model}.items():
        held_out = accuracy(scores_of(one, as_float(data.held_out_images)), data.held_out_labels)
        print(f"without retraining, activations {bits}: held out {held_out:.2f} %", flush=True)
    fine_tune(model, teacher, data, recipe)

    network = to_network(model, out.stem)
    save(network, out)
    test = data.test_images, data.test_labels
    exact = integer_accuracy(network, *test)
    torch_says = accuracy(scores_of(model, as_float(test[0])), test[1])
    print(f"test {exact:.2f} % in integers, {torch_says:.2f} % in torch, {time.time() - start:.0f} s; wrote {out}")
    settings = " ".join(f"--{key.replace('_', '-')} {shlex.quote(str(getattr(recipe, key)))}" for key in kinds)
    settings += " --two-scales" * recipe.two_scales + " --qualities" * args.qualities
    record = {
        "command": f"python models/train_codes.py --data DIR {settings}",
        "data": "mnist",
        "test_accuracy": exact,
        "torch_accuracy": torch_says,
        "held_out_accuracy": accuracy(scores_of(model, as_float(data.held_out_images)), data.held_out_labels),
        "float_accuracy": accuracy(scores_of(teacher, as_float(test[0])), test[1]),
        "accuracy_without_retraining": {
            "float activations": accuracy(scores_of(at_once["float"], as_float(test[0])), test[1]),
            "uint8 activations": integer_accuracy(to_network(at_once["8 bits"], "at-once"), *test),
        },
        "weights": sum(part.weight.numel() for part in model if isinstance(part, Quantized)),
        "seconds": round(time.time() - start),
        "recipe": asdict(recipe),
    }
    if args.qualities:
        at_each = {quality: integer_accuracy(network, *test, quality) for quality in range(1, network.digits + 1)}
        record["accuracy_by_quality"] = at_each
    out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
