"""When every beat moves: an exact timing model of connected components, so that a plan can promise cycles.

Time is counted in clock cycles; a transfer at cycle ``t`` is one for which valid and ready are high in cycle ``t``.
Each component is a :class:`Step`: told when its input may come and when its output was taken, it says when it takes
the next input and offers the next output. All depend on earlier transfers only, so one pass in the order of beats is
exact. This is the usual (max, +) view of a pipeline with back-pressure; sources and sinks are always willing.

Where branches meet, a beat may depend on one of another branch that the pass has not come to yet. It then takes the
time of the pass before; passes are repeated until these times stay as they are. Times only grow from pass to pass, so
the first that agrees is the exact one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

BUFFER_LATENCY = 2
"""Cycles from the transfer of a beat into a buffer to the first in which the buffer offers it."""


class Step(ABC):
    """One component's timing. ``accept(t)`` is the cycle at which a beat offered from cycle ``t`` on is taken."""

    following: Step | None = None

    @abstractmethod
    def accept(self, offered: int) -> int: ...

    def give(self, offered: int) -> int:
        """Hands a beat on, offered from cycle ``offered``; the cycle in which it is taken."""
        return offered if self.following is None else self.following.accept(offered)


@dataclass
class Register(Step):
    """Takes a beat, offers it ``cycles`` later, and takes the next when it has gone."""

    cycles: int = 1
    _free: int = 0

    def accept(self, offered: int) -> int:
        taken = max(offered, self._free)
        self._free = self.give(taken + self.cycles)
        return taken


@dataclass
class PackStep(Step):
    """``ratio`` beats become one."""

    ratio: int
    _count: int = 0
    _free: int = 0

    def accept(self, offered: int) -> int:
        taken = max(offered, self._free)
        self._free = taken + 1
        self._count += 1
        if self._count == self.ratio:
            self._count = 0
            self._free = self.give(taken + 1)
        return taken


@dataclass
class UnpackStep(Step):
    """One beat becomes ``ratio``."""

    ratio: int
    _free: int = 0

    def accept(self, offered: int) -> int:
        taken = max(offered, self._free)
        part = taken
        for _ in range(self.ratio):
            part = self.give(part + 1)
        self._free = part
        return taken


@dataclass
class _VectorStep(Step):
    """A unit behind its buffer of two vectors of ``words`` words; ``_run`` reads one, from a cycle on."""

    words: int
    folds: int
    depth: int
    rings: bool = field(kw_only=True)
    _arrived: int = field(default=0, init=False)
    _free: int = field(default=0, init=False)
    _ends: list[int] = field(default_factory=lambda: [-1, -1], init=False)

    def accept(self, offered: int) -> int:
        taken = max(offered, self._free)
        self._free = taken + 1
        self._arrived += 1
        if self._arrived == self.words:
            self._arrived = 0
            whole = taken + 1
            if self.rings:
                moved = max(whole, self._ends[-1])
                self._free = moved + 1
                self._run(moved + 1)
            else:
                before = self._ends[-1]
                self._run(max(whole, before + 1))
                self._free = max(whole, before + 1)
        return taken

    @abstractmethod
    def _run(self, start: int) -> None: ...


@dataclass
class Pipeline(Step):
    """A component whose stages all stand still while a beat waits: ``depth`` cycles from what it does to the beat."""

    depth: int
    _stalls: list[tuple[int, int]] = field(default_factory=list, init=False)
    _still_until: int = field(default=0, init=False)

    def _emit(self, cycle: int) -> None:
        """Hands on the beat of what was done in ``cycle``."""
        effect = cycle
        if self._still_until <= cycle:
            effect += self.depth - 1
        else:
            for _ in range(self.depth - 1):
                effect = self._moving(effect + 1)
        taken = self.give(effect + 1)
        if taken > effect + 1:
            self._still_until = taken
            self._stalls.append((effect + 1, taken))
            del self._stalls[: -self.depth - 1]

    def _moving(self, cycle: int) -> int:
        """The first cycle from ``cycle`` on in which the component does not stand still."""
        if cycle >= self._still_until:
            return cycle
        for begin, end in self._stalls:
            if begin <= cycle < end:
                cycle = end
        return cycle


@dataclass
class FoldStep(_VectorStep, Pipeline):
    """The folded unit behind its buffer of two vectors: ``words`` reads a beat, ``folds`` beats a frame.

    A word is used for ``planes`` cycles; or the beats of vector after vector, in turn, take so many ``reads`` each.
    ``depth`` cycles lie between the last of them and its effect on the output;
    all of them stand still while a beat waits.
    """

    planes: int = field(default=1, kw_only=True)
    reads: Sequence[Sequence[int]] = field(default=(), kw_only=True)
    _used: int = field(default=-1, init=False)
    _vectors: int = field(default=0, init=False)

    def _run(self, start: int) -> None:
        cycle = max(start - 1, self._used)
        reads = self.reads[self._vectors % len(self.reads)] if self.reads else [self.words] * self.folds
        self._vectors += 1
        for count in reads:
            if count and self._still_until <= cycle:
                read = cycle + 1 + (count - 1) * self.planes
                cycle += count * self.planes
                self._emit(cycle)
                continue
            for _ in range(count):
                read = cycle = self._moving(cycle + 1)
                for _ in range(self.planes - 1):
                    cycle = self._moving(cycle + 1)
            self._emit(cycle)
        self._used = cycle
        self._ends.append(read)
        del self._ends[:-2]


