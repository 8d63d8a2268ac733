"""A TensorFlow Lite file as plain records: its tensors and operators."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.golden.budget import Budget, check_shape
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.importers.content import content_of

IDENTIFIER = b"TFL3"

_STRIDES = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_DILATION = ("DilationHFactor", "DilationWFactor")
RECORDS: dict[str, tuple[str, ...]] = {
    "AddOptions": ("FusedActivationFunction",),
    "ConcatenationOptions": ("Axis", "FusedActivationFunction"),
    "Conv2DOptions": (*_STRIDES, *_DILATION),
    "DepthwiseConv2DOptions": (*_STRIDES, *_DILATION),
    "FullyConnectedOptions": ("FusedActivationFunction", "WeightsFormat"),
    "Pool2DOptions": (*_STRIDES, "FilterHeight", "FilterWidth"),
    "ReducerOptions": ("KeepDims",),
    "SoftmaxOptions": ("Beta",),
}
"""The options that are read, by their record."""

_DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError, UnicodeDecodeError)
"""What the flat buffer package raises on offsets and lengths that lead out of the file."""

_MOST = 100_000
"""Operators, tensors or inputs in a file at most."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of the file.

    Attributes
    ----------
    name, kind : str
        Kind of the elements, such as ``INT8``.
    shape : tuple of int
        With the batch axis, 1.
    scale, zero : arrays (1,) or (channels,), empty if it is not quantized
        ``real = scale * (integer - zero)``; float32 and int64.
    axis : int
        Of the channels that differ in their scale.
    values : array or None
        Of a constant.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    scale: Ints
    zero: Ints
    axis: int
    values: Ints | None


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator of the file; inputs that are left out are -1.

    ``record`` names its record of options, of which ``options`` are those in :data:`RECORDS`.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    record: str = "NONE"
    options: Mapping[str, Any] = field(default_factory=dict)
    place: int = 0


