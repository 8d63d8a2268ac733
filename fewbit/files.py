"""Text into files: whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fewbit.golden.errors import FewbitError


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` to ``path``, aside first and then renamed. Raises FewbitError if it cannot."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):  # its folder may be none
            aside.unlink(missing_ok=True)
        raise FewbitError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
