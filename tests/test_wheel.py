"""The wheel, installed in a clean environment and used outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKED = [path.name for path in (ROOT / "fewbit").iterdir() if path.is_symlink()]

IMPORT_ALL = """
import importlib, pkgutil, sys
import fewbit
assert not fewbit.__file__.startswith(sys.argv[1]), fewbit.__file__
names = [one.name for one in pkgutil.walk_packages(fewbit.__path__, "fewbit.")]
for name in names:
    if not name.startswith(("fewbit.models.", "fewbit.sim.tb_", "fewbit.sim.bench", "fewbit.__main__")):
        importlib.import_module(name)
print(len(names))
"""


def sources() -> set[str]:
    """Every file that a user needs, under its name in the wheel."""
    found = set()
    for folder in ["fewbit", *LINKED]:
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if not path.is_file() or "__pycache__" in parts or (parts[0] == "fewbit" and parts[1] in LINKED):
                continue
            found.add("/".join(parts if parts[0] == "fewbit" else ("fewbit", *parts)))
    return found


@pytest.mark.slow
def test_the_wheel_serves_in_a_clean_environment(tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(*command):
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    source = tmp_path / "source"  # what setuptools leaves beside the sources stays out of the checkout
    run("git", "clone", "-q", ROOT, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "wheels", source)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "clean")
    tools = tmp_path / "clean" / ("Scripts" if os.name == "nt" else "bin")
    run(tools / "python", "-m", "pip", "install", "-q", wheel)
    assert int(run(tools / "python", "-c", IMPORT_ALL, source)) > 150
    assert "icebreaker" in run(tools / "fewbit", "boards")
    assert "448" in run(tools / "python", "-m", "fewbit", "info", "mnist-small")
    assert "97.84 %" in run(
        tools / "fewbit", "run", "mnist-small", "--inputs", ROOT / "models" / "t10k-images-idx3-ubyte.gz",
        "--labels", ROOT / "models" / "t10k-labels-idx1-ubyte.gz",
    )  # fmt: skip
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {name for name in sources() if (source / name).exists() or (source / name[7:]).exists()}
