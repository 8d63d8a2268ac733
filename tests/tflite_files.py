"""Writes small TensorFlow Lite files, an operator at a time, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite

VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "RESHAPE": 1, "EXP": 1, "COS": 1}
"""Of operators that have int8 kernels in another version than 2."""

KINDS = {"int8": "INT8", "int16": "INT16", "int32": "INT32", "uint8": "UINT8", "float32": "FLOAT32"}


@dataclass
class TfliteBuilder:
    """A model that is put together: tensors and operators by number."""

    tensors: list[dict[str, Any]] = field(default_factory=list)
    operators: list[dict[str, Any]] = field(default_factory=list)

    def tensor(self, shape: Sequence[int], kind: str = "int8", scale: Any = (), zero: Any = 0, axis: int = 0,
               values: Any = None) -> int:  # fmt: skip
        """A tensor, constant if it has ``values``; its number."""
        scale = np.atleast_1d(np.asarray(scale, np.float32))
        self.tensors.append({
            "shape": list(shape), "kind": kind, "scale": scale, "axis": axis, "values": values,
            "zero": np.resize(np.asarray(zero, np.int64), scale.size),
        })  # fmt: skip
        return len(self.tensors) - 1

    def constant(self, values: Any, scale: Any = (), axis: int = 0) -> int:
        return self.tensor(values.shape, str(values.dtype), scale, 0, axis, values)

    def operator(self, name: str, inputs: Sequence[int], output: int, options: str = "", **fields: Any) -> int:
        """An operator with the ``fields`` of its record of ``options``; the number of its output."""
        self.operators.append({
            "name": name, "inputs": list(inputs), "outputs": [output], "options": options, "fields": fields,
        })  # fmt: skip
        return output

    def save(self, path: Path, inputs: Sequence[int], outputs: Sequence[int]) -> Path:
        path.write_bytes(_content(self, inputs, outputs))
        return path


def _content(made: TfliteBuilder, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
    b = flatbuffers.Builder(1024)

    def vector(offsets: Sequence[int]) -> int:
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return b.EndVector()

    def numbers(values: Any, dtype: Any = np.int32) -> int:
        return b.CreateNumpyVector(np.asarray(values, dtype))

    buffers = []
    for data in [b"", *(b"" if one["values"] is None else np.asarray(one["values"]).tobytes() for one in made.tensors)]:
        content = b.CreateByteVector(data) if data else None
        tflite.BufferStart(b)
        if content is not None:
            tflite.BufferAddData(b, content)
        buffers.append(tflite.BufferEnd(b))
    tensors = []
    for number, one in enumerate(made.tensors):
        shape, name = numbers(one["shape"]), b.CreateString(f"t{number}")
        quantization = None
        if one["scale"].size:
            scale, zero = numbers(one["scale"], np.float32), numbers(one["zero"], np.int64)
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scale)
            tflite.QuantizationParametersAddZeroPoint(b, zero)
            tflite.QuantizationParametersAddQuantizedDimension(b, one["axis"])
            quantization = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, getattr(tflite.TensorType, KINDS[one["kind"]]))
        tflite.TensorAddBuffer(b, number + 1)
        tflite.TensorAddName(b, name)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        tensors.append(tflite.TensorEnd(b))
    codes, operators = [], []
    for number, one in enumerate(made.operators):
        code = getattr(tflite.BuiltinOperator, one["name"])
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
        tflite.OperatorCodeAddBuiltinCode(b, code)
        tflite.OperatorCodeAddVersion(b, VERSIONS.get(one["name"], 2))
        codes.append(tflite.OperatorCodeEnd(b))
        options, names = None, one["options"]
        if names:
            getattr(tflite, f"{names}Start")(b)
            for key, value in one["fields"].items():
                getattr(tflite, f"{names}Add{key}")(b, value)
            options = getattr(tflite, f"{names}End")(b)
        ins, outs = numbers(one["inputs"]), numbers(one["outputs"])
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, number)
        tflite.OperatorAddInputs(b, ins)
        tflite.OperatorAddOutputs(b, outs)
        if options is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, names))
            tflite.OperatorAddBuiltinOptions(b, options)
        operators.append(tflite.OperatorEnd(b))
    parts = vector(tensors), numbers(inputs), numbers(outputs), vector(operators)
    tflite.SubGraphStart(b)
    for add, part in zip(
        (tflite.SubGraphAddTensors, tflite.SubGraphAddInputs, tflite.SubGraphAddOutputs, tflite.SubGraphAddOperators),
        parts,
    ):
        add(b, part)
    graphs = vector([tflite.SubGraphEnd(b)])
    code_vector, buffer_vector, text = vector(codes), vector(buffers), b.CreateString("test")
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, code_vector)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddDescription(b, text)
    tflite.ModelAddBuffers(b, buffer_vector)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())
