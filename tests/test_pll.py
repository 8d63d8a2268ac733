"""PLL settings against icepll and ecppll, and against an exhaustive search."""

import re
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from networks import random_design

from fewbit.bitstreams import board_design
from fewbit.boards import catalogue, pll, tools
from fewbit.golden.errors import FewbitError
from fewbit.hw.planner.constraints import Constraints

MHZ = 1_000_000


def said(text, name):
    """The number after ``name`` in what a PLL tool printed."""
    return float(re.search(rf"^{name}:? *([\d.]+)", text, re.MULTILINE)[1])


def tool(name, *arguments):
    run = subprocess.run([tools.require(name), *map(str, arguments)], capture_output=True, text=True, check=True)
    return run.stdout


@pytest.mark.parametrize("asked", [16.5, 20, 24, 25, 33, 48, 50, 66, 100, 137, 200, 275])
def test_ice40_settings_are_icepll_s_for_the_same_frequency(asked):
    got = pll.ice40_pll(12 * MHZ, round(asked * MHZ))
    text = tool("yowasp-icepll", "-i", 12, "-o", float(got.hz) / MHZ)
    assert said(text, "DIVR") == got.divr
    assert said(text, "DIVF") == got.divf
    assert said(text, "DIVQ") == got.divq
    assert said(text, "FILTER_RANGE") == got.filter_range
    assert said(text, "F_VCO") == pytest.approx(float(got.vco_hz) / MHZ, abs=1e-3)


@pytest.mark.parametrize("asked", [12, 24, 33, 40, 50, 60, 66, 80, 83, 100, 125, 133.3, 200, 400])
def test_ecp5_settings_are_ecppll_s_for_the_same_frequency(asked):
    got = pll.ecp5_pll(25 * MHZ, round(asked * MHZ))
    text = tool("yowasp-ecppll", "-i", 25, "-o", f"{float(got.hz) / MHZ:.9f}")
    assert said(text, "clkout0 frequency") == pytest.approx(float(got.hz) / MHZ, rel=1e-5)
    assert said(text, "VCO frequency") == pytest.approx(float(got.vco_hz) / MHZ, rel=1e-5)
    assert said(text, "Refclk divisor") == got.clki_div
    assert said(text, "Feedback divisor") == got.clkfb_div
    assert said(text, "clkout0 divisor") == got.clkop_div


def ice40_frequencies(source):
    return {
        Fraction(source * (f + 1), (r + 1) << q)
        for r in range(16)
        for f in range(128)
        for q in range(1, 7)
        if source >= 10 * MHZ * (r + 1) and 533 * MHZ * (r + 1) <= source * (f + 1) <= 1066 * MHZ * (r + 1)
    }


@pytest.mark.parametrize("source", [12 * MHZ, 48 * MHZ])
def test_ice40_takes_the_nearest_frequency_not_above(source):
    every = sorted(hz for hz in ice40_frequencies(source) if 16 * MHZ <= hz <= 275 * MHZ)
    for asked in range(17 * MHZ, 275 * MHZ, 3_777_777):
        assert pll.ice40_pll(source, asked).hz == max(hz for hz in every if hz <= asked)


def test_ecp5_takes_the_nearest_frequency_not_above():
    every = {Fraction(25 * MHZ * b, i) for i in range(1, 9) for b in range(1, 81)}
    # From 81 on, a multiple of the smallest detector frequency is beyond the feedback divider.
    beyond = [25 * MHZ * multiple // 8 for multiple in range(81, 128)]
    for asked in [*range(10 * MHZ, 400 * MHZ, 9_876_543), *beyond]:
        assert pll.ecp5_pll(25 * MHZ, asked).hz == max(hz for hz in every if 10 * MHZ <= hz <= asked)


@pytest.mark.parametrize("make, asked, limits", [
    (pll.ice40_pll, 15_999_999, "16 to 275"),
    (pll.ice40_pll, 276 * MHZ, "16 to 275"),
    (pll.ecp5_pll, 9_999_999, "10 to 400"),
    (pll.ecp5_pll, 401 * MHZ, "10 to 400"),
])  # fmt: skip
def test_frequencies_out_of_reach(make, asked, limits):
    message = f"the PLL cannot make {asked / 1e6:g} MHz: ask for {limits} MHz, or for the oscillator's 12 MHz"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        make(12 * MHZ, asked)


@pytest.mark.parametrize("board", catalogue.BOARDS, ids=lambda board: board.name)
def test_the_oscillator_itself_needs_no_pll(board):
    assert pll.settings(board, board.oscillator_hz) is None


@pytest.mark.parametrize("board", catalogue.BOARDS, ids=lambda board: board.name)
def test_the_usual_clock_is_reached_exactly(board):
    assert pll.settings(board, board.clock_hz).hz == board.clock_hz


def test_a_plan_is_for_the_clock_that_the_board_makes():
    """52 MHz cannot be made of 25 MHz: a plan of 52 would promise more frames than the board gives."""
    network, board = random_design(np.random.default_rng(1))[0], catalogue.get("ulx3s-85f")
    assert board_design(network, board, Constraints(clock_hz=52e6)).plan.clock_hz == 50e6
    assert board_design(network, board, Constraints(clock_hz=53.2e6)).plan.clock_hz == 53.125e6
    assert board_design(network, board).plan.clock_hz == board.clock_hz
    with pytest.raises(FewbitError, match=r"^the PLL cannot make 401 MHz: ask for 10 to 400 MHz, "):
        board_design(network, board, Constraints(clock_hz=401e6))
