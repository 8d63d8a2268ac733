"""Pooling gives the golden maps in the cycles that the timing model says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from networks import random_frames
from streaming import PAIRS, simulate

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network, Pool, TensorType
from fewbit.golden.run import run
from fewbit.hw.layers.pool import PoolUnit, ReduceUnit
from fewbit.hw.schedule import schedule
from fewbit.sim.vectors import lane_words


def case(layer, source, lanes, frames=3):
    x = random_frames(np.random.default_rng(1), source.dtype, (frames, *source.shape))
    y = run(Network(name="net", input=source, layers=(layer,)), x).output
    given, wanted = (np.ascontiguousarray(one.transpose(0, 2, 3, 1)).reshape(frames, -1) for one in (x, y))
    return lane_words(given, source.dtype, lanes), lane_words(wanted, layer.output(source).dtype, lanes)


POOLS = [((2, 2), (2, 2), (0, 0, 0, 0)), ((3, 2), (1, 2), (1, 1, 2, 0)), ((4, 5), (1, 1), (0, 0, 0, 0))]


@pytest.mark.parametrize("kernel, stride, padding", POOLS)
@pytest.mark.parametrize("activation", ["bipolar", "uint3", "int3"])
@pytest.mark.parametrize("mode", ["max", "sum"])
def test_every_pool(mode, activation, kernel, stride, padding):
    layer = Pool(name="pool", mode=mode, kernel=kernel, stride=stride, padding=padding)
    source = TensorType(DType.parse(activation), (4, 4, 5))
    for lanes in (1, 2, 4):
        unit = PoolUnit(layer, source, lanes=lanes)
        words, expected = case(layer, source, lanes)
        trace = simulate(unit, words, len(expected))
        assert trace.words == expected
        beats = len(expected) // 3
        planned = schedule(unit.timing(), len(words) // 3, beats, fastest=0, most_frames=3)
        assert trace.latency(beats) == planned.latency
        assert trace.intervals(beats)[-1] == planned.interval


@pytest.mark.parametrize("valid, ready", PAIRS)
def test_every_pattern(valid, ready):
    layer = Pool(name="pool", mode="max", kernel=(2, 2), stride=(2, 2))
    source = TensorType(DType.parse("uint4"), (2, 5, 4))
    words, expected = case(layer, source, 1)
    assert simulate(PoolUnit(layer, source, lanes=1), words, len(expected), valid=valid, ready=ready).words == expected


SOURCE = TensorType(DType.parse("uint2"), (4, 4, 4))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda pool: PoolUnit(pool, SOURCE, lanes=3), "layer 'pool': lanes must divide the 4 channels, not 3"),
        (lambda _: ReduceUnit(SOURCE.dtype, SOURCE.dtype, mode="mean", count=1, lanes=1),
         "a reduction is \"max\" or \"sum\", not 'mean'"),
        (lambda _: ReduceUnit(SOURCE.dtype, SOURCE.dtype, mode="sum", count=0, lanes=1),
         "a reduction needs at least 1 beat and 1 lane, not 0 and 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        make(Pool(name="pool", mode="max", kernel=(2, 2), stride=(2, 2)))
