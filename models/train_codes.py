"""Fine-tune a float LeNet with weights of any code, and export it as integers.

A weight is ``scale * level``. The level is one of the code's; the scale has eight bits and is shared by a vector of
neighbouring weights along the inputs of an output. With two scales, positive and negative levels have one each
(Trained Ternary Quantization, Zhu et al., arXiv 1612.01064). A hidden activation is an unsigned integer. ReLU, bias
and requantization are folded into integer thresholds of each channel. The exported network computes

    acc = sum scale * level * x,    y = number of thresholds at or below acc

Method
    * Initial weights by the quantizer's ``nearest`` rule: alternately nearest levels and least-squares
      scales, with the scales in fixed point.
    * The step of each activation has the least squared error on training images.
    * Fine-tuning: straight-through gradients to the float weights; scales recomputed in each batch;
      distillation from the float network (Hinton et al., arXiv 1503.02531).

The script starts from a model of ``train_lenet.py``. The network after the last epoch is exported. 5,000
training images are held out and were used to choose the recipe; the test images are used once, at the
end, on the exported integer network. The record also has the accuracy without retraining and, with
``--qualities``, the accuracy at each quality, that is with at most so many canonic signed digits of each
scale and ``csd`` weight.

    pip install . torch==2.13.0
    python models/train_codes.py --data mnist --code shift3
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Flatten, Layer, Network, Pool, TensorType, Threshold
from fewbit.golden.quantizers.fixed_point import fixed_point
from fewbit.golden.quantizers.rules import quantize
from fewbit.golden.quantizers.weight_vectors import WeightVectors
from fewbit.models import floats
from fewbit.models.script import options, start
from fewbit.models.train_lenet import PRESETS, make_lenet
from fewbit.models.training import (
    Level,
    Mnist,
    accuracy,
    as_float,
    fit,
    fold_affine,
    held_out_accuracy,
    integer_accuracy,
    scores_of,
    shift,
)

SCALE_BITS = 8
TINY = 1e-12
"""Replaces a scale of 0, which a vector has if it has no weight of that sign."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Parameters of quantization and fine-tuning."""

    code: str = "shift3"
    two_scales: bool = False  # one scale for positive and one for negative levels, as in Trained Ternary Quantization
    vector: int = 16  # weights that share a scale
    activation_bits: int = 3
    epochs: int = 8
    batch: int = 128
    lr: float = 1e-3
    distill: float = 0.5  # weight of the float network's scores in the loss
    shift: int = 1  # largest random shift of a training image, in pixels
    seed: int = 1


class Quantized(nn.Module):
    """A layer of the float network whose weights are quantized: levels of the code times fixed-point scales."""

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
        """The float weights as a matrix (outputs, inputs), channels last."""
        weight = self.weight
        return (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).flatten(1)

    def vectors(self) -> Tensor:
        """The float weights cut into vectors along the inputs, padded with zeros at the end.  # (outputs * V, N)"""
        return F.pad(self.rows(), self.padding()).reshape(-1, self.vector)

    def padding(self) -> tuple[int, int]:
        """Zeros before and after the inputs of an output that fill the last vector."""
        return 0, -self.weight[0].numel() % self.vector

    def each(self, vectors: Tensor, scales: Tensor) -> Tensor:
        """The scale of every weight.  # (outputs * V, N), (1 or 2, outputs * V) -> (outputs * V, N or 1)"""
        if len(scales) == 1:
            return scales[0][:, None]
        return torch.where(vectors < 0, scales[1][:, None], scales[0][:, None])

    def nearest(self, ratio: Tensor) -> Tensor:
        """The nearest level to each ``ratio`` of weight to scale; of two equally near levels, the one nearer to 0."""
        down, up = (torch.bucketize(ratio, self.middles, right=right) for right in (False, True))
        return self.levels[torch.where(ratio > 0, down, up)]

    def refine(self) -> None:
        """Update the scales: choose levels with the current scales, then the least-squares scales for these levels."""
        vectors = self.vectors()
        levels = self.nearest(vectors / self.each(vectors, self.scales)) * self.real
        projection, energy = vectors * levels, levels * levels
        signs = [1.0] if len(self.scales) == 1 else [vectors >= 0, vectors < 0]
        products = torch.stack([(projection * sign).sum(1) for sign in signs])
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
        """Arrange vectors as weights of the layer's shape, the inverse of :meth:`vectors`."""
        weight = self.weight
        rows = vectors.reshape(len(weight), -1)[:, : weight[0].numel()]
        if weight.dim() == 2:
            return rows
        outputs, channels, height, width = weight.shape
        return rows.reshape(outputs, height, width, channels).permute(0, 3, 1, 2)

    @torch.no_grad()
    def reals(self) -> Tensor:
        """The quantized weights as real numbers, in the layer's shape."""
        levels, scales, step = self.integers()
        return self.unpack(levels * self.each(levels, scales) * step)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.refine()
        weight = self.weight + (self.reals() - self.weight).detach()  # straight-through gradient
        if isinstance(self.layer, nn.Conv2d):
            return F.conv2d(x, weight, self.bias, padding=self.layer.padding)
        return F.linear(x, weight, self.bias)


