"""The unit that takes bit planes gives the golden product in every folding, as RTL and in the cells of each family,
and keeps its promise of cycles; chains and plans may choose it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from dense import (
    check,
    check_network,
    check_plan,
    check_times,
    flip_weight_bit,
    layer,
    mapped_words,
    products,
    scores,
    vectors,
    whole,
)
from faults import mutant
from networks import divisors, random_design
from tiers import slow_but, slow_but_at

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Dense, Network, TensorType
from fewbit.hw.chain import chain
from fewbit.hw.fabric.devices import target
from fewbit.hw.fold import BIT_PLANES, PARALLEL, Folding, MatVecFold
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.matvec.bit_serial import BitSerialMatVec, serves
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import plan
from fewbit.hw.units.linear import Work, linear_options
from fewbit.report import describe_plan
from fewbit.sim.cocotb_run import BenchFailure

FAMILIES = ("ice40", "ecp5")
CODES = ("binary", "ternary")
ACTIVATIONS = ("uint2", "uint3", "int2", "int4", "uint8")


def check_cycles(unit, case, trace):
    """Every transfer is when the timing model says, and frames are as fast as the docstring says."""
    promised = check_times(unit, case, trace)
    assert promised.latency == unit.words + unit.buffer.latency + unit.cycles_per_frame - 1 + unit.latency
    assert unit.cycles_per_frame == unit.words * unit.folds * unit.activation.bits


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("code", CODES)
def test_every_folding(code, activation):
    dense, kind = layer(4, 6, code), DType.parse(activation)
    for index, (pe, simd) in enumerate((pe, simd) for pe in divisors(4) for simd in divisors(6)):
        buffer = ("block", "ring", "distributed")[index % 3]
        unit = BitSerialMatVec(dense, kind, pe=pe, simd=simd, buffer=buffer)
        case = vectors(dense, kind, pe, simd)
        check_cycles(unit, case, check(unit, case))


@pytest.mark.parametrize("buffer", ["block", "distributed", "ring"])
@pytest.mark.parametrize("outputs, inputs, pe, simd", [(3, 7, 1, 1), (2, 8, 2, 8), (1, 6, 1, 6), (6, 5, 2, 5)])
def test_every_buffer(outputs, inputs, pe, simd, buffer):
    dense, kind = layer(outputs, inputs), DType.parse("uint2")
    unit = BitSerialMatVec(dense, kind, pe=pe, simd=simd, buffer=buffer, stages=2)
    case = vectors(dense, kind, pe, simd, frames=8)
    check_cycles(unit, case, check(unit, case))


@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("activation", ["uint2", "int3", "uint8", "int8"])
def test_sums_and_bias_are_the_product(activation, code, words):
    dense, kind = layer(4, 12, code), DType.parse(activation)
    unit = BitSerialMatVec(dense, kind, pe=2, simd=12 // words, exact=False)
    case = vectors(dense, kind, 2, 12 // words, frames=6)
    assert products(unit, case) == case.expected
    low, high = dense.bounds(kind)
    assert (unit.sum.min + unit.bias <= low).all()
    assert (unit.sum.max + unit.bias >= high).all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("activation", ["uint2", "int2"])
def test_weights_of_one_sign(activation, sign):
    """The ends of both accumulators, which a width too small would cut."""
    dense = Dense(name="dense", weights=np.full((2, 8), sign), code=Code.parse("binary"))
    for exact in (False, True):
        unit = BitSerialMatVec(dense, DType.parse(activation), pe=1, simd=4, exact=exact)
        case = vectors(dense, unit.activation, 1, 4)
        assert products(unit, case) == case.expected if not exact else check(unit, case)


def test_the_widest():
    dense, kind = layer(2, 1024), DType.parse("int2")
    check(BitSerialMatVec(dense, kind, pe=1, simd=512, stages=3), vectors(dense, kind, 1, 512, frames=4))


@pytest.mark.parametrize("family", slow_but(["ice40"], FAMILIES))
@pytest.mark.parametrize(
    "code, activation, simd, exact",
    [("binary", "uint3", 12, True), pytest.param("ternary", "int4", 8, True, marks=pytest.mark.slow),
     pytest.param("binary", "int2", 24, False, marks=pytest.mark.slow),
     pytest.param("ternary", "uint8", 24, True, marks=pytest.mark.slow),
     pytest.param("ternary", "uint2", 6, False, marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_mapped_netlist(code, activation, simd, exact, family, cache):
    dense, kind = layer(4, 24, code), DType.parse(activation)
    case = vectors(dense, kind, 2, simd, frames=200)
    unit = BitSerialMatVec(dense, kind, pe=2, simd=simd, stages=2, target=family, exact=exact)
    words = mapped_words(unit, family, case)
    assert (words if exact else whole(unit, words, case)) == case.expected


@pytest.mark.parametrize(
    "code, activation, simd, buffer",
    slow_but_at((0,), [("binary", "uint2", 4, "block"), ("ternary", "int3", 8, "ring")]),
)
def test_bench_on_the_verilog(bench, code, activation, simd, buffer):
    dense, kind = layer(6, 8, code), DType.parse(activation)
    unit = BitSerialMatVec(dense, kind, pe=2, simd=simd, buffer=buffer, stages=2)
    bench(unit, "tb_stream", vectors(dense, kind, 2, simd, frames=6))


SUM = 20 * " "

FAULTS = {
    "pipeline runs on while a beat waits": ("advance.eq(~self.o.valid | self.o.ready)", "advance.eq(1)"),
    "a word begun that is not there": ("(buffer.available | ~begin)", "1"),
    "a plane waits for the next vector": ("(buffer.available | ~begin)", "buffer.available"),
    "a word for every plane": ("buffer.next.eq(issue & begin)", "buffer.next.eq(issue)"),
    "vector given back a word early": ("buffer.last.eq(last_word)", "buffer.last.eq(address == 0)"),
    "weights a cycle early": ("read.en.eq(advance & fetch)", "read.en.eq(buffer.next)"),
    "weights a cycle late": ("fetch, counted, summed = flags[1][0]", "fetch, counted, summed = flags[2][0]"),
    "planes in the wrong order": ("sync += plane.eq(plane - 1)", "sync += plane.eq(plane + 1)"),
    "a plane left out": ("final = plane == 0", "final = plane == 1"),
    "the plane of a cycle before": ("buffer.word, chosen, self", "buffer.word, plane, self"),
    "no plane doubled": ("Cat(0, planes)[: len(planes)]", "planes"),
    "planes never start anew": ("lanes.o, counted[0])", "lanes.o, Cat(0))"),
    "sum never starts anew": ("with m.If(first):", "with m.If(0):"),
    "sum taken a plane early": (f"& summed):\n{SUM}", f"& counted[1]):\n{SUM}"),
    "sign plane not inverted": ("level[-1] = ~level[-1]", "pass"),
    "sign plane's share forgotten": ("bias -= self.layer", "self.layer"),
    "a constant counted once": ("bias = self._most() * self", "bias = self"),
    "beat after every word": ("summed & last if", "summed if"),
}  # fmt: skip

BASE_FAULTS = {
    "lanes run on": ("lanes.en.eq(advance)", "lanes.en.eq(1)"),
    "weights of the wrong output": ("word_select(index, lanes", "word_select(self.pe - 1 - index, lanes"),
}


@pytest.mark.parametrize("fault", [*FAULTS, *BASE_FAULTS])
def test_a_planted_fault_is_seen(fault, monkeypatch):
    dense, kind, faulty = layer(4, 6), DType.parse("int3"), BitSerialMatVec
    if fault in FAULTS:
        faulty = mutant("hw.matvec.bit_serial", *FAULTS[fault]).BitSerialMatVec
    else:
        base = mutant("hw.matvec.base", *BASE_FAULTS[fault]).FoldedMatVec
        monkeypatch.setattr(FoldedMatVec, "_feed", base._feed)
    unit = faulty(dense, kind, pe=2, simd=3, stages=2)
    with pytest.raises(AssertionError):
        check(unit, vectors(dense, kind, 2, 3, frames=8), valid="random", ready="random")


@pytest.mark.parametrize("old, new", [("self._used = cycle", "self._used = -1"), ("append(read)", "append(cycle)"),
                                      ("range(self.planes - 1)", "range(self.planes)")])  # fmt: skip
def test_a_fault_of_the_timing_is_seen(old, new):
    dense, kind = layer(1, 6), DType.parse("uint8")
    unit = BitSerialMatVec(dense, kind, pe=1, simd=6, buffer="ring")
    case = vectors(dense, kind, 1, 6, frames=8)
    check_cycles(unit, case, check(unit, case))
    step = mutant("hw.steps", old, new).FoldStep
    unit.timing = lambda: [step(unit.words, unit.folds, unit.latency, rings=True, planes=8)]
    with pytest.raises(AssertionError):
        check_cycles(unit, case, check(unit, case))


def test_one_wrong_weight_bit_turns_the_bench_red(bench, monkeypatch):
    dense, kind = layer(4, 6), DType.parse("uint2")
    flip_weight_bit(monkeypatch, 3)
    with pytest.raises(BenchFailure, match=r"sum: frame \d+, beat 1, lane 0: got -?\d+, expected -?\d+"):
        bench(BitSerialMatVec(dense, kind, pe=2, simd=3), "tb_stream", vectors(dense, kind, 2, 3))


@pytest.mark.parametrize("code, activation", [("binary", "bipolar"), ("ternary", "uint1"), ("shift3", "uint4")])
def test_what_has_no_planes_is_refused(code, activation):
    message = (
        "layer 'dense': bit planes are for binary or ternary weights on uint or int activations of 2 bits or more, "
        f"not {code} on {activation}"
    )
    assert not serves(DType.parse(activation), Code.parse(code))
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        BitSerialMatVec(layer(2, 4, code), DType.parse(activation), pe=1, simd=1)


def serially(network: Network, folding: Folding) -> Folding:
    """The same with every dense layer that can taking planes."""
    folds = dict(folding.folds)
    for one in network.layers:
        if isinstance(one, Dense) and serves(network.source(one).dtype, one.code):
            folds[one.name] = replace(folds[one.name], unit=BIT_PLANES)
    return replace(folding, folds=folds)


@pytest.mark.parametrize("seed", slow_but(range(10), range(30)))
def test_random_networks_to_the_cycle(seed):
    network, folding = random_design(np.random.default_rng(seed))
    check_network(network, serially(network, folding), seed, 12)


def test_a_chain_builds_what_the_fold_says():
    dense = layer(6, 12)
    network = Network(name="one", input=TensorType(DType.parse("uint2"), (12,)), layers=(dense, ArgMax(name="argmax")))
    for unit, kind in ((PARALLEL, MatVec), (BIT_PLANES, BitSerialMatVec)):
        fold = MatVecFold(pe=3, simd=4, unit=unit)
        parts = chain(network, Folding(input_lanes=4, folds={"dense": fold}))
        assert [type(part.unit) for part in parts if part.name == "layer_0_dense"] == [kind]


@pytest.mark.parametrize("device", ["hx8k", "ecp5-25k"])
@pytest.mark.parametrize("code, source", [("binary", "uint8"), ("ternary", "int4")])
def test_a_plan_takes_planes_where_they_are_cheaper(code, source, device):
    # Sizes without divisors: all inputs at once, or one by one, so that planes may be the cheaper way between.
    network = scores(layer(37, 31, code), source)
    cycles = 37 * network.input.dtype.bits
    made = plan(network, target(device), Constraints(clock_hz=12e6, fps=12e6 / cycles))
    (fold,) = (one.fold for one in made.layers)
    assert fold.unit == BIT_PLANES
    assert made.cycles_per_frame <= cycles
    assert ", bit planes" in describe_plan(made)
    check_plan(made, 8)
    # Whole activations on as many lanes are dearer; where there is no time for planes, they are taken all the same.
    options = list(linear_options(Work.of(network, network.layers[0]), 1, 31, made.target, 12e6))
    least = {form: min(cost.cells for fold, _, cost in options if fold.unit == form) for form in (PARALLEL, BIT_PLANES)}
    assert least[BIT_PLANES] < least[PARALLEL]
    fastest = plan(network, target(device), Constraints(clock_hz=12e6, fps=12e6 / 37))
    assert not any(one.fold.unit == BIT_PLANES for one in fastest.layers)


def test_planes_are_no_option_for_bits_and_for_other_weights():
    for code, source in (("binary", "bipolar"), ("ternary", "uint1"), ("shift3", "uint4")):
        network = scores(layer(4, 6, code), source)
        folds = list(linear_options(Work.of(network, network.layers[0]), 2, 3, target("hx8k"), 12e6))
        assert folds
        assert not any(fold.unit == BIT_PLANES for fold, _, _ in folds)
