"""Float networks in integers, against the same networks with their quantized weights in exact fractions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from float_models import random_graph, read
from onnx_models import GraphBuilder
from tiers import slow_but

from fewbit.exact import exact
from fewbit.generator import design
from fewbit.golden.codes import Code
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Affine, Conv, Dense, Flatten, Linear, Network, Pool, TensorType, Threshold
from fewbit.golden.quantizers.weight_vectors import WeightVectors
from fewbit.golden.run import run
from fewbit.importers.float_onnx.layers import Best, Flat, FloatPool, Product, Relu
from fewbit.importers.float_onnx.network import FloatNetwork
from fewbit.importers.float_onnx.passes import flattened_channels_last
from fewbit.input_kind import InputKind
from fewbit.quantization.activation_range import Activation
from fewbit.quantization.quantize import quantize
from fewbit.quantization.recipe import Recipe

CODES = ("binary", "ternary", "quinary", "shift3", "shift3(2)", "shift3(1)", "csd(2,6)", "int(4)", "int(8)")


def random_recipe(rng):
    code = Code.parse(str(rng.choice(CODES)))
    axis = str(rng.choice(["tensor", "channel", "inputs", "outputs"]))
    length = int(rng.integers(1, 9)) if axis in ("inputs", "outputs") else 0
    return Recipe(
        code=code,
        vectors=WeightVectors(axis, length),
        rule=str(rng.choice(["paper", "least-squares"])) if len(code.levels) in (3, 5, 7) else "nearest",
    )


def with_two_scales(recipe, rng):
    may = recipe.rule != "paper" and recipe.code.symmetric
    return replace(recipe, two_scales=bool(may and rng.random() < 0.3))


def rounded(activation, reals):
    """Activation by its definition: half to even, clipped; of bipolar the sign."""
    scale, dtype = Fraction(activation.scale), activation.dtype
    if dtype == BIPOLAR:
        return [scale if real >= 0 else -scale for real in reals]
    return [scale * min(max(round(real / scale), dtype.min), dtype.max) for real in reals]


def elementwise(function, x):
    result = np.empty(x.size, object)
    result[:] = function(x.ravel().tolist())
    return result.reshape(x.shape)


def exact_scores(made, integers):
    """Scores in fractions, but the biases of the last product left out, and those biases."""
    source = made.source
    products = {}
    for product in source.products:
        reals = made.weights[product.name].reals
        bias = exact(product.bias)
        products[product.name] = replace(product, weights=product.from_matrix(exact(reals)), bias=bias)
    last = source.products[-1].name
    products[last] = replace(products[last], bias=0 * products[last].bias)
    network = source.with_products(products)
    x = elementwise(lambda values: [made.input.scale * int(one) for one in values], integers)
    levels = made.input.dtype, made.input.scale
    for place, layer in enumerate(network.layers):
        x = layer.run(x)
        if isinstance(layer, Product):
            levels = None
            if layer.name == last and place + 1 < max(made.activations, default=0):
                return None  # its bias goes into thresholds
        elif levels is not None and rounds(layer) and any(isinstance(one, Product) for one in network.layers[place:]):
            x, levels = narrow(layer, x, *levels)
        if place + 1 in made.activations:
            activation = made.activations[place + 1]
            assert not (isinstance(layer, Relu) and activation.dtype.signed)
            x = elementwise(lambda values, one=activation: rounded(one, values), x)
            levels = activation.dtype, Fraction(activation.scale)
            if isinstance(layer, Product) and layer.name == last:
                return None
    return x


def rounds(layer):
    return isinstance(layer, FloatPool) and layer.mode == "mean"


def narrow(layer, x, dtype, scale):
    """A mean of more than 8 bits is rounded to 8 of the same range."""
    least, most = layer.elements * dtype.min, layer.elements * dtype.max
    sums = DType.holding(least, most) if least < 0 else DType("uint", most.bit_length())
    if sums.bits <= 8:
        return x, (sums, scale / layer.elements)
    kind = DType("int" if least < 0 else "uint", 8)
    again = Activation(kind, float(scale * dtype.max / kind.max))
    return elementwise(lambda values: rounded(again, values), x), (kind, Fraction(again.scale))


@pytest.mark.parametrize("seed", slow_but(range(10), range(150)))
def test_integers_stand_for_what_the_quantized_network_computes(seed, tmp_path):
    rng = np.random.default_rng(seed)
    source = read(random_graph(rng), tmp_path)
    recipes = {product.name: with_two_scales(random_recipe(rng), rng) for product in source.products}
    kind = str(rng.choice(["uint8/255", "uint2", "int4*0.25", "uint8/2"]))
    dtype = InputKind.parse(kind).dtype
    frames = rng.integers(dtype.min, dtype.max + 1, (4, *source.shape))
    bits = int(rng.choice([1, 2, 3, 4, 8]))
    some = frames if rng.random() < 0.5 else None
    made = quantize(
        source, recipes[source.products[0].name], layers=recipes, activations=bits, input=kind, calibration=some
    )
    network = made.network
    got = run(network, frames)
    for layer in network.layers:
        if isinstance(layer, Threshold):
            assert layer.dtype.bits in (bits, 8)
    sums = exact_scores(made, frames)
    if sums is None:
        return
    before_bias = got.tensors[-2] if isinstance(network.layers[-1], Affine) else got.tensors[-1]
    bias = exact(source.products[-1].bias)
    unit = Fraction(network.output_scale[0])
    if isinstance(affine := network.layers[-1], Affine) and (affine.scale != 1).any():
        # gains of 8 bits: each is off by half a unit of it at most, and so is the bias
        slack = unit / 2 * (np.abs(before_bias).max() + 1)
        wanted = sums + bias
        assert all(abs(unit * int(one) - real) <= slack for one, real in zip(got.output.ravel(), wanted.ravel()))
        return
    units = sums / unit if sums.any() else 0 * before_bias
    assert np.array_equal(before_bias, units.astype(np.int64)) or approximately(before_bias, units)
    if isinstance(network.layers[-1], Affine):
        shift = np.array([round(one / unit) for one in bias])
        assert np.array_equal(affine.bias, shift) or approximately(affine.bias, shift)
    assert network.classifies or network.output.size == 1


def approximately(integers, reals):
    """``unit`` passed through float64."""
    return all(
        abs(int(one) - real) <= abs(real) * Fraction(1, 10**12) for one, real in zip(integers.ravel(), reals.ravel())
    )


def test_a_mean_before_the_relu_is_taken_of_sums(tmp_path):
    graph = GraphBuilder(1, 4, 4)
    graph.conv(np.ones((2, 1, 1, 1), np.float32), [0.5, -20.0])
    graph.op("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    graph.op("Relu")
    graph.op("MaxPool", kernel_shape=[2, 2])
    graph.flatten()
    graph.dense(np.array([[1.0, -1.0], [0.0, 2.0]], np.float32))
    source = read(graph, tmp_path)
    made = quantize(source, Recipe(code=Code.parse("ternary"), vectors=WeightVectors("tensor")), input="uint4")
    kinds = [layer.kind for layer in made.network.layers]
    assert kinds == ["conv", "pool", "threshold", "pool", "flatten", "dense"]
    pools = [layer.mode for layer in made.network.layers if isinstance(layer, Pool)]
    assert pools == ["sum", "max"]


def test_a_wide_mean_of_levels_is_rounded_to_eight_bits(tmp_path):
    graph = GraphBuilder(1, 8, 8)
    graph.conv(np.ones((2, 1, 1, 1), np.float32))
    graph.op("Relu")
    graph.op("GlobalAveragePool")
    graph.flatten()
    graph.dense(np.array([[1.0, -1.0], [0.0, 2.0]], np.float32))
    source = read(graph, tmp_path)
    for bits, widths in ((8, [8, 8]), (2, [2])):
        made = quantize(source, Recipe(code=Code.parse("ternary")), activations=bits)
        thresholds = [layer.dtype.bits for layer in made.network.layers if isinstance(layer, Threshold)]
        assert thresholds == widths


def test_without_a_relu_activations_are_signed(tmp_path):
    graph = GraphBuilder(4)
    graph.dense(np.eye(4, dtype=np.float32))
    graph.dense(np.eye(4, dtype=np.float32))
    source = read(graph, tmp_path)
    for bits, dtype in ((8, "int8"), (1, "bipolar")):
        made = quantize(source, Recipe(code=Code.parse("ternary")), activations=bits)
        threshold = next(layer for layer in made.network.layers if isinstance(layer, Threshold))
        assert str(threshold.dtype) == dtype


@pytest.mark.parametrize("code, stored", [("binary", "ternary"), ("shift3", "shift3"), ("int(4)", "int(4)")])
def test_a_dilated_kernel_has_zeros_in_between(code, stored, tmp_path):
    rng = np.random.default_rng(1)
    graph = GraphBuilder(1, 6, 6)
    graph.conv(rng.normal(size=(2, 1, 2, 2)).astype(np.float32), dilations=[2, 3])
    source = read(graph, tmp_path)
    made = quantize(source, Recipe(code=Code.parse(code)))
    (layer,) = (layer for layer in made.network.layers if isinstance(layer, Conv))
    assert (layer.weights.shape, str(layer.code)) == ((2, 1, 3, 4), stored)
    assert np.array_equal(layer.weights[:, :, ::2, ::3].ravel(), made.weights["Conv_0"].levels.reshape(2, 4).ravel())
    with pytest.raises(FewbitError, match="^layer 'Conv_0': is dilated, so that its weights cannot store scales: "):
        quantize(source, Recipe(code=Code.parse(code), vectors=WeightVectors("inputs", 2)))


def test_arg_max_ends_the_network(tmp_path):
    from onnx import TensorProto

    graph = GraphBuilder(4)
    graph.op("Gemm", np.eye(4, dtype=np.float32), np.array([0, 5, 0, 0], np.float32))
    graph.op("ArgMax", axis=1)
    graph.result = TensorProto.INT64
    source = read(graph, tmp_path)
    assert isinstance(source.layers[-1], Best)
    made = quantize(source, Recipe(code=Code.parse("ternary")), input="uint4")
    assert [layer.kind for layer in made.network.layers] == ["dense", "affine", "argmax"]
    frames = np.array([[0, 0, 0, 0], [0, 0, 15, 0]])
    assert run(made.network, frames).output.tolist() == source.classify(frames).tolist() == [1, 2]
    assert made.network.output_shape == (1,)


def test_a_relu_on_a_signed_input_is_a_threshold(tmp_path):
    graph = GraphBuilder(4)
    graph.op("Relu")
    graph.dense(np.eye(4, dtype=np.float32))
    frames = np.arange(-8, 8).reshape(4, 4)
    recipe = Recipe(code=Code.parse("ternary"))
    made = quantize(read(graph, tmp_path), recipe, input="int4", calibration=frames)
    assert [layer.kind for layer in made.network.layers] == ["threshold", "dense"]
    scores = run(made.network, frames).output * made.network.output_scale
    assert scores == pytest.approx(np.maximum(frames, 0), abs=0.02)


def test_weights_keep_their_places(tmp_path):
    """Levels of a convolution in the order of its own weights, scales in the order of hardware."""
    rng = np.random.default_rng(3)
    graph = GraphBuilder(4, 5, 5)
    weights = rng.normal(size=(3, 4, 2, 2)).astype(np.float32)
    graph.conv(weights)
    source = read(graph, tmp_path)
    made = quantize(source, Recipe(code=Code.parse("int(8)"), vectors=WeightVectors("inputs", 4)))
    layer, product = made.network.layers[0], source.products[0]
    assert isinstance(layer, Linear)
    assert isinstance(product, Product)
    unit = made.weights["Conv_0"].unit
    assert layer.factors() * unit == pytest.approx(product.matrix, rel=0.05, abs=0.02)


def test_vectors_behind_a_map_lie_as_hardware_streams_them():
    """A float network whose dense layer follows a map: the same numbers, and a design can be made of it."""
    rng = np.random.default_rng(4)
    conv = Product(name="conv", weights=rng.normal(size=(4, 1, 3, 3)), bias=rng.normal(size=4))
    dense = Product(name="dense", weights=rng.normal(size=(5, 4 * 6 * 5)), bias=rng.normal(size=5))
    source = FloatNetwork(name="net", shape=(1, 8, 7), layers=(conv, Relu(), Flat(), dense), output_shape=(5,))
    x = rng.integers(0, 256, (20, 1, 8, 7))
    moved = flattened_channels_last(source)
    assert moved.layers[2] == Flat(channels_last=True)
    np.testing.assert_allclose(moved.run(x / 255), source.run(x / 255), rtol=1e-4, atol=1e-4)
    recipe = Recipe(code=Code.parse("shift3"), vectors=WeightVectors("inputs", 4))
    network = quantize(source, recipe, calibration=x).network
    assert network.digits > 1
    assert design(network, "ecp5-25k").plan.network.output == network.output


@pytest.mark.parametrize("channels_last", [False, True])
def test_weights_behind_a_map_stay_with_their_inputs(channels_last):
    rng = np.random.default_rng(5)
    code = Code.parse("ternary")
    conv = Conv(name="conv", weights=rng.choice(code.levels, (3, 1, 2, 2)), code=code)
    dense = Dense(name="dense", weights=rng.choice(code.levels, (4, 3 * 3 * 4)), code=code)
    layers = (conv, Flatten(name="flatten", channels_last=channels_last), dense)
    source = Network(name="net", input=TensorType(DType.parse("uint2"), (1, 4, 5)), layers=layers)
    x = rng.integers(0, 4, (10, 1, 4, 5))
    made = quantize(source, Recipe(code=code, vectors=WeightVectors("tensor"))).network
    assert np.array_equal(run(made, x).scores, run(source, x).scores)
