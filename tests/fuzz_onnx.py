"""Mutants of ONNX files: fields of the protobuf changed where a reader may trip; and what others make of them."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import float_models
import numpy as np
import onnx
from onnx_models import WEIGHTS, GraphBuilder, helper, numpy_helper, outputs

from fewbit.golden.codes import Code
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.weight_vectors import WeightVectors
from fewbit.importers.float_onnx.network import FloatNetwork
from fewbit.importers.onnx_graph import QONNX_DOMAINS
from fewbit.importers.qonnx import reader as qonnx
from fewbit.quantization.quantize import quantize
from fewbit.quantization.recipe import Recipe
from fewbit.readers import load_source

Mutation = Callable[[Any, random.Random], None]
"""A change of a model, in place."""
Seeds = list[tuple[str, bytes]]
"""Names and contents of whole files."""

ROOT = Path(__file__).parent.parent
_FILES = (
    "models/lenet5", "models/tfc-w1a1", "models/tfc-w1a2", "models/tfc-w2a2", "tests/brevitas/cnv-1w1a",
    "tests/brevitas/cnv-2w2a", "tests/brevitas/lenet", "tests/brevitas/mobile-mean", "tests/brevitas/mobile-trunc",
)  # fmt: skip
"""By name, so that a mutant's number means the same when there are more."""
_OPS = (
    "MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization", "Relu", "Clip", "Quant", "BipolarQuant",
    "Sign", "MultiThreshold", "Trunc", "Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool",
    "ReduceMean", "TopK", "ArgMax", "Cast", "Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
    "Transpose", "Softmax", "Concat", "Gather", "Slice", "Shape", "Constant", "ConstantOfShape", "Pow", "Sqrt", "Floor",
    "Round", "Expand", "Tile", "Nonsense",
)  # fmt: skip
_ATTRIBUTES = (
    "axis", "axes", "perm", "alpha", "beta", "transA", "transB", "epsilon", "kernel_shape", "strides", "pads",
    "dilations", "group", "auto_pad", "ceil_mode", "count_include_pad", "signed", "narrow", "rounding_mode",
    "out_scale", "out_bias", "out_dtype", "data_layout", "to", "keepdims", "k", "min", "max", "value", "allowzero",
)  # fmt: skip
_TEXTS = ("", "x", "ROUND", "FLOOR", "HALF_UP", "SAME_UPPER", "SAME_LOWER", "VALID", "NHWC", "INT4", "\u00e9\n" * 300)
_INTEGERS = (-(1 << 63), -(1 << 31), -7, -2, -1, 0, 1, 2, 3, 4, 5, 8, 64, 1000, 1 << 16, 1 << 31, (1 << 63) - 1)
_REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 0.3, 2.0, 1e-3, 7.0, 1e-45, 1e-30, 1e38, -1e38, float("inf"), float("nan"))


def _dense(bits: int) -> GraphBuilder:
    graph = GraphBuilder(4)
    graph.quant(0.5, 0, bits)
    x = graph.x
    graph.node("MatMul", x, graph.quant([0.5, 0.25, 1.0], 0, 2, narrow=1, x=graph.constant(WEIGHTS)))
    graph.batch_norm([1, 2, -1], [0, 1, 0.5], [0, 0.5, 1], [1, 4, 0.25], epsilon=0.0)
    graph.op("Relu")
    graph.quant(0.25, 0, 3, signed=0)
    graph.op("Gemm", WEIGHTS[:3], [0, 1, -1], transB=0)
    return graph


def _thresholds() -> GraphBuilder:
    graph = GraphBuilder(4)
    graph.bipolar()
    graph.dense(WEIGHTS)
    graph.thresholds([[-1, 0, 1], [-2, 0, 3], [0, 0, 2]], 1.0, -1.0)
    graph.op("Mul", [[0.5, 0.5, 0.5]])
    graph.dense(WEIGHTS[:3])
    graph.node("TopK", graph.x, graph.constant([1], np.int64), outputs=2)
    graph.x, graph.result = graph.x + "b", onnx.TensorProto.INT64
    return graph


