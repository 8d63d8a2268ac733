"""The kinds of costly work that a test may do, found in its source: it is not run.

A test may do what the functions that it names do: those of its file, the fixtures that it takes, and what they name in
turn, as far as that is defined in ``tests/``. Where such a name is one of :data:`ENTRIES`, the test may do work of that
kind, in all of its cases. `conftest.py` fails a quick test that starts a program and of which nothing of this is found.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TESTS = Path(__file__).parent

ENTRIES = {
    "cocotb bench": {"run_bench", "run_exported_bench"},
    "proof": {"prove", "prove_equal"},
    "compiled simulation": {
        "compile_design", "run_rtl", "run_netlist", "run_bitstream", "compiler_version", "find_compiler", "unpack",
        "engines",
    },
    "synthesis": {"run_yosys", "netlist", "mapped", "measure", "compare", "yosys_version", "ours", "dial", "Bench"},
    "board build": {"build", "flow"},
    "command": {"cli", "main", "demo"},
    "Verilog": {"verilog", "mapped_verilog", "ip", "write_ip", "check_ip", "write_verilog", "doctest"},
    "Amaranth simulation": {"Simulator", "doctest"},
    "other process": {"subprocess", "child", "tools", "flash"},
}  # fmt: skip
"""For each kind of work the names by which tests have it done."""

PROCESSES = {*ENTRIES} - {"Amaranth simulation"}
"""The kinds of work that start other programs."""


class Case(NamedTuple):
    """A collected test: its function, whether it is slow, whether its function is slow as a whole, and its work."""

    function: str
    slow: bool
    whole: bool
    work: frozenset[str]


def case(item: pytest.Item) -> Case:
    """What the tests of the quick tier are counted by."""
    marks = [mark for owner in (item.function, item.module) for mark in _marks(owner)]
    slow = item.get_closest_marker("slow") is not None
    return Case(item.nodeid.split("[")[0], slow, any(mark.name == "slow" for mark in marks), kinds(item))


def _marks(owner: Any) -> list[Any]:
    marks = getattr(owner, "pytestmark", [])
    return marks if isinstance(marks, list) else [marks]


def uncounted(work: frozenset[str], started: list[str]) -> str:
    """What is wrong with a test of this work that started these programs, in one line; nothing if it may start any."""
    if not started or work & PROCESSES:
        return ""
    return (
        f"the test starts {started[0]}, and its source names no entry to such work: add the function that it calls "
        "to ENTRIES of tests/work_kinds.py, so that the quick tier's budget counts it"
    )


class _File(NamedTuple):
    """What a file of ``tests/`` defines at its top, and what it imports: the module and the name there."""

    defined: dict[str, list[ast.AST]]
    imported: dict[str, tuple[str, str]]


def kinds(item: pytest.Item) -> frozenset[str]:
    """The kinds of work that a collected test may do."""
    names = getattr(item, "fixturenames", ())
    top = item.location[2].split("[")[0].split(".")[0]
    return _kinds(item.path, top, frozenset(names))


@cache
def _kinds(path: Path, test: str, fixtures: frozenset[str]) -> frozenset[str]:
    found, seen = set(), set()
    ahead = [(path, name) for name in (test, *fixtures)]
    while ahead:
        place = ahead.pop()
        if place in seen:
            continue
        seen.add(place)
        path, name = place
        file = _read(path)
        if name in file.defined:
            ahead += [used for node in file.defined[name] for used in _used(path, node)]
        elif name in file.imported:
            module, there = file.imported[name]
            found |= _entries(there)
            if (helper := TESTS / f"{module}.py").exists() and not _entries(there):
                ahead.append((helper, there))
        elif path.name != "conftest.py" and name in _read(TESTS / "conftest.py").defined:
            ahead.append((TESTS / "conftest.py", name))
        else:
            found |= _entries(name)
    return frozenset(found)


def _entries(name: str) -> set[str]:
    return {kind for kind, names in ENTRIES.items() if name in names}


def _used(path: Path, node: ast.AST) -> Iterator[tuple[Path, str]]:
    """The names in a definition, each with the file in which it is to be looked up."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield path, inner.id
        elif isinstance(inner, ast.arg):
            yield path, inner.arg
        elif isinstance(inner, ast.Attribute):
            owner = inner.value.id if isinstance(inner.value, ast.Name) else ""
            helper = TESTS / f"{owner}.py"
            if owner in _read(path).imported and helper.exists():
                yield helper, inner.attr
            elif _entries(inner.attr):
                yield TESTS / "conftest.py", inner.attr


@cache
def _read(path: Path) -> _File:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined: dict[str, list[ast.AST]] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        for name in _names(node):
            defined.setdefault(name, []).append(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported.update({one.asname or one.name: (node.module or "", one.name) for one in node.names})
        elif isinstance(node, ast.Import):
            imported.update({one.asname or one.name: (one.name, one.name) for one in node.names})
    return _File(defined, imported)


def _names(node: Any) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)]
    return []
