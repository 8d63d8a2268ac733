"""Exact timing models of components: in which clock cycles each takes its inputs and gives its outputs.

A transfer at cycle ``t`` means that valid and ready are high in cycle ``t``. From the cycles in which its inputs are
offered and its outputs are taken, a :class:`Step` computes when it takes the next input and offers the next output.
These depend only on earlier transfers. This is the usual (max, +) model of a pipeline with back-pressure.
:mod:`fewbit.hw.schedule` connects steps and runs frames through them; :mod:`fewbit.hw.latest` goes the other way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

BUFFER_LATENCY = 2
"""Cycles from the transfer of a beat into a buffer to the first cycle in which the buffer offers it."""


Cycles = np.ndarray[tuple[int], np.dtype[np.int64]]
"""A cycle for each beat of a stream."""


def in_order(latest: Cycles, gaps: int | Cycles = 1) -> None:
    """Lower each cycle in ``latest`` to at most the one after it, less a gap: one for all, or one for each cycle, which
    is the distance to the cycle before it."""
    places = np.arange(len(latest)) * gaps if isinstance(gaps, int) else np.cumsum(gaps)
    latest[:] = np.minimum.accumulate((latest - places)[::-1])[::-1] + places


def lower(latest: Cycles, limits: Cycles) -> None:
    """Lower each cycle in ``latest`` to at most its entry in ``limits``; the longer of the two is cut."""
    count = min(len(latest), len(limits))
    np.minimum(latest[:count], limits[:count], out=latest[:count])


class Step(ABC):
    """Timing of one component with one input and one output stream."""

    following: Step | None = None

    @abstractmethod
    def accept(self, offered: int) -> int:
        """Take the next input beat, which is offered from cycle ``offered`` on. Returns the cycle of the transfer."""

    def give(self, offered: int) -> int:
        """Offer an output beat to the following step from cycle ``offered`` on. Returns the cycle of the transfer."""
        return offered if self.following is None else self.following.accept(offered)

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        """Lower the latest cycles of the transfers of the input beats, ``taken``, and of the output beats, ``given``,
        in place, to what this step allows: an input beat in time for its output beats, an output beat in time for the
        input beats that wait for its place.

        Limits that a step leaves out only make the result larger.
        """
        in_order(taken)
        in_order(given)


@dataclass
class Register(Step):
    """Takes a beat, offers it ``cycles`` later, and can take the next one in the cycle in which it is transferred."""

    cycles: int = 1
    _free: int = 0

    def accept(self, offered: int) -> int:
        taken = max(offered, self._free)
        self._free = self.give(taken + self.cycles)
        return taken

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        lower(taken, given - self.cycles)
        lower(given, taken[1:])


@dataclass
class PackStep(Step):
    """Timing of :class:`fewbit.hw.streams.Pack`: ``ratio`` input beats become one output beat."""

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

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        lower(taken[self.ratio - 1 :: self.ratio], given - 1)
        in_order(taken)
        lower(given, taken[self.ratio :: self.ratio])


@dataclass
class UnpackStep(Step):
    """Timing of :class:`fewbit.hw.streams.Unpack`: one input beat becomes ``ratio`` output beats."""

    ratio: int
    _free: int = 0

    def accept(self, offered: int) -> int:
        taken = max(offered, self._free)
        part = taken
        for _ in range(self.ratio):
            part = self.give(part + 1)
        self._free = part
        return taken

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        lower(given[self.ratio - 1 :: self.ratio], taken[1:])
        in_order(given)
        lower(taken, given[:: self.ratio] - 1)


@dataclass
class _VectorStep(Step):
    """A unit behind a buffer of two input vectors of ``words`` words each. It gives ``folds`` output beats for each
    vector, after a pipeline of ``depth`` stages. ``rings`` is whether the buffer is a ring, which moves a whole
    vector."""

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
    def _run(self, start: int) -> None:
        """Process a complete vector, from cycle ``start`` on; append the cycle of its last read to ``_ends``."""

    def _tighten(self, taken: Cycles, given: Cycles, cycles: Cycles, outputs: Cycles, *, once: bool) -> Cycles:
        """:meth:`tighten`, where output beats take ``cycles`` of the unit and vectors have ``outputs`` beats; ``once``
        if a word that is read is used for one cycle. Returns the latest last cycle of each output beat."""
        ends = np.cumsum(outputs)
        done = given - self.depth
        if once:
            last = done[ends - 1]
            lower(last, taken[2 * self.words :: self.words] - 1)
            done[ends - 1] = last
        in_order(done, cycles)
        first = ends - outputs
        lower(taken[self.words - 1 :: self.words], done[first] - cycles[first] - self.rings)
        in_order(taken)
        return done


@dataclass
class Pipeline(Step):
    """A pipeline of ``depth`` stages, all of which stall while an output beat waits."""

    depth: int
    _stalls: list[tuple[int, int]] = field(default_factory=list, init=False)
    _still_until: int = field(default=0, init=False)

    def _emit(self, cycle: int) -> None:
        """Give the output beat of an operation that entered the pipeline in ``cycle``."""
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

    def _tighten_given(self, given: Cycles, entered: Cycles, cycles: Cycles) -> None:
        """Lower the latest cycles of output beats, given those in which operations enter the pipeline at the latest:
        the last one of each output beat. It is at least ``cycles`` after the one before it, also at the output."""
        in_order(given, cycles)
        moves = np.cumsum(cycles)
        behind = np.searchsorted(moves, moves + self.depth)  # enters only after the output beat has left
        within = behind < len(moves)
        ahead, behind = np.flatnonzero(within), behind[within]
        limits = entered[behind] - (moves[behind] - moves[ahead] - self.depth)
        given[ahead] = np.minimum(given[ahead], limits)

    def _moving(self, cycle: int) -> int:
        """The first cycle from ``cycle`` on in which the pipeline does not stall."""
        if cycle >= self._still_until:
            return cycle
        for begin, end in self._stalls:
            if begin <= cycle < end:
                cycle = end
        return cycle


@dataclass
class FoldStep(_VectorStep, Pipeline):
    """A folded matrix-vector unit behind its buffer of two vectors. All its ``depth`` pipeline stages stall while an
    output beat waits.

    For each vector it gives ``folds`` output beats. A beat takes ``words`` reads, and each word that is read is used
    for ``planes`` cycles. If ``reads`` is given, it has the number of reads of each output beat instead: one list for
    each vector, in turn.
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

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        reads = [np.array(reads, np.int64) for reads in self.reads or [[self.words] * self.folds]]
        vectors = len(taken) // self.words
        cycles = self.planes * np.concatenate([reads[vector % len(reads)] for vector in range(vectors)])
        outputs = np.array([len(reads[vector % len(reads)]) for vector in range(vectors)])
        entered = self._tighten(taken, given, cycles, outputs, once=self.planes == 1)
        self._tighten_given(given, entered, cycles)


