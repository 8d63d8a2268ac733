"""Faults planted in the hardware, so that its tests are seen to go red before they are trusted."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import pytest


def mutant(module: str, old: str, new: str) -> ModuleType:
    """A copy of ``fewbit.<module>`` in which the one place that reads ``old`` reads ``new``.

    Where the source no longer has that place, the fault has to be planted anew; that is an error, not a pass.
    """
    original = importlib.import_module(f"fewbit.{module}")
    source = inspect.getsource(original)
    if source.count(old) != 1:
        pytest.fail(f"{original.__name__} holds {source.count(old)} times: {old}")
    copy = ModuleType(original.__name__)
    copy.__file__ = original.__file__
    exec(compile(source.replace(old, new), str(original.__file__), "exec"), copy.__dict__)
    return copy
