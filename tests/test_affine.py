"""Gain and offset a channel, exact to the widest sum."""

from __future__ import annotations

import numpy as np
import pytest
from faults import mutant
from networks import random_frames
from streaming import PAIRS, simulate

from fewbit.golden.dtype import DType
from fewbit.golden.network import Affine, Network, TensorType
from fewbit.golden.run import run
from fewbit.hw.layers.affine import AffineUnit
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.vectors import Field, Vectors, lane_words


def make(
    name: str, channels: int, frames: int = 8, reach: int = 100, seed: int = 1
) -> tuple[Affine, TensorType, Vectors]:
    rng = np.random.default_rng(seed)
    source = TensorType(DType.parse(name), (channels,))
    layer = Affine(
        name="affine",
        scale=rng.integers(-reach, reach + 1, channels),
        bias=rng.integers(-reach * reach, reach * reach + 1, channels),
    )
    x = random_frames(rng, source.dtype, (frames, channels))
    x[0], x[1] = source.dtype.min, source.dtype.max
    network = Network(name="affine", input=source, layers=(layer,))
    case = Vectors(
        words=lane_words(x, source.dtype, 1),
        expected=lane_words(run(network, x).output, network.output.dtype, 1),
        fields=(Field(name="sum", bits=network.output.dtype.bits, signed=True),),
        beats_in=channels,
        beats_out=channels,
    )
    return layer, source, case


def check(unit, case: Vectors, **patterns):
    trace = simulate(unit, case.words, len(case.expected), **patterns)
    assert trace.words == case.expected
    return trace


@pytest.mark.parametrize("name", ["bipolar", "uint1", "uint8", "int2", "int12"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 10])
def test_every_kind_and_size(name, channels):
    layer, source, case = make(name, channels)
    unit = AffineUnit(layer, source)
    trace = check(unit, case)
    assert trace.given[0] - trace.taken[0] == unit.latency
    assert trace.intervals(channels)[-1] == unit.cycles_per_frame


@pytest.mark.parametrize("reach", [0, 1, 1 << 15])
def test_narrow_and_wide_constants(reach):
    layer, source, case = make("int16", 4, reach=reach)
    check(AffineUnit(layer, source), case)


def test_a_sum_of_64_bits():
    source = TensorType(DType.parse("int32"), (2,))
    layer = Affine(name="a", scale=[-(1 << 31), (1 << 31) - 1], bias=[(1 << 62) - 1, -(1 << 62)])
    x = np.array([[-(1 << 31), -(1 << 31)], [(1 << 31) - 1, (1 << 31) - 1], [0, 0]])
    network = Network(name="wide", input=source, layers=(layer,))
    assert network.output.dtype.bits == 64
    expected = [[int(s) * int(v) + int(b) for s, v, b in zip(layer.scale, row, layer.bias)] for row in x]
    trace = simulate(AffineUnit(layer, source), lane_words(x, source.dtype, 1), 6)
    assert trace.words == [value % (1 << 64) for row in expected for value in row]


@pytest.mark.parametrize("valid, ready", PAIRS)
def test_every_pattern(valid, ready):
    layer, source, case = make("int6", 3)
    check(AffineUnit(layer, source), case, valid=valid, ready=ready)


def test_bench_on_the_verilog(bench):
    layer, source, case = make("int6", 5)
    bench(AffineUnit(layer, source), "tb_stream", case)


FAULTS = {
    "offset of the next channel": (
        "m.d.sync += self.o.payload[0].eq(product + offset)",
        "m.d.sync += self.o.payload[0].eq(product + bias)",
    ),
    "channels never wrap": ("channel == self.layer.scale.size - 1", "channel == self.layer.scale.size"),
    "drops a beat": ("self.i.ready.eq(~multiplied | free)", "self.i.ready.eq(1)"),
    "gives a beat twice": (
        "m.d.sync += multiplied.eq(self.i.valid)",
        "m.d.sync += multiplied.eq(multiplied | self.i.valid)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    layer, source, case = make("int6", 3)
    with pytest.raises(AssertionError):
        check(
            mutant("hw.layers.affine", *FAULTS[fault]).AffineUnit(layer, source),
            case,
            valid="random",
            ready="random",
        )


def test_a_planted_fault_turns_the_bench_red(bench):
    layer, source, case = make("int6", 3)
    faulty = mutant("hw.layers.affine", *FAULTS["offset of the next channel"]).AffineUnit(layer, source)
    with pytest.raises(BenchFailure, match=r"sum: frame 0, beat 0, lane 0: got -?\d+, expected -?\d+"):
        bench(faulty, "tb_stream", case)
