"""The matrix-vector unit gives the golden product in every folding, and keeps its promise of cycles."""

from __future__ import annotations

import numpy as np
import pytest
from dense import check, flip_weight_bit, layer, products, vectors
from faults import mutant
from networks import divisors
from tiers import slow_but_at

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.matvec.parallel import MatVec
from fewbit.sim.cocotb_run import BenchFailure


@pytest.mark.parametrize("buffer", ["block", "distributed", "ring"])
@pytest.mark.parametrize("pe", divisors(6))
@pytest.mark.parametrize("simd", divisors(10))
def test_every_folding(pe, simd, buffer):
    dense, activation = layer(6, 10, "ternary"), DType.parse("uint2")
    unit = MatVec(dense, activation, pe=pe, simd=simd, buffer=buffer)
    case = vectors(dense, activation, pe, simd)
    trace = check(unit, case)
    # From the last word taken: the buffer, a frame's reads, and the pipeline to the last beat.
    promised = unit.words + unit.buffer.latency + unit.cycles_per_frame - 1 + unit.latency
    assert trace.latency(case.beats_out) == promised
    rest = int(buffer == "ring" and unit.folds == 1)  # a ring's input pauses while a vector moves over
    assert trace.intervals(case.beats_out)[-1] == unit.cycles_per_frame + rest


@pytest.mark.parametrize("code", ["binary", "ternary", "int(1)", "int(4)"])
@pytest.mark.parametrize("activation", ["bipolar", "uint1", "int2", "uint8"])
@pytest.mark.parametrize("outputs, inputs, pe, simd", [(3, 7, 1, 1), (4, 9, 2, 3), (2, 8, 2, 4)])
def test_every_code_and_activation(activation, code, outputs, inputs, pe, simd):
    dense, kind = layer(outputs, inputs, code), DType.parse(activation)
    check(MatVec(dense, kind, pe=pe, simd=simd, stages=2), vectors(dense, kind, pe, simd))


@pytest.mark.parametrize("ready", ["always", "random"])
def test_the_lowest_bit_of_a_bias_is_that_of_its_own_output(ready):
    """Bipolar activations count in twos; the rest is odd where the weights of an output that are not 0 are."""
    weights = np.array([[1, 1, 0, -1], [1, 0, 0, -1], [0, 0, 1, 0], [-1, -1, -1, -1]])
    dense, activation = Dense(name="dense", weights=weights, code=Code.parse("ternary")), DType.parse("bipolar")
    unit = MatVec(dense, activation, pe=1, simd=2)
    assert unit.step == 2
    assert len(set(unit.bias % 2)) == 2
    check(unit, vectors(dense, activation, 1, 2), ready=ready)


def test_the_widest():
    dense, activation = layer(2, 1024), DType.parse("bipolar")
    check(MatVec(dense, activation, pe=1, simd=512, stages=3), vectors(dense, activation, 1, 512, frames=4))


@pytest.mark.parametrize(
    "activation, code, pe, simd, buffer",
    slow_but_at((1, 2), [
        ("bipolar", "binary", 2, 4, "block"),
        ("uint3", "ternary", 3, 2, "ring"),
        ("int2", "int(3)", 1, 8, "distributed"),
    ]),
)  # fmt: skip
def test_bench_on_the_verilog(bench, activation, code, pe, simd, buffer):
    dense, kind = layer(6, 8, code), DType.parse(activation)
    unit = MatVec(dense, kind, pe=pe, simd=simd, buffer=buffer, stages=2)
    bench(unit, "tb_stream", vectors(dense, kind, pe, simd, frames=6))


