"""What a part takes of a device, and which of several choices are worth keeping."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a block takes: logic cells (LUT4 with flip-flop; on ECP5 LUT4 alone), flip-flops, block RAMs, multiplier
    blocks, and SPRAMs."""

    cells: int = 0
    ffs: int = 0
    rams: int = 0
    dsps: int = 0
    sprams: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            cells=self.cells + other.cells,
            ffs=self.ffs + other.ffs,
            rams=self.rams + other.rams,
            dsps=self.dsps + other.dsps,
            sprams=self.sprams + other.sprams,
        )

    def __sub__(self, other: Cost) -> Cost:
        return self + -1 * other

    def __rmul__(self, times: int) -> Cost:
        return Cost(
            cells=times * self.cells,
            ffs=times * self.ffs,
            rams=times * self.rams,
            dsps=times * self.dsps,
            sprams=times * self.sprams,
        )

    @property
    def scarce(self) -> tuple[int, ...]:
        """What a device can run out of. Flip-flops are not: there is one beside every logic cell."""
        return self.cells, self.rams, self.dsps, self.sprams

    def within(self, other: Cost) -> bool:
        """Whether this takes no more than ``other`` of anything."""
        return (
            self.cells <= other.cells
            and self.rams <= other.rams
            and self.dsps <= other.dsps
            and self.sprams <= other.sprams
        )

    def share(self, of: Cost) -> float:
        """How much this takes of the cells and the RAMs of ``of``; nothing else wants the multipliers."""
        wanted = (self.cells, of.cells), (self.rams, of.rams), (self.sprams, of.sprams)
        return sum(used / has for used, has in wanted if has > 0)


def pareto_front(choices: Iterable[T], cost: Callable[[T], Cost], cycles: Callable[[T], int] = lambda _: 0) -> list[T]:
    """Those that no other equals or beats in cycles and in everything that is scarce, the quickest first."""
    kept: list[tuple[T, Cost]] = []
    for choice in sorted(choices, key=lambda choice: (cycles(choice), *cost(choice).scarce)):
        own = cost(choice)
        if not any(one.within(own) for _, one in reversed(kept)):
            kept.append((choice, own))
    return [choice for choice, _ in kept]
