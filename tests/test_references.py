"""Names of fewbit that code and documents mention are there: what has moved is not pointed at where it was."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAME = re.compile(r"(?<![\w/.])fewbit(?:\.[A-Za-z_]\w*)+")
PATH = re.compile(r"(?<![\w/.])(?:golden|hw|sim|boards|models|fewbit|benchmarks|tests)/[a-z_0-9/]+\.py\b")
ELSEWHERE = ("fewbit.sim.tb_", "fewbit.sim.bench", "fewbit.models.")
"""Modules that only a simulator or an installation for training can import."""

TEXTS = sorted(
    path
    for pattern in (
        "README.md", "docs/**/*.md", "golden/**/*.py", "hw/**/*.py", "sim/*.py", "boards/*.py", "models/*.py",
        "fewbit/*.py", "fewbit/cli/*.py", "fewbit/importers/**/*.py", "fewbit/quantization/*.py", "benchmarks/*.py",
    )
    for path in ROOT.glob(pattern)
)  # fmt: skip


@cache
def is_there(dotted: str) -> bool:
    if dotted.startswith(ELSEWHERE):
        parts = dotted.split(".")
        return (ROOT / parts[1] / f"{parts[2]}.py").exists()
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for place, name in enumerate(parts[count:], count):
            if not hasattr(found, name):
                return place == len(parts) - 1 and name in getattr(found, "__annotations__", {})
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_text_names_is_there(path):
    text = path.read_text(encoding="utf-8")
    assert [name for name in NAME.findall(text) if not is_there(name)] == []
    assert [name for name in PATH.findall(text) if not (ROOT / name).exists()] == []


def test_what_is_not_there_is_seen():
    assert not is_there("fewbit.hw.plan")
    assert not is_there("fewbit.hw.matvec.parallel.Nothing")
    assert is_there("fewbit.hw.matvec.parallel.MatVec.latency")
