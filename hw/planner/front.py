"""Pareto fronts of choices of options for the first stages of a network, as arrays.

A choice has a row of costs, the option of its last stage, and a link to the choice for the earlier stages that it
extends. Adding a stage combines every choice with every option of that stage; of hundreds of thousands of combinations,
the Pareto front has a few hundred.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.dtype import Ints
from fewbit.hw.cost import Cost
from fewbit.hw.planner.options import StageOption

Flags = NDArray[np.bool_]

_NAMES = tuple(field.name for field in fields(Cost))
_SCARCE = [_NAMES.index(name) for name in ("cells", "rams", "dsps", "sprams")]


_MOST_PLACES = 64
"""Places of a grid for each row, up to which the Pareto front is found on the grid."""


def cost_row(cost: Cost) -> Ints:
    """A cost as a row of an array, in the order of its fields."""
    return np.array([getattr(cost, name) for name in _NAMES], np.int64)


def pareto_rows(costs: Ints) -> Ints:
    """Indices of the rows of the Pareto front in all scarce resources, in ascending order of costs. Of equal rows, only
    the first is in it.

    # (n, fields of Cost) -> (k,)
    """
    cells, *others = costs[:, _SCARCE].T
    places = [np.unique(values, return_inverse=True) for values in others]
    shape = tuple(len(values) for values, _ in places)
    if np.prod(shape) > _MOST_PLACES * len(costs):
        return _one_by_one(costs[:, _SCARCE])
    place: Ints = np.ravel_multi_index([indices for _, indices in places], shape)
    rows = _on_grid(cells, place, shape)
    rows = rows[np.lexsort(costs[rows][:, _SCARCE].T[::-1])]
    return rows


def _on_grid(cells: Ints, place: Ints, shape: tuple[int, ...]) -> Ints:
    """The Pareto front of rows with a number of ``cells`` and a flat index ``place`` in the grid of all combinations of
    the other resources: the combinations with fewer cells than every combination that takes no more of anything."""
    none = np.iinfo(np.int64).max
    grid = np.full(shape, none)
    np.minimum.at(grid.reshape(-1), place, cells * len(cells) + np.arange(len(cells)))  # the first of the cheapest
    fewest = np.where(grid == none, none, grid // len(cells))
    least = fewest
    for axis in range(least.ndim):
        least = np.minimum.accumulate(least, axis)
    optimal = grid != none
    for axis in range(least.ndim):
        lower = np.moveaxis(least, axis, 0)[:-1]
        np.moveaxis(optimal, axis, 0)[1:] &= np.moveaxis(fewest, axis, 0)[1:] < lower
    rows: Ints = grid[optimal] % len(cells)
    return rows


def _one_by_one(scarce: Ints) -> Ints:
    """The Pareto front of rows of all scarce resources: each row of it removes those that it dominates."""
    remaining = np.lexsort(scarce.T[::-1])
    optimal = []
    while len(remaining):
        first, remaining = remaining[0], remaining[1:]
        optimal.append(first)
        remaining = remaining[(scarce[remaining] < scarce[first]).any(1)]
    return np.array(optimal)


@dataclass(frozen=True)
class Options:
    """Options of a stage, with the same lanes.

    Attributes
    ----------
    options : list of StageOption or None
        None is a cost without an option.
    costs : int array (n, fields of Cost)
    slowest : int array (n,)
        Cycles per frame of the slowest layer of each option.
    """

    options: Sequence[StageOption | None]
    costs: Ints
    slowest: Ints

    @classmethod
    def of(cls, options: Sequence[StageOption]) -> Options:
        costs = np.stack([cost_row(option.cost) for option in options])
        return cls(options, costs, np.array([option.slowest for option in options]))

    def within(self, limit: int) -> Options:
        """The Pareto front of the options that take at most ``limit`` cycles per frame."""
        fast = np.flatnonzero(self.slowest <= limit)
        if len(fast):
            fast = fast[pareto_rows(self.costs[fast])]
        return Options([self.options[index] for index in fast.tolist()], self.costs[fast], self.slowest[fast])


NO_OPTION = Options([None], np.zeros((1, len(_NAMES)), np.int64), np.zeros(1, np.int64))
"""Leaves a choice as it is."""


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
    def of(cls, options: Options, cost: Cost) -> Front:
        """The front of the first stage: the choices are its ``options``, with ``cost`` in addition to each."""
        return cls(options.costs + cost_row(cost), options.options, [None] * len(options.options))

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


@dataclass(frozen=True)
class _Block:
    """Choices that extend the choices of ``fronts``, numbered through, by ``options``.

    Attributes
    ----------
    costs : int array (n, fields of Cost)
    choice, option : int array (n,)
        For each row, the number of the extended choice, and the index of the option.
    """

    costs: Ints
    fronts: Sequence[Front]
    choice: Ints
    options: Sequence[StageOption | None]
    option: Ints

    def origin(self, row: int) -> tuple[StageOption | None, tuple[Front, int]]:
        """The option of a row, and the front and index of the choice that it extends."""
        index = int(self.choice[row])
        for front in self.fronts:
            if index < len(front.costs):
                break
            index -= len(front.costs)
        return self.options[int(self.option[row])], (front, index)


class Joined:
    """Collects the choices of fronts, each extended by one more option, that are within a ``budget``; None is no
    limit."""

    def __init__(self, budget: Cost | None) -> None:
        self._most = None if budget is None else cost_row(budget)
        self._blocks: list[_Block] = []

    def add(self, fronts: Sequence[tuple[Front, Cost]], options: Options) -> None:
        """Add the Pareto front of every choice of ``fronts``, extended by every one of ``options``: the cost of a
        choice, that of the option, and the cost beside the front."""
        bases = np.concatenate([front.costs + cost_row(cost) for front, cost in fronts])
        choice = np.flatnonzero(self._fits(bases))
        costs = (options.costs[:, None] + bases[None, choice]).reshape(-1, len(_NAMES))
        rows = np.flatnonzero(self._fits(costs))
        if len(rows):
            rows = rows[np.sort(pareto_rows(costs[rows]))]
            option, place = np.divmod(rows, len(choice))
            self._blocks.append(
                _Block(costs[rows], [front for front, _ in fronts], choice[place], options.options, option)
            )

    def _fits(self, costs: Ints) -> Flags:
        """Whether each row is within the budget."""
        fits: Flags = np.ones(len(costs), bool)
        if self._most is not None:
            for resource in _SCARCE:
                fits &= costs[:, resource] <= self._most[resource]
        return fits

    def front(self) -> Front:
        """The Pareto front of the collected choices in all scarce resources, in ascending order of costs. Of choices
        with equal costs, only one is in it."""
        if not self._blocks:
            return Front(np.zeros((0, len(_NAMES)), np.int64), [], [])
        costs = np.concatenate([block.costs for block in self._blocks])
        optimal = pareto_rows(costs)
        starts = np.cumsum([0, *(len(block.costs) for block in self._blocks)])
        blocks = np.searchsorted(starts, optimal, side="right") - 1
        origins = [self._blocks[block].origin(row) for block, row in zip(blocks, optimal - starts[blocks])]
        return Front(costs[optimal], [option for option, _ in origins], [before for _, before in origins])

    def choices(self) -> Iterator[tuple[Cost, tuple[StageOption, ...]]]:
        """Yield the cost and the options of every collected choice."""
        for block in self._blocks:
            for row, cost in enumerate(block.costs.tolist()):
                option, (front, index) = block.origin(row)
                last = () if option is None else (option,)
                yield Cost(**dict(zip(_NAMES, cost))), (*front.options(index), *last)
