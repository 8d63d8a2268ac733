"""What the tests of the popcounts of words do alike: proofs against the generic form, and faults that break them."""

from __future__ import annotations

from typing import Any

import pytest
from faults import mutant
from formal import prove_equal

from fewbit.hw.emit import verilog
from fewbit.hw.sums import popcount

FAMILIES = ("ice40", "ecp5")

CARRY_OF_THREE = ("ice40", "1 - s if p else first.of(*pins)", "s if p else first.of(*pins)")
"""A fault, as :func:`plant` takes it: a family, and a place of :mod:`fewbit.hw.sums.xnor_tree` before and after."""


def prove_generic(kind: type[Any], width: int, family: str, seconds: float = 100) -> None:
    """Proves the popcount of a family equal to that of plain RTL."""
    ours, theirs = kind(width, target=family), kind(width)
    prove_equal(verilog(ours, "fabric"), verilog(theirs, "plain"), "fabric", "plain", seconds=seconds, cells=family)


def plant(fault: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Popcounts of one family are made with a fault from now on; that family."""
    family, old, new = fault
    copy = mutant("hw.sums.xnor_tree", old, new)
    monkeypatch.setitem(popcount.TREES, family, {"ice40": copy.Ice40Tree, "ecp5": copy.Ecp5Tree}[family])
    return family
