"""Wishes for plans of convolutional networks, frame rate, cells and clock: kept, at the least cost, or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from math import gcd
from typing import Any

import numpy as np
import pytest
from networks import random_conv_design

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Conv, Dense, Flatten, Network, Pool, TensorType, Threshold
from fewbit.hw.chain import timing
from fewbit.hw.costs.streams import argmax_cost, gearbox_cost
from fewbit.hw.fabric.devices import target
from fewbit.hw.fold import Folding
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.options import stage_options
from fewbit.hw.planner.plan import SHELL, Plan, plan

CLOCK = 12e6
DEVICE = target("up5k")


@cache
def network() -> Network:
    rng = np.random.default_rng(1)
    ternary = Code.parse("ternary")
    layers = (
        Conv(name="conv", weights=rng.integers(-1, 2, (4, 1, 3, 3)), code=ternary, padding=(1, 1, 1, 1)),
        Threshold(
            name="act",
            thresholds=np.sort(rng.integers(0, 9, (4, 3)), 1),
            sign=np.ones(4),
            dtype=DType("uint", 2),
            base=0,
        ),
        Pool(name="pool", mode="max", kernel=(2, 2), stride=(2, 2)),
        Flatten(name="flat", channels_last=True),
        Dense(name="dense", weights=rng.integers(-1, 2, (3, 36)), code=ternary),
        ArgMax(name="argmax"),
    )
    return Network(name="net", input=TensorType(DType("uint", 2), (1, 6, 6)), layers=layers)


def made(**limits: Any) -> Plan:
    return plan(network(), DEVICE, Constraints(**{"clock_hz": CLOCK, **limits}))


def cheaper(than: Plan, cycles: int) -> Iterator[tuple[int, Folding]]:
    """Logic cells and folding of every choice of folds that takes less than a plan of the device, and promises a frame
    in so many cycles: tried one by one."""
    layers = network().layers
    conv, dense = (
        [option for options in stage_options(network(), stage, DEVICE, CLOCK).values() for option in options]
        for stage in (layers[:3], layers[4:5])
    )
    names = [["conv", "act", "pool"], ["dense"]]
    free = DEVICE.capacity - SHELL
    bits, size = network().input.dtype.bits, network().input.size
    inner = network().tensor_types[3]
    scores = network().scores
    for first, second in product(conv, dense):
        if max(first.slowest, second.slowest) > cycles:
            continue
        lanes = next(
            (one for one in range(1, first.lanes + 1)
             if first.lanes % one == 0 and size % one == 0 and size // one <= cycles), None
        )  # fmt: skip
        given = first.folds[-1].lanes_out
        if lanes is None or inner.size // gcd(given, second.lanes) > cycles:
            continue
        around = gearbox_cost(bits, 1, lanes, DEVICE) + gearbox_cost(bits, lanes, first.lanes, DEVICE)
        around += gearbox_cost(inner.dtype.bits, given, second.lanes, DEVICE)
        around += gearbox_cost(scores.dtype.bits, second.folds[-1].lanes_out, 1, DEVICE)
        around += argmax_cost(scores.dtype.bits, scores.size, DEVICE)
        cost = first.cost + second.cost + around
        if cost.share(free) < (than.cost - SHELL).share(free) - 1e-9:
            folds = dict(zip([*names[0], *names[1]], [*first.folds, *second.folds]))
            yield cost.cells, Folding(input_lanes=lanes, folds=folds)


@pytest.mark.parametrize("cycles", [360, 500, 1000, 4000])
def test_a_frame_rate_is_met_and_nothing_meets_it_for_less(cycles: int) -> None:
    found = made(fps=CLOCK / cycles)
    assert found.cycles_per_frame <= cycles
    for _, folding in cheaper(found, cycles):
        assert timing(network(), folding).interval > cycles, folding


def test_the_less_is_wished_for_the_less_it_costs() -> None:
    cells = [made(fps=CLOCK / cycles).cost.cells for cycles in (360, 700, 2000)]
    assert cells == sorted(cells, reverse=True)
    assert cells[-1] < cells[0]


@pytest.mark.parametrize("cells", [900, 950, 1100])
def test_no_more_logic_cells_are_taken_than_are_given(cells: int) -> None:
    found = made(max_cells=cells)
    assert found.cost.cells <= cells
    assert found.cycles_per_frame >= made().cycles_per_frame


def test_fewer_logic_cells_never_make_a_frame_faster() -> None:
    cycles = [made(max_cells=cells).cycles_per_frame for cells in (900, 950, 1100)]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[-1] < cycles[0]


def test_both_constraints_are_kept_together() -> None:
    found = made(fps=CLOCK / 1000, max_cells=950)
    assert found.cycles_per_frame <= 1000
    assert found.cost.cells <= 950


@pytest.mark.parametrize("mhz", [1, 12, 48])
def test_a_wish_is_counted_in_the_clock(mhz: int) -> None:
    found = made(clock_hz=mhz * 1e6, fps=2000)
    assert found.clock_hz == mhz * 1e6
    assert found.frames_per_second >= 2000
    assert found.cycles_per_frame <= mhz * 1e6 / 2000


def test_a_faster_clock_lets_the_same_rate_cost_less() -> None:
    assert made(clock_hz=48e6, fps=20000).cost.cells < made(clock_hz=8e6, fps=20000).cost.cells


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too fast": (
        {"fps": 1e7},
        r"1e\+07 frames a second are out of reach on Lattice iCE40UP5K at 12 MHz; the fastest that fits gives [\d,]+",
    ),
    "too fast for the cells": (
        {"fps": CLOCK / 400, "max_cells": 900},
        r"30000 frames a second are out of reach on .* at 12 MHz; the fastest that fits gives [\d,]+",
    ),
    "too few cells": (
        {"max_cells": 300},
        r"network 'net' does not fit Lattice iCE40UP5K: it needs about [\d,]+ logic cells where 130 are free for its "
        r"288 weight bits; take a larger board, more --max-lut, or a smaller network",
    ),
    "no clock": ({"clock_hz": 0}, "the clock must be above 0 Hz, not 0"),
    "no rate": ({"fps": 0}, "the frame rate must be above 0, not 0"),
    "a rate that is no number": ({"fps": float("nan")}, "the frame rate must be above 0, not nan"),
    "a clock without end": ({"clock_hz": float("inf")}, "the clock must be above 0 Hz, not inf"),
}


@pytest.mark.parametrize("wish", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(wish: str) -> None:
    options, message = REFUSED[wish]
    with pytest.raises(FewbitError) as refused:
        made(**options)
    assert re.fullmatch(message, str(refused.value)), refused.value


@pytest.mark.parametrize("seed", range(4))
def test_constraints_of_random_networks_are_kept(seed: int) -> None:
    net, _ = random_conv_design(np.random.default_rng(300 + seed))
    fastest = plan(net, DEVICE, Constraints(clock_hz=CLOCK))
    for times in (1, 3):
        found = plan(net, DEVICE, Constraints(clock_hz=CLOCK, fps=fastest.frames_per_second / times))
        assert found.frames_per_second >= fastest.frames_per_second / times
        assert found.cost.share(DEVICE.capacity) <= fastest.cost.share(DEVICE.capacity) + 1e-9
    found = plan(net, DEVICE, Constraints(clock_hz=CLOCK, max_cells=fastest.cost.cells))
    assert found.cost.cells <= fastest.cost.cells
