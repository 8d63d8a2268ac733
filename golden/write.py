"""Writes files completely or not at all."""

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

    A regular file is written under a temporary name and then renamed: afterwards it has the new content, or after an
    error the old one. A symbolic link stays a link, and the file that it leads to is replaced. Devices, pipes and
    sockets are written to directly.

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
    """Raises FewbitError if ``path`` cannot be written, as far as that is known beforehand. Called before long work."""
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
    """Raises FewbitError unless ``path`` is, or can be created as, a folder that can be written to."""
    try:
        existing = Path(path)
        longest_name = os.pathconf("/", "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
        if any(len(os.fsencode(part)) > longest_name for part in existing.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        while not os.path.lexists(existing) and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            why = "file exists" if existing == Path(path) else "not a directory"
        else:
            why = "" if os.access(existing, os.W_OK) else "permission denied"
    except OSError as error:
        why = reason(error)
    if why:
        raise FewbitError(f"cannot write to {path}: {why}")


def _target(path: str | Path) -> Path:
    """The file that ``path`` leads to if it is a link; a link to an open file of a process is not followed."""
    if not os.path.islink(path) or _open_file(path):
        return Path(path)
    return Path(os.path.realpath(path))


def _open_file(path: str | Path) -> bool:
    """Whether ``path`` names an open file, such as /dev/stdout: replacing it would not reach its reader."""
    return str(path).startswith("/proc/") or (os.path.islink(path) and os.readlink(path).startswith("/proc/"))


def _special(path: Path) -> bool:
    """Whether ``path`` exists and is neither a regular file nor a folder."""
    if _open_file(path):
        return os.path.exists(path)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _replace(path: Path, content: bytes) -> None:
    # The temporary name is short: the file's own name with a suffix could be too long.
    handle, temporary = tempfile.mkstemp(prefix=".fewbit-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _mode(path: Path) -> int:
    """Permissions of the file that is replaced, or those of a new file."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
