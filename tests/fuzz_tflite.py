"""Mutants of TensorFlow Lite files, and what LiteRT's reference kernels make of them."""

from __future__ import annotations

import copy
import multiprocessing
import random
import resource
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite
from ai_edge_litert import schema_py_generated as schema
from fuzz_onnx import ROOT
from tflite_files import TfliteBuilder
from tflite_reference import interpreter_of

from fewbit.engines import network_inputs
from fewbit.golden.run import dequantize_output, run
from fewbit.readers import load

Mutation = Callable[[Any, random.Random], None]
_FILES = ("ad01_int8", "pretrainedResnet_quant")
"""By name, so that a mutant's number means the same when there are more."""
_SAME, _VALID = 0, 1
_SECONDS = 10
"""Of processor time, for the reference."""
_SCALES = (0.0, -0.0, -0.05, float("nan"), float("inf"), 1e-45, 1e-38, 1e-6, 1e6, 3e38, 1.0, 0.5, 0.037)
_OPS = (
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED",
    "LOGISTIC", "MAX_POOL_2D", "MEAN", "QUANTIZE", "RELU", "RELU6", "RESHAPE", "SOFTMAX", "SQUEEZE", "TANH", "SUB",
    "MUL", "PAD", "RELU_N1_TO_1", "LEAKY_RELU", "TRANSPOSE", "CUSTOM", "HARD_SWISH",
)  # fmt: skip
_OPTIONS = (
    "Conv2DOptions", "DepthwiseConv2DOptions", "FullyConnectedOptions", "Pool2DOptions", "AddOptions", "ReshapeOptions",
    "ReducerOptions", "SoftmaxOptions", "ConcatenationOptions", "SqueezeOptions", "SubOptions",
)  # fmt: skip
_INTEGERS = (-(1 << 31), -7, -2, -1, 0, 1, 2, 3, 4, 5, 8, 64, 127, 1000, 1 << 16, (1 << 31) - 1)


def _dense(b: TfliteBuilder, rng: Any, source: int, size: int, outputs: int, channels: bool = False) -> int:
    scale = rng.uniform(0.001, 0.02, outputs if channels else 1)
    weights = b.constant(rng.integers(-127, 128, (outputs, size)).astype(np.int8), scale)
    unit = float(b.tensors[source]["scale"][0])
    bias = b.constant(rng.integers(-900, 900, outputs).astype(np.int32), unit * scale)
    out = b.tensor((1, outputs), scale=float(rng.uniform(0.02, 0.1)), zero=int(rng.integers(-128, 128)))
    return b.operator(
        "FULLY_CONNECTED", [source, weights, bias], out, "FullyConnectedOptions",
        FusedActivationFunction=int(rng.integers(0, 2)),
    )  # fmt: skip


