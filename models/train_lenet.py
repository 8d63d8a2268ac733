"""Train float LeNets on MNIST and export them as plain ONNX, as input for the quantizer.

``lenet5``
    LeCun et al. (Proc. IEEE 1998) in its usual modern form: convolutions of 6 and 16 filters of 5x5, the
    first padded by 2, each with ReLU and max pooling by 2, then 120, 84 and 10 outputs; 61,470 weights.
``lenet-caffe``
    The LeNet that comes with Caffe: 20 and 50 filters, then 500 and 10 outputs; 430,500 weights. Here
    every layer but the last has a ReLU.

The graph takes float images of shape (1, 1, 28, 28) in [0, 1] (pixel / 255) and gives ten scores.
It uses only the operators Conv, Relu, MaxPool, Flatten and Gemm. Training images are shifted at random
by up to a pixel, the learning rate follows a one-cycle schedule, and the network after the last epoch is
exported. 5,000 training images are held out and were used to choose these settings; the test images are
used once, at the end, on the exported file, executed by onnxruntime. ``lenet5`` comes with fewbit as a
float model, ``lenet-caffe`` only with 3-bit weights (``train_codes.py``).

    pip install . torch==2.13.0 onnxruntime
    python models/train_lenet.py lenet5 --data mnist
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.models.script import preset_job
from fewbit.models.training import CLASSES, Mnist, as_float, fit, shift


@dataclass(frozen=True, kw_only=True)
class LeNet:
    """A LeNet and its training parameters."""

    filters: tuple[int, int]
    padding: int  # of the first convolution
    hidden: tuple[int, ...]
    epochs: int
    batch: int = 128
    lr: float = 4e-3
    shift: int = 1  # largest random shift of a training image, in pixels
    seed: int = 1


PRESETS = {
    "lenet5": LeNet(filters=(6, 16), padding=2, hidden=(120, 84), epochs=20),
    "lenet-caffe": LeNet(filters=(20, 50), padding=0, hidden=(500,), epochs=10),
}


def make_lenet(recipe: LeNet) -> nn.Sequential:
    """Untrained network. Its input is (N, 1, 28, 28) floats in [0, 1], as :func:`as_float` gives them."""
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
    """Train ``model`` in place. Prints the held-out accuracy every fifth epoch."""

    def loss(_: int, index: Tensor) -> Tensor:
        scores = model(as_float(shift(data.train_images[index], recipe.shift)))
        return F.cross_entropy(scores, data.train_labels[index])

    fit(model, data, loss, epochs=recipe.epochs, batch=recipe.batch, lr=recipe.lr, one_cycle=True, every=5)


def to_onnx(model: nn.Sequential, name: str) -> onnx.ModelProto:
    """Convert the trained model to an ONNX graph."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def node(kind: str, parameters: dict[str, torch.Tensor], **attributes: Any) -> None:
        number = len(nodes)
        parameter_tensors = [
            numpy_helper.from_array(value.detach().numpy(), f"{kind.lower()}{number}.{key}")
            for key, value in parameters.items()
        ]
        tensors.extend(parameter_tensors)
        inputs = [nodes[-1].output[0] if nodes else "input", *(tensor.name for tensor in parameter_tensors)]
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
    onnx_model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="fewbit"
    )
    onnx.checker.check_model(onnx_model, full_check=True)
    return onnx_model


def onnx_accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy in percent of the ONNX file on ``images`` (N, 28, 28) uint8, computed by onnxruntime."""
    import onnxruntime

    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"input": images[:, None].astype(np.float32) / np.float32(255)})
    return 100 * float((scores.argmax(1) == labels).mean())


def main() -> None:
    preset, recipe, job = preset_job("train_lenet.py", __doc__, PRESETS, suffix=".onnx")
    torch.manual_seed(recipe.seed)
    model = make_lenet(recipe)
    train(model, job.data, recipe)
    job.out.write_bytes(to_onnx(model, preset).SerializeToString())
    exported = onnx_accuracy(job.out, job.data.test_images.numpy(), job.data.test_labels.numpy())
    facts = {"data": "mnist", "kind": "float", "test_accuracy": exported}
    facts |= job.measured(model, as_float, f"test {exported:.2f} % by onnxruntime")
    facts["weights"] = sum(value.numel() for value in model.parameters() if value.dim() > 1)
    facts["input"] = "float32 (1, 1, 28, 28), pixel / 255"
    job.write(recipe, facts)


if __name__ == "__main__":
    main()
