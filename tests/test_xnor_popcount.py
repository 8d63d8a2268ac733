"""XNOR-popcounts of every family: what synthesis makes of them counts right, and they are proven equal to the generic
form."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from formal import ProofFailedError
from popcounts import CARRY_OF_THREE, FAMILIES, plant, prove_generic
from streaming import pass_through, pipeline
from tiers import slow_but

from benchmarks.measure import netlist as mapped_json
from fewbit.golden.errors import FewbitError
from fewbit.golden.matvec import pack_bits, xnor_popcount
from fewbit.hw.emit import verilog
from fewbit.hw.sums.popcount import XnorPopcount
from fewbit.sim.compile import compile_design
from fewbit.sim.netlist import netlist
from fewbit.sim.toggles import Mapped
from fewbit.sim.words import pack_words

WIDTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 49, 64, 112, 256)


class Rig(wiring.Component):
    """XNOR-popcounts of many widths at once, of the low bits of the same words, between streams."""

    def __init__(self, widths, stages, target):
        self.blocks = [XnorPopcount(width, stages, target) for width in widths]
        self.most, self.stages = max(widths), stages
        counts = sum(len(block.count) for block in self.blocks)
        super().__init__({"i": In(stream.Signature(2 * self.most)), "o": Out(stream.Signature(counts))})

    def elaborate(self, platform):
        m = Module()
        move = pass_through(m, self, self.stages)
        for block in self.blocks:
            m.submodules[f"width_{block.width}"] = block
            m.d.comb += [block.a.eq(self.i.payload), block.b.eq(self.i.payload[self.most :]), block.en.eq(move)]
        m.d.comb += self.o.payload.eq(Cat(block.count for block in self.blocks))
        return m


def words(most, number, seed=1):
    """(number, 2, most) bits: corners first, then of every density."""
    rng = np.random.default_rng(seed)
    bits = (rng.random((number, 2, most)) < rng.random((number, 1, 1))).astype(np.int64)
    ones = np.ones(most, np.int64)
    corners = [(0 * ones, 0 * ones), (ones, ones), (0 * ones, ones), (ones, 0 * ones)]
    for place in range(most):
        single = (np.arange(most) == place).astype(np.int64)
        corners += [(single, ones), (1 - single, ones)]
    for ranks in range(1, 8):
        stripes = np.arange(most) >> ranks - 1 & 1
        corners += [(stripes, ones), (stripes, 0 * ones)]
    bits[: len(corners)] = corners
    return bits


def agreeing(bits, width):
    a, b = pack_bits(bits[:, 0, :width]), pack_bits(bits[:, 1, :width])
    return np.array([xnor_popcount(one[None], other[None], width)[0, 0] for one, other in zip(a, b)])


def mismatches(widths, stages, family, number=2000, **patterns):
    """How many results of the mapped netlist are wrong."""
    rig = Rig(widths, stages, family)
    mapped = netlist(verilog(rig, "rig"), top="rig", family=family)
    bits = words(max(widths), number)
    design = compile_design(mapped, top="rig")
    trace = design.run(pack_words(bits.reshape(number, -1), 1), number, max_cycles=20 * number, **patterns)
    got = np.unpackbits(trace.outputs.view(np.uint8), axis=1, bitorder="little").astype(np.int64)
    wrong, place = 0, 0
    for block in rig.blocks:
        size = len(block.count)
        counts = got[:, place : place + size] @ (1 << np.arange(size))
        wrong += int(np.count_nonzero(counts != agreeing(bits, block.width)))
        place += size
    return wrong


pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("stages", [0, 1, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 64])
def test_generic_form(width, stages):
    rng = random.Random(1)
    cases = [(rng.getrandbits(width), rng.getrandbits(width)) for _ in range(40)]
    component = XnorPopcount(width, stages)
    assert component.latency == stages
    component.o = component.count
    got = pipeline(component, {"a": [a for a, _ in cases], "b": [b for _, b in cases]}, latency=stages)
    assert got == [width - (a ^ b).bit_count() for a, b in cases]


@pytest.mark.parametrize("family", FAMILIES)
def test_netlist_counts(family):
    assert mismatches(WIDTHS[:-3], 0, family) == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_netlist_of_wider_ones(family):
    assert mismatches(WIDTHS[-3:], 0, family) == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "stages, widths",
    [
        (3, (1, 8)),
        pytest.param(3, (49,), marks=pytest.mark.slow),
        pytest.param(1, (3, 100), marks=pytest.mark.slow),
        pytest.param(8, (2, 9, 256), marks=pytest.mark.slow),
    ],
)
def test_netlist_of_the_pipelined_form(family, stages, widths):
    assert mismatches(widths, stages, family, valid_pattern="random", ready_pattern="random") == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [1000, 4096])
@pytest.mark.parametrize("device, family", [("hx8k", "ice40"), ("ecp5-25k", "ecp5")])
def test_netlist_of_the_widest(device, family, width):
    """In NumPy: a C++ compiler takes a quarter of an hour and gigabytes for a port of thousands of bits."""
    design = Mapped(mapped_json(XnorPopcount(width, target=family), device), "top")
    bits = words(width, 9088)
    settled = design.settle({"a": bits[:, 0].T[None], "b": bits[:, 1].T[None]})
    assert np.array_equal(settled.port("count")[0], agreeing(bits, width))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", slow_but((1, 2, 3, 4, 5, 7, 9, 11), range(1, 18)))
def test_proven_equal_to_the_generic_form(width, family):
    prove_generic(XnorPopcount, width, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [24, 32, 49, 64])
def test_wider_ones_proven_equal_to_the_generic_form(width, family):
    prove_generic(XnorPopcount, width, family, seconds=900)


FAULTS = {
    "carry of three": CARRY_OF_THREE,
    "a carry that enters inverted": ("ice40", "lambda a, _1, _2, b: a ^ b ^ 1", "lambda a, _1, _2, b: a ^ b"),
    "two-bit sum without its carry": ("ice40", "lambda c, d, a, b: c ^ d ^ (a & b)", "lambda c, d, a, b: c ^ d"),
    "inverted sums taken for plain": ("ecp5", "Bit(bit, inverted=inverted)", "Bit(bit)"),
    "a slot that adds the wrong bit": ("ecp5", "return first ^ second if pins[3] else first", "return first | second"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_the_proof(fault, monkeypatch):
    family = plant(FAULTS[fault], monkeypatch)
    width = 6 if fault == "two-bit sum without its carry" else 31
    with pytest.raises(ProofFailedError):
        prove_generic(XnorPopcount, width, family)


@pytest.mark.parametrize("fault", slow_but(["carry of three"], ["carry of three", "inverted sums taken for plain"]))
def test_a_planted_fault_is_seen_in_the_netlist(fault, monkeypatch):
    assert mismatches((8, 31), 0, plant(FAULTS[fault], monkeypatch)) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_every_time(family):
    script = (
        "from fewbit.hw.emit import verilog; from fewbit.hw.sums.popcount import XnorPopcount; "
        f"print(verilog(XnorPopcount(37, 2, {family!r}), 'block'), end='')"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert verilog(XnorPopcount(37, 2, family), "block") == other.stdout


def test_bad_popcounts():
    with pytest.raises(FewbitError, match=r"^an XNOR-popcount needs a width of at least 1, not 0$"):
        XnorPopcount(0)
    with pytest.raises(FewbitError, match=r"^an XNOR-popcount needs a width of at least 1, not -3$"):
        XnorPopcount(-3, target="ice40")
    with pytest.raises(FewbitError, match=r"^an XNOR-popcount has 0 or more stages, not -1$"):
        XnorPopcount(8, -1)
    with pytest.raises(
        FewbitError, match=r"^the target of an XNOR-popcount must be one of generic, asic, ice40, ecp5, not 'xc7'$"
    ):
        XnorPopcount(8, target="xc7")
