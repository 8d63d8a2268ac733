"""The latest cycle of each transfer in a design with which no score is late.

The schedule (:mod:`fewbit.hw.schedule`) computes the earliest cycle of each transfer. This module goes the other way:
from the cycles of the scores to each transfer before them, as in the critical path method. Each step lowers the latest
cycles at its input and output until nothing changes. Steps may leave limits out, so a cycle may be later than the true
latest one, never earlier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.hw.schedule import Node
from fewbit.hw.steps import Cycles, ForkStep, JoinStep, Step, Tap

_NEVER = 1 << 60
_MOST_SWEEPS = 8
"""Largest number of sweeps over the design. Stopping early only makes the result later."""


def tapped(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with a :class:`fewbit.hw.steps.Tap` in front of each step that is not a join."""
    return [
        Node([part for step in node.steps for part in _with_tap(step)] or [Tap()], node.sources) for node in nodes
    ]  # fmt: skip


def _with_tap(step: Step) -> list[Step]:
    return [step] if isinstance(step, JoinStep) else [Tap(), step]


class Latest:
    """The latest cycles of the transfers of a design.

    Parameters
    ----------
    nodes : list of Node
        Nodes that :func:`tapped` returned, after the schedule has run.
    scores : list of int
        The latest cycle of each output beat.

    Attributes
    ----------
    streams : list of (list of int, int64 array)
        For each stream with a tap, the earliest and latest cycles of its transfers.
    pushes, pops : list of list of int64 array
        For each join and side, the latest cycles in which beats arrive, and in which the join takes them.
    """

    def __init__(self, nodes: Sequence[Node], scores: Sequence[int]) -> None:
        self.streams: list[tuple[list[int], Cycles]] = []
        self.pushes: list[list[Cycles]] = []
        self.pops: list[Sequence[Cycles]] = []
        self._joins: dict[int, int] = {}
        self._inputs: list[list[Cycles]] = []
        for index, node in enumerate(nodes):
            taps = [step for step in node.steps if isinstance(step, Tap)]
            streams = [(tap.times, np.full(len(tap.times), _NEVER)) for tap in taps]
            self.streams += streams
            self._inputs.append([latest for _, latest in streams])
            if isinstance(node.steps[0], JoinStep):
                self._joins[index] = len(self.pushes)
                self.pushes.append([np.full(len(pushes), _NEVER) for pushes in node.steps[0].pushes])
                self.pops.append([])
        self._outputs: list[list[Cycles]] = [[] for _ in nodes]
        for index, node in enumerate(nodes):
            for side, source in enumerate(node.sources):
                entry = self.pushes[self._joins[index]][side] if index in self._joins else self._inputs[index][0]
                if source >= 0:
                    self._outputs[source].append(entry)
        self._outputs[-1].append(np.array(scores, np.int64))
        self._tighten(nodes)

    def _tighten(self, nodes: Sequence[Node]) -> None:
        order = [*reversed(range(len(nodes)))]
        for _ in range(_MOST_SWEEPS):
            before = [latest.copy() for _, latest in self.streams]
            for index in [*order, *reversed(order)]:
                self._tighten_node(index, nodes[index])
            if all((old == new).all() for old, (_, new) in zip(before, self.streams)):
                return

    def _tighten_node(self, index: int, node: Node) -> None:
        """Tighten all streams of a node, from its output to its inputs and back."""
        steps = [step for step in node.steps if not isinstance(step, Tap)]
        join = index in self._joins
        between = self._inputs[index]
        if not steps:
            for following in self._outputs[index]:
                np.minimum(between[0], following, out=between[0])
                following[:] = between[0]
            return
        for place in [*reversed(range(len(steps))), *range(len(steps))]:
            step = steps[place]
            given = self._outputs[index] if place == len(steps) - 1 else [between[place + 1 - join]]
            if isinstance(step, JoinStep):
                number = self._joins[index]
                self.pops[number] = step.tighten_sides(self.pushes[number], given[0])
            elif isinstance(step, ForkStep):
                step.tighten_branches(between[place - join], given)
            else:
                step.tighten(between[place - join], given[0])


def least_words(earliest_pops: Sequence[int], latest_pushes: Cycles) -> int:
    """A lower bound of the depth of a buffer: a beat can only arrive in the cycle after the beat whose place it takes
    has left."""
    room = np.searchsorted(np.array(earliest_pops) + 1, latest_pushes, side="right")
    return max(1, int((np.arange(len(latest_pushes)) - room + 1).max(initial=1)))
