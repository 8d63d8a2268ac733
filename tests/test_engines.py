import numpy as np
import pytest
from networks import random_design, random_frames

from benchmarks.models import shipped
from fewbit import arrays, engines, models
from fewbit.generator import design
from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Conv, Dense, InputQuantizer, Network, TensorType
from fewbit.golden.run import run
from fewbit.hw.planner.constraints import Constraints


def network(**options):
    dense = Dense(name="fc", weights=[[1, -1, 1], [-1, 1, 1]], code=BINARY)
    return Network(name="n", input=TensorType(DType("uint", 2), (3,)), layers=(dense,), **options)


@pytest.mark.parametrize("seed", range(4))
def test_rtl_equals_golden_under_every_pattern(seed):
    rng = np.random.default_rng(seed)
    net, _ = random_design(rng)
    frames = random_frames(rng, net.input.dtype, (10, *net.input.shape))
    made = design(net, "ecp5-25k")
    golden = engines.run_golden(net, frames)
    for valid, ready in (("always", "always"), ("random", "random"), ("slow", "burst")):
        rtl = engines.run_rtl(made, frames, valid_pattern=valid, ready_pattern=ready, seed=seed)
        assert engines.differing_frames(rtl, golden).tolist() == []


def test_rtl_takes_exactly_the_planned_cycles():
    net = shipped("mnist-small")
    frames = arrays.read(models.TEST_IMAGES)[:20]
    made = design(net, "up5k")
    rtl = engines.run_rtl(made, frames)
    golden = engines.run_golden(net, frames)
    assert engines.differing_frames(rtl, golden).tolist() == []
    assert rtl.cycles == made.plan.latency + 19 * made.plan.cycles_per_frame


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, target, fps",
    [("mnist-small", "up5k", None), ("mnist-large", "ecp5-85k", 10_000), ("tfc-w2a2", "up5k", None)],
)
def test_all_test_images_through_rtl(name, target, fps):
    net = shipped(name)
    frames = arrays.read(models.TEST_IMAGES).reshape(-1, *net.input.shape)
    rtl = engines.run_rtl(design(net, target, Constraints(fps=fps)), frames)
    assert engines.differing_frames(rtl, engines.run_golden(net, frames)).tolist() == []


CONVOLUTIONAL = [name for name in models.shipped() if any(isinstance(one, Conv) for one in shipped(name).layers)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_networks_through_rtl_at_every_quality(name):
    """200 images; 20 in each quality below the highest."""
    net = shipped(name)
    frames = arrays.read(models.test_set(name)[0])[:200].reshape(-1, *net.input.shape)
    made = design(net, "ecp5-85k", Constraints(fps=1000))
    assert engines.differing_frames(engines.run_rtl(made, frames), engines.run_golden(net, frames)).tolist() == []
    few = frames[:20]
    for quality in range(net.digits):
        golden = engines.run_golden(net, few, quality=quality)
        assert engines.differing_frames(engines.run_rtl(made, few, quality=quality), golden).tolist() == []


@pytest.mark.slow
def test_a_flipped_weight_is_seen():
    net = shipped("mnist-small")
    frames = arrays.read(models.TEST_IMAGES)[:50]
    layers = list(net.layers)
    at = next(index for index, layer in enumerate(layers) if layer.name == "dense3")
    weights = layers[at].weights.copy()
    weights[4, 17] *= -1
    layers[at] = Dense(name="dense3", weights=weights, code=BINARY)
    wrong = Network(name="wrong", input=net.input, layers=tuple(layers))
    rtl = engines.run_rtl(design(wrong, "up5k"), frames)
    feeds = run(net, frames).tensors[at][:, 17] != 0
    assert 0 < feeds.sum() < 50
    assert engines.differing_frames(rtl, engines.run_golden(net, frames)).tolist() == np.flatnonzero(feeds).tolist()


def test_no_frames():
    for engine in ("golden", "rtl"):
        result = engines.run(network(), np.zeros((0, 3), np.uint8), engine)
        assert result.scores.shape == (0, 2)
        assert result.output.shape == (0, 2)


def test_output_is_the_source_models_tensor():
    net = network(output_scale=[0.5], output_bias=[1.0], output_shape=(2, 1))
    output = engines.run(net, np.array([[3, 0, 1]])).output
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output, np.float32([[[3.0], [0.0]]]))


def test_classes_of_unlike_scales_are_those_of_the_real_scores():
    net = network(output_scale=[0.1, 1.0])
    assert not net.classifies
    result = engines.run(net, np.array([[3, 1, 0]]))
    assert result.scores.tolist() == [[2, -2]]
    assert result.classes.tolist() == [0]
    negative = engines.run(network(output_scale=[-1.0]), np.array([[3, 1, 0]]))
    assert negative.classes.tolist() == [1]


def test_float_inputs_are_quantized():
    quantizer = InputQuantizer(thresholds=[0.25, 0.5, 0.75], sign=1, base=0)
    net = network(input_quantizer=quantizer)
    result = engines.run(net, np.array([[0.9, 0.3, 0.0]], np.float32))
    assert result.scores.tolist() == [[3 - 1, -3 + 1]]


@pytest.mark.parametrize(
    "inputs, message",
    [
        (np.zeros((2, 4), np.uint8), "inputs must have shape (N, 3), not (2, 4)"),
        (np.zeros(3, np.uint8), "inputs must have shape (N, 3), not (3,)"),
        (np.full((1, 3), 4), "inputs must be uint2 (0 to 3), got 4 to 4"),
        (np.zeros((1, 3), np.float32), "network 'n' takes integers (uint2[3]), not float32"),
        (np.zeros((1, 3), complex), "inputs must be integers (uint2), not complex128"),
    ],
)
def test_wrong_inputs(inputs, message):
    with pytest.raises(FewbitError) as error:
        engines.run(network(), inputs)
    assert str(error.value) == message


def test_integers_for_a_float_network():
    net = network(input_quantizer=InputQuantizer(thresholds=[0.5], sign=1, base=0))
    with pytest.raises(FewbitError) as error:
        engines.run(net, np.zeros((1, 3), np.uint8))
    assert str(error.value) == (
        "network 'n' takes float32 inputs, not uint8; say what the integers stand for, such as --input uint8/255, "
        "or pass floats"
    )


def test_labels_of_another_length():
    result = engines.run(network(), np.zeros((2, 3), np.uint8))
    with pytest.raises(FewbitError) as error:
        result.accuracy(np.zeros(3, int))
    assert str(error.value) == "labels must be 2 integers on one axis, not int64 (3,)"


def test_accuracy_of_a_network_that_does_not_classify():
    dense = Dense(name="fc", weights=[[1, -1, 1]], code=BINARY)
    net = Network(name="one", input=TensorType(DType("uint", 2), (3,)), layers=(dense,))
    with pytest.raises(FewbitError, match="network 'one' does not classify: its output is int4"):
        engines.run(net, np.zeros((2, 3), np.uint8)).accuracy(np.zeros(2, int))


def test_one_class_is_class_zero():
    dense = Dense(name="fc", weights=[[1, -1, 1]], code=BINARY)
    net = Network(name="one", input=TensorType(DType("uint", 2), (3,)), layers=(dense, ArgMax(name="top")))
    for engine in ("golden", "rtl"):
        assert engines.run(net, np.zeros((2, 3), np.uint8), engine).output.tolist() == [0, 0]


def test_unknown_engine():
    with pytest.raises(FewbitError, match="engine must be one of golden, rtl"):
        engines.run(network(), np.zeros((1, 3), np.uint8), "fpga")