def _conv(
    b: TfliteBuilder,
    rng: Any,
    source: int,
    outputs: int,
    stride: int = 1,
    padding: int = _SAME,
    depthwise: bool = False,
) -> int:
    height, width, channels = b.tensors[source]["shape"][1:]
    scale, kernel = rng.uniform(0.001, 0.02, outputs), (3, 2)
    shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels)
    weights = b.constant(rng.integers(-127, 128, shape).astype(np.int8), scale, 3 if depthwise else 0)
    bias = b.constant(rng.integers(-900, 900, outputs).astype(np.int32), scale * b.tensors[source]["scale"][0])
    size = [
        -(-extent // stride) if padding == _SAME else (extent - k) // stride + 1
        for extent, k in zip((height, width), kernel)
    ]
    out = b.tensor((1, *size, outputs), scale=float(rng.uniform(0.02, 0.1)), zero=int(rng.choice([-128, 3])))
    name = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    more = {"DepthMultiplier": outputs // channels} if depthwise else {}
    return b.operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [source, weights, bias], out, name, Padding=padding,
        StrideH=stride, StrideW=stride, DilationHFactor=1, DilationWFactor=1,
        FusedActivationFunction=int(rng.choice([0, 1, 3])), **more,
    )  # fmt: skip


def _pool(b: TfliteBuilder, source: int, name: str, shape: tuple[int, ...], size: int, stride: int) -> int:
    before = b.tensors[source]
    out = b.tensor(shape, scale=before["scale"], zero=before["zero"])
    return b.operator(
        name, [source], out, "Pool2DOptions", Padding=_VALID, StrideH=stride, StrideW=stride, FilterHeight=size,
        FilterWidth=size, FusedActivationFunction=0,
    )  # fmt: skip


def _rows(b: TfliteBuilder, rng: Any) -> tuple[int, int]:
    source = b.tensor((1, 9), scale=0.05, zero=-7)
    x = _dense(b, rng, _dense(b, rng, source, 9, 6), 6, 4, channels=True)
    return source, b.operator("SOFTMAX", [x], b.tensor((1, 4), scale=1 / 256, zero=-128), "SoftmaxOptions", Beta=1.0)


def _maps(b: TfliteBuilder, rng: Any) -> tuple[int, int]:
    source = b.tensor((1, 6, 5, 2), scale=0.05, zero=5)
    x = _conv(b, rng, source, 3, 2)
    x = _conv(b, rng, x, 3, 1, _VALID) if rng.random() < 0.5 else _conv(b, rng, x, 6, depthwise=True)
    return source, x


def _joined(b: TfliteBuilder, rng: Any) -> tuple[int, int]:
    source = b.tensor((1, 4, 4, 2), scale=0.05, zero=-3)
    sides = _conv(b, rng, source, 2), _conv(b, rng, source, 2)
    out = b.tensor((1, 4, 4, 2), scale=0.1, zero=-11)
    b.operator("ADD", sides, out, "AddOptions", FusedActivationFunction=0)
    pooled = _pool(b, out, "MAX_POOL_2D", (1, 3, 3, 2), 2, 1)
    mean = _pool(b, out, "AVERAGE_POOL_2D", (1, 3, 3, 2), 2, 1)
    both = b.tensor((1, 3, 3, 4), scale=0.1, zero=-11)
    return source, b.operator("CONCATENATION", [pooled, mean], both, "ConcatenationOptions", Axis=3)


def _mean(b: TfliteBuilder, rng: Any) -> tuple[int, int]:
    source = b.tensor((1, 4, 3, 3), scale=0.05, zero=-3)
    mean = b.tensor((1, 3), scale=0.07, zero=9)
    b.operator("MEAN", [source, b.constant(np.array([1, 2], np.int32))], mean, "ReducerOptions", KeepDims=False)
    x = _dense(b, rng, mean, 3, 4)
    return source, b.operator("DEQUANTIZE", [x], b.tensor((1, 4), "float32"))


def _flat(b: TfliteBuilder, rng: Any) -> tuple[int, int]:
    kind, zero = [("uint8", 120), ("int16", 0), ("int8", 3)][int(rng.integers(3))]
    source = b.tensor((1, 3, 3, 2), kind, scale=0.05 if kind != "int16" else 3e-4, zero=zero)
    x = b.operator("QUANTIZE", [source], b.tensor((1, 3, 3, 2), scale=0.05, zero=-8))
    x = b.operator(
        "RESHAPE", [x, b.constant(np.array([1, 18], np.int32))], b.tensor((1, 18), scale=0.05, zero=-8),
        "ReshapeOptions",
    )  # fmt: skip
    return source, b.operator("RELU6", [_dense(b, rng, x, 18, 3)], b.tensor((1, 3), scale=0.04, zero=-128))


def _curves(b: TfliteBuilder, rng: Any) -> tuple[int, int]:
    source = b.tensor((1, 12), scale=0.05, zero=3)
    x = b.operator("RELU", [source], b.tensor((1, 12), scale=0.03, zero=-100))
    x = b.operator("QUANTIZE", [x], b.tensor((1, 12), scale=0.02, zero=4))
    x = b.operator("TANH", [x], b.tensor((1, 12), scale=1 / 128, zero=0))
    return source, b.operator("LOGISTIC", [x], b.tensor((1, 12), scale=1 / 256, zero=-128))


@cache
def seeds() -> list[tuple[str, bytes]]:
    """Name and content of the whole files that are mutated; the small ones several times, since they are soon run."""
    found = []
    makes = {"rows": _rows, "maps": _maps, "joined": _joined, "mean": _mean, "flat": _flat, "curves": _curves}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makes.items():
            for seed in range(3):
                b = TfliteBuilder()
                source, out = make(b, np.random.default_rng(seed))
                found.append((f"{name}{seed}", b.save(Path(folder) / "m.tflite", [source], [out]).read_bytes()))
    return found * 3 + [(name, (ROOT / f"tests/tflite/{name}.tflite").read_bytes()) for name in _FILES]


def mutant(number: int) -> bytes:
    """The mutant of this number, always the same."""
    rng = random.Random(f"tflite {number}")
    _, content = rng.choice(seeds())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        try:
            rng.choice(_MUTATIONS)(model, rng)
            content = _packed(model)
        except (IndexError, TypeError, ValueError):  # nothing of this kind to change, or no file can hold the change
            continue
    return _bytes(content, rng) if rng.random() < 0.1 else content


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _bytes(content: bytes, rng: random.Random) -> bytes:
    """``content`` with other bytes here and there, outside of large buffers."""
    model, changed = tflite.Model.GetRootAs(content, 0), bytearray(content)
    places = set(range(len(content)))
    for buffer in (model.Buffers(index) for index in range(model.BuffersLength())):
        if buffer.DataLength() > 32:
            offset = buffer._tab.Vector(buffer._tab.Offset(4))
            places -= set(range(offset, offset + buffer.DataLength()))
    around = sorted(places)
    for _ in range(rng.randint(1, 4)):
        changed[rng.choice(around)] = rng.choice((0, 1, 2, 0xFF, 0x7F, rng.randrange(256)))
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def _tensor(model: Any, rng: random.Random) -> Any:
    return rng.choice(model.subgraphs[0].tensors)


def _operator(model: Any, rng: random.Random) -> Any:
    return rng.choice(model.subgraphs[0].operators)


def _scale(model: Any, rng: random.Random) -> None:
    found = [tensor for tensor in model.subgraphs[0].tensors if tensor.quantization is not None]
    quantization, how = rng.choice(found).quantization, rng.randrange(6)
    scale = np.array(quantization.scale, np.float32)
    if how == 0:
        scale[rng.randrange(scale.size)] = rng.choice(_SCALES)
    elif how == 1:
        scale = scale * np.float32(rng.choice((0.5, 2, 0.9, 1.1, 3, -1, 1 / 64, 64)))
    elif how == 2:
        scale = np.resize(scale, rng.choice((0, 1, 2, 3, 4, 5, 6)))
    elif how == 3:
        scale = np.full_like(scale, rng.choice(_SCALES))
    elif how == 4:
        quantization.quantizedDimension = rng.choice((-1, 0, 1, 2, 3, 4, 100))
    else:
        quantization.scale = None
        return
    quantization.scale = scale


def _zero_point(model: Any, rng: random.Random) -> None:
    found = [tensor for tensor in model.subgraphs[0].tensors if tensor.quantization is not None]
    quantization, how = rng.choice(found).quantization, rng.randrange(5)
    zero = np.array(quantization.zeroPoint, np.int64)
    if how == 0:
        zero = zero + rng.choice((-1, 1))
    elif how == 1:
        zero = np.full_like(zero, rng.choice((-129, -128, -127, 0, 1, 127, 128, 255, 1 << 15, 1 << 31, -(1 << 63))))
    elif how == 2:
        zero = np.resize(zero, rng.choice((0, 1, 2, 3, 4, 5)))
    elif how == 3:
        zero[rng.randrange(zero.size)] += rng.choice((-1, 1))
    else:
        quantization.zeroPoint = None
        return
    quantization.zeroPoint = zero


def _type(model: Any, rng: random.Random) -> None:
    _tensor(model, rng).type = rng.choice((0, 2, 3, 3, 4, 6, 7, 7, 9, 9, 17, 17, 18, 19, 30, -1))


def _types(model: Any, rng: random.Random) -> None:
    """All activations of 8 bits become ones of another type."""
    kind = rng.choice((schema.TensorType.INT16, schema.TensorType.INT16, schema.TensorType.UINT8))
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT8 and model.buffers[tensor.buffer].data is None:
            tensor.type = kind
            if kind == schema.TensorType.INT16:
                tensor.quantization.zeroPoint = [0]
            else:
                tensor.quantization.zeroPoint = np.array(tensor.quantization.zeroPoint) + 128


def _shape(model: Any, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    shape, how = [int(extent) for extent in tensor.shape], rng.randrange(5)
    if how == 0:
        shape[rng.randrange(len(shape))] = rng.choice((*range(-1, 7), *_INTEGERS))
    elif how == 1:
        shape = shape[::-1]
    elif how == 2:
        shape.insert(rng.randint(0, len(shape)), rng.choice((1, 1, 2)))
    elif how == 3:
        del shape[rng.randrange(len(shape))]
    else:
        tensor.shapeSignature = [-1, *shape[1:]]
    tensor.shape = shape


def _option(model: Any, rng: random.Random) -> None:
    found = [operator.builtinOptions for operator in model.subgraphs[0].operators if operator.builtinOptions]
    options = rng.choice(found)
    name = rng.choice(list(vars(options)))
    value = getattr(options, name)
    if isinstance(value, float):
        setattr(options, name, rng.choice((0.0, -1.0, 0.5, 2.0, float("nan"))))
    elif isinstance(value, bool):
        setattr(options, name, not value)
    else:
        setattr(options, name, rng.choice((*range(-1, 6), *range(4), *_INTEGERS)))


def _options(model: Any, rng: random.Random) -> None:
    operator = _operator(model, rng)
    if rng.random() < 0.3:
        operator.builtinOptions, operator.builtinOptionsType = None, rng.choice((0, operator.builtinOptionsType))
    else:
        name = rng.choice(_OPTIONS)
        operator.builtinOptions = getattr(schema, f"{name}T")()
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)


def _wires(model: Any, rng: random.Random) -> None:
    """What an operator or the graph reads or writes."""
    graph, operator = model.subgraphs[0], _operator(model, rng)
    holder, name = rng.choice(
        ((operator, "inputs"), (operator, "inputs"), (operator, "inputs"), (operator, "outputs"), (graph, "inputs"),
         (graph, "outputs"), (graph, "outputs"))
    )  # fmt: skip
    numbers, how = [int(number) for number in getattr(holder, name)], rng.randrange(6)
    any_tensor = rng.randrange(len(graph.tensors))
    if how < 3:
        numbers[rng.randrange(len(numbers))] = rng.choice((-1, any_tensor, any_tensor, any_tensor, 1000, -2))
    elif how == 3:
        numbers.append(any_tensor)
    elif how == 4:
        del numbers[rng.randrange(len(numbers))]
    else:
        rng.shuffle(numbers)
    setattr(holder, name, numbers)


def _buffer(model: Any, rng: random.Random) -> None:
    if rng.random() < 0.4:
        _tensor(model, rng).buffer = rng.choice((0, 1, rng.randrange(len(model.buffers)), 1000, (1 << 32) - 1))
        return
    buffer = rng.choice([one for one in model.buffers if one.data is not None])
    data, how = np.array(buffer.data, np.uint8), rng.randrange(5)
    if how == 0:
        data = data[:-1]
    elif how == 1:
        data = np.append(data, np.uint8(0x80))
    elif how == 2:
        data[:] = rng.choice((0x80, 0x7F, 0xFF, 0x88, 0x00))
    elif how == 3:
        data = data[: len(data) // 2]
    else:
        data[rng.randrange(len(data))] = rng.choice((0x80, 0x7F, 0xFF, 0, 1))
    buffer.data = data


def _operators(model: Any, rng: random.Random) -> None:
    operators = model.subgraphs[0].operators
    place, how = rng.randrange(len(operators)), rng.randrange(6)
    operator = operators[place]
    if how == 0:
        for other in operators:
            other.inputs = [operator.inputs[0] if one in operator.outputs else one for one in other.inputs]
        del operators[place]
    elif how == 1:
        operators.insert(rng.randint(0, len(operators)), copy.deepcopy(operator))
    elif how == 2:
        rng.shuffle(operators)
    elif how == 3:
        operator.opcodeIndex = rng.choice((rng.randrange(len(model.operatorCodes)), 1000))
    else:
        code = rng.choice(model.operatorCodes)
        code.builtinCode = getattr(schema.BuiltinOperator, rng.choice(_OPS))
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)


def _version(model: Any, rng: random.Random) -> None:
    how = rng.randrange(4)
    if how == 0:
        rng.choice(model.operatorCodes).version = rng.choice((-1, 0, 1, 2, 3, 4, 5, 6, 9, 1000))
    elif how == 1:
        model.version = rng.choice((0, 1, 2, 4))
    elif how == 2:
        rng.choice(model.operatorCodes).deprecatedBuiltinCode = rng.randrange(-128, 128)
    else:
        model.subgraphs = rng.choice(([], model.subgraphs * 2))


_MUTATIONS: tuple[Mutation, ...] = (
    _scale, _scale, _scale, _zero_point, _zero_point, _zero_point, _type, _types, _shape, _shape, _option, _option,
    _option, _option, _options, _wires, _wires, _buffer, _buffer, _operators, _operators, _version,
)  # fmt: skip


def check(path: Path) -> str:
    """Loads the mutant and, where the reference kernels run it too, compares every integer of its output."""
    network = load(path)
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    except Exception:  # damaged where the reader does not look
        return "loaded"
    graph = model.subgraphs[0]
    source = graph.tensors[graph.inputs[0]]
    kind = {schema.TensorType.INT8: np.int8, schema.TensorType.UINT8: np.uint8, schema.TensorType.INT16: np.int16}
    ends = np.iinfo(kind[source.type])
    frames = np.random.default_rng(1).integers(ends.min, ends.max, (4, *source.shape[1:]), ends.dtype, endpoint=True)
    result = run(network, network_inputs(network, frames))
    # The scores are those in front of a softmax, and as integers.
    number, passed = int(graph.outputs[0]), set()
    for operator in reversed(graph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        name = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number in operator.outputs and name in (schema.BuiltinOperator.SOFTMAX, schema.BuiltinOperator.DEQUANTIZE):
            number = int(operator.inputs[0])
            passed.add(name)
    answer = _asked(path, frames, number)
    if answer is None:
        return "loaded"
    wanted, scale, zero, real = answer
    last = graph.tensors[graph.outputs[0]].quantization
    softmax = real
    if last is not None and last.scale is not None:
        softmax = (real.astype(np.float64) - last.zeroPoint[0]) * last.scale[0]
    integers = wanted.astype(np.int64) - zero
    found = result.output.reshape(len(frames), -1)
    assert found.shape == integers.shape, f"outputs of a frame: {found.shape[1:]} here, {integers.shape[1:]} there"
    differ = found != integers
    assert not differ.any(), f"integers differ: {found[differ][:4]} here, {integers[differ][:4]} there"
    if network.output_function == "softmax" and passed == {schema.BuiltinOperator.SOFTMAX}:
        shares = np.asarray(dequantize_output(network, result.output)).reshape(found.shape)
        assert np.abs(shares - softmax).max() < 1 / 64, f"softmax differs: {shares.ravel()[:4]}, {softmax.ravel()[:4]}"
    plain = replace(network, output_function=None)
    reals = np.asarray(dequantize_output(plain, result.output), np.float64).reshape(found.shape)
    is_real = passed == {schema.BuiltinOperator.DEQUANTIZE}
    stated = real if is_real else integers * float(scale)
    assert np.allclose(reals, stated, rtol=1e-5, atol=0), f"reals differ: {reals.ravel()[:4]}, {stated.ravel()[:4]}"
    return "equal"


def _asked(path: Path, frames: Any, number: int) -> Any:
    """What the reference kernels give, from a process of its own: None where they refuse the file, or die of it."""
    forked = multiprocessing.get_context("fork")
    ours, theirs = forked.Pipe(duplex=False)
    worker = forked.Process(target=_answer, args=(path, frames, number, theirs))
    worker.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(60) else None
    except EOFError:
        return None
    finally:
        worker.kill()
        worker.join()


def _answer(path: Path, frames: Any, number: int, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    try:
        pipe.send(_reference(path, frames, number))
    except Exception:
        pipe.send(None)


def _reference(path: Path, frames: Any, number: int) -> tuple[Any, float, int, Any]:
    """Tensor ``number`` of every frame, channels first, its scale and zero point, and the output."""
    interpreter = interpreter_of(path)
    details = {one["index"]: one for one in interpreter.get_tensor_details()}
    source, last = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]
    parameters = details[number]["quantization_parameters"]
    values: list[list[Any]] = [[], []]
    for frame in frames:
        interpreter.set_tensor(source, frame[None])
        interpreter.invoke()
        for kept, place in zip(values, (number, last["index"])):
            value = np.array(interpreter.get_tensor(place))
            kept.append((value.transpose(0, 3, 1, 2) if value.ndim == 4 else value).ravel())
    zero = int(parameters["zero_points"][0]) if len(parameters["zero_points"]) else 0
    return np.stack(values[0]), float(parameters["scales"][0]), zero, np.stack(values[1])
