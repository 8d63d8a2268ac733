"""Lanes in the cells of each family: right as synthesis maps them, and proven for small ones."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from faults import mutant
from formal import ProofFailedError, prove_equal
from lane_rig import Case, mismatches
from tiers import slow_but, slow_but_at

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.emit import verilog
from fewbit.hw.lanes import terms as lanes
from fewbit.hw.lanes.choose import lane_kind
from fewbit.hw.lanes.one_bit import CountLanes
from fewbit.hw.lanes.terms import TreeLanes
from fewbit.hw.streams import number
from fewbit.hw.sums.pair_sums import PairSums

FAMILIES = ("ice40", "ecp5")
CODES = ("binary", "ternary", "quinary", "shift3")
CODEBOOK = "codebook(-9,-4,-1,0,1,4,9)"


pytestmark = pytest.mark.usefixtures("cache")


def wrong(cases, stages, target, **options):
    return {case: count for case, count in mismatches(cases, stages, target, **options).items() if count}


def cases(activations, simds, codes=CODES, exact=False):
    return [Case(*names, exact) for names in product(activations, codes, simds)]


@pytest.mark.parametrize("family", FAMILIES)
def test_netlist(family):
    some = [Case("uint2", "binary", 3), Case("int2", "binary", 6), Case("int2", "ternary", 3),
            Case("uint8", "ternary", 5), Case("int2", "quinary", 3), Case("uint2", "shift3", 2),
            Case("uint4", "shift3", 3), Case("uint2", "shift3(1)", 3, True),
            Case("int2", CODEBOOK, 3), Case("uint3", CODEBOOK, 3, True)]  # fmt: skip
    assert not wrong(some, 0, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_netlist_of_the_pipelined_form(family):
    some = [Case("uint3", "binary", 7), Case("int2", "ternary", 5), Case("uint2", "shift3", 9)]
    assert not wrong(some, 2, family, number=300, valid_pattern="random", ready_pattern="random")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("code", [*CODES, "shift3(1)", "shift3(2)"])
@pytest.mark.parametrize("exact", [False, True])
def test_netlist_of_small_ones(code, family, exact):
    kinds = ["uint1", "int1", "bipolar", "uint2", "int2", "uint4", "int4", "uint8", "int8"]
    assert not wrong(cases(kinds, [1, 2, 3], [code], exact), 0, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("simd, stages", [(15, 0), (16, 1), (17, 3), (64, 2)])
def test_netlist_of_wider_ones(code, family, exact, simd, stages):
    kinds = ["uint8", "int4"] if simd > 17 else ["uint8", "int8", "uint4", "bipolar", "uint1", "int1"]
    assert not wrong(cases(kinds, [simd], [code], exact), stages, family, number=1500, wide=True)


class Model(wiring.Component):
    """Products by plain arithmetic, and their sum; 0 if a code word has no meaning."""

    def __init__(self, simd, activation, code):
        self.simd, self.activation, self.weight_code = simd, activation, code
        super().__init__({"x": In(simd * activation.bits), "code": In(simd * code.bits), "sum": Out(signed(16))})

    def levels(self):
        """Whether all code words mean something, and what each of them means."""
        legal, found = Const(1, 1), []
        for lane in range(self.simd):
            word = self.code.word_select(lane, self.weight_code.bits)
            chosen = [(word == int(self.weight_code.encode(one[None])[0]), int(one)) for one in self.weight_code.levels]
            legal &= Cat(here for here, _ in chosen).any()
            found.append(sum(Mux(here, level, 0) for here, level in chosen))
        return legal, found

    def elaborate(self, platform):
        m = Module()
        legal, found = self.levels()
        bits, kind = self.activation.bits, self.activation
        words = [self.x.word_select(lane, bits) for lane in range(self.simd)]
        values = [number(word.as_signed() if kind.signed else word, kind) for word in words]
        with m.If(legal):
            m.d.comb += self.sum.eq(sum(level * value for level, value in zip(found, values)))
        return m


class Recoded(Model):
    """The same of lanes for known weights, their words and corrections from a table of all code words."""

    def __init__(self, simd, activation, code, target):
        super().__init__(simd, activation, code)
        self.block = lane_kind(activation, code, target, exact=False)(simd, activation, code, 0)

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        x, front = self.x, block.front
        if front is not None:
            m.submodules.front = front
            m.d.comb += front.x.eq(x)
            x = front.o
        m.d.comb += [block.x.eq(x), block.en.eq(1)]
        rows = np.array(list(product(self.weight_code.levels, repeat=self.simd)))
        code_words = self.weight_code.encode(rows) @ (1 << self.weight_code.bits * np.arange(self.simd)).astype(
            np.uint64
        )
        correction, legal = Signal(signed(16)), Signal()
        with m.Switch(self.code):
            for code_word, word, more in zip(code_words, block.words(rows), block.correction(rows)):
                with m.Case(int(code_word)):
                    m.d.comb += [block.w.eq(word), correction.eq(int(more)), legal.eq(1)]
        with m.If(legal):
            m.d.comb += self.sum.eq(block.step * block.o + block.offset + correction)
        return m


class Exact(Model):
    """The same of lanes that take code words as they are."""

    def __init__(self, simd, activation, code, target):
        super().__init__(simd, activation, code)
        self.block = lane_kind(activation, code, target)(simd, activation, code, 0)

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        legal, _ = self.levels()
        m.d.comb += [block.x.eq(self.x), block.w.eq(self.code), block.en.eq(1)]
        with m.If(legal):
            m.d.comb += self.sum.eq(block.step * block.o + block.offset)
        return m


def proof(form, case, family, seconds=100):
    activation, code = DType.parse(case[0]), Code.parse(case[1])
    ours, theirs = form(case[2], activation, code, family), Model(case[2], activation, code)
    prove_equal(verilog(ours, "fabric"), verilog(theirs, "plain"), "fabric", "plain", seconds=seconds, cells=family)


PROVEN = [("uint3", "binary", 3), ("int2", "binary", 6), ("uint3", "ternary", 3), ("int2", "quinary", 2),
          ("uint1", "shift3", 3), ("int3", "shift3", 2), ("int2", CODEBOOK, 2)]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", slow_but_at((0, 2, 3, 5, 6), PROVEN, whole=True), ids=str)
def test_known_weights_proven(case, family):
    proof(Recoded, case, family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", [*PROVEN[2:4], PROVEN[6]], ids=str)
def test_code_words_proven(case, family):
    proof(Exact, case, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", [Recoded, Exact])
@pytest.mark.parametrize(
    "case", [("uint8", "shift3", 1), ("int8", "quinary", 1), ("int3", "ternary", 5), ("uint2", "quinary", 3),
             ("bipolar", "shift3", 3), ("uint3", "binary", 5), ("uint4", "shift3", 3), ("uint4", "ternary", 4)], ids=str
)  # fmt: skip
def test_larger_ones_proven(case, form, family):
    proof(form, case, family, seconds=900)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("code, kind", list(product(CODES, ["uint2", "int2", "bipolar"])))
def test_an_illegal_word_is_a_zero(code, kind, family):
    activation, code = DType.parse(kind), Code.parse(code)
    forms = [lane_kind(activation, code, target)(2, activation, code, 0) for target in (family, "generic")]
    texts = [verilog(form, name) for form, name in zip(forms, ("fabric", "plain"))]
    prove_equal(*texts, "fabric", "plain", cells=family)


FAULTS = {
    "the wrong sign is kept": ("term_tree", "inside = self._sign(a, rows)", "inside = -self._sign(a, rows)",
                               "ice40", ("uint2", "binary", 4)),
    "a flip that costs nothing": ("term_tree", "return np.where(inside != sign, node.top - k, k)",
                                  "return np.where(inside != sign, -k, k)", "ice40", ("uint2", "binary", 4)),
    "zeros are added": ("term_cells", "cell, (*_, spare) = GATED", "cell, (*_, spare) = FLIPPED",
                        "ice40", ("uint2", "ternary", 3)),
    "four times is twice": ("term_cells", "b & c if d else c, fourfold", "c, fourfold", "ecp5", ("uint1", "shift3", 3)),
    "sums for differences": ("term_cells", "b if d else c, pins", "c, pins", "ecp5", ("uint2", "binary", 6)),
    "gates stay open": ("term_cells", "(b ^ c) & d, pins[k]", "(b ^ c & d), pins[k]", "ecp5", ("uint2", "ternary", 3)),
}  # fmt: skip


def plant(fault, monkeypatch):
    module, old, new, family, case = FAULTS[fault]
    copy = mutant(f"hw.sums.{module}", old, new)
    name = {"term_tree": "TermTree", "term_cells": "TermCells"}[module]
    monkeypatch.setattr(lanes, name, getattr(copy, name))
    return family, case


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_the_proof(fault, monkeypatch):
    family, case = plant(fault, monkeypatch)
    with pytest.raises(ProofFailedError):
        proof(Recoded, case, family)


@pytest.mark.parametrize("fault", slow_but(["zeros are added"], ["zeros are added", "sums for differences"]))
def test_a_planted_fault_is_seen_in_the_netlist(fault, monkeypatch):
    family, case = plant(fault, monkeypatch)
    assert wrong([Case(*case)], 0, family)
    assert wrong([Case(*case)], 0, family, wide=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("simd", [1, 2, 3, 16, 31, 64])
def test_words_are_no_longer_than_their_codes(code, simd, family):
    for kind in ("uint8", "int4", "bipolar"):
        activation = DType.parse(kind)
        block = lane_kind(activation, Code.parse(code), family, exact=False)(simd, activation, Code.parse(code), 0)
        assert block.w_bits <= simd * Code.parse(code).bits


def test_kinds_of_lanes():
    uint8, uint1, binary = DType.parse("uint8"), DType.parse("uint1"), Code.parse("binary")
    block = lane_kind(uint8, binary, "ice40", exact=False)(5, uint8, binary, 1)
    assert isinstance(block, TreeLanes)
    assert isinstance(block.front, PairSums)
    assert block.front.latency == 0
    assert len(block.front.o) == len(block.x)
    assert block.latency == 1
    assert isinstance(lane_kind(uint1, binary, "ecp5", exact=False)(5, uint1, binary, 0), CountLanes)
    assert lane_kind(uint8, Code.parse("shift3"), "ice40", exact=False)(5, uint8, Code.parse("shift3"), 1).front is None
    with pytest.raises(
        FewbitError, match=r"^the target of a lane must be one of generic, asic, ice40, ecp5, not 'xc7'$"
    ):
        lane_kind(uint8, binary, "xc7")


def test_bad_sums_of_pairs():
    uint4 = DType.parse("uint4")
    with pytest.raises(FewbitError, match=r"^sums of pairs need a SIMD of at least 1, not 0$"):
        PairSums(0, uint4)
    with pytest.raises(FewbitError, match=r"^sums of pairs need activations of 2 bits or more, not uint1$"):
        PairSums(2, DType.parse("uint1"))
    with pytest.raises(FewbitError, match=r"^sums of pairs have 0 or more stages, not -1$"):
        PairSums(2, uint4, stages=-1)
    with pytest.raises(
        FewbitError, match=r"^the target of a sum of pairs must be one of generic, asic, ice40, ecp5, not 'xc7'$"
    ):
        PairSums(2, uint4, "xc7")