def _maps(average: bool) -> GraphBuilder:
    graph = GraphBuilder(2, 5, 6)
    graph.quant(0.5, 0, 3)
    x, rng = graph.x, np.random.default_rng(1)
    weights = graph.quant(np.full((4, 1, 1, 1), 0.5), 0, 3, x=graph.constant(rng.integers(-2, 3, (4, 2, 3, 2)) / 2))
    graph.conv(weights, [0, 1, 2, -1], x=x, strides=[1, 1], pads=[1, 0, 1, 1])
    graph.op("Add", np.full((1, 4, 1, 1), 0.5))
    graph.quant(0.5, 0, 4, mode="FLOOR")
    graph.op("AveragePool" if average else "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    if average:
        graph.node("Trunc", graph.x, *map(graph.constant, (0.125, 0.0, 8.0, 6.0)), domain=QONNX_DOMAINS[0])
    graph.node("Shape", graph.x)
    batch = graph.node("Gather", graph.x, graph.constant(0, np.int64), axis=0)
    extent = graph.node("Unsqueeze", batch, graph.constant([0], np.int64))
    shape = graph.node("Concat", extent, graph.constant([-1], np.int64), axis=0)
    pooled = next(node.output[0] for node in reversed(graph.nodes) if node.op_type in ("Trunc", "MaxPool"))
    graph.node("Reshape", pooled, shape)
    graph.dense(rng.integers(-2, 3, (24, 3)))
    return graph


@cache
def seeds() -> Seeds:
    """Name and content of the whole files that are mutated; the small ones several times, since they are soon run."""
    small = {f"dense{bits}": _dense(bits) for bits in (1, 2, 8)}
    small |= {"thresholds": _thresholds(), "max": _maps(False), "mean": _maps(True)}
    small |= {f"float{seed}": float_models.random_graph(np.random.default_rng(seed)) for seed in range(8)}
    found = [(name, graph.model().SerializeToString()) for name, graph in small.items()] * 4
    return found + [(name, (ROOT / f"{name}.onnx").read_bytes()) for name in _FILES]


def mutant(number: int) -> bytes:
    """The mutant of this number, always the same."""
    return mutated(random.Random(f"onnx {number}"), seeds(), MUTATIONS)


def mutated(rng: random.Random, files: Seeds, mutations: Sequence[Mutation]) -> bytes:
    """One of ``files``, changed a few times."""
    _, content = rng.choice(files)
    model = onnx.load_model_from_string(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(mutations)(model, rng)
    content = model.SerializeToString()
    return changed_bytes(content, rng) if rng.random() < 0.1 else content


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed))
        changed[place] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.2 else changed)


def _node(model: Any, rng: random.Random) -> Any:
    return rng.choice(model.graph.node) if model.graph.node else onnx.NodeProto()


def _names(model: Any) -> list[str]:
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    return sorted({*names, *(tensor.name for tensor in model.graph.initializer), "", "none"})


def _value(rng: random.Random) -> Any:
    integers = [rng.choice(_INTEGERS) for _ in range(rng.randint(0, 5))]
    few = [rng.randint(-1, 4) for _ in range(rng.randint(1, 5))]
    reals = [rng.choice(_REALS) for _ in range(rng.randint(1, 3))]
    tensor = numpy_helper.from_array(np.array(few, rng.choice((np.float32, np.int64, np.int8))))
    return rng.choice(
        (rng.choice(_INTEGERS), rng.choice(_REALS), rng.choice(_TEXTS), integers, few, few, reals, tensor)
    )


