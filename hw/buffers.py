"""Smallest buffers of joins that delay no score, computed from the schedule.

The branches between a fork and a join have different latencies. The beats of the faster branch wait in a buffer at the
join. If this buffer is too small, the fork stalls, and with it the slower branch: the design becomes slower, or
deadlocks.

A branch whose beats never wait for another branch needs no buffer. For the others, the latest cycle in which each beat
may arrive (:mod:`fewbit.hw.latest`) gives a lower bound of the depth, and the schedule is computed with these depths.
As a rule no score is later than with unlimited buffers, and the bounds are the smallest depths. Otherwise the schedule
is computed with other depths: a design is never slower with a deeper buffer, so bisection finds the smallest one.

Each time depends on earlier times only through sums and maxima, so a source or sink that pauses delays scores by no
more than its pauses: buffers that are deep enough for the fastest source and sink never cause additional stalls or a
deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fewbit.golden.errors import FewbitError
from fewbit.hw.latest import Latest, least_words, tapped
from fewbit.hw.schedule import Node, schedule_of
from fewbit.hw.steps import JoinStep, TooLate

Depths = tuple[tuple[int, ...], ...]
"""Words of the buffer of each input of each join, in the order of the nodes; 0 is no buffer."""


def joins(nodes: Sequence[Node]) -> list[JoinStep]:
    """The timing models of the joins in ``nodes``, in order."""
    return [step for node in nodes for step in _join(node)]


def _join(node: Node) -> list[JoinStep]:
    return [step for step in node.steps[:1] if isinstance(step, JoinStep)]


def buffer_depths(make: Callable[[], list[Node]], beats_in: int, beats_out: int, fastest: int) -> Depths:
    """The smallest depth of every buffer. For the parameters see :func:`fewbit.hw.schedule.schedule_of`.

    Raises
    ------
    FewbitError
        If there is no schedule even with unlimited buffers.
    """
    if not joins(make()):
        return ()
    run = _runner(make, beats_in, beats_out, fastest)
    depths, times, nodes = _unlimited(run)
    limits = _Limits(times, len(times) // beats_out)
    # Where at most one word waits, no buffer may be needed: the branches arrive together.
    for place, join in enumerate(joins(nodes)):
        for side, words in enumerate(depths[place]):
            if words is None and join.held(side) == 1:
                depths[place][side] = 0
                without = run(depths, limits)
                if without:
                    nodes = without[1]
                else:
                    depths[place][side] = None

    full, latest = joins(nodes), Latest(nodes, times)
    limits = replace(
        limits,
        pushes=[[pushes.tolist() for pushes in sides] for sides in latest.pushes],
        pops={index: step.pops for index, node in enumerate(nodes) for step in _join(node)},
    )
    least: _Depths = [
        [
            least_words(join.pops[side], latest.pushes[place][side]) if words is None else words
            for side, words in enumerate(sides)
        ]
        for place, (join, sides) in enumerate(zip(full, depths))
    ]
    if run(least, limits):
        depths = least
    for place, sides in enumerate(depths):
        for side, words in enumerate(sides):
            if words is None:
                _set_smallest(depths, place, side, least[place][side] or 0, lambda: bool(run(depths, limits)))
    return tuple(tuple(words or 0 for words in sides) for sides in depths)


def _set_smallest(depths: _Depths, place: int, side: int, low: int, in_time: Callable[[], bool]) -> None:
    """Set the depth of the buffer of ``side`` at join ``place`` to the smallest one, ``low`` or more, with which the
    schedule is in time. A run with too few words ends early, so small depths are tried first."""

    def enough(words: int) -> bool:
        depths[place][side] = words
        return in_time()

    high, step = low, 1
    while not enough(high):
        low, high, step = high + 1, high + step, 2 * step
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    depths[place][side] = high


def most_held(make: Callable[[], list[Node]], beats_in: int, beats_out: int, fastest: int) -> list[list[int]]:
    """The most words that wait at each side of each join when buffers are unlimited; 0 for a side without one."""
    depths, _, nodes = _unlimited(_runner(make, beats_in, beats_out, fastest))
    return [
        [0 if words == 0 else join.held(side) for side, words in enumerate(sides)]
        for join, sides in zip(joins(nodes), depths)
    ]


_Depths = list[list[int | None]]


@dataclass(frozen=True)
class _Limits:
    """What is known of all schedules that are in time.

    Attributes
    ----------
    times : list of int
        The latest cycles of the output beats.
    frames : int
        Frames in the schedule.
    pushes : list of list of list of int
        For each join and side, the latest cycles in which beats may arrive; empty if unknown.
    pops : dict from int to list of list of int
        For the node of each join and each side, cycles before which the join takes no beat; empty if unknown.
    """

    times: list[int]
    frames: int
    pushes: list[list[list[int]]] = field(default_factory=list)
    pops: dict[int, list[list[int]]] = field(default_factory=dict)


_Run = Callable[[_Depths | None, _Limits], tuple[list[int], list[Node]] | None]


def _runner(make: Callable[[], list[Node]], beats_in: int, beats_out: int, fastest: int) -> _Run:
    """Runs the schedule with buffers of these depths; unlimited ones if None. Returns the cycles of the output beats,
    and the nodes with taps; None if a beat is too late."""

    def run(depths: _Depths | None, limits: _Limits) -> tuple[list[int], list[Node]] | None:
        def made() -> list[Node]:
            nodes = tapped(make())
            for place, join in enumerate(joins(nodes)):
                join.depths = list(depths[place]) if depths else [None for _ in join.depths]
                join.limits = limits.pushes[place] if limits.pushes else ()
            return nodes

        try:
            schedule, nodes = schedule_of(
                made, beats_in, beats_out, fastest, limits.frames, limits.times, limits.pops
            )  # fmt: skip
        except TooLate:
            return None
        return schedule.times, nodes

    return run


def _unlimited(run: _Run) -> tuple[_Depths, list[int], list[Node]]:
    """Depths of which those of sides that never wait are 0 and the others unlimited, and the schedule with these."""
    first = run(None, _Limits([], 2))
    if first is not None:
        full = joins(first[1])
        depths: _Depths = [[0 if join.last(side) else None for side in range(len(join.depths))] for join in full]
        second = run(depths, _Limits([], 64))
        if second is not None:
            return (depths, *second)
    raise FewbitError("the branches of a join cannot be scheduled: its inputs do not come from one source")
