"""The unit that walks non-zero terms gives the golden product in every folding and at every quality, as RTL and in the
cells of each family, in exactly the cycles that its terms take; chains and plans may choose it."""

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
    layer,
    mapped_words,
    products,
    scores,
    vectors,
    whole,
)
from faults import mutant
from networks import divisors, random_conv_design, random_design, random_frames
from streaming import simulate
from test_scaled_matvec import check as check_quality
from test_scaled_matvec import layer as scaled_layer
from tiers import slow_but

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.chain import chain
from fewbit.hw.fabric.devices import target
from fewbit.hw.fold import PARALLEL, TERMS, Folding, MatVecFold
from fewbit.hw.matvec.term_serial import TermSerialMatVec, term_cycles
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import plan
from fewbit.hw.units.linear import Work, linear_options
from fewbit.report import describe_plan
from fewbit.sim.vectors import lane_words

FAMILIES = ("ice40", "ecp5")
CODES = ("binary", "ternary", "quinary", "shift3", "csd(2,4)", "int(3)")
ACTIVATIONS = ("bipolar", "uint1", "uint3", "int4")


def sparse(outputs, inputs, code="ternary", share=0.6, seed=1):
    """A layer with this share of zeros more, and an output of nothing else."""
    dense = layer(outputs, inputs, code, seed)
    weights = np.where(np.random.default_rng(seed).random(dense.weights.shape) < share, 0, dense.weights)
    weights[-1] = 0
    return replace(dense, weights=weights)


def check_cycles(unit, case, trace):
    """Every transfer is when the timing model says, and a frame takes the terms of the longest outputs."""
    check_times(unit, case, trace)
    nonzero = (unit.layer.weights.reshape(-1, unit.pe, unit.layer.fan_in) != 0).sum(2).max(1)
    if not unit.layer.digits and not unit.layer.code.name.startswith("int"):
        assert unit.cycles_per_frame == max(unit.words, np.maximum(nonzero, 1).sum())