def _attribute(model: Any, rng: random.Random) -> None:
    attributes = _node(model, rng).attribute
    if attributes and rng.random() < 0.7:
        entry = rng.choice(attributes)
        if rng.random() < 0.2:
            attributes.remove(entry)
        elif entry.type == onnx.AttributeProto.INT and rng.random() < 0.7:
            entry.i = max(-(1 << 63), min((1 << 63) - 1, entry.i + rng.choice((-2, -1, 1, 2))))
        elif entry.type == onnx.AttributeProto.INTS and entry.ints and rng.random() < 0.7:
            entry.ints[rng.randrange(len(entry.ints))] = rng.choice((*range(-1, 6), *_INTEGERS))
        elif entry.type == onnx.AttributeProto.FLOAT and rng.random() < 0.7:
            entry.f = rng.choice(_REALS)
        elif rng.random() < 0.2:
            entry.type = rng.randint(0, 14)
        else:
            _set(entry, entry.name, rng)
    else:
        _set(attributes.add(), rng.choice(_ATTRIBUTES), rng)


def _set(entry: Any, name: str, rng: random.Random) -> None:
    value = _value(rng)
    kind = onnx.AttributeProto.INTS if value == [] else None
    entry.CopyFrom(helper.make_attribute(name, value, attr_type=kind))


def _initializer_value(model: Any, rng: random.Random) -> None:
    tensor, array = _tensor(model, rng)
    if array is None or not array.size:
        return
    array = array.copy()
    if array.dtype.kind == "f":
        values = _REALS if rng.random() < 0.3 else (-2, -1, -0.5, 0, 0.25, 0.5, 1, 1.5, 2, 3, 4)
        value = rng.choice(values)
    else:
        value = rng.choice(_INTEGERS if rng.random() < 0.3 else range(-1, 6))
    with np.errstate(all="ignore"):
        value = np.array(value).astype(array.dtype)
    if rng.random() < 0.5:
        array.flat[rng.randrange(array.size)] = value
    else:
        array[...] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _initializer_shape(model: Any, rng: random.Random) -> None:
    tensor, array = _tensor(model, rng)
    if array is None:
        return
    shape = list(array.shape)
    how = rng.randrange(6)
    if how == 0:
        array = array.reshape(shape[::-1])
    elif how == 1:
        array = np.expand_dims(array, rng.randint(0, len(shape)))
    elif how == 2 and shape:
        array = array.take(0, rng.randrange(len(shape)))
    elif how == 3 and shape and array.size < 1 << 16:
        array = np.concatenate([array, array], rng.randrange(len(shape)))
    elif how == 4:
        tensor.dims[:] = [rng.choice((*range(-1, 6), *_INTEGERS)) for _ in range(rng.randint(0, 5))]
        return
    elif array.size == 1:
        array = np.full([rng.randint(0, 5) for _ in range(rng.randint(1, 4))], array.ravel()[0])
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _initializer_type(model: Any, rng: random.Random) -> None:
    tensor, array = _tensor(model, rng)
    if array is None:
        return
    if rng.random() < 0.5:
        kind = rng.choice((np.float64, np.int64, np.int32, np.uint8, np.float16, np.complex64, np.bool_))
        with np.errstate(all="ignore"):
            tensor.CopyFrom(numpy_helper.from_array(array.astype(kind), tensor.name))
    elif rng.random() < 0.5:
        tensor.data_type = rng.randint(0, 30)
    elif tensor.raw_data:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data))]
    else:
        tensor.data_location = 1


def _initializer_name(model: Any, rng: random.Random) -> None:
    tensors = model.graph.initializer
    if not tensors:
        return
    tensor = rng.choice(tensors)
    how = rng.randrange(3)
    if how == 0:
        tensors.append(tensor)
    elif how == 1:
        tensor.name = rng.choice([*_names(model), "", "\n" * 700])
    else:
        tensors.remove(tensor)


def _tensor(model: Any, rng: random.Random) -> tuple[Any, Any]:
    if not model.graph.initializer:
        return None, None
    tensor = rng.choice(model.graph.initializer)
    return tensor, array_of(tensor)


