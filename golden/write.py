"""Files, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

from fewbit.golden.errors import FewbitError, reason


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
        target = _target(path)
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
        target = _target(path)
        why = ""
        if target.is_dir():
            why = "is a directory"
        elif _special(target):
            why = "" if os.access(target, os.W_OK) else "permission denied"
        elif not target.parent.is_dir():
            why = "not a directory" if target.parent.exists() else "no such file or directory"
        else:
            tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        why = reason(error)
    if why:
        raise FewbitError(f"cannot write {path}: {why}")


def check_folder(path: str | Path) -> None:
    """Raises FewbitError if ``path`` is not, and cannot become, a folder that can be written."""
    try:
        there = Path(path)
        most = os.pathconf("/", "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
        if any(len(os.fsencode(part)) > most for part in there.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
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


def _target(path: str | Path) -> Path:
    """What ``path`` leads to, where it is a link; an open file of a process stays under the name it has there."""
    if not os.path.islink(path) or _open_file(path):
        return Path(path)
    return Path(os.path.realpath(path))


def _open_file(path: str | Path) -> bool:
    """Whether ``path`` is a name of an open file, such as /dev/stdout: to replace it would not reach its reader."""
    return str(path).startswith("/proc/") or (os.path.islink(path) and os.readlink(path).startswith("/proc/"))


def _special(path: Path) -> bool:
    """Whether there is something other than a regular file or a folder at ``path``."""
    if _open_file(path):
        return os.path.exists(path)
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
