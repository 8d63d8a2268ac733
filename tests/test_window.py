"""Windows come out as the golden model cuts them, in the cycles that the timing model says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from networks import random_frames
from streaming import PAIRS, Chain, Slow, simulate
from tiers import slow_but

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.window import windows
from fewbit.hw.layers.window import Geometry, WindowUnit
from fewbit.hw.schedule import schedule
from fewbit.hw.streams import Unpack, shape_of
from fewbit.sim.vectors import lane_words


def cut(geometry, x, fill, lanes):
    """(N, C, H, W) as the unit gives it: by position, group, place in the window, channel."""
    seen = windows(x, geometry.kernel, geometry.stride, geometry.padding, fill)
    n, rows, columns, height, width, channels = seen.shape
    seen = seen.reshape(n, rows, columns, height, width, geometry.groups, channels // geometry.groups)
    return np.ascontiguousarray(seen.transpose(0, 1, 2, 5, 3, 4, 6)).reshape(n, -1)


def case(geometry, source, lanes, frames=3, fill=0, element=None, seed=1):
    x = random_frames(np.random.default_rng(seed), source, (frames, *geometry.shape))
    stream = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(frames, -1)
    expected = lane_words(cut(geometry, x, fill, lanes), element or source, lanes)
    return lane_words(stream, source, lanes), expected


GEOMETRIES = {
    "plain": Geometry(shape=(2, 5, 6), kernel=(3, 2), stride=(1, 1), padding=(0, 0, 0, 0)),
    "padded": Geometry(shape=(1, 5, 4), kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1)),
    "lopsided": Geometry(shape=(3, 4, 5), kernel=(3, 4), stride=(2, 1), padding=(2, 0, 0, 3)),
    "below": Geometry(shape=(1, 4, 4), kernel=(3, 3), stride=(1, 2), padding=(0, 2, 2, 0)),
    "strided": Geometry(shape=(2, 7, 7), kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0)),
    "gaps": Geometry(shape=(1, 9, 8), kernel=(1, 2), stride=(3, 4), padding=(0, 0, 0, 0)),
    "whole": Geometry(shape=(4, 3, 3), kernel=(3, 3), stride=(1, 1), padding=(0, 0, 0, 0)),
    "point": Geometry(shape=(6, 3, 2), kernel=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0)),
    "one pixel": Geometry(shape=(4, 1, 1), kernel=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0)),
    "grouped": Geometry(shape=(6, 5, 4), kernel=(2, 3), stride=(1, 1), padding=(1, 0, 0, 1), groups=3),
    "depthwise": Geometry(shape=(4, 4, 5), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=4),
    "one row": Geometry(shape=(2, 1, 7), kernel=(1, 3), stride=(1, 2), padding=(0, 1, 0, 1)),
    "wide padding": Geometry(shape=(1, 2, 2), kernel=(3, 3), stride=(1, 1), padding=(2, 2, 2, 2)),
}


def lanes_of(geometry):
    channels = geometry.shape[0] // geometry.groups
    return [one for one in range(1, channels + 1) if channels % one == 0]


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("more_rows", slow_but((0, 1), (0, 1, 4)))
def test_every_geometry(name, more_rows):
    geometry, source = GEOMETRIES[name], DType.parse("int3")
    for lanes in lanes_of(geometry):
        unit = WindowUnit(geometry, source, lanes=lanes, rows=geometry.least_rows + more_rows)
        words, expected = case(geometry, source, lanes)
        trace = simulate(unit, words, len(expected))
        assert trace.words == expected
        planned = schedule(unit.timing(), unit.beats_in, unit.cycles_per_frame, fastest=0, most_frames=3)
        assert trace.latency(unit.cycles_per_frame) == planned.latency
        assert trace.intervals(unit.cycles_per_frame)[-1] == planned.interval


@pytest.mark.parametrize("valid, ready", PAIRS)
@pytest.mark.parametrize("name", ["lopsided", "gaps"])
def test_every_pattern(name, valid, ready):
    geometry, source = GEOMETRIES[name], DType.parse("uint2")
    unit = WindowUnit(geometry, source, lanes=1)
    words, expected = case(geometry, source, 1, frames=2)
    assert simulate(unit, words, len(expected), valid=valid, ready=ready).words == expected


@pytest.mark.parametrize(
    "activation, fill, element", [("bipolar", 0, "int2"), ("bipolar", -1, None), ("int4", -8, None)]
)
def test_what_lies_outside(activation, fill, element):
    geometry, source = GEOMETRIES["padded"], DType.parse(activation)
    element = element and DType.parse(element)
    unit = WindowUnit(geometry, source, lanes=1, element=element, fill=fill)
    words, expected = case(geometry, source, 1, fill=fill, element=element)
    assert simulate(unit, words, len(expected), ready="random").words == expected


@pytest.mark.parametrize("name", ["lopsided", "grouped", "depthwise", "point"])
def test_the_timing_model_before_a_slow_receiver(name):
    geometry, source = GEOMETRIES[name], DType.parse("uint2")
    lanes = lanes_of(geometry)[-1]
    unit = WindowUnit(geometry, source, lanes=lanes)
    chain = Chain(unit, *([Unpack(shape_of(source), 1, lanes)] if lanes > 1 else []), Slow(source, 3))
    words, expected = case(geometry, source, lanes)
    mask = (1 << source.bits) - 1
    singles = [word >> source.bits * lane & mask for word in expected for lane in range(lanes)]
    trace = simulate(chain, words, len(singles))
    assert trace.words == singles
    beats = geometry.elements
    planned = schedule(chain.timing(), unit.beats_in, beats, fastest=0, most_frames=3)
    assert trace.latency(beats) == planned.latency
    assert trace.intervals(beats)[-1] == planned.interval


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lanes": 2}, "lanes of a window must divide the 1 channels of a group, not 2"),
        ({"lanes": 0}, "lanes of a window must divide the 1 channels of a group, not 0"),
        ({"lanes": 1, "rows": 3}, "windows of 3 rows at a stride of 1 need 4 rows of the map, not 3"),
        ({"lanes": 1, "memory": "ring"}, 'the memory for rows of a map must be "block" or "distributed", not \'ring\''),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        WindowUnit(GEOMETRIES["padded"], DType.parse("uint2"), **options)