class ChannelsLast(nn.Module):
    """Flattens maps in the order in which the hardware streams them: row by row, channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Activation(nn.Module):
    """ReLU whose result is ``step`` times an unsigned integer of ``bits`` bits; a plain ReLU until it is calibrated."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.top = (1 << bits) - 1
        self.step = 0.0

    def calibrate(self, x: Tensor) -> None:
        """Set the step to the one with the least squared error on the positive part of ``x``."""
        x = x.clamp(min=0).flatten()
        steps = [float(x.max()) / self.top * part / 40 for part in range(4, 41)]
        errors = [float((Level.apply(x / step, self.top) * step - x).square().sum()) for step in steps]
        self.step = steps[int(np.argmin(errors))]

    def forward(self, x: Tensor) -> Tensor:
        return Level.apply(x / self.step, self.top) * self.step if self.step else x.clamp(min=0)


def read_lenet(path: Path) -> nn.Sequential:
    """Read a float network of ``train_lenet.py``, and reorder it so that maps are flattened channels last.

    The vectors of weights that share a scale are then in the order in which the hardware streams the inputs.
    """
    network = make_lenet(PRESETS[path.stem])
    stored = onnx.load(path).graph.initializer
    with torch.no_grad():
        for parameter, tensor in zip(network.parameters(), stored, strict=True):
            parameter.copy_(torch.from_numpy(numpy_helper.to_array(tensor).copy()))
        at = next(index for index, part in enumerate(network) if isinstance(part, nn.Flatten))
        channels = next(part.out_channels for part in reversed(network[:at]) if isinstance(part, nn.Conv2d))
        network[at] = ChannelsLast()
        weight = next(part for part in network[at:] if isinstance(part, nn.Linear)).weight
        weight.copy_(weight.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1))
    return network.eval()


