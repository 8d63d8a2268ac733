"""Accumulators: what a sum is next, in plain RTL against integers, and in cells proven equal to that."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from faults import mutant
from formal import ProofFailedError, prove_equal
from streaming import pipeline
from tiers import each_value

from fewbit.golden.errors import FewbitError
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.accumulate import accumulate


class NextSum(wiring.Component):
    """What a sum is next, without its register; only the ``meets`` that are promised where operand and preset do."""

    def __init__(self, width, operand, preset, target, signed=False, make=accumulate):
        self.width, self.low, self.target, self.signed, self.make = width, width - preset, target, signed, make
        super().__init__(
            {"total": In(width), "operand": In(operand), "first": In(1), "preset": In(preset), "o": Out(width)}
        )

    def elaborate(self, platform):
        m = Module()
        total, operand = Signal(self.width), Signal(len(self.operand))
        m.d.comb += [total.eq(self.total), operand.eq(self.operand)]
        if not self.signed and self.low < len(self.operand):
            m.d.comb += operand.eq(self.operand & ~(self.first.replicate(len(operand)) & ~((1 << self.low) - 1)))
        value = operand.as_signed() if self.signed else operand
        m.d.comb += self.o.eq(self.make(m, "sum", self.target, total, value, self.first, list(self.preset)))
        return m


SHAPES = [(1, 1, 0, False), (5, 5, 0, False), (6, 4, 2, False), (6, 4, 3, False), (6, 3, 6, False), (7, 4, 0, True)]


def prove_sum(shape, family, make=accumulate):
    ours = NextSum(*shape[:3], family, shape[3], make)
    plain = NextSum(*shape[:3], "generic", shape[3])
    prove_equal(verilog(ours, "cells"), verilog(plain, "plain"), "cells", "plain", cells=family)


@pytest.mark.parametrize(
    "shape, family", each_value([*SHAPES, (12, 7, 5, False), (12, 7, 6, False), (12, 12, 0, True)], ["ice40", "ecp5"])
)
def test_cells_proven_equal_to_the_plain_form(shape, family):
    prove_sum(shape, family)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_form_against_integers(shape):
    width, operand, preset, is_signed = shape
    rng = np.random.default_rng(1)
    block = NextSum(width, operand, preset, "generic", is_signed)
    cases = {name: rng.integers(0, 1 << size, 300).tolist() for name, size in
             (("total", width), ("operand", operand), ("first", 1), ("preset", preset))}  # fmt: skip
    block.en = Signal()
    got = pipeline(block, {name: values for name, values in cases.items() if name != "preset" or preset}, latency=0)
    for case, result in enumerate(got):
        total, value, first, begin = (cases[name][case] for name in ("total", "operand", "first", "preset"))
        if is_signed and value >> operand - 1:
            value -= 1 << operand
        if first and not is_signed:
            value %= 1 << width - preset
        start = begin << width - preset if preset else 0
        assert result == ((start if first else total) + value) % (1 << width)


@pytest.mark.parametrize(
    "family, old, new",
    [
        ("ice40", "bit if first else old ^ bit ^ carry", "old ^ bit ^ carry"),
        ("ice40", "begin if first else old ^ carry)", "begin if first else old)"),
        ("ice40", "begin if first else old, first, begin, old", "begin, first, begin, old"),
        ("ecp5", "old if goes_on else begin", "old"),
    ],
)
def test_a_planted_fault_breaks_the_proof(family, old, new):
    with pytest.raises(ProofFailedError):
        prove_sum((6, 4, 3, False), family, mutant("hw.fabric.accumulate", old, new).accumulate)


def test_bad_parameters():
    with pytest.raises(FewbitError, match=r"^a preset of 3 bits does not fit a sum of 2$"):
        accumulate(Module(), "sum", "generic", Signal(2), Signal(1), Signal(), [Signal()] * 3)
    with pytest.raises(FewbitError, match=r"^an accumulator with a preset needs an unsigned operand$"):
        accumulate(Module(), "sum", "generic", Signal(4), Signal(2).as_signed(), Signal(), [Signal()])
    with pytest.raises(
        FewbitError, match=r"^the target of an accumulator must be one of generic, asic, ice40, ecp5, not 'xc7'$"
    ):
        accumulate(Module(), "sum", "xc7", Signal(2), Signal(1), Signal())
