"""Threshold units, in both forms, held to the golden thresholds: every input value where there are few."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from faults import mutant
from networks import random_frames, random_threshold
from streaming import PAIRS, simulate

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Network, TensorType, Threshold
from fewbit.golden.run import run
from fewbit.hw.layers.threshold import COMPARATORS, SEARCH, ThresholdUnit
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.vectors import Field, Vectors, lane_words

FORMS = (COMPARATORS, SEARCH)


def vectors(layer: Threshold, source: TensorType, frames: Ints, lanes: int) -> Vectors:
    network = Network(name="threshold", input=source, layers=(layer,))
    beats = source.size // lanes
    return Vectors(
        words=lane_words(frames, source.dtype, lanes),
        expected=lane_words(run(network, frames).output, layer.dtype, lanes),
        fields=(Field(name="level", bits=layer.dtype.bits, signed=layer.dtype.signed, lanes=lanes),),
        beats_in=beats,
        beats_out=beats,
    )


def check(unit: ThresholdUnit, case: Vectors, **patterns):
    trace = simulate(unit, case.words, len(case.expected), **patterns)
    assert trace.words == case.expected
    return trace


def units(layer: Threshold, source: TensorType, **parameters) -> list[ThresholdUnit]:
    """A unit for every number of stages of its form."""
    stages = (1, 2) if parameters["form"] == SEARCH else (1,)
    return [ThresholdUnit(layer, source, stages=count, **parameters) for count in stages]


def every_value(dtype: DType, channels: int) -> Ints:
    """Frames in which every channel sees every value of ``dtype``."""
    return np.repeat(np.arange(dtype.min, dtype.max + 1, dtype.step)[:, None], channels, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["bipolar", "uint1", "uint3", "int3", "int6"])
@pytest.mark.parametrize("out", ["bipolar", "uint2", "int3", "uint4"])
def test_every_value_of_every_kind(form, name, out):
    dtype, rng = DType.parse(name), np.random.default_rng(1)
    source = TensorType(dtype, (4,))
    layer = random_threshold(rng, "t", DType.parse(out), 4, dtype.min, dtype.max)
    for unit in units(layer, source, lanes=2, form=form):
        trace = check(unit, vectors(layer, source, every_value(dtype, 4), 2))
        assert trace.given[0] - trace.taken[0] == unit.latency
        assert trace.intervals(unit.beats)[-1] == unit.cycles_per_frame


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31])
def test_around_a_power_of_two_thresholds(form, count):
    dtype = DType.parse("int7")
    source = TensorType(dtype, (2,))
    layer = random_threshold(np.random.default_rng(count), "t", DType.parse("uint5"), 2, -60, 60, count)
    for unit in units(layer, source, lanes=1, form=form):
        check(unit, vectors(layer, source, every_value(dtype, 2), 1))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("lanes", [1, 2, 3, 6])
@pytest.mark.parametrize("memory", ["block", "logic"])
def test_every_number_of_lanes(form, rows, lanes, memory):
    rng, dtype = np.random.default_rng(lanes), DType.parse("int5")
    source = TensorType(dtype, (6,))
    layer = random_threshold(rng, "t", DType.parse("int2"), rows, -16, 15)
    for unit in units(layer, source, lanes=lanes, form=form, memory=memory):
        check(unit, vectors(layer, source, random_frames(rng, dtype, (10, 6)), lanes), ready="random")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("valid, ready", PAIRS)
def test_every_pattern(form, valid, ready):
    rng, dtype = np.random.default_rng(3), DType.parse("int5")
    source = TensorType(dtype, (4,))
    layer = random_threshold(rng, "t", DType.parse("uint2"), 4, -16, 15)
    case = vectors(layer, source, random_frames(rng, dtype, (8, 4)), 2)
    for unit in units(layer, source, lanes=2, form=form):
        check(unit, case, valid=valid, ready=ready)


@pytest.mark.parametrize("form", FORMS)
def test_one_row_serves_a_frame_of_any_shape(form):
    rng, dtype = np.random.default_rng(4), DType.parse("uint4")
    source = TensorType(dtype, (2, 3, 2))
    layer = random_threshold(rng, "t", DType.parse("bipolar"), 1, 0, 15)
    check(
        ThresholdUnit(layer, source, lanes=4, form=form),
        vectors(layer, source, random_frames(rng, dtype, (5, 2, 3, 2)), 4),
    )


@pytest.mark.parametrize("form", FORMS)
def test_thresholds_far_outside_the_range_never_and_always_count(form):
    dtype, far = DType.parse("int3"), 1 << 40
    source = TensorType(dtype, (2,))
    layer = Threshold(
        name="t",
        thresholds=[[-far, -far, far], [-far, 0, far]],
        sign=[1, -1],
        dtype=DType.parse("uint2"),
        base=0,
    )
    check(ThresholdUnit(layer, source, lanes=2, form=form), vectors(layer, source, every_value(dtype, 2), 2))


@pytest.mark.parametrize("form", FORMS)
def test_the_lowest_value_turned_over_does_not_overflow(form):
    dtype = DType.parse("int4")
    source = TensorType(dtype, (1,))
    layer = Threshold(name="t", thresholds=[[7, 8]], sign=[-1], dtype=DType.parse("uint2"), base=1)
    check(ThresholdUnit(layer, source, lanes=1, form=form), vectors(layer, source, every_value(dtype, 1), 1))


@pytest.mark.parametrize("form", FORMS)
def test_bench_on_the_verilog(bench, form):
    rng, dtype = np.random.default_rng(5), DType.parse("int5")
    source = TensorType(dtype, (6,))
    layer = random_threshold(rng, "t", DType.parse("int3"), 6, -16, 15)
    unit = ThresholdUnit(layer, source, lanes=2, form=form, memory="block")
    bench(unit, "tb_stream", vectors(layer, source, random_frames(rng, dtype, (10, 6)), 2))


FAULTS = {
    "greater for greater or equal": (COMPARATORS, "x >= row.word_select", "x > row.word_select"),
    "sign ignored": (
        COMPARATORS,
        "return Mux(negative[lane], -x, x)",
        "return x",
    ),
    "lane 0's thresholds for all": (
        COMPARATORS,
        "read.word_select(lane, bits)",
        "read.word_select(0, bits)",
    ),
    "channels never wrap": (
        COMPARATORS,
        "Mux(group == self.groups - 1, 0, group + 1)",
        "group + 1",
    ),
    "search: greater": (SEARCH, "Cat(held >= read.data, node)", "Cat(held > read.data, node)"),
    "search: one step short": (SEARCH, "last.eq(step == self.steps)", "last.eq(step == self.steps - 1)"),
    "search: overwrites a waiting beat": (SEARCH, "~busy & (~self.o.valid | self.o.ready)", "~busy"),
    "search: the next beat's channel": (SEARCH, "base = Mux(busy, current, group)", "base = group"),
}


def faulty_case():
    rng, dtype = np.random.default_rng(6), DType.parse("int4")
    source = TensorType(dtype, (6,))
    layer = random_threshold(rng, "t", DType.parse("uint2"), 6, -8, 7)
    return layer, source, vectors(layer, source, random_frames(rng, dtype, (20, 6)), 2)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    form, old, new = FAULTS[fault]
    layer, source, case = faulty_case()
    faulty = mutant("hw.layers.threshold", old, new).ThresholdUnit(layer, source, lanes=2, form=form)
    with pytest.raises(AssertionError):
        check(faulty, case, ready="random")


def off_by_one() -> tuple[Threshold, TensorType, Vectors]:
    """A layer, and the vectors of one that differs by 1 in the second threshold of channel 3."""
    layer, source, _ = faulty_case()
    thresholds = layer.thresholds.copy()
    thresholds[3] = -2, 1, 5
    right = vectors(replace(layer, thresholds=thresholds), source, every_value(source.dtype, 6), 2)
    thresholds[3, 1] = 0
    return replace(layer, thresholds=thresholds), source, right


@pytest.mark.parametrize("form", FORMS)
def test_a_threshold_off_by_one_is_seen(form):
    layer, source, case = off_by_one()
    with pytest.raises(AssertionError):
        check(ThresholdUnit(layer, source, lanes=2, form=form), case)


def test_a_threshold_off_by_one_turns_the_bench_red(bench):
    layer, source, case = off_by_one()
    with pytest.raises(BenchFailure, match=r"level: frame \d+, beat 1, lane 1: got \d, expected \d"):
        bench(ThresholdUnit(layer, source, lanes=2), "tb_stream", case)


@pytest.mark.parametrize(
    "rows, shape, options, message",
    [
        (6, (6,), {"lanes": 4}, "layer 't': lanes must divide the 6 channels, not 4"),
        (1, (2, 3), {"lanes": 4}, "layer 't': lanes must divide the 6 channels, not 4"),
        (6, (6,), {"lanes": 0}, "layer 't': lanes must divide the 6 channels, not 0"),
        (2, (2, 3), {"lanes": 1}, "layer 't': thresholds for each channel need a vector or a map, not int4[2, 3]"),
        (
            1,
            (2,),
            {"lanes": 1, "form": "guess"},
            'layer \'t\': the form of thresholds must be "comparators", "search" or "multiply-shift", not \'guess\'',
        ),
        (
            1,
            (2,),
            {"lanes": 1, "memory": "tape"},
            "layer 't': the memory for thresholds must be \"block\" or \"logic\", not 'tape'",
        ),
    ],
)
def test_what_cannot_be_is_refused(rows, shape, options, message):
    layer = random_threshold(np.random.default_rng(1), "t", DType.parse("bipolar"), rows, 0, 1)
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        ThresholdUnit(layer, TensorType(DType.parse("int4"), shape), **options)
