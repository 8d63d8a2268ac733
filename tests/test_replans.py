"""A design that turns out too large is planned again for fewer logic cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewbit import build as building
from fewbit.boards.build import Misfit
from fewbit.boards.report import Usage
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense, Network, TensorType

CAPACITY = 5280
NETWORK = Network(
    name="net",
    input=TensorType(DType("uint", 4), (48,)),
    layers=(
        Dense(name="dense", weights=np.random.default_rng(1).choice([-1, 1], (24, 48)), code=Code.parse("binary")),
    ),
)


def refuse(kind: str, used: int, available: int) -> Misfit:
    usage = Usage(kind=kind, used=used, available=available)
    return Misfit(f"it needs {usage}", usage)


def build(monkeypatch: pytest.MonkeyPatch, answers: list[Any], said: list[str]) -> tuple[list[int], Any]:
    """Logic cells of the plans that were built one after the other, and what came of it."""
    planned: list[int] = []

    def answer(board: object, top: object, **options: Any) -> object:
        planned.append(options["plan"]["predicted"]["logic_cells"])
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(building.board_build, "build", answer)
    try:
        return planned, building.build(NETWORK, "icebreaker", "out", on_progress=said.append)[1]
    except Misfit as misfit:
        return planned, misfit


def test_a_design_that_fits_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, report = build(monkeypatch, ["report"], [])
    assert (len(planned), report) == (1, "report")


def test_a_design_too_large_is_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    planned, report = build(monkeypatch, [refuse("logic_cells", 6600, CAPACITY), "report"], said)
    assert report == "report"
    assert planned[1] <= planned[0] * CAPACITY / 6600
    assert said == [
        f"6,600 of 5,280 logic cells (125 %): planning again for {int(planned[0] * 0.8 * 0.99):,} logic cells"
    ]


def test_it_is_not_planned_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    misfits = [refuse("logic_cells", 5300, CAPACITY) for _ in range(9)]
    planned, misfit = build(monkeypatch, misfits, [])
    assert len(planned) == building.REPLANS + 1 == 9 - len(misfits)
    assert str(misfit) == "it needs 5,300 of 5,280 logic cells (100 %)"


def test_what_no_smaller_plan_helps_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, misfit = build(monkeypatch, [refuse("logic_cells", 10**6, CAPACITY)], [])
    assert (len(planned), misfit.usage.used) == (1, 10**6)


def test_too_many_block_rams_are_not_a_matter_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, misfit = build(monkeypatch, [refuse("block_rams", 31, 30)], [])
    assert (len(planned), str(misfit)) == (1, "it needs 31 of 30 block RAMs (103 %)")
