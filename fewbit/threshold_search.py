"""Search for frames in which many sums of the first layer with weights are at their thresholds.

A fault of a weight is visible if it moves a sum across a threshold, so the sum must be close to one. In a wide layer,
few sums of a random frame are. If the inputs of the first dense layer depend on one element of the frame each, its sums
are linear functions of these elements, and a tabu search changes one element after the other until the chosen sums are
at their thresholds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.network import Dense, Flatten, Network, Threshold

MOVES = 400
"""Largest number of changes of an element in one descent."""


def _missed(off: Ints) -> Ints:
    """Penalty for each distance: 0 for a sum at its target, almost 1 for a sum far from it."""
    distance = np.abs(off)
    return np.asarray(distance / (distance + 1))


_TABU, _VAIN = 12, 30
"""Number of moves for which a changed element must not change again; number of moves without improvement after which a
descent ends."""


class ThresholdSearch:
    """Changes frames so that sums of the first layer with weights come to their thresholds.

    This is possible if the first layer with weights is a dense layer with thresholds after it, and only flattens and
    thresholds with a single row before it.

    Parameters
    ----------
    network : Network
    rng : numpy.random.Generator

    Attributes
    ----------
    index : int or None
        Index of the dense layer in the network; None if the search is not possible.
    rows : int
        Number of its outputs; 0 if the search is not possible.
    """

    def __init__(self, network: Network, rng: np.random.Generator) -> None:
        self.network, self._rng = network, rng
        self.index = self._first()
        self.rows = 0
        if self.index is None:
            return
        layer, after = network.layers[self.index], network.layers[self.index + 1]
        assert isinstance(layer, Dense)
        assert isinstance(after, Threshold)
        self.rows = layer.outputs
        self._factors = layer.factors().astype(np.float32)
        ends = (after.thresholds * after.sign[:, None]).astype(np.float64)
        self._ends, self._signs = np.broadcast_to(ends, (self.rows, ends.shape[1])), after.sign.astype(np.int64)
        dtype = network.input.dtype
        values = (
            np.arange(dtype.min, dtype.max + 1, dtype.step) if dtype.bits <= 16 else np.array([dtype.min, dtype.max])
        )
        levels = values
        for place in range(self.index):
            before = network.layers[place]
            if isinstance(before, Threshold):
                levels = before.step(network.source(before), levels)
        # Many values of an element may give the same level; the middle one of them is used.
        self._levels, first, count = np.unique(levels, return_index=True, return_counts=True)
        self._values = values[first + count // 2] if (np.diff(levels) >= 0).all() else values[first]

    def _first(self) -> int | None:
        """Index of the dense layer; None if the search is not possible."""
        layers = self.network.layers
        for index, layer in enumerate(layers[:-1]):
            if self.network.only_reader(index) != index:
                return None
            if isinstance(layer, Dense):
                if self.network.only_reader(index + 1) != index + 1:
                    return None
                return index if isinstance(layers[index + 1], Threshold) else None
            if not (isinstance(layer, Flatten) or (isinstance(layer, Threshold) and layer.channels == 1)):
                return None
        return None

    def _step(self, place: int, x: Ints) -> Ints:
        """Output of the layer with index ``place``.  # (N, ...) -> (N, ...)"""
        layer = self.network.layers[place]
        return layer.step_of(self.network.sources(layer), [x])

    def search(self, frame: Ints, rows: Ints, most: int) -> Ints:
        """Return a changed copy of ``frame`` (\\*shape) in which chosen sums are at their thresholds, as far as the
        search succeeds: of the outputs ``rows``, the ``most`` whose sums are closest to a threshold. Each sum comes to
        a randomly chosen side of its threshold."""
        assert self.index is not None
        x = frame[None].astype(np.int64)
        for place in range(self.index):
            x = self._step(place, x)
        level = np.searchsorted(self._levels, x[0])
        factors = self._factors[rows]
        sums = factors @ self._levels[level].astype(np.float32)
        distances = np.abs(sums[:, None] - self._ends[rows])
        near = np.argsort(distances.min(1))[:most]
        rows, factors, sums = rows[near], factors[near], sums[near]
        nearest = self._ends[rows, distances[near].argmin(1)]
        # A sum that is equal to its threshold reaches it, a sum that is one less does not.
        off = (sums - nearest + self._signs[rows % len(self._signs)] * self._rng.integers(0, 2, len(rows))).astype(
            np.float32
        )
        # The first descent reduces the distances of all sums. The second one maximizes the number of sums at their
        # targets, at the expense of the others.
        for penalty in (np.abs, _missed):
            off = self._descend(level, factors, off, penalty)
        return self._frame(level)

    def _descend(self, level: Ints, factors: Ints, off: Ints, penalty: Callable[[Ints], Ints]) -> Ints:
        """Tabu search: change ``level`` in place, one element at a time, to minimize the sum of the penalties of the
        distances ``off``. Returns the distances that remain.

        Each move is the best one that does not change a recently changed element, even if it makes the result worse. At
        the end, the best state is restored.
        """
        best, best_off, best_level, vain = float(penalty(off).sum()), off, level.copy(), 0
        last_change = np.full(level.size, -_TABU)
        for count in range(MOVES):
            moves = []
            for direction in (-1, 1):
                new_level = np.clip(level + direction, 0, len(self._levels) - 1)
                change = (self._levels[new_level] - self._levels[level]).astype(np.float32)
                totals = penalty(off[:, None] + factors * change).sum(0)
                totals[(change == 0) | (count - last_change < _TABU)] = np.inf
                chosen = int(totals.argmin())
                moves.append((float(totals[chosen]), chosen, int(new_level[chosen]), float(change[chosen])))
            least, chosen, reached, difference = min(moves)
            off = off + factors[:, chosen] * np.float32(difference)
            level[chosen], last_change[chosen] = reached, count
            vain += 1
            if least < best - 1e-3:
                best, best_off, best_level, vain = least, off, level.copy(), 0
            if vain == _VAIN:
                break
        level[:] = best_level
        return best_off

    def _frame(self, level: Ints) -> Ints:
        """The frame that gives the inputs ``level`` of the dense layer, as indices into ``_levels``.

        # (inputs,) -> (\\*shape)
        """
        assert self.index is not None
        order = np.arange(level.size).reshape(1, *self.network.input.shape)
        for place in range(self.index):
            if isinstance(self.network.layers[place], Flatten):
                order = self._step(place, order)
        frame = np.empty(level.size, np.int64)
        frame[order.ravel()] = self._values[level]
        return frame.reshape(self.network.input.shape)
