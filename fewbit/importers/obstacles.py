"""Every obstacle of a file in one message."""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.golden.errors import FewbitError

MOST = 12
"""Most obstacles that a message lists; it has the count of all."""


class Obstacles(FewbitError):
    """Why a file cannot be imported: a line for each obstacle.

    Attributes
    ----------
    lines : tuple of str
        One obstacle: the node, its operator, why, and what would work. Several: their count, then a line for each.
    """

    def __init__(self, path: str, found: Sequence[str]) -> None:
        lines = [f"{path}: {found[0]}"]
        if len(found) > 1:
            lines = [f"{path}: {len(found)} obstacles:", *found[:MOST]]
        if len(found) > MOST:
            lines.append(f"and {len(found) - MOST} more")
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))