BASE_FAULTS = {
    "accumulator never starts anew": ("Mux(first, start, total.as_signed())", "total.as_signed()"),
    "vector given back a word early": ("return address == depth - 1", "return address == depth - 2"),
    "weights of the wrong output": ("word_select(index, lanes", "word_select(self.pe - 1 - index, lanes"),
    "lanes run on": ("lanes.en.eq(advance)", "lanes.en.eq(1)"),
}
FAULTS = {
    "pipeline runs on while a beat waits": ("advance.eq(~self.o.valid | self.o.ready)", "advance.eq(1)"),
    "offset forgotten": (" + self.words * lanes.offset", ""),
    "beat a cycle late": ("self.o.valid.eq(valid & last)", "self.o.valid.eq(valid & first)"),
}


@pytest.mark.parametrize("fault", [*FAULTS, *BASE_FAULTS])
def test_a_planted_fault_is_seen(fault, monkeypatch):
    dense, activation, kind = layer(4, 6), DType.parse("bipolar"), MatVec
    if fault in FAULTS:
        kind = mutant("hw.matvec.parallel", *FAULTS[fault]).MatVec
    else:
        base = mutant("hw.matvec.base", *BASE_FAULTS[fault]).FoldedMatVec
        for name in ("_walk", "_feed", "_accumulate"):
            monkeypatch.setattr(FoldedMatVec, name, getattr(base, name))
    faulty = kind(dense, activation, pe=2, simd=3, stages=2)
    with pytest.raises(AssertionError):
        check(faulty, vectors(dense, activation, 2, 3, frames=8), ready="random")


@pytest.mark.parametrize("bit", [0, 7, 12, 23])
def test_one_wrong_weight_bit_is_seen(bit, monkeypatch):
    dense, activation = layer(4, 6), DType.parse("bipolar")
    flip_weight_bit(monkeypatch, *divmod(bit, 6))
    with pytest.raises(AssertionError):
        check(MatVec(dense, activation, pe=2, simd=3), vectors(dense, activation, 2, 3, frames=8))


def test_one_wrong_weight_bit_turns_the_bench_red(bench, monkeypatch):
    dense, activation = layer(4, 6), DType.parse("bipolar")
    flip_weight_bit(monkeypatch, 3)
    with pytest.raises(BenchFailure, match=r"sum: frame \d+, beat 1, lane 0: got -?\d+, expected -?\d+"):
        bench(MatVec(dense, activation, pe=2, simd=3), "tb_stream", vectors(dense, activation, 2, 3))


def test_words_of_the_memory_by_hand():
    # Outputs 0 and 1 in word 0 and 1 (first and second half of the inputs), outputs 2 and 3 above; 1 is +1, 0 is -1.
    weights = np.array([[1, -1, -1, -1], [-1, 1, 1, 1], [1, 1, -1, 1], [-1, -1, 1, -1]])
    unit = MatVec(Dense(name="dense", weights=weights, code=Code.parse("binary")), DType.parse("bipolar"), pe=2, simd=2)
    assert unit._memory_words() == [0b10_01, 0b11_00, 0b00_11, 0b01_10]
    ternary = Dense(name="dense", weights=np.array([[0, 1, -1]]), code=Code.parse("ternary"))
    assert MatVec(ternary, DType.parse("uint2"), pe=1, simd=3)._memory_words() == [0b11_01_00]


@pytest.mark.parametrize("target", ["generic", "ice40", "ecp5"])
@pytest.mark.parametrize("code", ["binary", "ternary", "shift3", "int(3)"])
@pytest.mark.parametrize("activation", ["bipolar", "uint2", "int3"])
def test_sums_and_bias_are_the_product(code, activation, target):
    """Whatever the lanes leave out, all of it is in the bias, and nothing else."""
    dense, kind = layer(4, 12, code), DType.parse(activation)
    unit = MatVec(dense, kind, pe=2, simd=4, target=target, exact=False)
    low, high = dense.bounds(kind)
    assert (unit.step * unit.sum.min + unit.bias <= low).all()
    assert (unit.step * unit.sum.max + unit.bias >= high).all()
    if target != "generic":
        return
    case = vectors(dense, kind, 2, 4)
    assert products(unit, case) == case.expected
