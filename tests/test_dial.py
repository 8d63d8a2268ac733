"""What the dial and zero weights keep still, counted in netlists: gated rows, lanes with a weight of zero."""

from __future__ import annotations

import re

import numpy as np
import pytest
from faults import mutant
from networks import random_frames
from tiers import slow_but

from benchmarks import dial
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.lanes import terms as lanes
from fewbit.hw.multiply import csd
from fewbit.hw.multiply import dsp as factor

FAMILIES = ("ice40", "ecp5")
UINT3 = DType("uint", 3)


def scaled(code="shift3"):
    rng, kind = np.random.default_rng(3), Code.parse(code)
    weights, scales = rng.choice(kind.levels, (4, 12)), rng.integers(-90, 100, (4, 3))
    return Dense(name="dense", weights=weights, code=kind, scales=scales, vector=4)


def bench(dense, family, simd=4):
    x = random_frames(np.random.default_rng(4), UINT3, (64, dense.fan_in))
    return dial.Bench(dense, UINT3, x, pe=2, simd=simd, family=family)


@pytest.mark.parametrize("family", slow_but(["ecp5"], FAMILIES))
def test_rows_beyond_the_quality_are_still_while_frames_run(family):
    made = bench(scaled(), family)
    counts = [made.count(quality) for quality in range(made.layer.digits + 1)]
    assert made.layer.digits >= 3
    assert all(one.gated == 0 < one.gated_cycles for one in counts)
    assert counts[0].gated_cycles == counts[0].row_cycles
    assert counts[0].kept == counts[0].adders == 0
    assert [one.kept for one in counts] == sorted(one.kept for one in counts)
    assert counts[0].all < counts[1].all < counts[-1].all


OPEN_ROW = (
    "on & (below if upper else x), x, below, on, upper)",
    'on & (below if upper else x), lut(m, f"{name}_{k}_open", target, lambda x: x, x), below, on, upper)',
)


@pytest.mark.parametrize("family", slow_but(["ecp5"], FAMILIES))
def test_a_row_that_is_not_gated_first_is_seen(family, monkeypatch):
    """Right, but with the operand in a net of the row before the gate."""
    monkeypatch.setattr(csd, "row_term", mutant("hw.multiply.partial_products", *OPEN_ROW).row_term)
    made = bench(scaled(), family)
    assert made.count(1).gated > 0


@pytest.mark.slow
def test_a_gate_that_is_missing_makes_other_sums(monkeypatch):
    faulty = mutant("hw.multiply.csd", "some & ~less(list(quality), order)", "some").CsdMultiplier
    monkeypatch.setattr(factor, "CsdMultiplier", faulty)
    made = bench(scaled(), "ecp5")
    with pytest.raises(FewbitError, match=r"^layer 'dense': output \d at quality 1 is not the golden sum$"):
        made.count(1)


CASES = [
    (code, activation, family, exact)
    for family in FAMILIES
    for exact in (False, True)
    for code in ("ternary", "quinary", "shift3", *(["csd(2,4)"] if exact else []))
    for activation in ("bipolar", "uint2", "int4")
]
LEAKS = {
    *((code, activation, "ice40", False) for code in ("ternary", "quinary") for activation in ("uint2", "int4")),
    *(("csd(2,4)", "bipolar", family, True) for family in FAMILIES),
}
"""Where a gate is not in front of everything, as the docstrings of the lanes say."""


@pytest.mark.parametrize("code, activation, family, exact", slow_but([("shift3", "uint2", "ecp5", False)], CASES))
def test_no_change_passes_a_weight_of_zero(code, activation, family, exact):
    found = dial.zeros(Code.parse(code), DType.parse(activation), family, exact=exact)
    assert found.flip_flops == 0
    assert found.moving > 0
    if (code, activation, family, exact) in LEAKS:
        assert 0 < found.luts + found.carries < found.moving / 4
    else:
        assert (found.luts, found.carries) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lane_without_its_gate_is_seen(family, monkeypatch):
    cells = mutant(
        "hw.sums.term_cells", "lambda x, inverse, on: (x ^ inverse) & on, pin", "lambda x, inverse, on: x, pin"
    )
    monkeypatch.setattr(lanes, "TermCells", cells.TermCells)
    found = dial.zeros(Code.parse("ternary"), DType("uint", 2), family, exact=False)
    assert found.luts > 0


def test_what_the_bench_does_not_show_is_refused():
    plain = Dense(name="dense", weights=np.ones((4, 12)), code=Code.parse("ternary"))
    message = "layer 'dense': the benchmark needs one scale per vector along the inputs"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        bench(plain, "ecp5")
    with pytest.raises(FewbitError, match=r"^the layer must be one of dense3, dense4, dense5, not 'conv1'$"):
        dial.bench("conv1", 1, 1, "ecp5")


@pytest.mark.slow
def test_the_command_from_end_to_end(capsys, monkeypatch):
    monkeypatch.setattr(dial, "CODES", ("ternary",))
    monkeypatch.setattr(dial, "ACTIVATIONS", ("uint2",))
    dial.main(["dense5", "--simd", "4", "--family", "ecp5"])
    printed = capsys.readouterr().out
    assert "dense5 of lenet5-shift3, 2 outputs by 4 inputs, ecp5:" in printed
    assert "gated rows: 0 transitions in" in printed
    assert max(len(line) for line in printed.splitlines()) <= 120