@pytest.mark.parametrize("code, activation", slow_but(
    [("ternary", "bipolar"), ("quinary", "uint3"), ("shift3", "int4"), ("int(3)", "uint1")],
    [(code, activation) for code in CODES if not code.startswith("csd") for activation in ACTIVATIONS],
))  # fmt: skip
def test_every_folding(code, activation):
    dense, kind = layer(4, 6, code), DType.parse(activation)
    for index, (pe, simd) in enumerate((pe, simd) for pe in divisors(4) for simd in divisors(6)):
        buffer, memory = ("block", "distributed")[index % 2], ("block", "logic")[index // 2 % 2]
        unit = TermSerialMatVec(dense, kind, pe=pe, simd=simd, buffer=buffer, memory=memory, stages=1 + index % 3)
        case = vectors(dense, kind, pe, simd)
        check_cycles(unit, case, check(unit, case))


@pytest.mark.parametrize("activation", ["uint2", "int2"])
@pytest.mark.parametrize("outputs, inputs, pe, simd", [(6, 10, 2, 5), (3, 7, 3, 1), (1, 8, 1, 8), (8, 12, 4, 3)])
def test_zeros_take_no_cycle(outputs, inputs, pe, simd, activation):
    dense, kind = sparse(outputs, inputs), DType.parse(activation)
    unit = TermSerialMatVec(dense, kind, pe=pe, simd=simd)
    case = vectors(dense, kind, pe, simd, frames=8)
    check_cycles(unit, case, check(unit, case))
    assert sum(map(sum, unit.reads)) < outputs // pe * inputs


@pytest.mark.parametrize("level", [0, -1, 4, -4])
@pytest.mark.parametrize("activation", ["uint2", "int2", "bipolar"])
def test_weights_all_alike(activation, level):
    """Nothing at all to do; and the ends of the accumulator, which a width too small would cut."""
    dense = Dense(name="dense", weights=np.full((2, 8), level), code=Code.parse("shift3"))
    for exact in (False, True):
        unit = TermSerialMatVec(dense, DType.parse(activation), pe=1, simd=4, exact=exact)
        case = vectors(dense, unit.activation, 1, 4)
        assert products(unit, case) == case.expected if not exact else check(unit, case)


SCALED = [("csd(3,6)", 0, False, False), ("binary", 4, False, False), ("ternary", 4, False, True),
          ("shift3", 5, False, False), ("int(3)", 12, False, False), ("csd(2,5)", 3, False, True),
          ("shift3", 3, True, False), ("csd(2,3)", 4, True, True)]  # fmt: skip


@pytest.mark.parametrize("quality", [0, 1, 2, 15])
@pytest.mark.parametrize("code, vector, across, two", slow_but(SCALED[::3], SCALED))
def test_signed_digits_at_every_quality(code, vector, across, two, quality):
    """Of weights and of scales, however their vectors lie: without a multiplier."""
    dense = scaled_layer(code, vector=vector, across=across, two=two)
    for activation, exact in (("uint2", True), ("int4", False), ("bipolar", True)):
        check_quality(dense, activation, min(quality, dense.digits), make=TermSerialMatVec, pe=2, simd=4, exact=exact)


@pytest.mark.parametrize("exact", [True, False])
def test_groups_have_vectors_of_their_own(exact):
    dense, kind = sparse(8, 4), DType.parse("int3")
    unit = TermSerialMatVec(dense, kind, pe=2, simd=2, groups=2, exact=exact)
    x = random_frames(np.random.default_rng(3), kind, (4, 2, 4))
    grouped = np.concatenate([x[:, g] @ dense.weights[4 * g : 4 * g + 4].T for g in (0, 1)], 1)
    sums = grouped if exact else grouped - unit.bias
    words, expected = lane_words(x, kind, 2), lane_words(sums, unit.sum, 2)
    assert simulate(unit, words, len(expected), ready="random").words == expected


@pytest.mark.parametrize("family, code, activation, exact", slow_but(
    [("ice40", "shift3", "int3", False)],
    [(family, code, activation, exact) for family in FAMILIES for exact in (True, False)
     for code, activation in (("shift3", "int3"), ("ternary", "uint3"), ("int(4)", "bipolar"))],
))  # fmt: skip
def test_the_mapped_netlist(family, code, activation, exact, cache):
    dense, kind = layer(4, 24, code), DType.parse(activation)
    case = vectors(dense, kind, 2, 4, frames=100)
    unit = TermSerialMatVec(dense, kind, pe=2, simd=4, stages=2, target=family, exact=exact)
    words = mapped_words(unit, family, case)
    assert (words if exact else whole(unit, words, case)) == case.expected


@pytest.mark.slow
def test_bench_on_the_verilog(bench):
    dense, kind = layer(6, 8, "shift3"), DType.parse("uint3")
    bench(TermSerialMatVec(dense, kind, pe=2, simd=4), "tb_stream", vectors(dense, kind, 2, 4, frames=6))


FAULTS = {
    "pipeline runs on while a beat waits": ("advance.eq(~self.o.valid | self.o.ready)", "advance.eq(1)"),
    "a term of a vector that is not there": ("issue.eq(advance & buffer.available)", "issue.eq(advance)"),
    "no word read ahead": ("read.en.eq(issue | ~ahead)", "read.en.eq(issue)"),
    "vector given back a word late": ("else address == 0)", "else address == 1)"),
    "sum never starts anew": ("sync += begins.eq(flags[0])", "sync += begins.eq(0)"),
    "beat after every term": ("sync += self.o.valid.eq(valid & last)", "sync += self.o.valid.eq(valid)"),
    "the input of another lane": ("word.word_select(lane, bits)", "word[:bits]"),
    "padding is added": ("        x &= on.replicate(len(x))\n", ""),
    "ones of negations forgotten": ("(self.stream.sign < 0).sum(1)", "0 * (self.stream.sign < 0).sum(1)"),
    "not inverted": ("(shifted ^ negative.replicate(len(shifted)))", "shifted"),
    "not shifted": ("<< power - low", "<< 0"),
    "terms of another output": ("column = terms[first : first + self.pe, index]",
                                "column = terms[first : first + self.pe, index][::-1]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    dense, kind = sparse(4, 6, "shift3", 0.3), DType.parse("int3")
    unit = mutant("hw.matvec.term_serial", *FAULTS[fault]).TermSerialMatVec(dense, kind, pe=2, simd=3, stages=2)
    with pytest.raises(AssertionError):
        check(unit, vectors(dense, kind, 2, 3, frames=8), valid="random", ready="random")


@pytest.mark.parametrize("old, new", [("order <= self.quality", "order < self.quality"),
                                      ("            on &= order <= self.quality\n", "            pass\n")])  # fmt: skip
def test_a_fault_of_the_dial_is_seen(old, new):
    unit = mutant("hw.matvec.term_serial", old, new).TermSerialMatVec
    with pytest.raises(AssertionError):
        check_quality(scaled_layer("shift3", vector=4), "int4", 1, make=unit, pe=2, simd=4)


def test_a_fault_of_the_timing_is_seen():
    dense, kind = sparse(4, 6), DType.parse("int3")
    unit = TermSerialMatVec(dense, kind, pe=2, simd=3)
    case = vectors(dense, kind, 2, 3, frames=8)
    trace = check(unit, case)
    check_cycles(unit, case, trace)
    unit.reads = tuple(tuple(count + 1 for count in share) for share in unit.reads)
    with pytest.raises(AssertionError):
        check_cycles(unit, case, trace)


def test_a_memory_that_is_filled_later_is_refused():
    message = "layer 'dense': the memory for weights must be \"block\" or \"logic\", not 'spram'"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        TermSerialMatVec(layer(6, 10), DType.parse("uint2"), pe=1, simd=1, memory="spram")


def by_terms(network, folding):
    """The same with every layer with weights taking terms, but those whose thresholds are fused with the weights."""
    folds = dict(folding.folds)
    for one in network.layers:
        fold = folds.get(one.name)
        if isinstance(fold, MatVecFold) and fold.unit == PARALLEL:
            folds[one.name] = replace(fold, unit=TERMS, buffer="block" if fold.buffer == "ring" else fold.buffer)
    return replace(folding, folds=folds)


def refolded(seed, make):
    network, folding = make(np.random.default_rng(seed))
    return network, by_terms(network, folding)


def test_a_chain_builds_what_the_fold_says():
    fold = MatVecFold(pe=3, simd=4, unit=TERMS)
    parts = chain(scores(layer(6, 12, "ternary"), "uint2"), Folding(input_lanes=4, folds={"dense": fold}))
    assert [type(part.unit) for part in parts if part.name == "layer_0_dense"] == [TermSerialMatVec]


@pytest.mark.parametrize(
    "code, source, share, device", [("shift3", "uint4", 0.9, "hx8k"), ("csd(2,6)", "int4", 0.5, "ecp5-25k")]
)
def test_a_plan_takes_terms_where_they_are_cheaper(code, source, share, device):
    dense = sparse(60, 64, code, share)  # of fewer words, most columns would be constant, and cheap in LUTs
    network = scores(dense, source)
    wanted = term_cycles(dense, 2, 1)
    made = plan(network, target(device), Constraints(clock_hz=12e6, fps=12e6 / wanted))
    (fold,) = (one.fold for one in made.layers)
    assert fold.unit == TERMS
    assert made.cycles_per_frame <= wanted
    assert ", terms" in describe_plan(made)
    assert made.cycles_per_frame == made.layers[0].cycles
    check_plan(made)
    (reads,) = (one.reads for one in made.layers)
    unit = TermSerialMatVec(dense, network.input.dtype, pe=fold.pe, simd=fold.simd)
    assert (reads.depth, reads.word) == (len(unit._memory_words()), unit._memory_bits())


def test_terms_are_no_option_where_there_are_no_zeros():
    ones = replace(layer(4, 6, "ternary"), weights=np.ones((4, 6)))
    for dense in (ones, layer(4, 6, "binary")):
        work = Work.of(scores(dense, "uint4"), dense)
        folds = [fold for simd in divisors(6) for fold, _, _ in linear_options(work, 2, simd, target("hx8k"), 12e6)]
        assert folds
        assert not any(fold.unit == TERMS for fold in folds)


@pytest.mark.parametrize("seed", slow_but(range(6), range(60)))
def test_random_networks_to_the_cycle(seed):
    check_network(*refolded(seed, random_design), seed, 12)


@pytest.mark.parametrize("seed", slow_but(range(4), range(60)))
def test_random_convolutions_to_the_cycle(seed):
    check_network(*refolded(seed, random_conv_design), seed, 4)
