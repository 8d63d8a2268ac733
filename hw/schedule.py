"""Exact schedule of connected components: the clock cycle of every transfer, from which a plan computes latency and
throughput.

Each component is a :class:`fewbit.hw.steps.Step`. A single pass over the beats in order is exact. The source always
offers a beat, and the sink always takes one.

At a join, a beat of one branch may depend on a beat of another branch that this pass has not reached yet. The pass then
uses its time from the previous pass; passes are repeated until these times no longer change. Times only grow from pass
to pass, so the first pass that agrees with the one before it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from fewbit.hw.steps import ForkStep, JoinStep, Sink, Step, TooLate


@dataclass(frozen=True)
class Node:
    """The timing of one component of a design.

    Parameters
    ----------
    steps : list of Step
        In the order of the stream. A fork can only be the last step, a join only the first.
    sources : tuple of int
        For each input, the index of the node that drives it; -1 is the source of frames.
    """

    steps: list[Step]
    sources: tuple[int, ...]


def connect(nodes: Sequence[Node], sink: Step) -> Step:
    """Connect the steps of ``nodes``, which must be in topological order. The last node drives ``sink``. Returns the
    step that takes the beats of the source."""
    height = [0] * len(nodes)  # length of the longest path to the end
    readers: dict[int, list[tuple[int, Step]]] = {}  # by node: height and step of each reader
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        for step, following in pairwise(node.steps):
            step.following = following
        following_steps = [step for _, step in sorted(readers.get(index, []), key=lambda reader: reader[0])] or [sink]
        if node.steps:
            last = node.steps[-1]
            if isinstance(last, ForkStep):
                # The shortest branch is evaluated first: a join then knows its beats when those of longer branches
                # arrive.
                last.branches = following_steps
            else:
                (last.following,) = following_steps
        height[index] = 1 + max((reader_height for reader_height, _ in readers.get(index, [])), default=0)
        for side, source in enumerate(node.sources):
            first = node.steps[0] if node.steps else following_steps[0]
            entry = first.sides[side] if isinstance(first, JoinStep) else first
            readers.setdefault(source, []).append((height[index], entry))
    return readers[-1][0][1] if -1 in readers else sink


@dataclass(frozen=True)
class Schedule:
    """Timing of a design if its source always offers a beat and its sink always takes one.

    Attributes
    ----------
    latency : int
        Cycles from the first input transfer of the first frame to its last output transfer, both included.
    interval : int
        Cycles from one frame to the next once the pipeline is full.
    times : list of int
        Cycle of each output beat, up to the frame in which the pipeline is full, counted from the cycle in which the
        source first offers a beat.
    start : int
        Cycle of the first input transfer.
    """

    latency: int
    interval: int
    times: list[int] = field(repr=False, compare=False)
    start: int = 0


_MOST_PASSES = 16
"""Largest number of passes until the times of beats at joins no longer change."""


def schedule(steps: Sequence[Step], beats_in: int, beats_out: int, fastest: int, most_frames: int = 64) -> Schedule:
    """Schedule of unused ``steps`` in a row; for the other parameters see :func:`schedule_of`."""
    return schedule_of(lambda: [Node(list(steps), (-1,))], beats_in, beats_out, fastest, most_frames)[0]


def schedule_of(
    make: Callable[[], list[Node]],
    beats_in: int,
    beats_out: int,
    fastest: int,
    most_frames: int = 64,
    limits: Sequence[int] = (),
    assumed: Mapping[int, list[list[int]]] = MappingProxyType({}),
) -> tuple[Schedule, list[Node]]:
    """Run frames of ``beats_in`` input and ``beats_out`` output beats through the unused nodes that ``make`` returns.

    Buffers may fill slowly. The pipeline is taken to be full once the interval between frames is ``fastest``, the
    cycles per frame of its slowest component, or else after ``most_frames``. ``assumed`` has cycles that are not later
    than those in which joins take their beats, by the index of the join's node and by side: those of a faster design,
    which save passes.

    Returns
    -------
    Schedule, and the nodes that were run

    Raises
    ------
    TooLate
        If an output beat is later than its entry in ``limits``, or the times at a join do not become constant: the
        design may deadlock.
    """
    for _ in range(_MOST_PASSES):
        nodes = make()
        joins = {
            index: step for index, node in enumerate(nodes) for step in node.steps[:1] if isinstance(step, JoinStep)
        }
        for index, times in assumed.items():
            joins[index].assumed = times
        sink = Sink(limits)
        result = _run(connect(nodes, sink), sink, beats_in, beats_out, fastest, most_frames)
        if all(join.consistent for join in joins.values()):
            return result, nodes
        assumed = {index: join.pops for index, join in joins.items()}
    raise TooLate


def _run(source: Step, sink: Sink, beats_in: int, beats_out: int, fastest: int, most_frames: int) -> Schedule:
    offered = start = 0
    gaps: list[int] = []
    for frame in range(most_frames):
        for beat in range(beats_in):
            taken = source.accept(offered)
            offered = taken + 1
            if frame == beat == 0:
                start = taken
        ends = sink.times[beats_out - 1 :: beats_out]
        gaps = [later - earlier for earlier, later in pairwise(ends)]
        if gaps[-2:] == [fastest, fastest]:
            break
    if not gaps:
        raise TooLate
    return Schedule(ends[0] - start + 1, gaps[-1], sink.times, start)
