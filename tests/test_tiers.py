"""The quick tier stays quick, which is kept by counts of its tests and not by time, and has a case of every test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COLLECTED
from tiers import each_value, slow_but, slow_but_at
from work_kinds import ENTRIES, Case, case, uncounted

ROOT = Path(__file__).parent.parent

MOST = {
    "any": 7660,
    "cocotb bench": 190,
    "proof": 122,
    "compiled simulation": 169,
    "synthesis": 196,
    "board build": 138,
    "command": 197,
    "Verilog": 400,
    "Amaranth simulation": 2050,
    "other process": 170,
}
"""How many quick tests there may be, and how many of them that may do each kind of work; see `work_kinds.py`.

The aim is six minutes on two cores. Whoever raises a number times the quick tier first."""

MOST_WHOLE = 67
"""How many test functions may be slow as a whole. A quick test looks for the same kind of fault as each of them."""


def too_many(kind: str, number: int, most: int) -> str:
    """What is wrong with so many quick tests of a kind of work, in one line; nothing if they are few enough."""
    if number <= most:
        return ""
    which = "quick tests" if kind == "any" else f'quick tests that may do the work "{kind}"'
    remedy = "mark cases as slow by slow_but of tests/tiers.py, but not the last quick one of a test"
    return f"{number} {which}, {most} are the most: {remedy}"


def without_quick(cases: list[Case]) -> list[str]:
    """The test functions of which every case is marked slow, and not the function itself."""
    quick = {one.function for one in cases if not one.slow or one.whole}
    return sorted({one.function for one in cases} - quick)


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Every test there is, also where only some were collected."""
    items = request.config.stash[COLLECTED]
    if {item.path for item in items} >= {*(ROOT / "tests").glob("test_*.py")} and not request.config.option.keyword:
        return [case(item) for item in items]
    listed = tmp_path_factory.mktemp("tiers") / "tests.json"
    subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", "tests"],
        cwd=ROOT, env={**os.environ, "FEWBIT_LIST_TESTS": str(listed)}, capture_output=True, check=True,
    )  # fmt: skip
    return [Case(*facts, frozenset(work)) for *facts, work in json.loads(listed.read_text())]


@pytest.mark.parametrize("kind", ["any", *ENTRIES])
def test_the_quick_tier_keeps_its_budget(cases: list[Case], kind: str) -> None:
    number = sum(not one.slow and (kind == "any" or kind in one.work) for one in cases)
    if wrong := too_many(kind, number, MOST[kind]):
        pytest.fail(wrong, pytrace=False)


def test_a_test_with_slow_cases_has_a_quick_one(cases: list[Case]) -> None:
    assert without_quick(cases) == []


def test_few_tests_are_slow_as_a_whole(cases: list[Case]) -> None:
    whole = {one.function for one in cases if one.whole}
    assert len(whole) <= MOST_WHOLE, f"{len(whole)} test functions are slow as a whole: leave one case of the new quick"


def test_what_is_wrong_is_told_in_one_line() -> None:
    assert too_many("proof", 7, 7) == ""
    assert too_many("proof", 8, 7).startswith('8 quick tests that may do the work "proof", 7 are the most: mark')
    assert too_many("any", 8, 7).startswith("8 quick tests, 7 are the most: mark")
    assert uncounted(frozenset(), []) == uncounted(frozenset({"proof"}), ["yosys"]) == ""
    assert uncounted(frozenset({"Amaranth simulation"}), ["g++"]).startswith("the test starts g++, and its source")
    lost = [
        Case("a", True, False, frozenset()),
        Case("b", True, True, frozenset()),
        Case("c", False, False, frozenset()),
    ]
    assert without_quick([*lost, Case("c", True, False, frozenset())]) == ["a"]


KNOWN = {
    "cocotb bench": "test_affine.py::test_bench_on_the_verilog",
    "proof": "test_accumulate.py::test_cells_proven_equal_to_the_plain_form",
    "compiled simulation": "test_compile.py::test_words_arrive_whole",
    "synthesis": "test_columns.py::test_parts_of_constants_share_block_rams",
    "board build": "test_build.py::test_every_board",
    "command": "test_cli_quantize.py::test_lenet_keeps_its_accuracy",
    "Verilog": "test_accumulate.py::test_a_planted_fault_breaks_the_proof",
    "Amaranth simulation": "test_chain.py::test_random_networks_to_the_cycle",
    "other process": "test_environment.py::test_options_are_checked_before_the_work",
}
"""For each kind of work a test that does it: through a fixture, a helper of another file, or by itself."""


def test_every_kind_of_work_is_found_where_it_is_known(cases: list[Case]) -> None:
    work = {one.function: one.work for one in cases}
    assert KNOWN.keys() == ENTRIES.keys() == MOST.keys() - {"any"}
    assert [kind for kind, name in KNOWN.items() if kind not in work[f"tests/{name}"]] == []
    assert work["tests/test_codes.py::test_small_codes_by_hand"] == frozenset()


def quick(cases: list[object]) -> list[object]:
    return [one for one in cases if not hasattr(one, "marks")]


def test_quick_cases_have_each_value_of_each_axis() -> None:
    cases = each_value("ab", range(3), [True, False])
    assert len(cases) == 12
    assert quick(cases) == [("a", 0, True), ("a", 2, True), ("b", 1, False)]
    assert quick(slow_but([2], range(4))) == [2]
    assert quick(slow_but_at((0, 3), "abcd")) == ["a", "d"]
