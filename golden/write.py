"""Files, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from fewbit.golden.errors import FewbitError


def write(path: str | Path, content: bytes) -> None:
    """Writes ``content`` to ``path``.

    A regular file is written aside first and then renamed, so that it is whole, old or absent. A symbolic link stays
    one, and what it leads to is written so. A device, a pipe or a socket is written through, and stays what it is.

    Raises
    ------
    FewbitError
        If it cannot be written.
    """
    try:
        target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
        if _special(target):
            with target.open("wb") as file:
                file.write(content)
        else:
            _replace(target, content)
    except OSError as error:
        raise FewbitError(f"cannot write {path}: {reason(error)}") from None


def check_writable(path: str | Path) -> None:
    """Raises FewbitError if ``path`` cannot be written, as far as can be told beforehand: better before the work than
    after it."""
    try:
        target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
        if target.is_dir():
            why = "is a directory"
        elif _special(target):
            why = "" if os.access(target, os.W_OK) else "permission denied"
        elif not target.parent.is_dir():
            why = "not a directory" if target.parent.exists() else "no such file or directory"
        else:
            why = "" if os.access(target.parent, os.W_OK) else "permission denied"
    except OSError as error:
        why = reason(error)
    if why:
        raise FewbitError(f"cannot write {path}: {why}")


def check_folder(path: str | Path) -> None:
    """Raises FewbitError if ``path`` is not, and cannot become, a folder that can be written."""
    try:
        there = Path(path)
        while not os.path.lexists(there) and there != there.parent:
            there = there.parent
        if not there.is_dir():
            why = "file exists" if there == Path(path) else "not a directory"
        else:
            why = "" if os.access(there, os.W_OK) else "permission denied"
    except OSError as error:
        why = reason(error)
    if why:
        raise FewbitError(f"cannot write to {path}: {why}")


def reason(error: OSError) -> str:
    """What the system says, as the end of a sentence."""
    return (error.strerror or str(error)).lower()


def _special(path: Path) -> bool:
    """Whether there is something other than a regular file or a folder at ``path``."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _replace(path: Path, content: bytes) -> None:
    # The name aside is short: one made of the file's own could be too long.
    handle, aside = tempfile.mkstemp(prefix=".fewbit-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(aside, _mode(path))
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def _mode(path: Path) -> int:
    """Of the file that is replaced, or what a new one gets."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
