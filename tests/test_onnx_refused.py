"""What no reader of ONNX takes: names that stand twice, constants that do not fit, sizes without end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import QONNX, WEIGHTS, GraphBuilder, helper, onnx, started

from fewbit.golden.budget import MOST_BYTES, MOST_ELEMENTS, Budget
from fewbit.golden.codes import Code
from fewbit.golden.errors import FewbitError
from fewbit.importers.float_onnx import reader as float_onnx
from fewbit.importers.qonnx import reader as qonnx

# Names


def refusal(graph: GraphBuilder, folder: Path, change: Callable[[Any], None] = lambda model: None) -> str:
    """Why the importer refuses ``graph`` after ``change``, without the file's name."""
    path = graph.save(folder / "graph.onnx")
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    with pytest.raises(FewbitError) as error:
        qonnx.load(path)
    return str(error.value).removeprefix(f"{path}: ")


def small() -> GraphBuilder:
    graph = started(4)
    graph.dense(WEIGHTS)
    return graph


@pytest.mark.parametrize("place", range(4))
def test_name_of_two_initializers(tmp_path, place):
    def again(model):
        model.graph.initializer.append(model.graph.initializer[place])

    assert refusal(small(), tmp_path, again) == f"two initializers are named 'c{place}'"


def test_name_of_two_attributes(tmp_path):
    def again(model):
        model.graph.node[0].attribute.append(helper.make_attribute("narrow", 1))

    assert refusal(small(), tmp_path, again) == "node 'Quant_0' (Quant): two attributes are named 'narrow'"


def test_two_annotations_of_the_input(tmp_path):
    def twice(model):
        for kind in ("INT4", "UINT8"):
            note = model.graph.quantization_annotation.add(tensor_name="x")
            note.quant_parameter_tensor_names.add(key="finn_datatype", value=kind)

    assert refusal(small(), tmp_path, twice) == "input 'x': is annotated as INT4 and as UINT8"


def test_second_output_of_a_constant_node(tmp_path):
    """It must not be taken for an input that is left out."""
    graph = started(1, 2, 2)
    weights = graph.constant(np.ones((1, 1, 1, 1)))
    x = graph.x
    graph.node("Dropout", graph.constant([1]), outputs=2)
    graph.node("Conv", x, weights, f"{graph.x}b")
    assert refusal(graph, tmp_path) == "node 'Conv_2' (Conv): takes 't1b', an output that is not supported"


# Constants


@pytest.mark.parametrize("name", ["scale", "zero", "bits"])
@pytest.mark.parametrize("shape", [(3,), (4, 1, 3), (1, 1, 1), (2, 4, 3), (0,)])
def test_parameter_of_weights_that_does_not_broadcast(tmp_path, name, shape):
    graph = started(4)
    x = graph.x
    parameters = {"scale": 1.0, "zero": 0.0, "bits": 2.0} | {name: np.full(shape, 2.0)}
    graph.node("MatMul", x, graph.quant(x=graph.constant(WEIGHTS), **parameters))
    if shape == (3,):
        if name != "zero":
            qonnx.load(graph.save(tmp_path / "graph.onnx"))
        return
    wanted = "its parameters do not fit weights of shape (4, 3)"
    assert refusal(graph, tmp_path) == f"node 'Quant_1' (Quant): {wanted}"


@pytest.mark.parametrize("name", ["scale", "zero", "bits"])
@pytest.mark.parametrize("shape", [(3,), (4, 1), (1, 1, 1), (2, 4), (0,)])
def test_parameter_of_activations_that_does_not_broadcast(tmp_path, name, shape):
    graph = GraphBuilder(4)
    graph.quant(**{name: np.full(shape, 2.0)})
    assert refusal(graph, tmp_path) == (
        f"node 'Quant_0' (Quant): a {'parameter' if name == 'bits' else 'constant'} of shape {shape} "
        "does not fit activations of shape (1, 4)"
    )


@pytest.mark.parametrize(
    "kind, text", [(8, "string"), (14, "complex64"), (15, "complex128"), (16, "bfloat16"), (19, "float8e5m2")]
)
@pytest.mark.parametrize("place", range(4))
def test_constant_of_a_foreign_type(tmp_path, kind, text, place):
    def change(model):
        tensor = model.graph.initializer[place]
        tensor.CopyFrom(helper.make_tensor(tensor.name, kind, [1], [b"x"] if kind == 8 else [1]))

    wanted = f"tensor 'c{place}': its element type {text} is not supported, only integers, floats and booleans"
    assert refusal(small(), tmp_path, change) == wanted


def test_constant_of_an_unknown_type(tmp_path):
    def change(model):
        model.graph.initializer[3].data_type = 99

    assert refusal(small(), tmp_path, change) == "tensor 'c3': its element type 99 is not known"


