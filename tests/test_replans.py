"""A design that turns out too large is planned again for fewer logic cells, one too slow with more registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fewbit import bitstreams as building
from fewbit.boards.flow import Misfit, TimingMiss
from fewbit.boards.report import Usage
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense, Network, TensorType

CAPACITY = 5280


def network(inputs: int) -> Network:
    weights = np.random.default_rng(1).choice([-1, 1], (24, inputs))
    dense = Dense(name="dense", weights=weights, code=Code.parse("binary"))
    return Network(name="net", input=TensorType(DType("uint", 4), (inputs,)), layers=(dense,))


def refuse(kind: str, used: int, available: int) -> Misfit:
    usage = Usage(kind=kind, used=used, available=available)
    return Misfit(f"it needs {usage}", usage)


Built = tuple[list[int], list[str], Any]
"""A figure of each plan that was built, one after the other, what was said, and what came of it."""


def build(
    monkeypatch: pytest.MonkeyPatch, inputs: int, answers: list[Any], figure: Callable[[Any, dict[str, Any]], int]
) -> Built:
    built: list[int] = []
    said: list[str] = []

    def answer(board: object, top: Any, **options: Any) -> object:
        built.append(figure(top, options))
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(building.flow, "build", answer)
    try:
        return built, said, building.build(network(inputs), "icebreaker", "out", on_progress=said.append)[1]
    except (Misfit, TimingMiss) as refused:
        return built, said, refused


def cells(monkeypatch: pytest.MonkeyPatch, answers: list[Any]) -> Built:
    """With the logic cells that each plan predicts."""
    return build(monkeypatch, 48, answers, lambda _, options: options["plan"]["predicted"]["logic_cells"])


def ranks(monkeypatch: pytest.MonkeyPatch, answers: list[Any]) -> Built:
    """With the pipeline stages of each plan's sums."""
    return build(monkeypatch, 2048, answers, lambda top, _: top.folding.folds["dense"].stages)


def test_a_design_that_fits_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, _, report = cells(monkeypatch, ["report"])
    assert (len(planned), report) == (1, "report")


def test_a_design_too_large_is_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, said, report = cells(monkeypatch, [refuse("logic_cells", 6600, CAPACITY), "report"])
    assert report == "report"
    assert planned[1] <= planned[0] * CAPACITY / 6600
    assert said == [
        f"6,600 of 5,280 logic cells (125 %): planning again for {int(planned[0] * 0.8 * 0.99):,} logic cells"
    ]


def test_it_is_not_planned_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    misfits = [refuse("logic_cells", 5300, CAPACITY) for _ in range(9)]
    planned, _, misfit = cells(monkeypatch, misfits)
    assert len(planned) == building.REPLANS + 1 == 9 - len(misfits)
    assert str(misfit) == "it needs 5,300 of 5,280 logic cells (100 %)"


def test_what_no_smaller_plan_helps_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, _, misfit = cells(monkeypatch, [refuse("logic_cells", 10**6, CAPACITY)])
    assert (len(planned), misfit.usage.used) == (1, 10**6)


def test_too_many_block_rams_are_not_a_matter_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, _, misfit = cells(monkeypatch, [refuse("block_rams", 31, 30)])
    assert (len(planned), str(misfit)) == (1, "it needs 31 of 30 block RAMs (103 %)")


def too_slow(reached_mhz: float) -> TimingMiss:
    return TimingMiss(f"it reaches {reached_mhz} MHz", reached_mhz * 1e6, 24e6)


def test_a_design_too_slow_gets_more_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    built, said, report = ranks(monkeypatch, [too_slow(22.5), "report"])
    assert report == "report"
    assert built[1] == built[0] + 1
    assert said == ["22.5 of 24 MHz: planning again with more registers"]


def test_a_design_that_stays_too_slow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    built, said, miss = ranks(monkeypatch, [too_slow(20.0), too_slow(21.0), "never built"])
    assert (built, len(said)) == ([2, 3], 1), "there is no plan with more registers than three to sixteen terms"
    assert str(miss) == "it reaches 21.0 MHz"


def test_ranks_that_change_nothing_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MARGINS", (1.0,))
    built, said, miss = ranks(monkeypatch, [too_slow(23.999)])
    assert (len(built), said, str(miss)) == (1, [], "it reaches 23.999 MHz")


def test_a_hopeless_clock_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built, said, miss = ranks(monkeypatch, [too_slow(15.0)])
    assert (len(built), said, str(miss)) == (1, [], "it reaches 15.0 MHz")
