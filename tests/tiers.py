"""Which cases of a test run in the default tier; the others are slow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import pytest


def slow_but(quick: Iterable[Any], every: Iterable[Any]) -> list[Any]:
    """``every`` case, those not in ``quick`` marked slow."""
    cases, kept = list(every), list(quick)
    missing = [one for one in kept if one not in cases]
    assert not missing, f"no such cases: {missing}"
    return slow_but_at([cases.index(one) for one in kept], cases)


def slow_but_at(places: Sequence[int], every: Sequence[Any], *, whole: bool = False) -> list[Any]:
    """``every`` case, those at other ``places`` marked slow; ``whole`` where a tuple is one parameter."""
    return [case if place in places else _slow(case, whole) for place, case in enumerate(every)]


def _slow(case: Any, whole: bool) -> Any:
    values = case if isinstance(case, tuple) and not whole else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)


def each_value(*axes: Iterable[Any]) -> list[Any]:
    """Every combination of the values of ``axes``, as tuples; quick are as few as have each value of each axis."""
    lists = [list(axis) for axis in axes]
    quick = {tuple(place % len(values) for values in lists) for place in range(max(map(len, lists)))}
    places = list(product(*(range(len(values)) for values in lists)))
    cases = list(product(*lists))
    return slow_but_at([number for number, place in enumerate(places) if place in quick], cases)
