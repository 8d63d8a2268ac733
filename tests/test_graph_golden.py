"""Networks that branch and join, on the golden model: values, types, ranges, files, passes and faults."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from networks import random_frames, random_graph_design
from safetensors import safe_open

from fewbit.golden import file
from fewbit.golden.codes import TERNARY
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.faults import FaultSimulator
from fewbit.golden.input_range import input_range
from fewbit.golden.network import (
    INPUT,
    Add,
    Affine,
    ArgMax,
    Concat,
    Dense,
    Flatten,
    Join,
    Network,
    TensorType,
    Threshold,
)
from fewbit.golden.run import run
from fewbit.models import shipped
from fewbit.passes import PASSES, lower

INT4 = DType("int", 4)


def dense(name: str, outputs: int, fan_in: int, **fields) -> Dense:
    weights = np.random.default_rng(len(name)).choice(TERNARY.levels, (outputs, fan_in))
    return Dense(name=name, weights=weights, code=TERNARY, **fields)


def diamond(**changes) -> Network:
    """Two dense layers on one input, their sum, and both beside it."""
    layers = (
        dense("a", 4, 4), dense("bb", 4, 4, inputs=(INPUT,)), Add(name="add", gains=[3, -2], inputs=("a", "bb")),
        Concat(name="all", inputs=("add", "a")), dense("last", 3, 8), ArgMax(name="m"),
    )  # fmt: skip
    return Network(**({"name": "diamond", "input": TensorType(INT4, (4,)), "layers": layers} | changes))


def test_a_sum_times_its_gains_and_tensors_side_by_side():
    network = diamond()
    x = random_frames(np.random.default_rng(1), INT4, (50, 4))
    result = run(network, x)
    a, b, add, both, last, _ = network.layers
    by_hand = 3 * (x @ a.weights.T) - 2 * (x @ b.weights.T)
    assert (result.of(add) == by_hand).all()
    assert (result.of(both) == np.concatenate([by_hand, x @ a.weights.T], 1)).all()
    assert (result.scores == result.of(both) @ last.weights.T).all()
    assert (result.of(None) == x).all()


def test_what_a_layer_reads_and_who_reads_it():
    network = diamond()
    a, b, add, both, _, best = network.layers
    assert network.before(a) == network.before(b) == (None,)
    assert network.before(add) == (a, b)
    assert network.after(a) == (add, both)
    assert network.after(best) == ()
    assert network.sources(both) == (network.types["add"], network.types["a"])
    assert (network.only_reader(0), network.only_reader(1), network.only_reader(4)) == (None, None, 4)
    assert network.scores == network.types["last"]


@pytest.mark.parametrize(
    "kinds, gains, wanted",
    [
        (("int4", "int4"), [1, 1], "int5"),
        (("uint2", "uint4"), [1, 1], "uint5"),
        (("uint2", "uint2"), [4, 1], "uint4"),
        (("uint2", "uint2"), [1, -1], "int3"),
        (("bipolar", "bipolar"), [1, 1], "int3"),
        (("bipolar", "uint2"), [3, 2], "int5"),
    ],
)
def test_the_kind_of_a_sum_holds_its_ends_and_no_more(kinds, gains, wanted):
    layer = Add(name="add", gains=gains, inputs=("a", "b"))
    sources = [TensorType(DType.parse(kind), (2,)) for kind in kinds]
    assert str(layer.output_of(sources).dtype) == wanted


@pytest.mark.parametrize(
    "kinds, wanted",
    [(("bipolar", "bipolar"), "bipolar"), (("uint2", "int2"), "int3"), (("uint2", "uint5"), "uint5"),
     (("bipolar", "uint1"), "int2")],
)  # fmt: skip
def test_the_kind_of_tensors_side_by_side_holds_all(kinds, wanted):
    sources = [TensorType(DType.parse(kind), (channels, 2, 2)) for channels, kind in enumerate(kinds, 1)]
    output = Concat(name="c", inputs=("a", "b")).output_of(sources)
    assert (str(output.dtype), output.shape) == (wanted, (3, 2, 2))


def add(*inputs: str, gains=(1, 1)) -> Add:
    return Add(name="s", gains=gains, inputs=inputs)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: [dense("a", 4, 4, inputs=("b",))], "layer 'a': reads 'b', which is not the name of a layer"),
        (lambda: [dense("a", 4, 4, inputs=("a",))], "layer 'a': reads 'a', which is not earlier in the list"),
        (lambda: [dense("a", 4, 4), dense("b", 4, 4, inputs=(INPUT,))], "layer 'a': no layer reads it"),
        (lambda: [Flatten(name="f", inputs=(INPUT, INPUT))], "layer 'f': a flatten layer reads one input, not 2"),
        (lambda: [add(INPUT, gains=[1])], "layer 's': an add joins two inputs or more; name them"),
        (lambda: [add(INPUT, INPUT, gains=[1, 0])], "layer 's': needs a gain other than 0 for each of 2 inputs"),
        (lambda: [add(INPUT, INPUT, gains=[1, 1 << 31])], "layer 's': gains must fit 32 signed bits"),
        (lambda: [dense("a", 3, 4), add("a", INPUT)], "layer 's': adds inputs of one shape, not int6[3], int4[4]"),
        (lambda: [dense("input", 4, 4), add("input", INPUT)], "layer 's': reads 'input', which is the network's input"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(make, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}"):
        diamond(layers=tuple(make()))


def test_the_range_behind_a_join_is_that_of_its_sides():
    layers = (
        Threshold(name="t", thresholds=[[0]], sign=[1], dtype=DType("uint", 3), base=2),
        Affine(name="g", scale=[1, -1, 2, 3], bias=[0, 5, 0, 1]),
        Add(name="s", gains=[2, -1], inputs=("g", INPUT)),
        Concat(name="c", inputs=("s", "t")),
        Flatten(name="f"),
    )
    network = diamond(layers=layers)
    low, high = input_range(network, layers[3])
    x = np.array(np.meshgrid(*[np.arange(-8, 8)] * 2)).reshape(2, -1).T.repeat(2, 1)[:, [0, 0, 1, 1]]
    sums = run(network, x).of(layers[2])
    assert (low <= sums.min(0)).all()
    assert (high >= sums.max(0)).all()
    low, high = input_range(network, layers[4])
    assert low.shape == high.shape == (8,)


@pytest.mark.parametrize("seed", range(30))
def test_types_and_ranges_hold_in_random_graphs(seed):
    rng = np.random.default_rng(seed)
    network, _ = random_graph_design(rng)
    result = run(network, random_frames(rng, network.input.dtype, (20, *network.input.shape)))
    for layer in network.layers:
        values, kind = result.of(layer), network.types[layer.name]
        assert values.shape[1:] == kind.shape
        assert kind.dtype.contains(values)
    for layer in network.layers[1:]:
        low, high = input_range(network, layer)
        values = result.of(network.before(layer)[0])
        axes = (0, *range(2, values.ndim))
        assert (low <= values.min(axes)).all()
        assert (high >= values.max(axes)).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_graph_is_saved_and_loaded_as_itself(seed, tmp_path):
    network, _ = random_graph_design(np.random.default_rng(seed))
    file.save(network, tmp_path / "n.safetensors")
    assert file.load(tmp_path / "n.safetensors") == network


def version(path) -> int:
    with safe_open(path, framework="numpy") as opened:
        return json.loads(opened.metadata()[file.FORMAT])["version"]


def test_chains_keep_the_version_that_older_releases_read(tmp_path):
    path = tmp_path / "n.safetensors"
    file.save(diamond(), path)
    assert version(path) == file.GRAPH
    file.save(diamond(layers=(dense("a", 3, 4), ArgMax(name="m"))), path)
    assert version(path) == file.CHAIN


def test_files_of_before_the_graph_are_written_again_byte_by_byte(tmp_path):
    path = shipped()["mnist-small"]
    file.save(file.load(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("step", [*PASSES, lower], ids=lambda step: step.__name__)
def test_passes_leave_scores_as_they_are(step, seed):
    rng = np.random.default_rng(seed)
    network, _ = random_graph_design(rng)
    x = random_frames(rng, network.input.dtype, (10, *network.input.shape))
    np.testing.assert_array_equal(run(step(network), x).scores, run(network, x).scores)


@pytest.mark.parametrize("seed", range(6))
def test_visible_faults_are_those_that_planted_networks_show(seed):
    rng = np.random.default_rng(seed)
    network, _ = random_graph_design(rng)
    assert any(isinstance(layer, Join) for layer in network.layers)
    simulator = FaultSimulator(network)
    x = random_frames(rng, network.input.dtype, (3, *network.input.shape))
    chosen = np.sort(rng.choice(simulator.faults, min(60, simulator.faults), replace=False))
    for frame in x:
        seen = set(simulator.visible(frame, chosen).tolist())
        wanted = run(network, frame[None]).scores
        for number in chosen:
            planted = simulator.planted(int(number))
            if planted is not None:
                differs = bool((run(planted, frame[None]).scores != wanted).any())
                assert differs == (number in seen), simulator.fault(int(number))