@dataclass
class RunStep(_VectorStep):
    """The folded unit that never stands still, behind its buffer of two vectors of ``words`` words: ``reads`` cycles a
    beat, ``folds`` beats a frame, each ``depth`` cycles after its last read; at most ``places`` beats are under way.
    """

    reads: int
    places: int
    _taken: list[int] = field(default_factory=list, init=False)

    def _run(self, start: int) -> None:
        cycle = start - 1
        for _ in range(self.folds):
            begin = cycle + 1
            if len(self._taken) >= self.places:
                begin = max(begin, self._taken[-self.places] + 1)
            cycle = begin + self.reads - 1
            self._taken.append(self.give(cycle + self.depth))
        self._ends.append(cycle)
        del self._ends[:-2], self._taken[: -self.places]


@dataclass
class ForkStep(Step):
    """Offers each beat on every branch at once; a branch takes it when it can, and the beat has gone when all have."""

    branches: list[Step] = field(default_factory=list)
    _free: int = field(default=0, init=False)

    def accept(self, offered: int) -> int:
        start = max(offered, self._free)
        taken = start
        for branch in self.branches:
            taken = max(taken, branch.accept(start))
        self._free = taken + 1
        return taken


class JoinStep(Step):
    """Makes beats of those of several sides, each with a buffer of its own, and offers each a cycle later.

    A buffer (:class:`fewbit.hw.memory.fifo.Fifo`) offers a beat :data:`BUFFER_LATENCY` cycles after it came. A side
    without one takes a beat when the join does.

    Parameters
    ----------
    turns : sequence of tuple of int
        The sides that each beat of the output takes a beat from, over and over.
    depths : sequence of int or None
        Words of the buffer of each side; 0: it has none; None: as many as are needed.

    Attributes
    ----------
    pushes, pops : list of list of int
        When the beats of each side came, and when the join took them.
    """

    def __init__(self, turns: Sequence[tuple[int, ...]], depths: Sequence[int | None]) -> None:
        self.turns, self.depths = turns, list(depths)
        self.pushes: list[list[int]] = [[] for _ in depths]
        self.pops: list[list[int]] = [[] for _ in depths]
        self.assumed: list[list[int]] = [[] for _ in depths]
        self.sides = [_SideStep(self, side) for side in range(len(depths))]
        self._offers: list[list[int]] = [[] for _ in depths]
        self._uncertain: list[tuple[int, int, int]] = []
        self._waited = [0 for _ in depths]
        self._turn = self._free = 0

    def accept(self, offered: int) -> int:
        raise TypeError("beats come to the sides of a join")

    def arrive(self, side: int, offered: int) -> int:
        """A beat of ``side``, offered from cycle ``offered`` on; the cycle in which it is taken."""
        depth, pushes = self.depths[side], self.pushes[side]
        if depth == 0:
            self._offers[side].append(offered)
            self._take()
            taken = max(offered, self._popped(side, len(pushes)))
        else:
            taken = max(offered, pushes[-1] + 1) if pushes else offered
            if depth is not None and len(pushes) >= depth:
                taken = max(taken, self._popped(side, len(pushes) - depth) + 1)
            self._offers[side].append(taken + BUFFER_LATENCY)
            self._take()
        pushes.append(taken)
        self._waited[side] += len(self.pops[side]) < len(pushes)
        return taken

    def _popped(self, side: int, beat: int) -> int:
        """When the join takes a beat. While that depends on beats still to come: when it did in the run before."""
        pops = self.pops[side]
        if beat < len(pops):
            return pops[beat]
        assumed = self.assumed[side]
        time = assumed[beat] if beat < len(assumed) else -1
        self._uncertain.append((side, beat, time))
        return time

    def _take(self) -> None:
        while True:
            sides, time = self.turns[self._turn], self._free
            for side in sides:
                offers, taken = self._offers[side], len(self.pops[side])
                if taken >= len(offers):
                    return
                time = max(time, offers[taken])
            for side in sides:
                self.pops[side].append(time)
            self._turn = (self._turn + 1) % len(self.turns)
            self._free = self.give(time + 1)

    def last(self, side: int) -> bool:
        """Whether the beats of ``side`` always completed what the join waited for: they found those of all others."""
        return self._waited[side] == 0

    @property
    def consistent(self) -> bool:
        """Whether what was assumed of beats still to come was not too early."""
        return all(
            beat >= len(self.pops[side]) or self.pops[side][beat] <= time for side, beat, time in self._uncertain
        )

    def held(self, side: int) -> int:
        """Words that a buffer has to have so that no beat of ``side`` had to wait for a place."""
        freed = np.searchsorted(self.pops[side], self.pushes[side], side="left")
        return max(1, int((np.arange(len(freed)) - freed + 1).max(initial=1)))


