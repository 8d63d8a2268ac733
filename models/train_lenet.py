"""Train float LeNets on MNIST and export them as plain ONNX: the models that the quantizer starts from.

``lenet5``
    LeCun et al. (Proc. IEEE 1998) in its usual modern form: convolutions of 6 and 16 filters of 5x5, the
    first padded by 2, each with ReLU and max pooling by 2, then 120, 84 and 10 outputs; 61,470 weights.
``lenet-caffe``
    The one that comes with Caffe: 20 and 50 filters, then 500 and 10 outputs; 430,500 weights. Here
    every layer but the last has a ReLU.

The graph takes float images of shape (1, 1, 28, 28) in [0, 1] (pixel / 255) and gives ten scores.
Nothing but Conv, Relu, MaxPool, Flatten and Gemm is in it. Each batch is moved by up to a pixel,
the step is one-cycle, and the last epoch is exported. 5,000 training images are held out, to choose
these settings; the test images are used once, at the end, on the exported file, executed by
onnxruntime. Only ``lenet5`` is shipped.

    pip install . torch==2.13.0 onnxruntime
    python models/train_lenet.py lenet5 --data mnist
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from fewbit.models.training import CLASSES, Mnist, accuracy, as_float, load_mnist, scores_of, shift


@dataclass(frozen=True, kw_only=True)
class LeNet:
    """One network and how it is trained."""

    filters: tuple[int, int]
    padding: int  # of the first convolution
    hidden: tuple[int, ...]
    epochs: int
    batch: int = 128
    lr: float = 4e-3
    shift: int = 1  # pixels a training image may move
    seed: int = 1


PRESETS = {
    "lenet5": LeNet(filters=(6, 16), padding=2, hidden=(120, 84), epochs=20),
    "lenet-caffe": LeNet(filters=(20, 50), padding=0, hidden=(500,), epochs=10),
}


def make_lenet(recipe: LeNet) -> nn.Sequential:
    """Takes what ``as_float`` gives."""
    first, second = recipe.filters
    side = ((28 + 2 * recipe.padding - 4) // 2 - 4) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(1, first, 5, padding=recipe.padding), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
    ]  # fmt: skip
    inputs = second * side * side
    for outputs in recipe.hidden:
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, CLASSES))


def train(model: nn.Module, data: Mnist, recipe: LeNet) -> None:
    """Train in place; prints the held-out accuracy every fifth epoch."""
    batches = len(data.train_images) // recipe.batch + 1
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.epochs * batches)
    for epoch in range(recipe.epochs):
        model.train()
        for index in torch.randperm(len(data.train_images)).split(recipe.batch):
            scores = model(as_float(shift(data.train_images[index], recipe.shift)))
            loss = F.cross_entropy(scores, data.train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 5 == 4 or epoch == recipe.epochs - 1:
            held_out = accuracy(scores_of(model, as_float(data.held_out_images)), data.held_out_labels)
            print(f"epoch {epoch + 1}: loss {loss.item():.3f}, held out {held_out:.2f} %", flush=True)


def to_onnx(model: nn.Sequential, name: str) -> onnx.ModelProto:
    """The trained model as a graph of five operators."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def node(kind: str, parameters: dict[str, torch.Tensor], **attributes: Any) -> None:
        number = len(nodes)
        own = [
            numpy_helper.from_array(value.detach().numpy(), f"{kind.lower()}{number}.{key}")
            for key, value in parameters.items()
        ]
        tensors.extend(own)
        inputs = [nodes[-1].output[0] if nodes else "input", *(one.name for one in own)]
        output = "scores" if number == len(model) - 1 else f"{kind.lower()}{number}.output"
        nodes.append(helper.make_node(kind, inputs, [output], f"{kind.lower()}{number}", **attributes))

    for layer in model:
        if isinstance(layer, nn.Conv2d):
            node("Conv", dict(layer.named_parameters()), kernel_shape=[5, 5], pads=list(layer.padding * 2))
        elif isinstance(layer, nn.MaxPool2d):
            node("MaxPool", {}, kernel_shape=[2, 2], strides=[2, 2])
        elif isinstance(layer, nn.Linear):
            node("Gemm", dict(layer.named_parameters()), transB=1)
        else:
            node({nn.ReLU: "Relu", nn.Flatten: "Flatten"}[type(layer)], {})
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 28, 28])
    sink = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])
    graph = helper.make_graph(nodes, name, [source], [sink], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="fewbit")
    onnx.checker.check_model(made, full_check=True)
    return made


def onnx_accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Percent of ``images`` (N, 28, 28) uint8 that the file puts in the right class, by onnxruntime."""
    import onnxruntime

    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"input": images[:, None].astype(np.float32) / np.float32(255)})
    return 100 * float((scores.argmax(1) == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--data", type=Path, required=True, help="folder with the MNIST idx files, plain or .gz")
    parser.add_argument("--epochs", type=int, help="default: the preset's")
    parser.add_argument("--seed", type=int, help="default: the preset's")
    parser.add_argument("-o", "--out", type=Path, help="default: PRESET.onnx; a .json goes beside it")
    args = parser.parse_args()
    changes = {key: getattr(args, key) for key in ("epochs", "seed") if getattr(args, key) is not None}
    recipe = replace(PRESETS[args.preset], **changes)
    path = args.out or Path(f"{args.preset}.onnx")
    torch.set_num_threads(1)
    start = time.time()
    data = load_mnist(args.data)
    torch.manual_seed(recipe.seed)
    model = make_lenet(recipe)
    train(model, data, recipe)
    model.eval()
    path.write_bytes(to_onnx(model, args.preset).SerializeToString())
    exported = onnx_accuracy(path, data.test_images.numpy(), data.test_labels.numpy())
    torch_says = accuracy(scores_of(model, as_float(data.test_images)), data.test_labels)
    print(f"test {exported:.2f} % (onnxruntime), {torch_says:.2f} % (torch), {time.time() - start:.0f} s; wrote {path}")
    settings = f"--epochs {recipe.epochs} --seed {recipe.seed}"
    record = {
        "command": f"python models/train_lenet.py {args.preset} --data DIR {settings}",
        "data": "mnist",
        "kind": "float",
        "test_accuracy": exported,
        "torch_accuracy": torch_says,
        "held_out_accuracy": accuracy(scores_of(model, as_float(data.held_out_images)), data.held_out_labels),
        "weights": sum(value.numel() for value in model.parameters() if value.dim() > 1),
        "seconds": round(time.time() - start),
        "input": "float32 (1, 1, 28, 28), pixel / 255",
        "recipe": asdict(recipe),
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
