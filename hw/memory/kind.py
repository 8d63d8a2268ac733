"""The interface of a kind of weight memory."""

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
    """What a weight memory has to hold, as far as its cost depends on it.

    Attributes
    ----------
    depth, width : int
        Words, and bits of a word.
    vary : int
        Bits of a word that are not the same in all words: only these take block RAM.
    columns : int
        Different columns of bits among these: only these take LUTs if the words are constants.
    scales : (int, int)
        Words and columns of scales, which are constants beside the weights.
    """

    depth: int
    width: int
    vary: int
    columns: int
    scales: tuple[int, int] = (1, 0)

    @classmethod
    def of_any(cls, depth: int, width: int) -> Contents:
        """Contents of unknown values: every bit of a word varies, and no two columns are equal."""
        return cls(depth=depth, width=width, vary=width, columns=width)


class WeightMemory(ABC):
    """A kind of memory for weights. To add one, list it in :data:`fewbit.hw.memory.kinds.MEMORIES`.

    Attributes
    ----------
    name : str
        Name in a fold.
    title : str
        Name in reports.
    preloaded : bool
        Whether the weights are part of the bitstream; else a host loads them after configuration.
    """

    name: str
    title: str
    preloaded: bool = True

    @abstractmethod
    def offered(self, target: Target) -> bool:
        """Whether the device has this kind of memory."""

    @abstractmethod
    def cost(self, contents: Contents, target: Target) -> Cost:
        """Estimated cost of ``contents`` in this memory."""

    @abstractmethod
    def component(self, bits: int, words: Sequence[int], target: str) -> Any:
        """A component with a ``read_port()`` and, unless the memory is preloaded, a ``fill`` port."""

    def check(self, bits: int, depth: int) -> None:
        """Raises FewbitError if this memory cannot hold ``depth`` words of ``bits`` bits."""
        return None

    def fits(self, contents: Contents, target: Target) -> bool:
        """Whether the device has this kind of memory, and it can hold ``contents``."""
        if not self.offered(target):
            return False
        try:
            self.check(contents.width, contents.depth)
        except FewbitError:
            return False
        return True

    def block_rams(self, depth: int, vary: int, target: Target) -> int:
        """Block RAMs for ``depth`` words, of which ``vary`` bits are not the same in all words."""
        return 0
