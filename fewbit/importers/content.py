"""The bytes of a model file."""

from __future__ import annotations

from pathlib import Path

from fewbit.golden.budget import check_file_size
from fewbit.golden.errors import FewbitError, reason


def content_of(path: Path) -> bytes:
    """The bytes of ``path``. Raises FewbitError if it cannot be read, or is too large to be a network."""
    try:
        check_file_size(path.stat().st_size)
        return path.read_bytes()
    except FewbitError as error:
        raise FewbitError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise FewbitError(f"{path}: no such file") from None
    except OSError as error:
        raise FewbitError(f"{path}: {reason(error)}") from None
