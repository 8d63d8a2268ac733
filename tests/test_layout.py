"""The folders at the top, the links in fewbit/ and the map in pyproject.toml say the same."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
ORDER = {"golden": 0, "hw": 1, "sim": 2, "boards": 2, "models": 2, "": 3}
"""Which folder may import which: only from a lower number, or from itself."""

LINKED = sorted(path.name for path in (ROOT / "fewbit").iterdir() if path.is_symlink())


def test_map_names_every_link():
    assert sorted(PROJECT["package-dir"]) == ["fewbit", *(f"fewbit.{name}" for name in LINKED)]
    assert sorted(PROJECT["packages"]) == sorted(PROJECT["package-dir"])


@pytest.mark.parametrize("name", LINKED)
def test_link_leads_to_the_folder_of_the_map(name):
    link = ROOT / "fewbit" / name
    assert link.readlink() == Path("..") / name
    assert PROJECT["package-dir"][f"fewbit.{name}"] == name
    assert (ROOT / name / "__init__.py").is_file()


@pytest.mark.parametrize("name", [*LINKED, "fewbit"])
def test_folders_are_flat(name):
    nested = [path.name for path in (ROOT / name).iterdir() if path.is_dir() and not path.is_symlink()]
    assert [folder for folder in nested if folder != "__pycache__"] == []


def _modules():
    for folder in [*LINKED, "fewbit"]:
        for path in sorted((ROOT / folder).glob("*.py")):
            yield "" if folder == "fewbit" else folder, path


@pytest.mark.parametrize("folder, path", list(_modules()), ids=lambda value: str(getattr(value, "name", value)))
def test_imports_run_one_way(folder, path):
    if folder == "models" and path.name != "__init__.py":
        return  # training scripts use what they like
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] != "fewbit":
                continue
            source = parts[1] if len(parts) > 1 and parts[1] in ORDER else ""
            allowed = source == folder or ORDER[source] < ORDER[folder]
            assert allowed, f"{path.name}:{node.lineno}: {folder or 'fewbit'} must not import {name}"


def test_hw_takes_only_the_vocabulary_from_golden():
    vocabulary = {"errors", "dtype", "codes", "digits", "network"}
    vocabulary |= {"terms", "reach", "multiply_shift"}  # other ways to write a layer down, and when they are exact
    for path in (ROOT / "hw").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fewbit.golden."):
                assert node.module.split(".")[2] in vocabulary, f"{path.name}:{node.lineno} imports {node.module}"
