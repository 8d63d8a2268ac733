"""Pareto fronts as arrays: those of the definition, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.hw.cost import Cost, pareto_front
from fewbit.hw.planner.front import NO_OPTION, Front, Joined, Options, pareto_rows
from fewbit.hw.planner.options import StageOption

NAMES = ("cells", "ffs", "rams", "dsps", "sprams")


def costs(rng: np.random.Generator, count: int, most: tuple[int, ...]) -> list[Cost]:
    return [Cost(**dict(zip(NAMES, row))) for row in rng.integers(0, np.array(most) + 1, (count, len(NAMES))).tolist()]


def options(rng: np.random.Generator, count: int, most: tuple[int, ...]) -> list[StageOption]:
    return [
        StageOption(1, (), (int(rng.integers(1, 9)),), (cost,)) for cost in costs(rng, count, most)
    ]  # fmt: skip


@pytest.mark.parametrize("most", [(9, 9, 3, 3, 1), (5000, 9, 40, 0, 0), (3, 3, 0, 3, 0), (300, 300, 300, 300, 300)])
@pytest.mark.parametrize("count", [1, 2, 50, 400])
def test_rows_of_the_front(count: int, most: tuple[int, ...]) -> None:
    """The same rows in the same order as one by one; of equal rows the first."""
    candidates = costs(np.random.default_rng(count), count, most)
    rows = np.array([[getattr(cost, name) for name in NAMES] for cost in candidates])
    assert pareto_rows(rows).tolist() == pareto_front(range(count), cost=lambda index: candidates[index])


@pytest.mark.parametrize("budget", [None, Cost(cells=14, rams=4, dsps=4, sprams=1), Cost(cells=3)])
def test_choices_of_two_stages(budget: Cost | None) -> None:
    """Every pair of options of two stages, tried one by one."""
    rng = np.random.default_rng(1)
    first, second = (options(rng, 30, (9, 9, 3, 3, 1)) for _ in range(2))
    between, at_end = Cost(cells=2), Cost(rams=1)
    pairs = [(one, other) for other in second for one in first if other.slowest <= 5]
    price = {pair: pair[0].cost + between + pair[1].cost + at_end for pair in pairs}
    fitting = [pair for pair in pairs if budget is None or price[pair].within(budget)]
    expected = {price[pair].scarce for pair in pareto_front(fitting, cost=lambda pair: price[pair])}
    joined = Joined(budget)
    joined.add([(Front.of(Options.of(first), Cost()), between)], Options.of(second).within(5))
    ends = Joined(budget)
    ends.add([(joined.front(), at_end)], NO_OPTION)
    choices = list(ends.choices())
    assert {cost.scarce for cost, _ in choices} == expected
    assert all(price[pair] == cost for cost, pair in choices)
