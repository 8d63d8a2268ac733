"""Resources that plans predict, against what synthesis and packing make of them."""

from __future__ import annotations

from itertools import product

import pytest
from tiers import slow_but

from benchmarks.resources import KINDS, Comparison, compare, farthest, has_plan, parts
from fewbit import models
from fewbit.boards.catalogue import BOARDS
from fewbit.hw.cost import Cost
from fewbit.hw.costs.streams import gearbox_cost
from fewbit.hw.fabric.devices import TARGETS, target
from fewbit.hw.memory.rom import rom_cells

TOLERANCE = 0.15


def check(pair: str, found: Comparison) -> None:
    for kind, ours, theirs in zip(KINDS, found.predicted, found.real):
        slack = 1 if kind in ("block_rams", "dsps") else 0  # one of a few is no share of them
        assert abs(ours - theirs) <= max(TOLERANCE * theirs, slack), (
            f"{pair}: {ours:,} {kind} predicted, {theirs:,} are"
        )


@pytest.mark.parametrize(
    "pair",
    slow_but(["tfc-w1a1@icebreaker"], [f"{name}@{board.name}" for name in models.shipped() for board in BOARDS]),
)
def test_shipped_networks_take_what_their_plans_say(pair: str) -> None:
    if has_plan(pair):
        check(pair, compare(pair))


QUICK = ["buffer, 9 words of 8 x 1 bits, block", "gearbox, 32 to 1 of 1 bits", "arg-max, 10 of 12 bits"]
PARTS = {part.title: part for part in parts()}


@pytest.mark.parametrize(
    "title, device",
    slow_but(list(zip(QUICK, ["up5k", "ecp5-25k", "up5k"], strict=True)), product(PARTS, ["up5k", "ecp5-25k"])),
)
def test_parts_cost_what_they_take(title: str, device: str) -> None:
    if "distributed" in title and not target(device).lut_ram:
        return
    found = PARTS[title].compare(target(device))
    # A part alone has no neighbours to merge with, and of one of 20 cells a few are no share of a design.
    assert abs(found.predicted[0] - found.real[0]) <= max(0.35 * found.real[0], 10), found
    assert abs(found.off[1]) < 0.2, found


def test_costs_add_up() -> None:
    one = Cost(cells=3, ffs=5, rams=1, dsps=2)
    assert one + one == 2 * one == Cost(cells=6, ffs=10, rams=2, dsps=4)
    assert 2 * one - one == one


def test_constants_cost_a_lut_for_16_words_and_one_to_join_two() -> None:
    assert [rom_cells(depth, 10) for depth in (1, 16, 32, 64, 128)] == [0, 10, 30, 70, 150]


@pytest.mark.parametrize("device", TARGETS, ids=lambda device: device.name)
def test_as_many_lanes_cost_nothing(device) -> None:
    assert gearbox_cost(8, 3, 3, device) == Cost()
    assert gearbox_cost(8, 3, 2, device).ffs >= 8 * (3 + 2)


def test_the_farthest_off_is_named() -> None:
    found = {"a@b": Comparison((90, 10, 2, 0), (100, 10, 1, 0)), "c@d": Comparison((105, 12, 1, 0), (100, 10, 1, 0))}
    assert list(farthest(found)) == [
        "logic cells -10.0 % (a@b)",
        "flip-flops +20.0 % (c@d)",
        "block RAMs +100.0 % (a@b)",
        "DSP blocks +0.0 % (a@b)",
    ]
