"""The shipped networks are what their .json files say."""

import numpy as np
import onnx
import pytest
from tiers import slow_but

from fewbit import arrays, engines, models
from fewbit.golden.network import ArgMax, Linear, Threshold
from fewbit.readers import load

NATIVE = [name for name, path in models.shipped().items() if path.suffix == ".safetensors"]
FINE_TUNED = [name for name in NATIVE if "two_scales" in models.facts(name)["recipe"]]
"""By ``train_codes.py``."""
QUICK = [name for name in models.shipped() if name not in FINE_TUNED or name == "lenet5-shift3"]


@pytest.fixture(scope="module")
def images():
    return arrays.read(models.TEST_IMAGES)


@pytest.fixture(scope="module")
def labels():
    return arrays.read(models.TEST_LABELS)


def test_test_set_is_mnist(images, labels):
    assert images.shape == (10_000, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_fashion_images_are_the_first_of_its_test_set():
    images, labels = (arrays.read(path) for path in models.test_set("fashion-conv"))
    assert images.shape == (2000, 28, 28)
    assert images.dtype == np.uint8
    assert labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]


@pytest.mark.parametrize("name", slow_but(QUICK, models.shipped()))
def test_accuracy_on_all_test_images(name):
    """Of Fashion-MNIST on the 2,000 that come with fewbit."""
    input_kind = "uint8/255" if models.shipped()[name].suffix == ".onnx" else None
    network = load(models.shipped()[name], input=input_kind)
    images, labels = (arrays.read(path) for path in models.test_set(name))
    accuracy = 100 * engines.run(network, images.reshape(-1, *network.input.shape)).accuracy(labels)
    wanted = "test_accuracy" if len(images) == 10_000 else "shipped_images_accuracy"
    assert accuracy == pytest.approx(models.facts(name)[wanted], abs=0.001)


@pytest.mark.parametrize("name", ["lenet5-shift3", "lenet-caffe-shift3"])
def test_three_bit_lenets_are_as_good_as_in_float(name):
    facts = models.facts(name)
    network = load(models.shipped()[name])
    linear = [layer for layer in network.layers if isinstance(layer, Linear)]
    assert {str(layer.code) for layer in linear} == {"shift3"}
    assert {layer.vector for layer in linear} == {16}
    assert all(layer.scale_kind.bits <= 8 for layer in linear)
    assert facts["test_accuracy"] >= facts["float_accuracy"] - 0.15  # two standard errors of 10,000 images
    assert min(facts["accuracy_without_retraining"].values()) >= facts["float_accuracy"] - 0.3
    assert set(facts["accuracy_by_quality"]) == {str(quality) for quality in range(1, network.digits + 1)}


@pytest.mark.parametrize("name", FINE_TUNED)
def test_fine_tuned_networks_have_the_codes_and_scales_on_record(name):
    facts, network = models.facts(name), load(models.shipped()[name])
    recipe = facts["recipe"]
    linear = [layer for layer in network.layers if isinstance(layer, Linear)]
    assert {str(layer.code) for layer in linear} == {recipe["code"]}
    assert {layer.negative_scales is not None for layer in linear} == {recipe["two_scales"]}
    assert {layer.vector for layer in linear} == {recipe["vector"]}
    assert all(layer.scale_kind.bits <= 8 for layer in linear)
    assert {layer.dtype.bits for layer in network.layers if isinstance(layer, Threshold)} == {recipe["activation_bits"]}
    assert sum(layer.weights.size for layer in linear) == facts["weights"]
    assert all(option in facts["command"] for option in (f"--epochs {recipe['epochs']}", f"--seed {recipe['seed']}"))


def test_float_models_are_no_networks():
    assert set(models.floats()) == {"lenet5"}
    assert not set(models.floats()) & set(models.shipped())


@pytest.mark.parametrize("name", models.floats())
def test_accuracy_of_float_models_on_all_test_images(name, images, labels):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = onnx.load(models.floats()[name])
    onnx.checker.check_model(model, full_check=True)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"input": images[:, None].astype(np.float32) / np.float32(255)})
    accuracy = 100 * float((scores.argmax(1) == labels).mean())
    assert accuracy == pytest.approx(models.facts(name)["test_accuracy"], abs=0.011)  # a frame may lie between two


@pytest.mark.parametrize("name, least", [("mnist-small", 95.0), ("mnist-large", 98.0), ("mnist-conv", 98.5)])
def test_accuracy_is_what_the_boards_are_promised(name, least):
    assert models.facts(name)["test_accuracy"] >= least


@pytest.mark.parametrize("name", NATIVE)
def test_native_networks_end_in_a_class(name):
    network = load(models.shipped()[name])
    assert isinstance(network.layers[-1], ArgMax)
    assert network.classifies
    assert models.facts(name)["command"].startswith("python models/train")