@pytest.mark.parametrize("to", [8, 14, 16, 22])
def test_cast_of_a_constant_to_a_foreign_type(tmp_path, to):
    graph = started(4)
    x = graph.x
    graph.node("MatMul", x, graph.node("Cast", graph.constant(WEIGHTS), to=to))
    kind = helper.tensor_dtype_to_np_dtype(to)
    wanted = f"a cast to {kind} is not supported, only to integers, floats and booleans"
    assert refusal(graph, tmp_path) == f"node 'Cast_1' (Cast): {wanted}"


@pytest.mark.parametrize("scale, out_scale", [(1e38, 1e-30), (1e-45, 1e38), (1e-20, 1.0), (1.0, 1e20)])
def test_trunc_of_absurd_scales(tmp_path, scale, out_scale):
    graph = GraphBuilder(4)
    graph.quant(1.0, 0.0, 8)
    graph.node("Trunc", graph.x, *map(graph.constant, (scale, 0.0, 8.0, out_scale, 4.0)), domain=QONNX)
    assert refusal(graph, tmp_path).startswith("node 'Trunc_1' (Trunc): ")


def grown(op: str, graph: GraphBuilder) -> None:
    """A constant of 2 * MOST_ELEMENTS elements out of few."""
    half = MOST_ELEMENTS // 1024
    row, column = graph.constant(np.zeros((1, 2048))), graph.constant(np.zeros((half, 1)))
    if op == "ConstantOfShape":
        graph.node(op, graph.constant([half, 2048], np.int64))
    elif op == "Gather":
        graph.node(op, row, graph.constant(np.zeros(half), np.int64), axis=0)
    elif op == "Concat":
        graph.node(op, *[graph.node(op, *[column] * 1024, axis=1)] * 2, axis=1)
    else:
        graph.node(op, row, column)


