"""What ``import fewbit`` and ``from fewbit.hw import ...`` give."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fewbit
import fewbit.hw

ROOT = Path(__file__).parent.parent
PACKAGES = [fewbit, fewbit.hw]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_there_and_all_of_them(package):
    assert package.__all__ == sorted(package.__all__)
    assert set(package.__all__) == set(package._names)
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=rf"^module '{package.__name__}' has no attribute 'nothing'$"):
        package.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec(f"from {package.__name__} import nothing")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_type_checkers_see_the_same_names(package):
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(seen) == set(package._names)
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(package, name)


def test_no_module_has_the_name_of_a_function():
    for name in fewbit.__all__:
        assert not (ROOT / "fewbit" / f"{name}.py").exists()
        assert not (ROOT / "fewbit" / name).exists()


def test_importing_loads_nothing_heavy():
    """The time itself is printed by ``python -m benchmarks.imports``."""
    script = "import sys, fewbit; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"numpy", "amaranth", "onnx", "click", "safetensors", "torch"} & set(done.stdout.split())


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_examples_of_the_packages(package):
    assert doctest.testmod(package).attempted > 0
    assert doctest.testmod(package).failed == 0


def test_examples_of_the_components():
    """Each public component has one."""
    page = ROOT / "docs" / "components.md"
    found = doctest.testfile(str(page), module_relative=False)
    assert found.failed == 0
    text = page.read_text(encoding="utf-8")
    assert [name for name in fewbit.hw.__all__ if name not in text] == []


def test_shipped_networks_are_loaded_by_name():
    assert fewbit.load("mnist-small").name == "mnist-small"
    with pytest.raises(fewbit.FewbitError, match=r"^none: a network must be a file \.safetensors, \.onnx or \.tflite"):
        fewbit.load("none")
