"""The folders at the top, the links in fewbit/ and the map in pyproject.toml say the same."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
ORDER = {"golden": 0, "hw": 1, "sim": 2, "boards": 2, "models": 2, "": 3}
"""Which folder may import which: only from a lower number, or from itself."""

ROOMS = (
    "fabric", "multiply", "memory", "sums", "lanes", "matvec", "layers", "fold", "costs", "units", "chain", "top",
    "planner",
)  # fmt: skip
"""The rooms and files of hw/ in the order of their imports: each may use those before it, and the rest of hw/."""

LINKED = sorted(path.name for path in (ROOT / "fewbit").iterdir() if path.is_symlink())


def _packages():
    """Every folder with Python in it, as the name under which it is imported."""
    for folder in [*LINKED, "fewbit"]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.parent.relative_to(ROOT).parts
            if parts[:1] != ("fewbit",) or not {*parts[1:2]} & {*LINKED}:
                yield ".".join(parts if parts[0] == "fewbit" else ("fewbit", *parts)), path


def test_map_names_every_link():
    assert sorted(PROJECT["package-dir"]) == ["fewbit", *(f"fewbit.{name}" for name in LINKED)]


def test_every_folder_is_listed():
    assert sorted(PROJECT["packages"]) == sorted({package for package, _ in _packages()})


@pytest.mark.parametrize("package", sorted({package for package, _ in _packages()}))
def test_every_folder_says_what_it_is(package):
    path = next(path for name, path in _packages() if name == package and path.name == "__init__.py")
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", LINKED)
def test_link_leads_to_the_folder_of_the_map(name):
    link = ROOT / "fewbit" / name
    assert link.readlink() == Path("..") / name
    assert PROJECT["package-dir"][f"fewbit.{name}"] == name
    assert (ROOT / name / "__init__.py").is_file()


def _modules():
    for package, path in _packages():
        top = package.split(".")[1:2]
        yield top[0] if top and top[0] in LINKED else "", path


def _imported(path):
    """What a file imports of fewbit, and in which line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "fewbit":
                yield name, node.lineno


def _title(value):
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else value


@pytest.mark.parametrize("folder, path", list(_modules()), ids=_title)
def test_imports_run_one_way(folder, path):
    if folder == "models" and path.name != "__init__.py":
        return  # training scripts use what they like
    for name, line in _imported(path):
        if name.startswith("fewbit.lazy."):
            continue  # of use to every package, and uses none
        parts = name.split(".")
        source = parts[1] if len(parts) > 1 and parts[1] in ORDER else ""
        allowed = source == folder or ORDER[source] < ORDER[folder]
        assert allowed, f"{path.name}:{line}: {folder or 'fewbit'} must not import {name}"


def _room(parts):
    """The room of hw/ that a dotted name or a path lies in; none for what all rooms use."""
    return parts[0] if parts[0] in ROOMS else None


HARDWARE = [path for _, path in _packages() if path.is_relative_to(ROOT / "hw")]


@pytest.mark.parametrize("path", HARDWARE, ids=_title)
def test_rooms_of_the_hardware_run_one_way(path):
    room = _room([part.removesuffix(".py") for part in path.relative_to(ROOT / "hw").parts])
    for name, line in _imported(path):
        parts = name.split(".")
        if path.name == "__init__.py" or parts[1] != "hw" or (other := _room(parts[2:])) in (room, None):
            continue
        assert room is not None, f"{path.name}:{line}: what all rooms use must not import {name}"
        assert ROOMS.index(other) < ROOMS.index(room), f"{path.name}:{line}: {room} must not import {name}"


def test_every_room_of_the_hardware_has_its_place():
    assert {path.parent.name for path in HARDWARE} - {"hw"} == {room for room in ROOMS if (ROOT / "hw" / room).is_dir()}


def test_hw_takes_only_the_vocabulary_from_golden():
    vocabulary = {"errors", "dtype", "codes", "digits", "layer", "network"}
    vocabulary |= {"terms", "input_range"}  # the terms of weights, and what a layer can be given
    for path in HARDWARE:
        for name, line in _imported(path):
            if name.startswith("fewbit.golden."):
                assert name.split(".")[2] in vocabulary, f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize("path", [path for _, path in _packages() if path.is_relative_to(ROOT / "golden")], ids=_title)
def test_floats_of_golden_live_in_its_quantizers(path):
    if path.parent.name == "golden":
        assert not [name for name, _ in _imported(path) if name.startswith("fewbit.golden.quantizers")]