def quantized(model: nn.Sequential, data: Mnist, recipe: Recipe, bits: int) -> nn.Sequential:
    """Copy of the float model with quantized weights and, unless ``bits`` is 0, with activations of ``bits`` bits."""
    network = nn.Sequential(
        *(
            Quantized(layer, recipe) if isinstance(layer, (nn.Conv2d, nn.Linear))
            else Activation(bits) if isinstance(layer, nn.ReLU) and bits
            else layer
            for layer in model
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        x = as_float(data.train_images[:1000])
        for layer in network:
            if isinstance(layer, Activation):
                layer.calibrate(x)
            x = layer(x)
    return network


def fine_tune(model: nn.Sequential, teacher: nn.Module, data: Mnist, recipe: Recipe) -> None:
    """Train ``model`` in place, with ``teacher`` for distillation. Prints the held-out accuracy every third epoch."""
    torch.manual_seed(recipe.seed)

    def loss(_: int, index: Tensor) -> Tensor:
        images = as_float(shift(data.train_images[index], recipe.shift))
        scores = model(images)
        with torch.no_grad():
            teacher_shares = F.softmax(teacher(images), 1)
        value = (1 - recipe.distill) * F.cross_entropy(scores, data.train_labels[index])
        return value + recipe.distill * F.cross_entropy(scores, teacher_shares)

    fit(model, data, loss, epochs=recipe.epochs, batch=recipe.batch, lr=recipe.lr, every=3)


def to_network(model: nn.Sequential, name: str) -> Network:
    """Convert the quantized model to an integer network with uint8 pixels as input and the class index as output."""
    kind, step = DType("uint", 8), 1 / 255
    layers: list[Layer] = []
    parts = list(model)
    number = count(1)
    for index, part in enumerate(parts):
        if isinstance(part, Quantized):
            levels, scales, unit = part.integers()
            rows = len(part.weight)
            shared = [scale.view(rows, -1).numpy().astype(np.int64) for scale in scales]
            common = {
                "weights": part.unpack(levels).numpy().astype(np.int64),
                "code": part.code,
                "scales": shared[0],
                "negative_scales": shared[1] if len(shared) == 2 else None,
                "vector": min(part.vector, part.weight[0].numel()),
            }
            linear: Conv | Dense
            if isinstance(part.layer, nn.Conv2d):
                rows, columns = (int(extent) for extent in part.layer.padding)
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
            boundaries = (np.arange(following.top) + 0.5) * following.step
            thresholds, sign = fold_affine(np.full(len(bias), unit * step), bias, boundaries, low, high)
            kind, step = DType("uint", following.top.bit_length()), following.step
            layers.append(Threshold(name=f"act{linear.name[-1]}", thresholds=thresholds, sign=sign, dtype=kind, base=0))
        elif isinstance(part, nn.MaxPool2d):
            layers.append(Pool(name=f"pool{layers[-1].name[-1]}", mode="max", kernel=(2, 2), stride=(2, 2)))
        elif isinstance(part, ChannelsLast):
            layers.append(Flatten(name="flatten", channels_last=True))
    return Network(name=name, input=TensorType(DType("uint", 8), (1, 28, 28)), layers=tuple(layers))


def file_name(source: str, recipe: Recipe) -> str:
    """Name of the exported network, such as ``lenet5-csd-2-5`` for the code ``csd(2,5)``.

    If the activation width is not the default, it is appended, as in ``-a8``.
    """
    code = Code.parse(recipe.code).name.replace("(", "-").replace(",", "-").removesuffix(")")
    width = f"-a{recipe.activation_bits}" if recipe.activation_bits != Recipe().activation_bits else ""
    return f"{source}-{code}" + "-two-scales" * recipe.two_scales + width


def main() -> None:
    usual = Recipe()
    parser = options(__doc__)
    parser.add_argument("--model", default="lenet5", help="lenet5, or an .onnx by train_lenet.py")
    option_types: dict[str, Callable[[str], Any]] = {
        "code": str, "epochs": int, "seed": int, "vector": int, "activation_bits": int
    }  # fmt: skip
    for key, kind in option_types.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, default=getattr(usual, key), help="%(default)s")
    parser.add_argument("--two-scales", action="store_true", help="levels of either sign have a scale of their own")
    parser.add_argument("--qualities", action="store_true", help="measure the accuracy at every quality too")
    parser.add_argument("-o", "--out", type=Path, help="default: MODEL-CODE.safetensors; a .json goes beside it")
    args = parser.parse_args()
    source = floats().get(args.model, Path(args.model))
    recipe = replace(usual, two_scales=args.two_scales, **{key: getattr(args, key) for key in option_types})
    model_name = args.model if args.model in floats() else source.name
    words = ["--model", model_name] if args.model != parser.get_default("model") else []
    words += [word for key in option_types for word in (f"--{key.replace('_', '-')}", str(getattr(recipe, key)))]
    words += ["--two-scales"] * recipe.two_scales + ["--qualities"] * args.qualities
    out = args.out or Path(f"{file_name(source.stem, recipe)}.safetensors")
    job = start(args.data, out, f"python models/train_codes.py --data DIR {shlex.join(words)}")
    data, test = job.data, (job.data.test_images, job.data.test_labels)
    teacher = read_lenet(source)

    at_once = {bits: quantized(read_lenet(source), data, recipe, bits) for bits in (0, 8)}
    model = quantized(read_lenet(source), data, recipe, recipe.activation_bits)
    for bits, quantized_model in {**at_once, recipe.activation_bits: model}.items():
        width = f"of {bits} bits" if bits else "in float"
        print(
            f"without retraining, activations {width}: held out {held_out_accuracy(quantized_model, data):.2f} %",
            flush=True,
        )
    without_retraining = {
        "float activations": accuracy(scores_of(at_once[0], as_float(test[0])), test[1]),
        "uint8 activations": integer_accuracy(to_network(at_once[8], "at-once"), *test),
    }
    fine_tune(model, teacher, data, recipe)
    network = to_network(model, out.stem)
    facts = {"data": "mnist", **job.export(network, model, as_float)}
    facts["float_accuracy"] = accuracy(scores_of(teacher, as_float(test[0])), test[1])
    facts["accuracy_without_retraining"] = without_retraining
    if args.qualities:
        at_each = {quality: integer_accuracy(network, *test, quality) for quality in range(1, network.digits + 1)}
        facts["accuracy_by_quality"] = at_each
    facts["weights"] = sum(part.weight.numel() for part in model if isinstance(part, Quantized))
    job.write(recipe, facts)


if __name__ == "__main__":
    main()
