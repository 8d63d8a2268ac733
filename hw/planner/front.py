"""Choices for the stages so far that no other beats, many at a time.

A choice is a row of numbers, what it takes of a device, with the option of the last stage and the choice that it goes
on from. Joining two stages adds every row of one to every row of the other; of thousands a few dozen are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.hw.cost import Cost
from fewbit.hw.planner.options import Option

_NAMES = tuple(field.name for field in fields(Cost))
_SCARCE = [_NAMES.index(name) for name in ("cells", "rams", "dsps", "sprams")]


def _row(cost: Cost) -> Ints:
    return np.array([getattr(cost, name) for name in _NAMES], np.int64)


@dataclass(frozen=True)
class Front:
    """Choices for the stages so far that end alike.

    Attributes
    ----------
    costs : int array (n, quantities)
    last : list of Option
        Of the last stage, a choice each.
    before : list of (Front, int) or None
        The choice that each goes on from; None for those of the first stage.
    """

    costs: Ints
    last: Sequence[Option | None]
    before: Sequence[tuple[Front, int] | None]

    @classmethod
    def of(cls, choices: Sequence[tuple[Cost, Option]]) -> Front:
        """Choices of the first stage."""
        costs = np.stack([_row(cost) for cost, _ in choices])
        return cls(costs, [option for _, option in choices], [None] * len(choices))

    def options(self, choice: int) -> tuple[Option, ...]:
        """The option of every stage."""
        chosen: list[Option] = []
        here: tuple[Front, int] | None = (self, choice)
        while here is not None:
            front, place = here
            if (option := front.last[place]) is not None:
                chosen.append(option)
            here = front.before[place]
        return tuple(reversed(chosen))


class Joined:
    """Every choice of fronts, with one more option each, within a budget; None is without limit."""

    def __init__(self, budget: Cost | None) -> None:
        self._most = None if budget is None else _row(budget)[_SCARCE]
        self._costs: list[Ints] = []
        self._from: list[tuple[Front, Option | None, Ints]] = []

    def add(self, front: Front, cost: Cost, option: Option | None) -> None:
        """Goes on from every choice of ``front`` with ``option``, which costs so much."""
        costs = front.costs + _row(cost)
        places = np.arange(len(costs))
        if self._most is not None:
            places = np.flatnonzero((costs[:, _SCARCE] <= self._most).all(1))
        if len(places):
            self._costs.append(costs[places])
            self._from.append((front, option, places))

    def front(self) -> Front:
        """Those that no other equals or beats in everything that is scarce, in the order of their costs."""
        if not self._costs:
            return Front(np.zeros((0, len(_NAMES)), np.int64), [], [])
        costs = np.concatenate(self._costs)
        scarce = costs[:, _SCARCE]
        left = np.lexsort(scarce.T[::-1])
        kept = []
        while len(left):
            first = left[0]
            kept.append(int(first))
            left = left[1:]
            left = left[(scarce[left] < scarce[first]).any(1)]
        return Front(costs[kept], *self._origins(kept))

    def choices(self) -> Iterator[tuple[Cost, tuple[Option, ...]]]:
        """All of them, each with its options."""
        for costs, (front, option, places) in zip(self._costs, self._from):
            for row, place in zip(costs, places):
                more = () if option is None else (option,)
                yield Cost(**dict(zip(_NAMES, row.tolist()))), (*front.options(int(place)), *more)

    def _origins(self, rows: Sequence[int]) -> tuple[list[Option | None], list[tuple[Front, int] | None]]:
        ends = np.cumsum([len(places) for _, _, places in self._from])
        last: list[Option | None] = []
        before: list[tuple[Front, int] | None] = []
        for row in rows:
            group = int(np.searchsorted(ends, row, side="right"))
            front, option, places = self._from[group]
            last.append(option)
            before.append((front, int(places[row - (ends[group] - len(places))])))
        return last, before
