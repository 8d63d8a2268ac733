"""The arg-max so far beside every score; the lowest index wins among equals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from amaranth.hdl import unsigned
from faults import mutant
from networks import random_frames
from streaming import PAIRS, simulate

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.layers.argmax import ArgMaxUnit
from fewbit.hw.streams import shape_of
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.vectors import Vectors, lane_words, score_fields, score_words


def vectors(scores: Ints, dtype: DType) -> Vectors:
    classes = scores.shape[1]
    return Vectors(
        words=lane_words(scores, dtype, 1),
        expected=score_words(scores, dtype),
        fields=score_fields(dtype, classes),
        beats_in=classes,
        beats_out=classes,
    )


def check(unit, case: Vectors, **patterns):
    trace = simulate(unit, case.words, len(case.expected), **patterns)
    assert trace.words == case.expected
    return trace


@pytest.mark.parametrize("name", ["bipolar", "uint1", "uint2", "int2"])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_exhaustive(name, classes):
    dtype = DType.parse(name)
    scores = np.array(list(product(range(dtype.min, dtype.max + 1, dtype.step), repeat=classes)))
    unit = ArgMaxUnit(shape_of(dtype), classes)
    trace = check(unit, vectors(scores, dtype))
    assert trace.given[0] - trace.taken[0] == unit.latency
    assert trace.intervals(classes)[-1] == unit.cycles_per_frame


@pytest.mark.parametrize("classes", [7, 8, 9, 10, 31, 32, 33])
def test_around_a_power_of_two_classes(classes):
    dtype = DType.parse("int3")
    scores = random_frames(np.random.default_rng(classes), dtype, (6, classes))
    check(ArgMaxUnit(shape_of(dtype), classes), vectors(scores, dtype))


def test_the_widest_scores():
    dtype = DType.parse("int64")
    scores = np.array([[dtype.min, dtype.max, 0], [-1, dtype.min, -2], [dtype.min] * 3])
    check(ArgMaxUnit(shape_of(dtype), 3), vectors(scores, dtype))


@pytest.mark.parametrize("valid, ready", PAIRS)
def test_every_pattern(valid, ready):
    dtype = DType.parse("int3")
    scores = random_frames(np.random.default_rng(2), dtype, (8, 5))
    check(ArgMaxUnit(shape_of(dtype), 5), vectors(scores, dtype), valid=valid, ready=ready)


def test_bench_on_the_verilog(bench):
    dtype = DType.parse("int3")
    scores = random_frames(np.random.default_rng(3), dtype, (8, 10))
    bench(ArgMaxUnit(shape_of(dtype), 10), "tb_stream", vectors(scores, dtype))


FAULTS = {
    "the highest index wins": ("(score > best)", "(score >= best)"),
    "a best of the frame before": ("(index == 0) | (score > best)", "(score > best)"),
    "last a beat early": (
        "self.o.payload.last.eq(index == self.classes - 1)",
        "self.o.payload.last.eq(index == self.classes - 2)",
    ),
    "unsigned comparison": ("score > best", "score.as_unsigned() > best.as_unsigned()"),
    "takes while a beat waits": ("self.i.ready.eq(~self.o.valid | self.o.ready)", "self.i.ready.eq(1)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    dtype = DType.parse("int3")
    scores = random_frames(np.random.default_rng(4), dtype, (20, 4))
    with pytest.raises(AssertionError):
        check(
            mutant("hw.layers.argmax", *FAULTS[fault]).ArgMaxUnit(shape_of(dtype), 4),
            vectors(scores, dtype),
            ready="random",
        )


def test_a_planted_fault_turns_the_bench_red(bench):
    dtype = DType.parse("int3")
    scores = random_frames(np.random.default_rng(4), dtype, (10, 4))
    faulty = mutant("hw.layers.argmax", *FAULTS["the highest index wins"]).ArgMaxUnit(shape_of(dtype), 4)
    with pytest.raises(BenchFailure, match=r"index: frame \d+, beat \d, lane 0: got \d, expected \d"):
        bench(faulty, "tb_stream", vectors(scores, dtype))


def test_an_arg_max_needs_a_score():
    with pytest.raises(FewbitError, match=r"^arg-max needs at least 1 score, not 0$"):
        ArgMaxUnit(unsigned(1), 0)