def array_of(tensor: Any) -> Any:
    """The numbers of an initializer; None if a mutation has made it unreadable, which onnx says in many ways."""
    try:
        return numpy_helper.to_array(tensor)
    except Exception:
        return None


def _nodes(model: Any, rng: random.Random) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    index = rng.randrange(len(nodes))
    node, how = nodes[index], rng.randrange(9)
    if how == 0:
        bypass(model, node)
    elif how == 1:
        nodes.append(node)
    elif how == 2:
        other = nodes[rng.randrange(len(nodes))]
        first, second = type(node)(), type(node)()
        first.CopyFrom(node)
        second.CopyFrom(other)
        node.CopyFrom(second)
        other.CopyFrom(first)
    elif how == 3:
        node.op_type = rng.choice(_OPS)
    elif how == 4:
        node.domain = rng.choice(("", "ai.onnx", *QONNX_DOMAINS, "com.example"))
    elif how == 5:
        _insert(model, index, rng)
    elif how == 6 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(_names(model))
    elif how == 7:
        node.input.append(rng.choice(_names(model)))
    elif node.input:
        del node.input[rng.randrange(len(node.input))]


def bypass(model: Any, node: Any) -> None:
    """Takes ``node`` out; what it made is its first input now."""
    gone, source = list(node.output), node.input[0] if node.input else ""
    model.graph.node.remove(node)
    for other in model.graph.node:
        other.input[:] = [source if name in gone else name for name in other.input]


def _insert(model: Any, index: int, rng: random.Random) -> None:
    """A node more in front of one input."""
    node = model.graph.node[index]
    if not node.input:
        return
    op = rng.choice(("Identity", "Neg", "Relu", "Flatten", "Transpose", "Squeeze", "Dropout", "Abs", "Floor", "Sign"))
    place, name = rng.randrange(len(node.input)), f"inserted{rng.randrange(1000)}"
    made = helper.make_node(op, [node.input[place]], [name])
    node.input[place] = name
    model.graph.node.insert(index, made)


def _graph(model: Any, rng: random.Random) -> None:
    graph, how = model.graph, rng.randrange(6)
    if how == 0 and graph.input:
        extents = rng.choice(graph.input).type.tensor_type.shape.dim
        if extents:
            rng.choice(extents).dim_value = rng.choice((*range(-1, 9), *_INTEGERS))
    elif how == 1 and graph.input:
        rng.choice(graph.input).type.tensor_type.elem_type = rng.randint(0, 30)
    elif how == 2 and graph.output:
        graph.output[0].name = rng.choice(_names(model))
    elif how == 3 and model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((0, 1, 6, 9, 11, 12, 13, 17, 18, 21, 99, -1))
    elif how == 4:
        note = graph.quantization_annotation.add(tensor_name=rng.choice([*_names(model), "x"]))
        kind = rng.choice(("INT4", "UINT8", "BIPOLAR", "FLOAT32", "FIXED<4,2>", "INT0", "INT99"))
        note.quant_parameter_tensor_names.add(key="finn_datatype", value=kind)
    elif graph.input and rng.random() < 0.5:
        graph.input.append(graph.input[0])
    elif model.opset_import:
        model.opset_import.append(model.opset_import[0])


MUTATIONS: tuple[Mutation, ...] = (
    _attribute, _attribute, _initializer_value, _initializer_value, _initializer_shape, _initializer_shape,
    _initializer_type, _initializer_name, _nodes, _nodes, _nodes, _graph,
)  # fmt: skip


def check(path: Path) -> str:
    """Loads the mutant and, where another executor runs it too, compares. Raises AssertionError on a difference.

    As integers in place of floats as well, which takes other ways through the importer.
    """
    return checked_as(path, (None, "uint8/255"), _checked)


