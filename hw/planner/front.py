"""Pareto fronts of choices of options for the first stages of a network, as arrays.

A choice has a row of costs, the option of its last stage, and a link to the choice for the earlier stages that it
extends. Adding a stage combines every choice with every option of that stage; of thousands of combinations, the Pareto
front has a few dozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.hw.cost import Cost
from fewbit.hw.planner.options import StageOption

_NAMES = tuple(field.name for field in fields(Cost))
_SCARCE = [_NAMES.index(name) for name in ("cells", "rams", "dsps", "sprams")]


def _row(cost: Cost) -> Ints:
    return np.array([getattr(cost, name) for name in _NAMES], np.int64)


@dataclass(frozen=True)
class Front:
    """A Pareto front of n choices for the first stages; all leave the same lanes to the stages that follow.

    Attributes
    ----------
    costs : int array (n, fields of Cost)
    last : list of StageOption or None
        For each choice, its option of the last stage; None if the last addition was a cost without an option.
    before : list of (Front, int) or None
        For each choice, the front and index of the choice that it extends; None in the first stage.
    """

    costs: Ints
    last: Sequence[StageOption | None]
    before: Sequence[tuple[Front, int] | None]

    @classmethod
    def of(cls, choices: Sequence[tuple[Cost, StageOption]]) -> Front:
        """The front of the first stage, from its options and their costs."""
        costs = np.stack([_row(cost) for cost, _ in choices])
        return cls(costs, [option for _, option in choices], [None] * len(choices))

    def options(self, choice: int) -> tuple[StageOption, ...]:
        """The options of all stages for the choice with index ``choice``."""
        options: list[StageOption] = []
        current: tuple[Front, int] | None = (self, choice)
        while current is not None:
            front, index = current
            if (option := front.last[index]) is not None:
                options.append(option)
            current = front.before[index]
        return tuple(reversed(options))


class Joined:
    """Collects the choices of fronts, each extended by one more option, that are within a ``budget``; None is no
    limit."""

    def __init__(self, budget: Cost | None) -> None:
        self._most = None if budget is None else _row(budget)[_SCARCE]
        self._costs: list[Ints] = []
        self._from: list[tuple[Front, StageOption | None, Ints]] = []

    def add(self, front: Front, cost: Cost, option: StageOption | None) -> None:
        """Add every choice of ``front``, extended by ``option`` with its ``cost``."""
        costs = front.costs + _row(cost)
        indices = np.arange(len(costs))
        if self._most is not None:
            indices = np.flatnonzero((costs[:, _SCARCE] <= self._most).all(1))
        if len(indices):
            self._costs.append(costs[indices])
            self._from.append((front, option, indices))

    def front(self) -> Front:
        """The Pareto front of the collected choices in all scarce resources, in ascending order of costs. Of choices
        with equal costs, only one is in it."""
        if not self._costs:
            return Front(np.zeros((0, len(_NAMES)), np.int64), [], [])
        costs = np.concatenate(self._costs)
        scarce = costs[:, _SCARCE]
        remaining = np.lexsort(scarce.T[::-1])
        optimal = []
        while len(remaining):
            first = remaining[0]
            optimal.append(int(first))
            remaining = remaining[1:]
            remaining = remaining[(scarce[remaining] < scarce[first]).any(1)]
        return Front(costs[optimal], *self._origins(optimal))

    def choices(self) -> Iterator[tuple[Cost, tuple[StageOption, ...]]]:
        """Yield the cost and the options of every collected choice."""
        for costs, (front, option, indices) in zip(self._costs, self._from):
            for row, index in zip(costs, indices):
                last = () if option is None else (option,)
                yield Cost(**dict(zip(_NAMES, row.tolist()))), (*front.options(int(index)), *last)

    def _origins(self, rows: Sequence[int]) -> tuple[list[StageOption | None], list[tuple[Front, int] | None]]:
        """The option and the extended choice of each collected choice with an index in ``rows``."""
        ends = np.cumsum([len(indices) for _, _, indices in self._from])
        last: list[StageOption | None] = []
        before: list[tuple[Front, int] | None] = []
        for row in rows:
            group = int(np.searchsorted(ends, row, side="right"))
            front, option, indices = self._from[group]
            last.append(option)
            before.append((front, int(indices[row - (ends[group] - len(indices))])))
        return last, before
