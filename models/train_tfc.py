"""Train Brevitas' own TFC networks on MNIST and export them as QONNX.

The networks (784-64-64-64-10; W1A1, W1A2, W2A2) are those of ``brevitas_examples.bnn_pynq``,
unchanged; the larger SFC and LFC are FINN's (Umuroglu et al., FPGA 2017, arXiv 1612.07119). They are
test cases for the ONNX importer that this project did not define. The published accuracies are 93.17,
94.79 and 96.60 %.

The exported graph takes float images of shape (1, 1, 28, 28) in [0, 1] (pixel / 255); the scaling to
[-1, 1] and the input quantizer are part of the graph. "2 bit" means a signed *narrow* range: weights
and activations are -1, 0 or +1. All ten scores have one common scale (checked to be positive) and
offset, so neither affects the arg-max.

The training differs from that of the example: Adam with a cosine schedule, cross-entropy, images
shifted by up to a pixel, and no dropout, since networks of this size underfit. As in the example,
latent weights are clipped to [-1, 1] (BinaryNet, arXiv 1602.02830). The network after the last epoch
is exported. 5,000 training images are held out and were used to choose these settings; the test
images are used once, at the end, on the exported file, executed by qonnx.

    pip install . torch==2.13.0 brevitas==0.13.4 onnxoptimizer "onnx<1.23" qonnx==1.0.0
    python models/train_tfc.py --data mnist -o build
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("BREVITAS_JIT", "0")  # Brevitas cannot export a scripted model

import numpy as np
import torch
from brevitas.export import export_qonnx
from brevitas_examples.bnn_pynq.models import model_with_cfg
from brevitas_examples.bnn_pynq.models.FC import FC
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.models.script import options
from fewbit.models.training import Mnist, accuracy, fit, load_mnist, scores_of, shift

NETWORKS = {"tfc-w1a1": "TFC_1W1A", "tfc-w1a2": "TFC_1W2A", "tfc-w2a2": "TFC_2W2A"}


def takes(images: Tensor) -> Tensor:
    """Convert images to the network's input.  # (N, 28, 28) uint8 -> (N, 28, 28) float in [0, 1]"""
    return images.float() / 255


def train(model: FC, data: Mnist, args: argparse.Namespace) -> None:
    """Train ``model`` in place. Prints the held-out accuracy every tenth epoch."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = args.dropout

    def loss(_: int, index: Tensor) -> Tensor:
        return F.cross_entropy(model(takes(shift(data.train_images[index], args.shift))), data.train_labels[index])

    clip = partial(model.clip_weights, -1, 1)
    fit(model, data, loss, epochs=args.epochs, batch=args.batch, lr=args.lr, takes=takes, every=10, after_step=clip)


def qonnx_accuracy(path: Path, images: Tensor, labels: Tensor) -> float:
    """Accuracy in percent of the exported file, executed by qonnx in batches of 1,000."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.util.cleanup import cleanup_model

    model = cleanup_model(cleanup_model(ModelWrapper(str(path))).transform(ChangeBatchSize(1000)))
    source, sink = model.graph.input[0].name, model.graph.output[0].name
    right = 0
    for part, part_labels in zip(images.split(1000), labels.split(1000)):
        feed = {source: (part.numpy()[:, None] / np.float32(255)).astype(np.float32)}
        right += int((execute_onnx(model, feed)[sink].argmax(1) == part_labels.numpy()).sum())
    return 100 * right / len(images)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--network", choices=NETWORKS, action="append", help="default: all three")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--shift", type=int, default=1, help="pixels a training image may move")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, default=Path("."), help="folder for the .onnx files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_mnist(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.network or NETWORKS:
        torch.manual_seed(args.seed)
        start = time.time()
        print(name, flush=True)
        model, _ = model_with_cfg(NETWORKS[name], pretrained=False)
        train(model, data, args)
        model.eval()
        if model.features[-1].weight.item() <= 0:
            raise SystemExit(f"{name}: the scale of the scores must be positive, try another seed")
        path = args.out / f"{name}.onnx"
        export_qonnx(model, args=torch.zeros(1, 1, 28, 28), export_path=str(path), dynamo=False)
        exported = qonnx_accuracy(path, data.test_images, data.test_labels)
        torch_says = accuracy(scores_of(model, takes(data.test_images)), data.test_labels)
        print(f"  test {exported:.2f} % (qonnx), {torch_says:.2f} % (torch); {path.stat().st_size} bytes")
        command = f"python models/train_tfc.py --data DIR --network {name} --epochs {args.epochs} --seed {args.seed}"
        record = {
            "command": command,
            "test_accuracy": exported,
            "torch_accuracy": torch_says,
            "network": NETWORKS[name],
        }
        record |= {key: getattr(args, key) for key in ("epochs", "batch", "lr", "dropout", "shift", "seed")}
        record |= {"seconds": round(time.time() - start), "input": "float32 (1, 1, 28, 28), pixel / 255"}
        path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
