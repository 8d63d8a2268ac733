"""Pack, Unpack and Gearbox keep every element, in order, under any back-pressure."""

from __future__ import annotations

import re
from math import gcd

import numpy as np
import pytest
from amaranth.hdl import signed, unsigned
from faults import mutant
from streaming import PAIRS, simulate

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.schedule import schedule
from fewbit.hw.streams import Gearbox, Pack, Unpack, shape_of
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.vectors import Field, Vectors, lane_words

LANES = [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2), (4, 6), (8, 4), (5, 7), (1, 16), (17, 1)]


def vectors(dtype: DType, lanes_in: int, lanes_out: int, frames: int, seed: int = 1) -> Vectors:
    """Whatever the lanes, a stream's elements stay what they are."""
    size = lanes_in * lanes_out // gcd(lanes_in, lanes_out)
    elements = np.random.default_rng(seed).integers(dtype.min, dtype.max + 1, (frames, size))
    return Vectors(
        words=lane_words(elements, dtype, lanes_in),
        expected=lane_words(elements, dtype, lanes_out),
        fields=(Field(name="element", bits=dtype.bits, signed=dtype.signed, lanes=lanes_out),),
        beats_in=size // lanes_in,
        beats_out=size // lanes_out,
    )


def check(component, vectors: Vectors, **patterns) -> None:
    assert simulate(component, vectors.words, len(vectors.expected), **patterns).words == vectors.expected


@pytest.mark.parametrize("valid, ready", PAIRS)
@pytest.mark.parametrize("lanes_in, lanes_out", [(1, 3), (3, 1), (4, 6)])
def test_elements_keep_their_order_under_every_pattern(lanes_in, lanes_out, valid, ready):
    dtype = DType("int", 3)
    case = vectors(dtype, lanes_in, lanes_out, 6)
    check(Gearbox(shape_of(dtype), lanes_in, lanes_out), case, valid=valid, ready=ready)


@pytest.mark.parametrize("lanes_in, lanes_out", LANES)
@pytest.mark.parametrize("name", ["uint1", "int8"])
def test_every_pair_of_lanes(name, lanes_in, lanes_out):
    dtype = DType.parse(name)
    check(Gearbox(shape_of(dtype), lanes_in, lanes_out), vectors(dtype, lanes_in, lanes_out, 8), ready="random")


@pytest.mark.parametrize("lanes_in, lanes_out", LANES)
def test_timing_is_exact(lanes_in, lanes_out):
    dtype = DType("uint", 2)
    case = vectors(dtype, lanes_in, lanes_out, 8)
    trace = simulate(Gearbox(shape_of(dtype), lanes_in, lanes_out), case.words, len(case.expected))
    steps = Gearbox(shape_of(dtype), lanes_in, lanes_out).timing()
    promised = schedule(steps, case.beats_in, case.beats_out, max(case.beats_in, case.beats_out))
    assert (trace.latency(case.beats_out), trace.intervals(case.beats_out)[-1]) == (
        promised.latency,
        promised.interval,
    )


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 5])
def test_pack_and_unpack_take_one_cycle_and_never_pause(ratio):
    dtype = DType("uint", 4)
    packing = vectors(dtype, 2, 2 * ratio, 9)
    trace = simulate(Pack(unsigned(4), 2, ratio), packing.words, 9)
    assert trace.words == packing.expected
    assert trace.given[0] - trace.taken[ratio - 1] == Pack(unsigned(4), 2, ratio).latency
    assert trace.taken == list(range(9 * ratio))
    unpacking = vectors(dtype, 2 * ratio, 2, 9)
    trace = simulate(Unpack(unsigned(4), 2, ratio), unpacking.words, 9 * ratio)
    assert trace.words == unpacking.expected
    assert trace.given == list(range(1, 1 + 9 * ratio))


@pytest.mark.parametrize("lanes_in, lanes_out", [(2, 6), (6, 4)])
def test_bench_on_the_verilog(bench, lanes_in, lanes_out):
    dtype = DType("int", 3)
    bench(Gearbox(shape_of(dtype), lanes_in, lanes_out), "tb_stream", vectors(dtype, lanes_in, lanes_out, 8))


FAULTS = {
    "pack drops a beat under back-pressure": (
        Pack,
        "self.i.ready.eq(~full | self.o.ready)",
        "self.i.ready.eq(1)",
    ),
    "pack waits for ready": (Pack, "self.o.valid.eq(full)", "self.o.valid.eq(full & self.o.ready)"),
    "pack keeps a word taken": (Pack, "m.d.sync += filled.eq(0)", "pass"),
    "pack starts high": (Pack, "<< part * self.ratio)) >> part", "<< part * self.ratio)) >> 2 * part"),
    "unpack takes too early": (Unpack, "((left == 1) & self.o.ready)", "(left == 1)"),
    "unpack gives one too few": (Unpack, "left.eq(self.ratio)", "left.eq(self.ratio - 1)"),
    "unpack does not wait": (Unpack, "m.Elif(self.o.valid & self.o.ready)", "m.Elif(self.o.valid)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    kind, old, new = FAULTS[fault]
    faulty = getattr(mutant("hw.streams", old, new), kind.__name__)
    lanes = (1, 3) if kind is Pack else (3, 1)
    with pytest.raises(AssertionError):
        check(faulty(signed(4), 1, 3), vectors(DType("int", 4), *lanes, 10), ready="random")


@pytest.mark.parametrize(
    "fault, message",
    [
        ("pack drops a beat under back-pressure", "valid fell before the word was taken"),
        ("pack waits for ready", "valid depends on ready"),
    ],
)
def test_a_planted_fault_turns_the_bench_red(bench, fault, message):
    _, old, new = FAULTS[fault]
    with pytest.raises(BenchFailure, match=message):
        bench(
            mutant("hw.streams", old, new).Pack(signed(4), 1, 3),
            "tb_stream",
            vectors(DType("int", 4), 1, 3, 10),
        )


def test_a_gearbox_needs_lanes():
    for lanes in ((0, 1), (1, -2)):
        message = f"a gearbox needs at least 1 lane on each side, not {lanes[0]} and {lanes[1]}"
        with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
            Gearbox(unsigned(1), *lanes)


@pytest.mark.parametrize("kind, name", [(Pack, "a pack"), (Unpack, "an unpack")])
def test_pack_and_unpack_need_lanes_and_a_ratio(kind, name):
    message = f"^{name} needs at least 1 lane and a ratio of at least 1, not 1 and 0$"
    with pytest.raises(FewbitError, match=message):
        kind(unsigned(1), 1, 0)
