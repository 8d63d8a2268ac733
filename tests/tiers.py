"""Which cases of a test run in the default tier; the others are slow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
