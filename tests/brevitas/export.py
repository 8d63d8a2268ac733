"""Convolutional networks as Brevitas exports them, small and untrained, for the tests of the importer.

``cnv-*`` are Brevitas' own CNV with fewer channels; ``lenet`` has biases and scaled weights; ``mobile-*`` are depthwise
separable, without an input quantizer, and end in a truncated or a requantized mean. All parameters are random. What the
exporter notes about itself is left out.

    pip install torch==2.13.0 brevitas==0.13.4 onnxoptimizer "onnx<1.23" qonnx==1.0.0
    python tests/brevitas/export.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("BREVITAS_JIT", "0")  # Brevitas cannot export a scripted model

import onnx
import torch
from brevitas import nn as qnn
from brevitas.export import export_qonnx
from brevitas_examples.bnn_pynq.models import CNV, model_with_cfg
from torch import Tensor, nn

HERE = Path(__file__).parent


class LeNet(nn.Module):
    def __init__(self, bits: int = 3) -> None:
        super().__init__()
        act = {"bit_width": bits, "return_quant_tensor": True}
        self.layers = nn.Sequential(
            qnn.QuantIdentity(bit_width=8, return_quant_tensor=True),
            qnn.QuantConv2d(1, 4, 5, weight_bit_width=bits, bias=True),
            qnn.QuantReLU(**act),
            nn.MaxPool2d(2),
            qnn.QuantConv2d(4, 6, 5, weight_bit_width=bits, bias=True, weight_scaling_per_output_channel=True),
            qnn.QuantReLU(**act),
            nn.MaxPool2d(2),
            nn.Flatten(),
            qnn.QuantLinear(96, 20, bias=True, weight_bit_width=bits),
            qnn.QuantReLU(**act),
            qnn.QuantLinear(20, 10, bias=True, weight_bit_width=bits),
        )

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)


class Mobile(nn.Module):
    def __init__(self, truncated: bool) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bits: int = 4) -> Any:
            conv = qnn.QuantConv2d(
                inputs,
                outputs,
                kernel,
                stride=stride,
                padding=kernel // 2,
                groups=groups,
                bias=False,
                weight_bit_width=bits,
                weight_scaling_per_output_channel=True,
            )
            return conv, nn.BatchNorm2d(outputs), qnn.QuantReLU(bit_width=4, return_quant_tensor=True)

        self.features = nn.Sequential(
            *block(3, 8, 3, stride=2, bits=8),
            *block(8, 8, 3, groups=8),
            *block(8, 16, 1),
            *block(16, 16, 3, stride=2, groups=16),
            *block(16, 16, 1),
        )
        self.pool = qnn.TruncAvgPool2d(4, stride=1, bit_width=4) if truncated else None
        self.requantize = qnn.QuantIdentity(bit_width=6, return_quant_tensor=True)
        self.classes = qnn.QuantLinear(16, 10, bias=True, weight_bit_width=4)

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        x = self.requantize(getattr(x, "value", x).mean((2, 3))) if self.pool is None else self.pool(x)
        return self.classes(torch.flatten(x, 1))


def export(model: nn.Module, name: str, *shape: int) -> None:
    """Random statistics, scales from random frames, then the file."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.2, 4)
            if module.affine:
                module.weight.data.normal_(0, 1)
                module.bias.data.normal_(0, 0.5)
    if not name.startswith("cnv"):
        model(torch.rand(20, *shape))
    model.eval()
    path = HERE / f"{name}.onnx"
    export_qonnx(model, torch.rand(1, *shape), export_path=str(path))
    exported = onnx.load(path)
    graph = exported.graph
    for part in (exported, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del exported.functions[:], graph.value_info[:]
    onnx.save(exported, path, save_as_external_data=False)
    path.with_suffix(".onnx.data").unlink(missing_ok=True)


if __name__ == "__main__":
    torch.manual_seed(1)
    CNV.CNV_OUT_CH_POOL = [(8, False), (8, True), (12, False), (12, True), (16, False), (16, False)]
    CNV.INTERMEDIATE_FC_FEATURES, CNV.LAST_FC_IN_FEATURES = [(16, 32), (32, 32)], 32
    for bits in ("1w1a", "2w2a"):
        export(model_with_cfg(f"cnv_{bits}", pretrained=False)[0], f"cnv-{bits}", 3, 32, 32)
    export(LeNet(), "lenet", 1, 28, 28)
    export(Mobile(truncated=True), "mobile-trunc", 3, 16, 16)
    export(Mobile(truncated=False), "mobile-mean", 3, 16, 16)
