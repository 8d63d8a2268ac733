"""Float networks with branches: read as onnxruntime executes them, and quantized, against exact fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from float_models import random_branches, read, reference
from onnx_models import GraphBuilder
from tiers import slow_but

from fewbit import arrays, models
from fewbit.exact import exact
from fewbit.golden.codes import Code
from fewbit.golden.dtype import BIPOLAR
from fewbit.golden.network import Add, Network, Threshold
from fewbit.golden.quantizers.weight_vectors import WeightVectors
from fewbit.golden.run import dequantize_output, run
from fewbit.importers.float_onnx.layers import Bend, FloatPool, Product, Scale
from fewbit.quantization.points import points_of
from fewbit.quantization.quantize import Quantization, accuracy, input_kind, quantize
from fewbit.quantization.recipe import Recipe


def recipe(code: str = "int(8)") -> Recipe:
    return Recipe(code=Code.parse(code), vectors=WeightVectors("channel"))


def rounded(x: Any, scale: Fraction, dtype: Any) -> Any:
    """Integers: half to even, clipped; of a bipolar type the sign."""
    result = np.empty(x.size, object)
    result[:] = [
        (1 if real >= 0 else -1) if dtype == BIPOLAR else min(max(round(real / scale), dtype.min), dtype.max)
        for real in x.ravel().tolist()
    ]
    return result.reshape(x.shape)


def exact_tensors(made: Quantization, integers: Any) -> tuple[list[Any], list[Any]]:
    """All tensors of the float network with its quantized weights, in fractions, and the levels where it is quantized,
    in order."""
    source = made.source
    narrowed = points_of(source, made.input.dtype.bits, not made.input.dtype.signed).narrowed
    x = np.empty(integers.size, object)
    x[:] = [made.input.scale * int(one) for one in integers.ravel()]
    tensors, levels = [x.reshape(integers.shape)], []
    kinds = {0: made.input.dtype}
    for place, (layer, reads) in enumerate(zip(source.layers, source.reads)):
        if isinstance(layer, Product):
            weights = layer.from_matrix(exact(made.weights[layer.name].reals))
            layer = replace(layer, weights=weights, bias=exact(layer.bias))
        elif isinstance(layer, (Scale, Bend)):
            layer = replace(layer, **{name: exact(values) for name, values in vars(layer).items()})
        y = layer.run(*(tensors[one] for one in reads))
        number = place + 1
        kinds[number] = kinds[reads[0]]
        if number in narrowed:
            assert isinstance(layer, FloatPool)
            kind = kinds[reads[0]]
            if (layer.elements * (kind.max - kind.min)).bit_length() > 8:
                low, bits = kind.min, max(8, kind.bits)
                kind = type(kind)("int" if low < 0 else "uint", bits)
                of = made.activations.get(reads[0]) or next(
                    made.activations[one] for one in range(reads[0], -1, -1) if one in made.activations
                )
                scale = Fraction(float(Fraction(of.scale) * of.dtype.max / kind.max))
                levels.append(rounded(y, scale, kind))
                y, kinds[number] = levels[-1] * scale, kind
        if number in made.activations:
            activation = made.activations[number]
            levels.append(rounded(y, Fraction(activation.scale), activation.dtype))
            y, kinds[number] = levels[-1] * Fraction(activation.scale), activation.dtype
        tensors.append(y)
    return tensors, levels


@pytest.mark.parametrize("seed", slow_but(range(10), range(40)))
def test_read_as_the_reference_executes_it(seed: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(seed)
    graph = random_branches(rng)
    frames = rng.random((3, *graph.shape)).astype(np.float32)
    wanted = reference(graph, frames)
    got = read(graph, tmp_path).outputs(frames)
    assert got.shape == wanted.shape
    assert got == pytest.approx(wanted, rel=1e-4, abs=1e-4 * float(np.abs(wanted).max()))


@pytest.mark.parametrize("seed", slow_but(range(10), range(100)))
def test_integers_are_those_of_exact_fractions(seed: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(seed)
    source = read(random_branches(rng), tmp_path)
    frames = rng.integers(0, 256, (3, *source.shape))
    bits = int(rng.choice([1, 2, 4, 8]))
    code = str(rng.choice(["ternary", "shift3", "int(4)", "binary"]))
    made = quantize(source, recipe(code), activations=bits, calibration=frames if rng.random() < 0.5 else None)
    tensors, levels = exact_tensors(made, frames)
    got = run(made.network, frames)
    found = [x for layer, x in zip(made.network.layers, got.tensors[1:]) if isinstance(layer, Threshold)]
    assert len(found) == len(levels)
    for x, wanted in zip(found, levels):
        assert np.array_equal(x.astype(object).reshape(wanted.shape), wanted)
    slack = _slack(made.network, got.output)
    error = dequantize_output(made.network, got.output) - tensors[-1].astype(float).reshape(got.output.shape)
    assert np.abs(error).max() <= slack + 1e-5 * np.abs(tensors[-1].astype(float)).max()


def _slack(network: Network, output: Any) -> float:
    """Scores are whole units; gains that differ between classes are rounded to 8 bits."""
    return float(network.output_scale.max() * (1 + np.abs(output).max() / 64))


@pytest.mark.parametrize("seed", slow_but(range(2), range(30)))
def test_scores_stay_near(seed: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(100 + seed)
    source = read(random_branches(rng), tmp_path)
    frames = rng.integers(0, 256, (50, *source.shape))
    wanted = source.outputs(frames / np.float32(255))
    network = quantize(source, recipe(), calibration=frames).network
    got = dequantize_output(network, run(network, frames).output)
    assert np.sqrt(np.mean((got - wanted) ** 2)) < 0.1 * np.sqrt(np.mean(wanted**2))


def _residual_digits(channels: int, last: Any) -> GraphBuilder:
    """Two residual blocks of random filters, and a dense layer with the weights ``last`` (inputs, outputs)."""
    rng = np.random.default_rng(9)
    graph = GraphBuilder(1, 28, 28)
    graph.conv(rng.normal(size=(channels, 1, 5, 5)).astype(np.float32) / 5, strides=[2, 2], pads=[2, 2, 2, 2])
    graph.op("Relu")
    for _ in range(2):
        start = graph.x
        filters = rng.normal(size=(channels, channels, 3, 3)) / (3 * channels**0.5)
        graph.conv(filters.astype(np.float32), pads=[1, 1, 1, 1])
        graph.batch_norm(*rng.normal(size=(3, channels)), rng.random(channels) + 0.5)
        graph.op("Relu")
        graph.conv((rng.normal(size=(channels, channels, 1, 1)) / channels**0.5).astype(np.float32))
        graph.node("Add", start, graph.x)
        graph.op("Relu")
    graph.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.flatten()
    graph.dense(last)
    return graph


@pytest.mark.parametrize("channels, fitted, least", slow_but([(8, 600, 0.7)], [(8, 600, 0.7), (32, 3000, 0.85)]))
def test_accuracy_of_a_residual_network_stays_near(channels: int, fitted: int, least: float, tmp_path: Any) -> None:
    """Its last layer is fitted to digits by least squares; the accuracy is that on 200 others."""
    x, labels = (arrays.read(path) for path in models.test_set("lenet5"))
    x, size = x.reshape(-1, 1, 28, 28), 49 * channels
    reals = read(_residual_digits(channels, np.eye(size)), tmp_path).run(x[:fitted] / np.float32(255))
    gram = reals.T @ reals
    gram += 0.1 * np.trace(gram) / size * np.eye(size, dtype=np.float32)
    source = read(_residual_digits(channels, np.linalg.solve(gram, reals.T @ np.eye(10)[labels[:fitted]])), tmp_path)
    rest, kind = slice(fitted, fitted + 200), input_kind(None)
    before = accuracy(source, x[rest], labels[rest], kind)
    assert before > least
    for code, lost in (("int(8)", 0.02), ("int(4)", 0.06)):
        made = quantize(source, recipe(code), calibration=x[:50])
        assert accuracy(made.network, x[rest], labels[rest], kind) > before - lost


def test_sides_of_a_sum_are_powers_of_two_apart(tmp_path: Any) -> None:
    rng = np.random.default_rng(3)
    graph = GraphBuilder(2, 4, 4)
    graph.conv(rng.normal(size=(3, 2, 1, 1)).astype(np.float32))
    graph.op("Relu")
    start = graph.x
    graph.conv(9 * rng.normal(size=(3, 3, 3, 3)).astype(np.float32), pads=[1, 1, 1, 1])
    graph.node("Add", graph.x, start)
    graph.op("Relu")
    graph.flatten()
    graph.dense(rng.normal(size=(48, 3)).astype(np.float32))
    made = quantize(read(graph, tmp_path), recipe(), activations=4, calibration=rng.integers(0, 256, (30, 2, 4, 4)))
    (add,) = (layer for layer in made.network.layers if isinstance(layer, Add))
    assert sorted(np.log2(np.abs(add.gains)) % 1) == [0, 0]
    bits = [layer.dtype.bits for layer in made.network.layers if isinstance(layer, Threshold)]
    assert bits == [4, 8, 4]  # only the sum reads the second one
    assert [layer.kind for layer in made.network.layers].count("threshold") == 3


def test_branches_side_by_side_have_one_scale(tmp_path: Any) -> None:
    rng = np.random.default_rng(4)
    graph = GraphBuilder(2, 4, 4)
    start = graph.x
    sides = []
    for gain in (1, 5):
        graph.conv(gain * rng.normal(size=(2, 2, 1, 1)).astype(np.float32), x=start)
        sides.append(graph.op("Relu"))
    graph.node("Concat", *sides, axis=1)
    graph.conv(rng.normal(size=(3, 4, 2, 2)).astype(np.float32))
    made = quantize(read(graph, tmp_path), recipe("shift3"), activations=3)
    assert len({activation.scale for activation in made.activations.values()}) == 1
    assert [layer.kind for layer in made.network.layers] == [
        "conv",
        "threshold",
        "conv",
        "threshold",
        "concat",
        "conv",
        "affine",
    ]
