"""Popcounts of every width and depth count, held to the golden XNOR-popcount with all ones."""

from __future__ import annotations

import random

import numpy as np
import pytest
from faults import mutant
from streaming import pipeline

from fewbit.golden.errors import FewbitError
from fewbit.golden.matvec import pack_bits, xnor_popcount
from fewbit.hw.sums.popcount import Popcount
from fewbit.sim.cocotb_run import BenchFailure


def counts(values: list[int], width: int) -> list[int]:
    """Bits equal to one, by the golden model."""
    bits = np.array([[value >> place & 1 for place in range(width)] for value in values])
    return xnor_popcount(pack_bits(bits), pack_bits(np.ones((1, width), int)), width)[:, 0].tolist()


def inputs(width: int, number: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [0, (1 << width) - 1, 1, 1 << width - 1, *(rng.getrandbits(width) for _ in range(number))]


@pytest.mark.parametrize("stages", range(4))
@pytest.mark.parametrize("width", range(1, 9))
def test_exhaustive_up_to_8_bits(width, stages):
    values = list(range(1 << width))
    component = Popcount(width, stages)
    assert component.latency == stages
    assert pipeline(component, {"i": values}, latency=stages) == counts(values, width)


@pytest.mark.parametrize("stages", [0, 1, 2, 3])
@pytest.mark.parametrize("width", [15, 16, 17, 63, 64, 65])
def test_around_a_power_of_two(width, stages):
    values = inputs(width, 30)
    assert pipeline(Popcount(width, stages), {"i": values}, latency=stages) == counts(values, width)


def test_the_widest():
    values = inputs(1024, 20)
    assert pipeline(Popcount(1024, 3), {"i": values}, latency=3) == counts(values, 1024)


@pytest.mark.parametrize("enable", ["always", "slow", "burst"])
def test_registers_hold_while_not_enabled(enable):
    values = inputs(12, 40)
    assert pipeline(Popcount(12, 2), {"i": values}, latency=2, enable=enable) == counts(values, 12)


@pytest.mark.parametrize("width, stages", [(33, 2), (8, 0)])
def test_bench_on_the_verilog(bench, width, stages):
    values = list(range(256)) if width == 8 else inputs(width, 200)
    bench(
        Popcount(width, stages),
        "tb_pipeline",
        {"inputs": {"i": values}, "expected": counts(values, width), "latency": stages},
    )


FAULTS = {
    "one term lost": ("total = _plain_sum(group)", "total = _plain_sum(group[1:] or group)"),
    "a sum cut short": ("range(low, high + 1)", "range(low, high // 2 + 1)"),
    "enable ignored": ("with m.If(enable):", "with m.If(1):"),
    "an odd term lost": ("terms = pairs + terms[len(pairs) * 2 :]", "terms = pairs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    values = list(range(128))
    faulty = mutant("hw.sums.popcount", *FAULTS[fault]).Popcount(7, 2)
    assert pipeline(faulty, {"i": values}, latency=2) != counts(values, 7)


def test_a_planted_fault_turns_the_bench_red(bench):
    values = inputs(20, 60)
    faulty = mutant("hw.sums.popcount", *FAULTS["enable ignored"]).Popcount(20, 2)
    with pytest.raises(BenchFailure, match=r"case \d+: got 0x\w+, expected 0x\w+ \(seed \d+\)"):
        bench(faulty, "tb_pipeline", {"inputs": {"i": values}, "expected": counts(values, 20), "latency": 2})


def test_a_popcount_needs_a_width_and_no_negative_stages():
    with pytest.raises(FewbitError, match=r"^a popcount needs a width of at least 1, not 0$"):
        Popcount(0)
    with pytest.raises(FewbitError, match=r"^a popcount has 0 or more stages, not -1$"):
        Popcount(8, -1)
