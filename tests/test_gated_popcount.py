"""Gated popcounts and the lanes made of them: proven equal to the generic form, and right as synthesis maps them."""

from __future__ import annotations

import random
import re
from itertools import product

import pytest
from formal import ProofFailedError
from lane_rig import Case, mismatches
from popcounts import CARRY_OF_THREE, FAMILIES, plant, prove_generic
from streaming import pipeline
from tiers import slow_but

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.lanes.choose import lane_kind
from fewbit.hw.lanes.one_bit import GateLanes
from fewbit.hw.sums.compress import cut, plan
from fewbit.hw.sums.popcount import GatedPopcount

KINDS = ("uint1", "int1", "bipolar")


pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("stages", [0, 1, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 64])
def test_generic_form(width, stages):
    rng = random.Random(1)
    a, b, gate = ([rng.getrandbits(width) for _ in range(40)] for _ in range(3))
    component = GatedPopcount(width, stages)
    component.o = component.count
    got = pipeline(component, {"a": a, "b": b, "gate": gate}, latency=stages)
    assert got == [((x ^ y) & z).bit_count() for x, y, z in zip(a, b, gate)]


@pytest.mark.parametrize(
    "width, family",
    slow_but(
        [(1, "ice40"), (2, "ecp5"), (3, "ice40"), (5, "ecp5"), (8, "ice40"), (8, "ecp5")],
        product(range(1, 13), FAMILIES),
    ),
)
def test_proven_equal_to_the_generic_form(width, family):
    prove_generic(GatedPopcount, width, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [16, 17, 31, 32])
def test_wider_ones_proven_equal_to_the_generic_form(width, family):
    prove_generic(GatedPopcount, width, family, seconds=900)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stages, simds", slow_but([(0, (1, 3))], [(0, (1, 3)), (0, (2, 17, 64)), (2, (8, 49))]))
def test_lanes_as_netlist(stages, simds, family):
    some = [Case(kind, "ternary", simd) for kind in KINDS for simd in simds]
    wrong = mismatches(some, stages, family, number=200, valid_pattern="random", ready_pattern="random")
    assert not any(wrong.values()), wrong


FAULTS = {
    "carry of three": CARRY_OF_THREE,
    "gates left open": ("ice40", "(pins[0] ^ pins[1]) & pins[2]", "(pins[0] ^ pins[1])"),
    "a gate in a chain left open": ("ecp5", "gate & (x ^ y)", "x ^ y"),
    "a carry that enters ungated": ("ecp5", "carry = self.computed(carry)", "carry = Bit(carry.a)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_the_proof(fault, monkeypatch):
    family = plant(FAULTS[fault], monkeypatch)
    with pytest.raises(ProofFailedError):
        prove_generic(GatedPopcount, 7, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_plans_can_be_cut_anywhere(family):
    for bits in range(1, 130):
        root = plan(bits, family, gated=True)
        assert root.cells >= plan(bits, family).cells
        for ranks in range(4):
            assert 0 <= cut(root, ranks) <= root.delay + 0.1


def test_lanes_of_one_bit_and_ternary_weights_are_these():
    ternary = Code.parse("ternary")
    for kind in KINDS:
        activation = DType.parse(kind)
        for target in ("generic", "ice40", "ecp5"):
            block = lane_kind(activation, ternary, target, exact=False)(4, activation, ternary, 1)
            assert isinstance(block, GateLanes)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"width": 0}, "a gated popcount needs a width of at least 1, not 0"),
        ({"width": 1, "stages": -1}, "a gated popcount has 0 or more stages, not -1"),
        (
            {"width": 1, "target": "xc7"},
            "the target of a gated popcount must be one of generic, asic, ice40, ecp5, not 'xc7'",
        ),
    ],
)
def test_bad_gated_popcounts(options, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        GatedPopcount(**options)
