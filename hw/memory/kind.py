"""What a kind of memory for weights says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fewbit.golden.errors import FewbitError
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A memory of weights: ``depth`` words of ``width`` bits, of which a block RAM holds those that ``vary`` and LUTs
    ``columns``; beside these, constants hold ``scales``, how many different words and the columns of these."""

    depth: int
    width: int
    vary: int
    columns: int
    scales: tuple[int, int] = (1, 0)

    @classmethod
    def of_any(cls, depth: int, width: int) -> Contents:
        """Words of which every bit is taken to vary in a way of its own."""
        return cls(depth=depth, width=width, vary=width, columns=width)


class WeightMemory(ABC):
    """A kind of memory for weights; it is registered in :data:`fewbit.hw.memory.kinds.MEMORIES`.

    Attributes
    ----------
    name : str
        What a fold calls it.
    title : str
        What a report calls it.
    preloaded : bool
        Whether the weights are there from the start; else a host loads them first.
    """

    name: str
    title: str
    preloaded: bool = True

    @abstractmethod
    def offered(self, target: Target) -> bool:
        """Whether a device has such memory."""

    @abstractmethod
    def cost(self, contents: Contents, target: Target) -> Cost:
        """What ``contents`` take in it, about."""

    @abstractmethod
    def component(self, bits: int, words: Sequence[int], target: str) -> Any:
        """A component with a ``read_port()`` and, if not preloaded, a ``fill`` port."""

    def check(self, bits: int, depth: int) -> None:
        """Raises FewbitError if such a memory cannot have ``depth`` words of ``bits`` bits."""
        return None

    def fits(self, contents: Contents, target: Target) -> bool:
        """Whether a device has such memory for ``contents``."""
        if not self.offered(target):
            return False
        try:
            self.check(contents.width, contents.depth)
        except FewbitError:
            return False
        return True

    def block_rams(self, depth: int, vary: int, target: Target) -> int:
        """Block RAMs that words of which ``vary`` bits are not the same in all of them are read from."""
        return 0