@pytest.mark.parametrize("op", ["ConstantOfShape", "Concat", "Gather", "Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize("load", [qonnx.load, float_onnx.load])
def test_constant_that_grows(tmp_path, op, load):
    graph = GraphBuilder(4)
    x = graph.x
    grown(op, graph)
    graph.node("MatMul", x, graph.x)
    with pytest.raises(FewbitError, match=r"its result (of|has the) shape \(.*\)"):
        load(graph.save(tmp_path / "graph.onnx"))


def test_constants_together(tmp_path):
    """None is too large; all are."""
    graph = GraphBuilder(4)
    x, names = graph.x, []
    for _ in range(9):
        names.append(graph.node("ConstantOfShape", graph.constant([MOST_ELEMENTS // 2], np.int64)))
    graph.node("MatMul", x, graph.node("Concat", *names, axis=0))
    said = refusal(graph, tmp_path)
    first = said.splitlines()[1]  # of two obstacles: the next constant is beyond the limit too
    assert first.startswith("node 'ConstantOfShape_7' (ConstantOfShape): its result of shape (8388608,) brings ")
    assert said.endswith(f" bytes, {MOST_BYTES:,} are the most")


def test_budget_is_left_to_what_fits_exactly():
    budget = Budget()
    for _ in range(MOST_BYTES // (MOST_ELEMENTS * 4)):
        budget.take((MOST_ELEMENTS,), 4, "a tensor")
    with pytest.raises(FewbitError, match=r"^a tensor of shape \(1,\) brings .* to 268,435,457 bytes"):
        budget.take((1,), 1, "a tensor")


@pytest.mark.parametrize("dims", [[1 << 40], [1 << 32, 1 << 32], [MOST_ELEMENTS, 2]])
def test_declared_shape_is_looked_at_before_the_data(tmp_path, dims):
    def change(model):
        model.graph.initializer[3].dims[:] = dims

    wanted = f"tensor 'c3' has the shape {tuple(dims)}: {MOST_ELEMENTS:,} elements are the most"
    assert refusal(small(), tmp_path, change) == wanted


@pytest.mark.parametrize("length", [None, 1 << 39])
def test_external_file_of_a_terabyte(tmp_path, length):
    """Only what the shape has is read of it."""

    def change(model):
        tensor = model.graph.initializer[3]
        tensor.CopyFrom(helper.make_tensor(tensor.name, 1, [4, 3], [0.0] * 12))
        tensor.ClearField("float_data")
        tensor.data_location = 1
        tensor.external_data.add(key="location", value="weights.bin")
        if length is not None:
            tensor.external_data.add(key="length", value=str(length))

    with (tmp_path / "weights.bin").open("wb") as file:
        file.write(WEIGHTS.tobytes())
        file.truncate(1 << 40)
    path = small().save(tmp_path / "graph.onnx")
    model, inside = onnx.load(path), qonnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    if length is None:
        assert qonnx.load(path) == inside
        return
    with pytest.raises(FewbitError, match=f"tensor 'c3': says {length} bytes of external data, its shape has 48$"):
        qonnx.load(path)


# Exact numbers of any length


def long_chain(op: str, count: int) -> GraphBuilder:
    graph = started(4)
    for _ in range(count):
        graph.op("Mul", [[1.1, 0.9, 0.7, 1.3]])
        if op == "Relu":
            graph.op("Relu")
    graph.quant(0.25)
    return graph


def many_thresholds() -> GraphBuilder:
    graph = GraphBuilder(600, 1, 1)
    graph.quant(0.5)
    graph.conv(np.ones((600, 1, 1, 1)), group=600)
    graph.op("Mul", np.linspace(0.1, 1, 600).reshape(1, -1, 1, 1))
    graph.quant(0.25, 0, 12)
    return graph


def many_channels() -> GraphBuilder:
    graph = GraphBuilder(4, 512, 512)
    graph.quant(0.5)
    graph.conv(np.ones((4, 1, 1, 1)), group=4)
    graph.op("Mul", np.linspace(0.1, 1, 4).reshape(1, -1, 1, 1))
    graph.flatten()
    graph.node("ArgMax", graph.x, axis=1)
    return graph


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: long_chain("Mul", 400),
            "node 'Mul_342' (Mul): a product of scales needs more than 8192 bits to be exact",
        ),
        (
            lambda: long_chain("Relu", 100),
            "node 'Mul_129' (Mul): there are more than 128 scales and limits before a quantizer",
        ),
        (
            many_thresholds,
            "node 'Quant_3' (Quant): needs 4095 thresholds in 600 channels, more than 2,097,152 in all",
        ),
        (
            many_channels,
            "node 'ArgMax_4' (ArgMax): has 1,048,576 elements that differ in scale or range, 262,144 are the most",
        ),
    ],
)
def test_exact_numbers_of_any_length(tmp_path, make, message):
    assert refusal(make(), tmp_path) == message


@pytest.mark.parametrize(
    "node, message",
    [
        (lambda graph: graph.op("Relu", [1.0]), "cannot have 2 inputs"),
        (lambda graph: graph.op("Flatten", axis=9), "must keep the batch axis, not flatten up to axis 9"),
        (
            lambda graph: graph.node("Squeeze", graph.x, graph.constant([np.nan])),
            "needs integers, and a constant of it is float32",
        ),
        (
            lambda graph: graph.node("Reshape", graph.x, graph.constant([1] * 31 + [4], np.int64)),
            "its result has 32 axes, 31 are the most",
        ),
        (
            lambda graph: graph.node("Gemm", graph.x, graph.constant(WEIGHTS), graph.constant([1, 2, 3], np.float16)),
            "its bias must be float32, not float16",
        ),
        (lambda graph: graph.op("Add", [[[0.5]]]), "a constant of shape (1, 1, 1) does not fit"),
    ],
)
def test_node_of_a_float_network(tmp_path, node, message):
    graph = GraphBuilder(4)
    node(graph)
    with pytest.raises(FewbitError) as error:
        float_onnx.load(graph.save(tmp_path / "graph.onnx"))
    assert message in str(error.value)


def test_bias_of_scores_that_needs_more_than_64_bits(tmp_path):
    from fewbit.golden.quantizers.weight_vectors import WeightVectors
    from fewbit.quantization.quantize import quantize
    from fewbit.quantization.recipe import Recipe

    graph = GraphBuilder(4)
    graph.op("Gemm", WEIGHTS, [1e30, 0, 0])
    recipe = Recipe(code=Code.parse("shift3"), rule="nearest", vectors=WeightVectors("channel", 0))
    with pytest.raises(FewbitError, match=r"^the biases of the scores are too large beside their scales: "):
        quantize(float_onnx.load(graph.save(tmp_path / "graph.onnx")), recipe)


def test_integers_are_divided_exactly(tmp_path):
    """Beyond 2**53, and towards zero, as ONNX has it."""
    from fewbit.importers.onnx_constants import constant_result
    from fewbit.importers.onnx_graph import Node

    node = Node("", "node", "Div", "", ("a", "b"), ("c",), {})
    a, b = np.array([(1 << 60) + 1, -7, 7, -8]), np.array([1, 2, -2, 2])
    assert constant_result(node, [a, b], Budget()).tolist() == [(1 << 60) + 1, -3, -3, -4]
    with pytest.raises(FewbitError, match=r"^divides by zero$"):
        constant_result(node, [a, 0 * b], Budget())