@dataclass
class RunStep(_VectorStep):
    """A folded matrix-vector unit that never stalls in the middle of an output beat, behind its buffer of two vectors
    of ``words`` words.

    For each vector it gives ``folds`` output beats, each after ``reads`` cycles of reading and ``depth`` more cycles. A
    beat starts only while fewer than ``places`` beats are in the pipeline.
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

    def tighten(self, taken: Cycles, given: Cycles) -> None:
        outputs = np.full(len(taken) // self.words, self.folds)
        cycles = np.full(len(given), self.reads)
        done = self._tighten(taken, given, cycles, outputs, once=True)
        lower(given, done[self.places :] - self.reads)


@dataclass
class ForkStep(Step):
    """Timing of :class:`fewbit.hw.layers.fork.Fork`: a beat is offered to all branches at once, and is transferred when
    the last branch has taken it."""

    branches: list[Step] = field(default_factory=list)
    _free: int = field(default=0, init=False)

    def accept(self, offered: int) -> int:
        start = max(offered, self._free)
        taken = start
        for branch in self.branches:
            taken = max(taken, branch.accept(start))
        self._free = taken + 1
        return taken

    def tighten_branches(self, taken: Cycles, given: Sequence[Cycles]) -> None:
        """:meth:`tighten` with the transfers to each branch."""
        for branch in given:
            lower(taken, branch[1:] - 1)
        in_order(taken)
        for branch in given:
            lower(branch, taken)


class JoinStep(Step):
    """Timing of a join: it combines beats of several inputs (sides) and offers the result one cycle later.

    A side may have a buffer (:class:`fewbit.hw.memory.fifo.Fifo`), which offers a beat :data:`BUFFER_LATENCY` cycles
    after its arrival. A side without a buffer takes a beat when the join uses it.

    Parameters
    ----------
    turns : sequence of tuple of int
        For each output beat, the sides from which the join takes a beat; repeated cyclically.
    depths : sequence of int or None
        Words of the buffer of each side; 0 is no buffer, None is unlimited.

    Attributes
    ----------
    pushes, pops : list of list of int
        For each side, the cycles in which its beats arrived, and in which the join took them.
    assumed : list of list of int
        ``pops`` of the previous pass.
    limits : sequence of list of int
        For each side, the latest cycles in which its beats may arrive; empty if there are no limits. A later beat
        raises :class:`TooLate`.
    """

    def __init__(self, turns: Sequence[tuple[int, ...]], depths: Sequence[int | None]) -> None:
        self.turns, self.depths = turns, list(depths)
        self.pushes: list[list[int]] = [[] for _ in depths]
        self.pops: list[list[int]] = [[] for _ in depths]
        self.assumed: list[list[int]] = [[] for _ in depths]
        self.limits: Sequence[list[int]] = ()
        self.sides = [_SideStep(self, side) for side in range(len(depths))]
        self._offers: list[list[int]] = [[] for _ in depths]
        self._uncertain: list[tuple[int, int, int]] = []
        self._waited = [0 for _ in depths]
        self._turn = self._free = 0

    def accept(self, offered: int) -> int:
        raise TypeError("use arrive(): a beat arrives at one side of a join")

    def arrive(self, side: int, offered: int) -> int:
        """Take the next beat of ``side``, which is offered from cycle ``offered`` on. Returns the cycle of the
        transfer."""
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
        if self.limits and len(pushes) < len(self.limits[side]) and taken > self.limits[side][len(pushes)]:
            raise TooLate
        pushes.append(taken)
        self._waited[side] += len(self.pops[side]) < len(pushes)
        return taken

    def _popped(self, side: int, beat: int) -> int:
        """The cycle in which the join takes beat number ``beat`` of ``side``. If this depends on beats that have not
        arrived yet, the cycle of the previous pass."""
        pops = self.pops[side]
        if beat < len(pops):
            return pops[beat]
        assumed = self.assumed[side]
        time = assumed[beat] if beat < len(assumed) else -1
        self._uncertain.append((side, beat, time))
        return time

    def _take(self) -> None:
        """Combine beats as long as all sides of the next turn have one."""
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

    def tighten_sides(self, taken: Sequence[Cycles], given: Cycles) -> Sequence[Cycles]:
        """:meth:`tighten` with the transfers to each side. Returns the latest cycles in which the join takes the beats
        of each side."""
        turns = [self.turns[turn % len(self.turns)] for turn in range(len(given))]
        turns_of = [np.array([turn for turn, used in enumerate(turns) if side in used]) for side in range(len(taken))]
        combined = given - 1
        for depth, places, pushes in zip(self.depths, turns_of, taken):
            if depth == 0:
                combined[places] = np.minimum(combined[places], pushes)
        in_order(combined)
        for depth, places, pushes in zip(self.depths, turns_of, taken):
            lower(pushes, combined[places] - (BUFFER_LATENCY if depth != 0 else 0))
            in_order(pushes)
        lower(given, combined[1:])
        return [combined[places] for places in turns_of]

    def last(self, side: int) -> bool:
        """Whether the beats of ``side`` always arrived last: the beats of all other sides were already waiting for
        them."""
        return self._waited[side] == 0

    @property
    def consistent(self) -> bool:
        """Whether no assumed time of a later beat was too early."""
        return all(
            beat >= len(self.pops[side]) or self.pops[side][beat] <= time for side, beat, time in self._uncertain
        )

    def held(self, side: int) -> int:
        """The largest number of words in the buffer of ``side`` at one time: with this depth no beat has to wait."""
        freed = np.searchsorted(self.pops[side], self.pushes[side], side="left")
        return max(1, int((np.arange(len(freed)) - freed + 1).max(initial=1)))


@dataclass
class _SideStep(Step):
    """One input of a join."""

    join: JoinStep
    side: int

    def accept(self, offered: int) -> int:
        return self.join.arrive(self.side, offered)


@dataclass
class Tap(Step):
    """Records the cycle of each transfer on a stream, in ``times``."""

    times: list[int] = field(default_factory=list)

    def accept(self, offered: int) -> int:
        taken = self.give(offered)
        self.times.append(taken)
        return taken


class TooLate(Exception):
    """An output beat is later than its limit, or a join never completes."""


class Sink(Step):
    """The end of a design: takes every beat at once and records its cycle in ``times``. Raises TooLate if a beat is
    later than its entry in ``limits``."""

    def __init__(self, limits: Sequence[int] = ()) -> None:
        self.times: list[int] = []
        self.limits = limits

    def accept(self, offered: int) -> int:
        if len(self.times) < len(self.limits) and offered > self.limits[len(self.times)]:
            raise TooLate
        self.times.append(offered)
        return offered
