"""Quantized ONNX networks as onnxruntime's quantizer writes them: files for the tests of the importer.

The float networks are the LeNet that comes with fewbit and a small residual network, whose convolutions are random
and whose last layer is fitted to images by least squares. Static quantization is calibrated on test images of MNIST.

    pip install fewbit[test]
    python tests/qdq/make.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fewbit import arrays, models

HERE = Path(__file__).parent
CALIBRATION = 60
"""Images that set the scales of activations."""

KINDS: dict[str, dict[str, Any]] = {
    "lenet-int8": {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}},
    "lenet-uint8": {"activation_type": QuantType.QUInt8},
    "lenet-int4": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt4},
    "lenet-int16": {"activation_type": QuantType.QInt16, "extra_options": {"ActivationSymmetric": True}},
    "resnet-uint8": {"activation_type": QuantType.QUInt8},
    "resnet-channels": {"activation_type": QuantType.QInt8, "per_channel": True},
    "lenet-uint8-operators": {"activation_type": QuantType.QUInt8, "quant_format": QuantFormat.QOperator},
    "resnet-channels-operators": {
        "activation_type": QuantType.QInt8, "per_channel": True, "quant_format": QuantFormat.QOperator,
    },
}  # fmt: skip
"""Options of the quantizer by the name of the file, which begins with the name of the network."""


class Images(CalibrationDataReader):
    """The calibration images, one after another."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"input": image[None]}


def images(count: int) -> np.ndarray:
    """Test images of MNIST as float32 from 0 to 1.  # (count, 1, 28, 28)"""
    pixels = arrays.read(models.TEST_IMAGES)[:count]
    return np.asarray(pixels[:, None] / np.float32(255), np.float32)


def resnet() -> onnx.ModelProto:
    """A residual network: a convolution, a maximum, two blocks, the mean of each channel, and a dense layer."""
    rng = np.random.default_rng(5)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(x: str, name: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        spread = np.sqrt(2 / (inputs * kernel * kernel))
        weights = rng.normal(0, spread, (outputs, inputs, kernel, kernel))
        parameters = [constant(f"{name}.weight", weights), constant(f"{name}.bias", rng.normal(0, 0.1, outputs))]
        pads = [kernel // 2] * 4
        return node(
            "Conv", [x, *parameters], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads
        )  # fmt: skip

    def block(x: str, name: str, inputs: int, outputs: int, stride: int) -> str:
        inner = node("Relu", [conv(x, f"{name}.first", inputs, outputs, 3, stride)], f"{name}.inner")
        total = conv(inner, f"{name}.second", outputs, outputs, 3, 1)
        around = x if inputs == outputs else conv(x, f"{name}.around", inputs, outputs, 1, stride)
        return node("Relu", [node("Add", [total, around], f"{name}.sum")], f"{name}.output")

    x = node("Relu", [conv("input", "conv", 1, 8, 3, 2)], "relu")
    x = node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = block(block(x, "block1", 8, 8, 1), "block2", 8, 16, 2)
    x = node("Flatten", [node("GlobalAveragePool", [x], "mean")], "features")

    def model(output: str, size: int) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in (("input", [1, 1, 28, 28]), (output, [1, size]))]  # fmt: skip
        graph = helper.make_graph(nodes, "resnet", ends[:1], ends[1:], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    session = onnxruntime.InferenceSession(model(x, 16).SerializeToString())
    labels = arrays.read(models.TEST_LABELS)[:2000]
    features = np.concatenate([session.run(None, {"input": image[None]})[0] for image in images(2000)])
    fitted = np.linalg.lstsq(np.c_[features, np.ones(2000)], np.eye(10)[labels], rcond=None)[0].astype(np.float32)
    parameters = [constant("dense.weight", fitted[:-1].T), constant("dense.bias", fitted[-1])]
    return model(node("Gemm", [x, *parameters], "scores", transB=1), 10)


def main() -> None:
    """Write every file."""
    networks = {"lenet": onnx.load(models.FOLDER / "lenet5.onnx"), "resnet": resnet()}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        for name, options in KINDS.items():
            model = networks[name.split("-")[0]]
            if "int4" in name or "int16" in name:  # ONNX has quantizers of these types from there on
                model = version_converter.convert_version(model, 21)
            onnx.save(model, source)
            quantize_static(source, HERE / f"{name}.onnx", Images(images(CALIBRATION)), **options)


if __name__ == "__main__":
    main()
