"""When every beat moves: an exact timing model of a chain of components, so that a plan can promise cycles.

Time is counted in clock cycles; a transfer at cycle ``t`` is one for which valid and ready are high in cycle ``t``.
Each component is a :class:`Step`: told when its input may come and when its output was taken, it says when it takes
the next input and offers the next output. All depend on earlier transfers only, so one pass in the order of beats is
exact. This is the usual (max, +) view of a pipeline with back-pressure; sources and sinks are always willing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


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

    def _emit(self, cycle: int) -> None:
        """Hands on the beat of what was done in ``cycle``."""
        effect = cycle
        for _ in range(self.depth - 1):
            effect = self._moving(effect + 1)
        taken = self.give(effect + 1)
        if taken > effect + 1:
            self._stalls.append((effect + 1, taken))
            del self._stalls[: -self.depth - 1]

    def _moving(self, cycle: int) -> int:
        """The first cycle from ``cycle`` on in which the component does not stand still."""
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


class Sink(Step):
    """Always willing; notes when each beat came."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def accept(self, offered: int) -> int:
        self.times.append(offered)
        return offered


@dataclass(frozen=True)
class Schedule:
    """What a chain does when its source always has a beat and its sink always takes one.

    Attributes
    ----------
    latency : int
        Cycles from the first input transfer of the first frame to its last output transfer, both counted.
    interval : int
        Cycles from a frame to the next once the pipeline is full.
    """

    latency: int
    interval: int


def schedule(steps: Sequence[Step], beats_in: int, beats_out: int, fastest: int, most_frames: int = 64) -> Schedule:
    """Runs frames of ``beats_in`` input and ``beats_out`` output beats through fresh ``steps``, in order.

    Buffers fill slowly, so the pipeline counts as full once frames follow each other as fast as its busiest component
    allows (``fastest`` cycles), or else after ``most_frames``.
    """
    sink = Sink()
    for step, following in pairwise([*steps, sink]):
        step.following = following
    source = steps[0] if steps else sink
    offered = 0
    gaps: list[int] = []
    for _ in range(most_frames):
        for _ in range(beats_in):
            offered = source.accept(offered) + 1
        ends = sink.times[beats_out - 1 :: beats_out]
        gaps = [later - earlier for earlier, later in pairwise(ends)]
        if gaps[-2:] == [fastest, fastest]:
            return Schedule(ends[0] + 1, gaps[-1])
    return Schedule(ends[0] + 1, gaps[-1])
