"""Frames that bring many sums of a network's first product to their thresholds at once.

A fault of a weight is seen where its sum lies so near to a threshold that the fault moves it across. In a wide layer
few sums of a frame do so by chance. Where the first product of a network takes the elements of a frame one by one, its
sums are integer equations in them, and a frame is changed element by element until chosen sums lie where they should.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.golden.network import Dense, Flatten, Network, Threshold

MOVES = 400
"""Elements that are changed at most."""


def _missed(off: Ints) -> Ints:
    """0 for a sum in its place, and almost 1 for one that is far from it."""
    distance = np.abs(off)
    return np.asarray(distance / (distance + 1))


_TABU, _VAIN = 12, 30
"""Moves for which an element stays as it is; moves without a better state after which a descent ends."""


class Steering:
    """Steers the sums of the first product of a network, if that is a dense layer between thresholds that all elements
    share and thresholds of its own.

    Parameters
    ----------
    network : Network
    rng : numpy.random.Generator

    Attributes
    ----------
    index : int or None
        Place of the layer in the network; None where the network has none such.
    rows : int
        Its outputs.
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
        # A level may be that of many values: the one in their middle stands for them.
        self._levels, first, count = np.unique(levels, return_index=True, return_counts=True)
        self._values = values[first + count // 2] if (np.diff(levels) >= 0).all() else values[first]

    def _first(self) -> int | None:
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
        layer = self.network.layers[place]
        return layer.step_of(self.network.sources(layer), [x])

    def steer(self, frame: Ints, rows: Ints, most: int) -> Ints:
        """``frame`` (\\*shape), changed so that those ``most`` sums of ``rows`` that have the shortest way to a
        threshold come to it, on the one side of it or the other as chance will have it."""
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
        # At a threshold itself a sum has reached it, and one less has not.
        off = (sums - nearest + self._signs[rows % len(self._signs)] * self._rng.integers(0, 2, len(rows))).astype(
            np.float32
        )
        # First all sums come nearer, then as many as can be come to their place, whatever the others do.
        for worth in (np.abs, _missed):
            off = self._descend(level, factors, off, worth)
        return self._frame(level)

    def _descend(self, level: Ints, factors: Ints, off: Ints, worth: Callable[[Ints], Ints]) -> Ints:
        """Changes ``level`` element by element so that the sum of ``worth`` of what sums are off falls.

        The best move is made even where it gains nothing, with others than the last few elements, and the best state of
        all is kept: a tabu search.
        """
        best, best_off, best_level, vain = float(worth(off).sum()), off, level.copy(), 0
        moved = np.full(level.size, -_TABU)
        for count in range(MOVES):
            moves = []
            for way in (-1, 1):
                other = np.clip(level + way, 0, len(self._levels) - 1)
                change = (self._levels[other] - self._levels[level]).astype(np.float32)
                distance = worth(off[:, None] + factors * change).sum(0)
                distance[(change == 0) | (count - moved < _TABU)] = np.inf
                chosen = int(distance.argmin())
                moves.append((float(distance[chosen]), chosen, int(other[chosen]), float(change[chosen])))
            least, chosen, reached, by = min(moves)
            off = off + factors[:, chosen] * np.float32(by)
            level[chosen], moved[chosen] = reached, count
            vain += 1
            if least < best - 1e-3:
                best, best_off, best_level, vain = least, off, level.copy(), 0
            if vain == _VAIN:
                break
        level[:] = best_level
        return best_off

    def _frame(self, level: Ints) -> Ints:
        """The frame whose elements have these levels, in the order in which the product takes them."""
        assert self.index is not None
        order = np.arange(level.size).reshape(1, *self.network.input.shape)
        for place in range(self.index):
            if isinstance(self.network.layers[place], Flatten):
                order = self._step(place, order)
        frame = np.empty(level.size, np.int64)
        frame[order.ravel()] = self._values[level]
        return frame.reshape(self.network.input.shape)
