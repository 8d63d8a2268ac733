"""Smallest buffers of joins that delay no score, computed from the schedule.

The branches between a fork and a join have different latencies. The beats of the faster branch wait in a buffer at the
join. If this buffer is too small, the fork stalls, and with it the slower branch: the design becomes slower, or
deadlocks.

A branch whose beats never wait for another branch needs no buffer. For the others, the schedule is computed with
different depths. A design is never slower with a deeper buffer, so bisection finds the smallest depth with which no
score is later than with unlimited buffers. Each time depends on earlier times only through sums and maxima, so a source
or sink that pauses delays scores by no more than its pauses: buffers that are deep enough for the fastest source and
sink never cause additional stalls or a deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fewbit.golden.errors import FewbitError
from fewbit.hw.schedule import JoinStep, Node, TooLate, schedule_of

Depths = tuple[tuple[int, ...], ...]
"""Words of the buffer of each input of each join, in the order of the nodes; 0 is no buffer."""


def joins(nodes: Sequence[Node]) -> list[JoinStep]:
    """The timing models of the joins in ``nodes``, in order."""
    return [step for node in nodes for step in node.steps[:1] if isinstance(step, JoinStep)]


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
    depths, times, _ = _unlimited(run, joins(make()))
    frames = len(times) // beats_out

    def in_time(words: Sequence[Sequence[int | None]]) -> bool:
        try:
            run(words, frames, times)
        except TooLate:
            return False
        return True

    def fewest(place: int, side: int) -> int:
        # The deepest fill of an unlimited buffer is an upper bound. A run with too few words ends early, so small
        # depths are tried first.
        most = run(depths, frames, times)[1][place].held(side)
        # Where at most one word waits, no buffer may be needed: the branches arrive together.
        low, high = (0, 0) if most == 1 else (1, 1)
        while high < most:
            depths[place][side] = high
            if in_time(depths):
                break
            low, high = high + 1, max(1, 2 * high)
        high = min(high, most)
        while low < high:
            middle = (low + high) // 2
            depths[place][side] = middle
            low, high = (low, middle) if in_time(depths) else (middle + 1, high)
        return high

    for place, sides in enumerate(depths):
        for side, words in enumerate(sides):
            if words is None:
                depths[place][side] = fewest(place, side)
    return tuple(tuple(words or 0 for words in sides) for sides in depths)


def most_held(make: Callable[[], list[Node]], beats_in: int, beats_out: int, fastest: int) -> list[list[int]]:
    """The most words that wait at each side of each join when buffers are unlimited; 0 for a side without one."""
    run = _runner(make, beats_in, beats_out, fastest)
    depths, _, full = _unlimited(run, joins(make()))
    return [
        [0 if words == 0 else join.held(side) for side, words in enumerate(sides)] for join, sides in zip(full, depths)
    ]


_Limits = list[list[int | None]]
_Result = tuple[list[int], list[JoinStep]]
_Run = Callable[..., _Result]


def _runner(make: Callable[[], list[Node]], beats_in: int, beats_out: int, fastest: int) -> _Run:
    """Runs the schedule with buffers of these depths: times of output beats, and the joins."""

    def run(depths: _Limits, frames: int = 64, limits: Sequence[int] = ()) -> _Result:
        def made() -> list[Node]:
            nodes = make()
            for join, words in zip(joins(nodes), depths):
                join.depths = list(words)
            return nodes

        result, nodes = schedule_of(made, beats_in, beats_out, fastest, frames, limits)
        return result.times, joins(nodes)

    return run


def _unlimited(run: _Run, of: Sequence[JoinStep]) -> tuple[_Limits, list[int], list[JoinStep]]:
    """Depths of which those of sides that never wait are 0 and the others unlimited, and the schedule with these."""
    try:
        _, full = run([[None for _ in join.depths] for join in of], 2)
        depths: _Limits = [[0 if join.last(side) else None for side in range(len(join.depths))] for join in full]
        return (depths, *run(depths))
    except TooLate:
        raise FewbitError(
            "the branches of a join cannot be scheduled: its inputs do not come from one source"
        ) from None
