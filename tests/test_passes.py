"""Each pass, and all in order, leave every score as it was."""

from dataclasses import replace

import numpy as np
import pytest
from networks import random_conv_design, random_design, random_frames, random_threshold

from fewbit.golden.codes import BINARY, Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense, Flatten, Network, Pool, TensorType, Threshold
from fewbit.golden.run import run
from fewbit.passes import (
    PASSES,
    absorb_signs,
    clip_thresholds,
    flatten_channels_last,
    lower,
    merge_flattens,
    thresholds_before_pools,
)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("one", [*PASSES, lower], ids=lambda one: one.__name__)
def test_scores_stay(one, seed):
    rng = np.random.default_rng(seed)
    network, _ = random_design(rng)
    inputs = random_frames(rng, network.input.dtype, (20, *network.input.shape))
    np.testing.assert_array_equal(run(one(network), inputs).scores, run(network, inputs).scores)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("one", [*PASSES, lower], ids=lambda one: one.__name__)
def test_scores_of_maps_stay(one, seed):
    """Flattened in C order, as other tools do, with thresholds on what was flattened in some."""
    rng = np.random.default_rng(seed)
    network, _ = random_conv_design(rng)
    layers = []
    for layer, source in zip(network.layers, network.tensor_types):
        if isinstance(layer, Flatten):
            layer = Flatten(name="flatten")
            if rng.random() < 0.5:
                more = random_threshold(rng, "flat", source.dtype, source.size, source.dtype.min, source.dtype.max, 1)
                layers += [layer, replace(more, base=source.dtype.min)]
                continue
        layers.append(layer)
    network = replace(network, layers=tuple(layers))
    inputs = random_frames(rng, network.input.dtype, (10, *network.input.shape))
    np.testing.assert_array_equal(run(one(network), inputs).scores, run(network, inputs).scores)


def test_levels_are_compared_and_not_sums():
    pool = Pool(name="pool", mode="max", kernel=(2, 2), stride=(2, 2))
    for sign, names in (([1, 1], ["act", "pool"]), ([1, -1], ["pool", "act"])):
        act = Threshold(name="act", thresholds=[[1], [2]], sign=sign, dtype=DType("uint", 1), base=0)
        network = Network(name="n", input=TensorType(DType("uint", 2), (2, 4, 4)), layers=(pool, act))
        assert [layer.name for layer in thresholds_before_pools(network).layers] == names


def test_maps_are_flattened_as_they_stream():
    dense = Dense(name="fc", weights=[[1, 1, -1, 1, 1, 1, 1, -1]], code=BINARY)
    network = Network(name="n", input=TensorType(DType("uint", 2), (2, 2, 2)), layers=(Flatten(name="f"), dense))
    flatten, moved = flatten_channels_last(network).layers
    assert flatten.channels_last
    assert moved.weights.tolist() == [[1, 1, 1, 1, -1, 1, 1, -1]]
    scaled = replace(dense, scales=[[1, 2]], vector=4)
    network = replace(network, layers=(Flatten(name="f"), scaled))
    assert flatten_channels_last(network) == network


def small(code, weights, **threshold):
    layer = Threshold(name="act", dtype=DType("uint", 2), base=0, **threshold)
    dense = Dense(name="fc", weights=weights, code=code)
    return Network(name="n", input=TensorType(DType("uint", 2), (2,)), layers=(dense, layer))


def test_negative_sign_goes_into_binary_weights():
    network = small(BINARY, [[1, -1], [1, 1]], thresholds=[[1], [2]], sign=[-1, 1])
    dense, act = absorb_signs(network).layers
    assert dense.weights.tolist() == [[-1, 1], [1, 1]]
    assert act.sign.tolist() == [1, 1]


def test_negative_sign_stays_where_the_code_lacks_the_negative():
    network = small(Code.parse("int(3)"), [[-4, 1]], thresholds=[[1]], sign=[-1])
    assert absorb_signs(network) == network


def test_unreachable_thresholds_move_to_the_ends():
    network = small(BINARY, [[1, 1], [1, -1]], thresholds=[[-100, 100], [-100, 100]], sign=[1, -1])
    assert clip_thresholds(network).layers[1].thresholds.tolist() == [[0, 7], [-3, 4]]


def test_flatten_of_a_flat_frame_goes():
    layers = (Flatten(name="a"), Flatten(name="b"), Dense(name="fc", weights=[[1, 1]], code=BINARY))
    network = Network(name="n", input=TensorType(DType("uint", 2), (1, 2)), layers=layers)
    assert [layer.name for layer in merge_flattens(network).layers] == ["a", "fc"]


def test_a_network_of_flattens_alone_stays():
    network = Network(name="n", input=TensorType(DType("uint", 2), (2,)), layers=(Flatten(name="a"),))
    assert merge_flattens(network) == network