def checked_as(path: Path, options: Sequence[str | None], checked: Callable[[Path, str | None], str]) -> str:
    """What becomes of a mutant that is ``checked`` with each kind of input; its refusal if it loads with none."""
    became, refusal = "", FewbitError()
    for option in options:
        try:
            became = max(became, checked(path, option))
        except FewbitError as error:
            refusal = error
    if not became:
        raise refusal
    return "equal" if became == "equal" else "loaded"


def _checked(path: Path, option: str | None) -> str:
    source = load_source(path) if option is None else qonnx.load(path, input=option)
    if isinstance(source, FloatNetwork):
        given = source.shape if source.input_shape is None else source.input_shape
        compared = _compared(path, given, lambda frames: source.outputs(source.source_frames(frames)), _onnxruntime)
        return max(compared, _quantized(source))
    if source.input.size > 4000:
        return "a large one"
    if option is None:
        return _compared(path, source.input.shape, lambda frames: outputs(source, frames), _qonnx)
    pixels = np.random.default_rng(1).integers(0, 256, (3, *source.input.shape))
    return _compared(path, source.input.shape, lambda _: outputs(source, pixels), _qonnx, pixels / np.float32(255))


def _quantized(source: FloatNetwork) -> str:
    """Of what loads as floats, integers can be made, or it is told why not."""
    if max(math.prod(source.shape), *(product.weights.size for product in source.products)) > 2000:
        return "a large one"
    quantize(source, Recipe(code=Code.parse("shift3"), rule="nearest", vectors=WeightVectors("channel", 0)))
    return "an integer one"


def _compared(
    path: Path, shape: Any, ours: Callable[[Any], Any], reference: Callable[..., Any], frames: Any = None
) -> str:
    if frames is None:
        frames = 2 * np.random.default_rng(1).standard_normal((3, *shape))
    frames = frames.astype(np.float32)
    model = onnx.load(path)
    given = {tensor.name for tensor in model.graph.initializer}
    source = next(value for value in model.graph.input if value.name not in given)
    extents = [extent.dim_value for extent in source.type.tensor_type.shape.dim]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if _rounds_away(model):
                return "a network of which float32 gives another"
            wanted = [reference(model, source.name, frame.reshape(1, *extents[1:])) for frame in frames]
        except Exception:
            return "a network that others do not run"
    with np.errstate(all="ignore"):
        found = ours(frames)
    if any(not np.isfinite(one).all() for one in wanted):
        return "a network that overflows"
    wanted, found = np.stack([np.asarray(one).ravel() for one in wanted]), found.reshape(len(frames), -1)
    assert wanted.shape == found.shape, f"outputs of a frame: {found.shape[1:]} here, {wanted.shape[1:]} there"
    close = np.isclose(found, wanted, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(wanted).max(initial=0))))
    assert close.all(), f"outputs differ: {found[~close][:4]} here, {wanted[~close][:4]} there"
    return "equal"


def _rounds_away(model: Any) -> bool:
    """Whether it holds numbers so far from 1 that sums with others lose them in float32, which the importer keeps."""
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    arrays += [np.array(entry.f) for node in model.graph.node for entry in node.attribute]
    sizes = [np.abs(array[array != 0].astype(np.float64)) for array in arrays if array.dtype.kind == "f"]
    return any(size.size and not (size.min() > 1e-6 and size.max() < 1e6) for size in sizes)


def _qonnx(model: Any, name: str, frame: Any) -> Any:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    output = model.graph.output[0].name
    _as_floats(model)
    shaped = ModelWrapper(model, make_deepcopy=True).transform(InferShapes())
    return execute_onnx(shaped, {name: frame})[output]


def _as_floats(model: Any) -> None:
    """Turns constants of integer types that quantizers read into floats: qonnx computes with a bit width in the type
    that it has, so that a ``uint8`` of 3 has a least level of 252."""
    read = {name for node in model.graph.node if node.op_type in ("Quant", "Trunc") for name in node.input}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name in read and array.dtype.kind in "iu":
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))


def _onnxruntime(model: Any, name: str, frame: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([model.graph.output[0].name], {name: frame})[0]
