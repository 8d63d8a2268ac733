"""Reads a quantized TensorFlow Lite model as an integer network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network, Threshold
from fewbit.importers.lowering.builder import Builder
from fewbit.importers.lowering.tensor import Tensor
from fewbit.importers.obstacles import Obstacles
from fewbit.importers.onnx_graph import Refusal
from fewbit.importers.tflite import model as file
from fewbit.importers.tflite.operators import OPERATORS, Call, curve_of, ends, lowered


def load(path: Path) -> Network:
    """The network in the TensorFlow Lite file ``path``; its integers are those of the reference kernels.

    Inputs are the integers of the file's input tensor. Scores are those in front of a final softmax.

    Raises
    ------
    FewbitError
        If the file cannot be read, or an operator is not supported: the message names each one that is not.
    """
    model = file.read(path)
    try:
        return _walk(model, path)
    except Obstacles:
        raise
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None


def _walk(model: file.Model, path: Path) -> Network:
    obstacles = [
        f"{label(operator, model)}: this operator is not supported"
        for operator in model.operators
        if operator.name not in OPERATORS
    ]
    if obstacles:
        raise Obstacles(str(path), obstacles)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise FewbitError(f"has {len(model.inputs)} inputs and {len(model.outputs)} outputs; one of each is supported")
    source = model.tensors[model.inputs[0]]
    low, high = ends(source)
    kind = DType("uint", 8) if source.kind == "UINT8" else DType("int", (high - low).bit_length())
    frame = _frame(source)
    tensor = Tensor.source((1, *frame), kind, curve_of(source))
    builder = Builder(tensor)
    active = {model.inputs[0]: _centred(builder, tensor, source)}
    for operator in model.operators:
        try:
            active[operator.outputs[0]] = lowered(Call(builder, model, operator, active))
        except FewbitError as error:
            raise FewbitError(f"{label(operator, model)}: {error}") from None
    if model.outputs[0] not in active:
        raise FewbitError("its output does not depend on its input")
    result = active[model.outputs[0]]
    network = builder.network(path.stem, replace(result, shape=(1, *result.frame)))
    if len(source.shape) == 4:  # the file's order is channels last
        network = replace(network, input_shape=source.shape[1:], input_order=(2, 0, 1))
    if any(operator.name == "SOFTMAX" and operator.outputs == model.outputs for operator in model.operators):
        network = replace(network, output_function="softmax")
    return network


def label(operator: file.Operator, model: file.Model) -> str:
    """What a message calls an operator: its place, its kind and the tensor that it gives."""
    gives = f" ({model.tensors[operator.outputs[0]].name!r})" if operator.outputs else ""
    return f"operator {operator.place} {operator.name}{gives}"


def _frame(source: file.Tensor) -> tuple[int, ...]:
    """Shape of a frame of the network, channels first."""
    if source.shape[:1] != (1,):
        raise FewbitError(f"input {source.name!r}: has the shape {source.shape}; export the model for a batch of 1")
    if len(source.shape) == 4:
        height, width, channels = source.shape[1:]
        return channels, height, width
    if len(source.shape) == 2:
        return source.shape[1:]
    raise Refusal(f"input {source.name!r}: has the shape {source.shape}; (1, n) and (1, height, width, channels) are "
                  "supported")  # fmt: skip


def _centred(builder: Builder, tensor: Tensor, source: file.Tensor) -> Tensor:
    """The input less its zero point."""
    zero = int(source.zero[0])
    if zero == 0:
        return tensor
    low, high = ends(source)
    kind = DType.spanning(low - zero, high - zero)
    layer = Threshold(
        name=builder.name(Threshold), thresholds=np.arange(low + 1, high + 1)[None], sign=np.array([1]), dtype=kind,
        base=low - zero,
    )  # fmt: skip
    return builder.add(layer, tensor, curve=curve_of(source), chain=None, quantized=True)
