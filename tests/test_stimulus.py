"""Vectors that are chosen for the faults they see: their counts are those of the fault simulation."""

import re

import numpy as np
import pytest
from networks import random_frames

from fewbit import arrays, models, stimulus
from fewbit.cli import main as cli
from fewbit.engines import network_inputs
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.faults import KINDS, FaultSimulator
from fewbit.golden.network import ArgMax, Dense, Flatten, Network, TensorType, Threshold
from fewbit.readers import load
from fewbit.stimulus import choose


def small(seed=1, inputs=24, hidden=9):
    rng = np.random.default_rng(seed)
    code = Code.parse("ternary")
    return Network(
        name="small",
        input=TensorType(DType("uint", 3), (4, inputs // 4)),
        layers=(
            Flatten(name="flatten"),
            Dense(name="first", weights=rng.choice(code.levels, (hidden, inputs)), code=code),
            Threshold(
                name="act",
                thresholds=np.sort(rng.integers(-20, 30, (hidden, 3)), 1),
                sign=rng.choice([-1, 1], hidden),
                dtype=DType("uint", 2),
                base=0,
            ),
            Dense(name="last", weights=rng.choice(code.levels, (4, hidden)), code=code),
            ArgMax(name="class"),
        ),
    )


def seen_by(network, frames):
    """Counts by kind of what ``frames`` see, simulated anew and in full."""
    simulator = FaultSimulator(network)
    seen = np.zeros(simulator.faults, bool)
    for frame in frames:
        seen[simulator.visible(frame)] = True
    counts = np.bincount(simulator.kinds[seen], minlength=len(KINDS))
    return {kind: int(count) for kind, count in zip(KINDS, counts)}


def check(network, chosen):
    seen = seen_by(network, chosen.frames)
    assert {kind: seen[kind] for kind in chosen.faults} == chosen.seen
    for kind, total in chosen.faults.items():
        assert 0 <= chosen.seen[kind] <= total - chosen.hidden[kind]


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_fault_simulation(seed):
    network = small(seed)
    chosen = choose(network, seed=seed, effort=20)
    check(network, chosen)
    assert len(chosen.frames) < 200
    assert all(chosen.coverage(kind) >= 0.98 for kind in chosen.faults)


def test_the_same_seed_chooses_the_same_frames():
    one, other = (choose(small(), effort=10, seed=3) for _ in range(2))
    assert np.array_equal(one.frames, other.frames)
    assert not np.array_equal(one.frames, choose(small(), effort=10, seed=4).frames)


def test_more_coverage_takes_more_frames():
    few, many = (choose(small(hidden=30), coverage=share, effort=10) for share in (0.5, 1.0))
    assert len(few.frames) < len(many.frames)
    assert sum(few.seen.values()) < sum(many.seen.values())


def test_at_most_so_many_and_the_worth_of_each():
    """Frames beyond what they may be are given up for better ones: the counts are of those that are left."""
    network = small(hidden=60, inputs=64)
    chosen = choose(network, most=6, coverage=1.0, effort=20)
    assert len(chosen.frames) == 6
    check(network, chosen)


def test_chosen_frames_see_more_than_random_ones():
    network = small(hidden=40, inputs=64)
    rng = np.random.default_rng(5)
    random = random_frames(rng, network.input.dtype, (12, *network.input.shape))
    chosen = choose(network, most=12, effort=40)
    visible = sum(chosen.faults.values()) - sum(chosen.hidden.values())
    missed, missed_by_random = (visible - sum(seen.values()) for seen in (chosen.seen, seen_by(network, random)))
    assert missed < 0.5 * missed_by_random


def test_given_frames_are_all_taken_where_they_are_few():
    network = small()
    given = random_frames(np.random.default_rng(1), network.input.dtype, (5, *network.input.shape))
    given[3] = given[0]  # sees nothing new, and stays
    chosen = choose(network, given)
    assert np.array_equal(chosen.frames, given)
    check(network, chosen)


def test_the_best_of_many_given_frames_are_taken():
    network = small(hidden=40, inputs=64)
    given = random_frames(np.random.default_rng(1), network.input.dtype, (90, *network.input.shape))
    chosen = choose(network, given, most=10)
    assert len(chosen.frames) == 10
    assert all((frame == given).all((1, 2)).any() for frame in chosen.frames)
    check(network, chosen)
    assert sum(chosen.seen.values()) > sum(seen_by(network, given[:10]).values())


def test_given_frames_that_see_all_there_is_end_the_choice():
    network = small(hidden=2, inputs=4)
    given = random_frames(np.random.default_rng(1), network.input.dtype, (300, *network.input.shape))
    chosen = choose(network, given, most=100)
    assert len(chosen.frames) < 40
    assert chosen.tried == 300
    assert chosen.seen == {kind: chosen.faults[kind] - chosen.hidden[kind] for kind in chosen.faults}


def test_a_network_without_a_visible_fault():
    dead = Threshold(name="act", thresholds=[[100]], sign=[1], dtype=DType("uint", 1), base=0)
    first = Dense(name="first", weights=[[0]], code=Code.parse("ternary"))
    chosen = choose(Network(name="dead", input=TensorType(DType("uint", 2), (1,)), layers=(first, dead)), effort=5)
    assert (chosen.seen["weight"], chosen.hidden["weight"]) == (0, 1)
    assert "0 of 1 single-weight faults are visible to these vectors, 1 to none at all: 100.00 %" in str(chosen)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"coverage": 0.0}, "the coverage must be above 0 and at most 1, not 0"),
        ({"coverage": 1.5}, "the coverage must be above 0 and at most 1, not 1.5"),
        ({"most": 0}, "there must be at least 1 vector, not 0"),
        ({"candidates": np.zeros((0, 4, 6), int)}, "there is no frame to choose vectors from"),
        ({"candidates": np.full((1, 4, 6), 9)}, "inputs must be uint3 (0 to 7), got 9 to 9"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(FewbitError) as refused:
        choose(small(), **arguments)
    assert str(refused.value) == message


def test_the_command_line_has_the_same_defaults():
    assert (cli.COVERAGE, cli.MOST) == (stimulus.COVERAGE, stimulus.MOST)


def test_real_images_of_a_shipped_network():
    network = load(models.shipped()["tfc-w1a1"])
    images = arrays.read(models.test_set("tfc-w1a1")[0])[:100].astype(np.float32) / 255
    chosen = choose(network, network_inputs(network, images), most=20)
    check(network, chosen)
    assert chosen.seen["weight"] > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(models.shipped()))
def test_every_shipped_network(name):
    network = load(models.shipped()[name])
    chosen = choose(network, effort=20)
    assert len(chosen.frames) <= 200
    check(network, chosen)
    assert re.fullmatch(r"\d+ vectors, chosen from [\d,]+ frames; .*", str(chosen).splitlines()[0])