@dataclass(frozen=True, kw_only=True)
class Model:
    """The only graph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> Model:
    """The model in ``path``.

    Raises
    ------
    FewbitError
        If the file is missing or damaged, is no TensorFlow Lite file, or has more than one graph.
    """
    try:
        import tflite
    except ImportError:
        raise FewbitError(
            f"{path}: TensorFlow Lite files are read with the package tflite: pip install fewbit[tflite]"
        ) from None
    content = content_of(path)
    if content[4:8] != IDENTIFIER:
        raise FewbitError(f"{path}: not a TensorFlow Lite file")
    try:
        return _Reader(tflite, content).model()
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise FewbitError(f"{path}: the file is damaged ({type(error).__name__}: {error})") from None


class _Reader:
    def __init__(self, tflite: Any, content: bytes) -> None:
        self._tflite, self._model = tflite, tflite.Model.GetRootAs(content, 0)
        self._budget = Budget()

    def model(self) -> Model:
        model = self._model
        if model.SubgraphsLength() != 1:
            raise FewbitError(f"has {model.SubgraphsLength()} graphs, not one: control flow is not supported")
        graph = model.Subgraphs(0)
        counts = graph.TensorsLength(), graph.OperatorsLength(), graph.InputsLength(), graph.OutputsLength()
        if max(counts) > _MOST:
            raise FewbitError(f"has more than {_MOST:,} operators or tensors")
        tensors = tuple(self._tensor(graph.Tensors(index)) for index in range(graph.TensorsLength()))
        operators = tuple(self._operator(graph.Operators(index), index) for index in range(graph.OperatorsLength()))
        inputs, outputs = (_numbers(values) for values in (graph.InputsAsNumpy(), graph.OutputsAsNumpy()))
        read = {number for one in operators for number in one.inputs} - {-1}
        used = {number for one in operators for number in one.outputs} | {*inputs, *outputs} | read
        if any(not 0 <= number < len(tensors) for number in used):
            raise FewbitError("an operator names a tensor that is not there")
        return Model(tensors=tensors, operators=operators, inputs=inputs, outputs=outputs)

    def _tensor(self, tensor: Any) -> Tensor:
        name = (tensor.Name() or b"").decode()
        shape = _numbers(tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
        if min(shape, default=1) < 1:
            raise FewbitError(f"tensor {name!r} has the shape {shape}; export the model with a fixed shape")
        check_shape(shape, f"tensor {name!r}")
        if tensor.Sparsity() is not None:
            raise FewbitError(f"tensor {name!r} is stored sparsely; export the model with dense weights")
        quantization = tensor.Quantization()
        if quantization is not None and quantization.DetailsType():
            raise FewbitError(f"tensor {name!r} is quantized otherwise than by scales and zero points")
        scale, zero, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        if quantization is not None and quantization.ScaleLength():
            scale = np.array(quantization.ScaleAsNumpy(), np.float32)
            zero = np.zeros(len(scale), np.int64)
            if quantization.ZeroPointLength():
                zero = np.resize(np.array(quantization.ZeroPointAsNumpy(), np.int64), len(scale))
            axis = int(quantization.QuantizedDimension())
            if not (np.isfinite(scale).all() and (scale > 0).all()):
                raise FewbitError(f"tensor {name!r}: a scale is not above 0")
        kinds = {value: kind for kind, value in vars(self._tflite.TensorType).items() if isinstance(value, int)}
        kind = kinds[tensor.Type()]
        return Tensor(
            name=name, kind=kind, shape=shape, scale=scale, zero=zero, axis=axis,
            values=self._values(tensor, name, kind, shape),
        )  # fmt: skip

    def _values(self, tensor: Any, name: str, kind: str, shape: tuple[int, ...]) -> Ints | None:
        buffer = self._model.Buffers(tensor.Buffer())
        if buffer is None or not buffer.DataLength():
            return None
        raw = buffer.DataAsNumpy()
        size = int(np.prod(shape))
        if kind == "INT4":
            self._budget.take(shape, 1, f"tensor {name!r}")
            if raw.nbytes != (size + 1) // 2:
                raise FewbitError(f"tensor {name!r} of shape {shape} has {raw.nbytes} bytes")
            nibbles = np.stack([raw & 15, raw >> 4], 1).ravel()[:size].astype(np.int8)
            return np.asarray(nibbles - ((nibbles >> 3) << 4)).reshape(shape)
        dtype = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
                 "FLOAT32": np.float32, "BOOL": np.bool_}.get(kind)  # fmt: skip
        if dtype is None:
            return None
        self._budget.take(shape, np.dtype(dtype).itemsize, f"tensor {name!r}")
        if raw.nbytes != size * np.dtype(dtype).itemsize:
            raise FewbitError(f"tensor {name!r} of shape {shape} has {raw.nbytes} bytes")
        return np.frombuffer(raw.tobytes(), dtype).reshape(shape)

    def _operator(self, operator: Any, place: int) -> Operator:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        names = {value: name for name, value in vars(self._tflite.BuiltinOperator).items() if isinstance(value, int)}
        name = names.get(number, f"operator {number}")
        if name == "CUSTOM":
            name = f"CUSTOM ({(code.CustomCode() or b'').decode()})"
        return Operator(
            name=name,
            inputs=_numbers(operator.InputsAsNumpy()) if operator.InputsLength() else (),
            outputs=_numbers(operator.OutputsAsNumpy()) if operator.OutputsLength() else (),
            record=self._record(operator),
            options=self._options(operator),
            place=place,
        )

    def _record(self, operator: Any) -> str:
        types = {value: name for name, value in vars(self._tflite.BuiltinOptions).items() if isinstance(value, int)}
        return types.get(operator.BuiltinOptionsType(), "NONE") if operator.BuiltinOptions() is not None else "NONE"

    def _options(self, operator: Any) -> dict[str, Any]:
        """The options in the record of the type that the operator declares."""
        name, table = self._record(operator), operator.BuiltinOptions()
        if name not in RECORDS:
            return {}
        options = getattr(self._tflite, name)()
        options.Init(table.Bytes, table.Pos)
        return {field: getattr(options, field)() for field in RECORDS[name]}


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.atleast_1d(values))
