"""Switching activity of the multipliers: the table end to end, what gating keeps still, and the ratios aimed at."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from faults import mutant

from benchmarks import activity, operands
from benchmarks.measure import mapped
from fewbit.golden import csd
from fewbit.golden.errors import FewbitError
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.sim.toggles import Mapped


def netlist_of(component, family="ice40"):
    _, design = mapped(component, activity.DEVICES[family], flow=activity.OWN_FLOW[family])
    return Mapped(design, "top")


def form_of(width, family, name):
    return next(form for form in activity.forms(width, family) if form.name == name)


@pytest.mark.parametrize("source", operands.SOURCES)
@pytest.mark.parametrize("width", [8, 16])
def test_operands_fill_their_width_and_are_held(source, width):
    held = operands.operands(source, width, 48, 64, held=True)
    new = operands.operands(source, width, 48, 64, held=False)
    for a, b in (held, new):
        assert a.shape == b.shape == (48, 64)
        assert max(abs(a).max(), abs(b).max()) < 1 << width
        assert abs(a).max() >= 1 << width - 3 < abs(b).max() * 2
        assert csd.recode(a, width).shape == (48, 64, width)
    assert (held.b[:16] == held.b[0]).all()
    assert (held.b[16] != held.b[15]).mean() > 0.9
    assert (new.b[1:] != new.b[:-1]).mean() > 0.9
    assert np.array_equal(held.a, operands.operands(source, width, 48, 64, held=True).a)


@pytest.mark.slow
def test_weights_are_what_the_command_trains():
    """In the sense of training: another machine's sums round differently."""
    weights, right = operands.train()
    shipped = np.load(operands.WEIGHTS)["weights"]
    assert right > 0.99
    assert np.corrcoef(weights.ravel(), shipped.ravel())[0, 1] > 0.9
    assert operands.WEIGHTS.stat().st_size < 100_000


@pytest.mark.slow
def test_the_command_from_end_to_end(capsys, monkeypatch):
    """Four bits, one family: every line, every block, and the same again."""
    shown = ("digits, balanced", "digits, ripple, digits", "digits, serial", "recoder, ripple")
    rare = tuple(form.name for form in activity.forms(4, "ice40") if form.knob and form.name not in shown)
    monkeypatch.setattr(activity, "RARE", rare)
    monkeypatch.setattr(activity, "forms", functools.cache(activity.forms))
    monkeypatch.setattr(activity, "mapped", functools.cache(mapped))
    activity.main(["4", "--family", "ice40"])
    printed = capsys.readouterr().out
    assert "4 x 4, ice40, weights held for 16 activations: transitions a product\n" in printed
    assert "4 x 4, ice40, a new weight for every product: transitions a product\n" in printed
    for name in (*activity.PLAIN.values(), "*, Yosys' booth", "rows (Booth)", *shown):
        assert len([line for line in printed.splitlines() if line[:31].strip() == name]) == 2
    assert "K=2: 0." in printed
    assert "not joules" in printed
    assert max(len(line) for line in printed.splitlines()) <= 120
    activity.main(["4", "--family", "ice40"])
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_gated_rows_are_still_with_their_signs(family):
    """With digits that stand and a quality of 0, nothing at all changes; nor would it in any row that is not kept."""
    netlist = netlist_of(CsdMultiplier(6, 7, recoded=True, target=family), family)
    rng = np.random.default_rng(1)
    a = rng.integers(0, 64, (8, 64))
    words = csd.encode(csd.recode(rng.integers(-64, 64, (1, 64)), 7)).astype(np.int64).repeat(8, 0)
    transitions = []
    for quality in (0, 1):
        settled = netlist.settle({"a": a, "digits": words, "quality": np.full_like(a, quality)})
        transitions.append(settled.glitches().total)
    assert transitions[0] == 0 < transitions[1]


def test_a_sign_that_is_not_gated_is_seen():
    ungated = mutant("hw.multiply.csd", "digits[field.negative] & on", "digits[field.negative]").CsdMultiplier
    form = form_of(8, "ecp5", "digits, ripple")
    counts = []
    for kind in (CsdMultiplier, ungated):
        netlist = netlist_of(kind(8, 8, recoded=True, target="ecp5"), "ecp5")
        counts.append(activity.count(form, netlist, "network", 8, "new", 1, 64).glitches)
    assert counts[0] < 0.6 * counts[1]


def test_a_wrong_product_is_not_counted():
    faulty = mutant("hw.multiply.csd", "some & ~less(list(quality), order)", "some").CsdMultiplier
    netlist = netlist_of(faulty(8, 8, recoded=True, target="ice40"))
    with pytest.raises(FewbitError, match=r"^digits, ripple: -?\d+ times -?\d+ at a quality of 2 is -?\d+, not -?\d+$"):
        activity.count(form_of(8, "ice40", "digits, ripple"), netlist, "network", 8, "held", 2, 64)


def test_the_serial_form_takes_a_clock_edge_a_digit_and_one():
    form = form_of(4, "ice40", "digits, serial")
    netlist = netlist_of(form.block)
    flops = len(netlist.flops.outputs)
    for quality in (1, 2):
        _, b = operands.operands("network", 4, 33, 64, held=False)
        edges = 1 + (csd.keep(csd.recode(b[16:32], 4), quality) != 0).sum(-1).mean()
        count = activity.count(form, netlist, "network", 4, "new", quality, 64)
        assert count.settled <= count.glitches
        assert 0 < count.clocked <= edges * flops


CONTENDERS = ("digits, ripple", "digits, balanced", "digits, ripple, digits", "digits, ripple, rows")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ice40", "ecp5"])
@pytest.mark.parametrize("width, most", [(8, 0.80), (16, 0.37)])
def test_two_digits_of_held_weights_against_star(width, family, most):
    """The best form, with glitches, against * with registers in the same places and against the bare one."""
    found = activity.lines(width, family, names=CONTENDERS)
    winner = activity.best(found, "held", 2)
    assert activity.ratio(winner, found, "held", 2) <= most
    assert activity.ratio(winner, found, "held", 2, like="*") <= most
    # One digit costs less than two, two less than all.
    ratios = [activity.ratio(winner, found, "held", quality) for quality in activity.qualities(width)]
    assert ratios == sorted(ratios)
