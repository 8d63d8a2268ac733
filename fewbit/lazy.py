"""Lazy imports: names of a package are imported at their first use, so that importing the package is fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` for a package with lazy imports.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    places : mapping of str to str
        For each public name, the module that defines it.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(places[name]), name)

    return find, lambda: sorted({*places, *vars(import_module(package))}), sorted(places)