@dataclass
class _SideStep(Step):
    """One side of a join."""

    join: JoinStep
    side: int

    def accept(self, offered: int) -> int:
        return self.join.arrive(self.side, offered)


class TooLate(Exception):
    """A beat came later than it may."""


class Sink(Step):
    """Always willing; notes when each beat came. Raises TooLate on one that comes later than its ``limits`` say."""

    def __init__(self, limits: Sequence[int] = ()) -> None:
        self.times: list[int] = []
        self.limits = limits

    def accept(self, offered: int) -> int:
        if len(self.times) < len(self.limits) and offered > self.limits[len(self.times)]:
            raise TooLate
        self.times.append(offered)
        return offered


@dataclass(frozen=True)
class Node:
    """The timing of one component of a design.

    Parameters
    ----------
    steps : list of Step
        In stream order: any number of steps with one input and one output, or one fork, or one join.
    sources : tuple of int
        The node that each input comes from; -1 is the source of frames.
    """

    steps: list[Step]
    sources: tuple[int, ...]


def connect(nodes: Sequence[Node], sink: Step) -> Step:
    """Makes the steps of ``nodes``, in topological order, hand their beats on, the last node to ``sink``; the step that
    takes the beats of the source."""
    height = [0] * len(nodes)  # of the longest way to the end
    taking: dict[int, list[tuple[int, Step]]] = {}  # by node: who takes its beats
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        for step, following in pairwise(node.steps):
            step.following = following
        takers = [step for _, step in sorted(taking.get(index, []), key=lambda taker: taker[0])] or [sink]
        if node.steps:
            last = node.steps[-1]
            if isinstance(last, ForkStep):
                # The shortest branch first: what waits there for the others at a join is known when they come.
                last.branches = takers
            else:
                (last.following,) = takers
        height[index] = 1 + max((rank for rank, _ in taking.get(index, [])), default=0)
        for side, source in enumerate(node.sources):
            first = node.steps[0] if node.steps else takers[0]
            entry = first.sides[side] if isinstance(first, JoinStep) else first
            taking.setdefault(source, []).append((height[index], entry))
    return taking[-1][0][1] if -1 in taking else sink


@dataclass(frozen=True)
class Schedule:
    """What a design does when its source always has a beat and its sink always takes one.

    Attributes
    ----------
    latency : int
        Cycles from the first input transfer of the first frame to its last output transfer, both counted.
    interval : int
        Cycles from a frame to the next once the pipeline is full.
    times : list of int
        When each output beat comes, up to the frame in which the pipeline is full.
    """

    latency: int
    interval: int
    times: list[int] = field(repr=False, compare=False)


_MOST_PASSES = 16
"""Runs until what beats of a join do is known, where that depends on beats still to come."""


def schedule(steps: Sequence[Step], beats_in: int, beats_out: int, fastest: int, most_frames: int = 64) -> Schedule:
    """:func:`schedule_of` fresh steps one behind the other."""
    return schedule_of(lambda: [Node(list(steps), (-1,))], beats_in, beats_out, fastest, most_frames)[0]


def schedule_of(
    make: Callable[[], list[Node]],
    beats_in: int,
    beats_out: int,
    fastest: int,
    most_frames: int = 64,
    limits: Sequence[int] = (),
) -> tuple[Schedule, list[Node]]:
    """Runs frames of ``beats_in`` input and ``beats_out`` output beats through the fresh nodes that ``make`` gives.

    Buffers fill slowly, so the pipeline counts as full once frames follow each other as fast as its busiest component
    allows (``fastest`` cycles), or else after ``most_frames``.

    Returns
    -------
    Schedule, and the nodes that ran

    Raises
    ------
    TooLate
        If an output beat comes later than ``limits`` say, or what a join does cannot be told: it may wait for ever.
    """
    assumed: dict[int, list[list[int]]] = {}
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
    offered = 0
    gaps: list[int] = []
    for _ in range(most_frames):
        for _ in range(beats_in):
            offered = source.accept(offered) + 1
        ends = sink.times[beats_out - 1 :: beats_out]
        gaps = [later - earlier for earlier, later in pairwise(ends)]
        if gaps[-2:] == [fastest, fastest]:
            break
    if not gaps:
        raise TooLate
    return Schedule(ends[0] + 1, gaps[-1], sink.times)
