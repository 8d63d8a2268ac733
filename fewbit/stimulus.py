"""Test vectors with measured coverage: frames chosen for the single faults that they make visible.

What a fault is, and which frames see it, is :mod:`fewbit.golden.faults`; it is computed, for every fault and frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewbit.candidates import Candidates
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.faults import KINDS, FaultSimulator
from fewbit.golden.network import Network
from fewbit.golden.run import check_frames
from fewbit.steering import Steering

COVERAGE = 0.98
"""Share of the visible faults of each kind that vectors see, unless asked otherwise."""

MOST = 200
"""Vectors at most, unless asked otherwise."""

EFFORT = 250
"""Frames that are simulated to choose one, where good ones are rare."""

_THINNED = 2
"""How often frames that others replace are given up, once there are as many as there may be."""

_WAITING = 32
"""Frames of a round that the next one goes on from."""

_BATCH = 64
"""Given frames that are simulated before the best of them are taken."""

_AGAIN = 6
"""Rounds without a newly seen fault after which the search ends."""

Progress = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """Chosen frames, and what they see.

    Parameters
    ----------
    frames : int array (n, \\*network.input.shape)
    faults : mapping of str to int
        Single faults of each kind that the network has.
    seen : mapping of str to int
        Those that ``frames`` make visible.
    hidden : mapping of str to int
        Those that no frame tried makes visible.
    tried : int
        Frames that were simulated.
    """

    frames: Ints
    faults: dict[str, int]
    seen: dict[str, int]
    hidden: dict[str, int]
    tried: int

    def coverage(self, kind: str) -> float:
        """Share of the visible faults of ``kind`` that the frames see, 0 to 1; 1 where none is visible."""
        visible = self.faults[kind] - self.hidden[kind]
        return self.seen[kind] / visible if visible else 1.0

    def __str__(self) -> str:
        lines = [
            f"{len(self.frames)} vectors, chosen from {self.tried:,} frames; single faults of the golden model that "
            "are visible at an output:"
        ]
        for kind in KINDS:
            if total := self.faults.get(kind, 0):
                lines.append(
                    f"  {self.seen[kind]:,} of {total:,} single-{kind} faults are visible to these vectors, "
                    f"{self.hidden[kind]:,} to none at all: {100 * self.coverage(kind):.2f} % of the visible"
                )
        return "\n".join(lines)


def choose(
    network: Network,
    given: Ints | None = None,
    *,
    coverage: float = COVERAGE,
    most: int = MOST,
    seed: int = 1,
    effort: int = EFFORT,
    on_progress: Progress | None = None,
) -> Stimulus:
    """Chooses at most ``most`` frames that see ``coverage`` of the faults of each kind that any tried frame sees.

    Frames are chosen greedily: of several, the one that sees most faults which no earlier one does. The same arguments
    choose the same frames. Of given frames all are taken if they are not more than ``most``; else the choice goes on,
    whatever the coverage, until ``most`` are taken or no frame sees more.

    Parameters
    ----------
    given : int array (N, \\*network.input.shape), optional
        Frames to choose from; without them frames are made (:class:`fewbit.candidates.Candidates`).
    coverage : float
        Above 0, at most 1.
    effort : int
        Frames simulated for each choice, where good ones are rare.
    on_progress : callable, optional
        Told how many frames are chosen.

    Raises
    ------
    FewbitError
        If the coverage is out of its range, there are no frames to choose from, or they are not the network's.
    """
    if not 0 < coverage <= 1:
        raise FewbitError(f"the coverage must be above 0 and at most 1, not {coverage:g}")
    if most < 1:
        raise FewbitError(f"there must be at least 1 vector, not {most}")
    search = _Search(network, most, on_progress)
    if given is None:
        search.make(coverage, np.random.default_rng(seed), effort)
    else:
        frames = check_frames(network, given)
        if not len(frames):
            raise FewbitError("there is no frame to choose vectors from")
        search.take(frames)
    return search.result()


@dataclass
class _Tried:
    """A simulated frame, the faults that it would be the first to see, and their worth."""

    frame: Ints
    sees: NDArray[np.int64]
    worth: float
    way: int | None = None


class _Search:
    def __init__(self, network: Network, most: int, on_progress: Progress | None) -> None:
        self.network, self.most, self.on_progress = network, most, on_progress
        self.simulator = FaultSimulator(network)
        kinds = self.simulator.kinds
        self.totals = np.bincount(kinds, minlength=len(KINDS))
        # Weights are many; a digit or a border that is seen must not be worth next to nothing beside them.
        self.worth = np.clip(0.1 * len(kinds) / np.maximum(self.totals, 1), 1, 20)[kinds]
        self.left = np.ones(len(kinds), bool)
        self.elsewhere = np.zeros(len(kinds), bool)
        self.among = np.arange(len(kinds))
        self.chosen: list[Ints] = []
        self.waiting: list[_Tried] = []
        self.first_weights = self.weights = 0
        self.tried = 0

    def simulate(self, frame: Ints, way: int | None = None) -> _Tried:
        self.tried += 1
        sees = self.simulator.visible(frame, self.among)
        return _Tried(frame, sees, float(self.worth[sees].sum()), way)

    def add(self, batch: list[_Tried], share: float) -> bool:
        """Takes the best of ``batch``, and those worth at least ``share`` of it beside it; False if none sees more."""
        first = 0.0
        if not batch:
            return False
        for tried in batch:
            self.elsewhere[tried.sees] = True
        while len(self.chosen) < self.most:
            best = max(batch, key=lambda tried: tried.worth)
            first = first or best.worth
            if best.worth == 0 or best.worth < share * first:
                break
            self.chosen.append(best.frame)
            self.left[best.sees] = False
            for tried in batch:
                tried.sees = tried.sees[self.left[tried.sees]]
                tried.worth = float(self.worth[tried.sees].sum())
            if self.on_progress:
                self.on_progress(len(self.chosen))
        self.among = np.flatnonzero(self.left)
        return first > 0

    def enough(self, coverage: float) -> bool:
        """Whether the chosen frames see that share of what any tried frame sees, in every kind."""
        missed = np.bincount(self.simulator.kinds[self.left & self.elsewhere], minlength=len(KINDS))
        hidden = np.bincount(self.simulator.kinds[self.left & ~self.elsewhere], minlength=len(KINDS))
        visible = self.totals - hidden
        return bool((visible - missed >= coverage * visible).all())

    def take(self, frames: Ints) -> None:
        """Chooses from ``frames``: all of them where that is not too many, else the best of a batch at a time."""
        if len(frames) <= self.most:
            for frame in frames:
                if not self.add([self.simulate(frame)], 1.0):
                    self.chosen.append(frame)
            return
        waiting: list[_Tried] = []
        for start in range(0, len(frames), _BATCH):
            waiting += [self.simulate(frame) for frame in frames[start : start + _BATCH]]
            self.add(waiting, 0.8)
            waiting = [tried for tried in waiting if tried.worth]
            if len(self.chosen) == self.most:
                return
        while self.add(waiting, 1.0):
            pass

    def make(self, coverage: float, rng: np.random.Generator, effort: int) -> None:
        """Makes frames, and varies those that serve, until the chosen ones see enough."""
        candidates = Candidates(self.network.input, rng)
        self.steering = Steering(self.network, rng)
        if self.steering.index is not None:
            self.first_weights, self.weights = self.simulator.weights(self.steering.index)
        self.add([self.simulate(frame) for frame in candidates.plain()], 0.2)
        greatest, last, vain, thinned = 0.0, np.inf, 0, 0
        while len(self.chosen) < self.most and vain < _AGAIN:
            # As long as most frames see much that is new, little is gained by a search for better ones.
            rare = 1 - min(1.0, last / greatest) if greatest else 0.0
            fewest = 8 if last > 0.1 * self.worth[self.left].sum() else max(8, effort // 5)
            batch = self._round(candidates, rng, max(fewest, round(effort * rare)))
            last = max(tried.worth for tried in batch)
            greatest = max(greatest, last)
            vain = 0 if self.add(batch, 0.8) else vain + 1
            batch.sort(key=lambda tried: -tried.worth)
            self.waiting = [tried for tried in batch[:_WAITING] if tried.worth]
            if self.enough(coverage) and self.tried > _AGAIN * effort:
                break
            if len(self.chosen) == self.most and thinned < _THINNED and self.most > 1:
                thinned += 1
                self.thin(rng, max(1, self.most // 4))

    def thin(self, rng: np.random.Generator, count: int) -> None:
        """Gives up the ``count`` frames that others replace best, so that better ones may come.

        Frames that were chosen first see what later ones, chosen for a rare fault, mostly see as well.
        """
        seen = np.flatnonzero(~self.left)
        sample = np.sort(rng.permutation(seen)[: max(1000, len(seen) // 8)])
        sees = [np.searchsorted(sample, self.simulator.visible(frame, sample)) for frame in self.chosen]
        times = np.bincount(np.concatenate(sees), minlength=len(sample))
        worth = self.worth[sample]
        kept = list(range(len(self.chosen)))
        for _ in range(count):
            alone = [float(worth[sees[place][times[sees[place]] == 1]].sum()) for place in kept]
            given_up = kept.pop(int(np.argmin(alone)))
            times[sees[given_up]] -= 1
        self.chosen = [self.chosen[place] for place in kept]
        self.elsewhere |= ~self.left
        self.left[seen] = True
        for frame in reversed(self.chosen):
            self.left[self.simulator.visible(frame, np.flatnonzero(self.left))] = False
        self.among = np.flatnonzero(self.left)
        self.waiting = [self.simulate(tried.frame) for tried in self.waiting]

    def _round(self, candidates: Candidates, rng: np.random.Generator, count: int) -> list[_Tried]:
        """``count`` simulated frames, each generation varied from the better ones of those before."""
        size = min(count, max(8, min(32, count // 5)))
        batch = list(self.waiting)
        for _ in range(size):
            made: tuple[Ints, int | None]
            if self.chosen and rng.random() < 0.4:
                pair = rng.integers(len(self.chosen), size=2)
                made = candidates.varied(self.chosen[pair[0]], self.chosen[pair[1]])
            else:
                made = candidates.fresh()
            if self.steering.rows and rng.random() < 0.5:
                made = self._steered(made[0], rng), None
            batch.append(self.simulate(*made))
        others: list[_Tried] = []
        began = self.tried - size
        while self.tried - began < count:
            batch.sort(key=lambda tried: -tried.worth)
            others += batch[size:]
            batch = batch[:size]
            for _ in range(max(4, size // 2)):
                better, other = int(size * 0.6 * rng.random() ** 2), int(rng.integers(size))
                batch.append(self.simulate(*candidates.varied(batch[better].frame, batch[other].frame)))
        batch += others
        best = max(tried.worth for tried in batch)
        for tried in batch:
            if tried.way is not None and best:
                candidates.reward(tried.way, (tried.worth / best) ** 2)
        return batch

    def _steered(self, frame: Ints, rng: np.random.Generator) -> Ints:
        """``frame``, changed so that sums come to their thresholds whose weights have most unseen faults."""
        rows, most = self.steering.rows, int(rng.integers(8, 160))
        begin = self.first_weights
        unseen = self.left[begin : begin + self.weights].reshape(rows, -1).sum(1) + 0.01
        chosen = rng.choice(rows, max(1, rows // int(rng.integers(1, 5))), replace=False, p=unseen / unseen.sum())
        return self.steering.steer(frame, chosen, most)

    def result(self) -> Stimulus:
        def count(flags: NDArray[np.bool_]) -> dict[str, int]:
            numbers = np.bincount(self.simulator.kinds[flags], minlength=len(KINDS))
            return {kind: int(number) for kind, number, total in zip(KINDS, numbers, self.totals) if total}

        return Stimulus(
            frames=np.array(self.chosen, np.int64).reshape(-1, *self.network.input.shape),
            faults=count(np.ones(len(self.left), bool)),
            seen=count(~self.left),
            hidden=count(self.left & ~self.elsewhere),
            tried=self.tried,
        )
