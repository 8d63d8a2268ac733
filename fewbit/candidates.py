"""Frames to try as test vectors, where no real ones are at hand: fields, strokes and noise of an input's kind, and
variations of frames that served before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.dtype import Ints
from fewbit.golden.network import TensorType

Reals = NDArray[Any]


class Candidates:
    """A source of frames of one type. What has served (:meth:`reward`) is drawn more often.

    Frames are drawn as brightness, 0 to 1, over the last two axes (one, where there is but one), and scaled to the
    range of the kind. Smooth fields and strokes bring the sums of a trained network to where its thresholds lie; noise
    alone saturates them.

    Parameters
    ----------
    source : TensorType
    rng : numpy.random.Generator
    """

    def __init__(self, source: TensorType, rng: np.random.Generator) -> None:
        self.source, self._rng = source, rng
        self._steps = (source.dtype.max - source.dtype.min) // source.dtype.step
        self._shape = source.shape or (1,)
        self._grid = ((1, *self._shape) if len(self._shape) == 1 else self._shape)[-2:]
        self._fresh = (self._field, self._field, self._stroke, self._uniform, self._sparse, self._two_levels)
        self._varied: tuple[Callable[[Reals, Reals], Reals], ...] = (
            self._patched, self._replaced, self._shifted, self._complemented, self._scaled, self._shaken, self._drawn,
            self._dimmed,
        )  # fmt: skip
        self._tried = np.ones(len(self._fresh) + len(self._varied))
        self._served = np.ones(len(self._fresh) + len(self._varied))

    def plain(self) -> list[Ints]:
        """The lowest and the highest frame, and the one of zeros where the kind has them."""
        dtype = self.source.dtype
        values = {dtype.min, dtype.max} | ({0} if dtype.min <= 0 and dtype.kind != "bipolar" else set())
        return [np.full(self.source.shape, value, np.int64) for value in sorted(values)]

    def fresh(self) -> tuple[Ints, int]:
        """A new frame, and the number of the way in which it was made."""
        way = self._draw(0, len(self._fresh))
        return self._integers(self._fresh[way]()), way

    def varied(self, frame: Ints, other: Ints) -> tuple[Ints, int]:
        """A variation of ``frame``, with parts of ``other`` in some, and the number of the way."""
        way = self._draw(len(self._fresh), len(self._tried))
        change = self._varied[way - len(self._fresh)]
        return self._integers(change(self._brightness(frame), self._brightness(other))), way

    def reward(self, way: int, share: float) -> None:
        """Tells that a frame made in ``way`` was worth ``share``, 0 to 1, of the best of its round."""
        self._tried[way] += 1
        self._served[way] += share
        if self._tried[way] > 200:  # what served once need not serve for ever
            self._tried[way] /= 2
            self._served[way] /= 2

    def _draw(self, begin: int, end: int) -> int:
        worth = (self._served / self._tried)[begin:end] + 0.05
        return begin + int(self._rng.choice(end - begin, p=worth / worth.sum()))

    def _integers(self, brightness: Reals) -> Ints:
        level = np.rint(np.clip(brightness, 0, 1) * self._steps).astype(np.int64)
        return np.asarray((self.source.dtype.min + self.source.dtype.step * level).reshape(self.source.shape))

    def _brightness(self, frame: Ints) -> Reals:
        level = (frame - self.source.dtype.min) // self.source.dtype.step
        return (level / self._steps).reshape(self._shape)

    def _smooth(self) -> Reals:
        """A smooth field of zero mean and unit spread; channels of a map have a part in common."""
        rows, columns = self._grid
        shape = self._shape[:-2]
        coarse = tuple(int(self._rng.integers(1, min(extent, 10) + 1)) for extent in self._grid)
        knots = self._rng.standard_normal((*shape, *coarse)) + self._rng.uniform(0, 2) * self._rng.standard_normal(
            coarse
        )
        field = _hats(rows, coarse[0]) @ knots @ _hats(columns, coarse[1]).T
        return np.asarray(((field - field.mean()) / (field.std() + 1e-9)).reshape(self._shape))

    def _field(self) -> Reals:
        field, share = self._smooth(), self._rng.uniform(0.03, 0.97)
        edge = np.quantile(field, 1 - share)
        return np.asarray(np.clip((field - edge) / self._rng.choice([0.1, 0.5, 2.0]) + 0.5, 0, 1))

    def _stroke(self) -> Reals:
        """One to three bent lines on a dark ground, in every channel alike; now and then dark on bright."""
        lines = self._lines(int(self._rng.integers(1, 4))) * self._rng.uniform(0.5, 1)
        return 1 - lines if self._rng.random() < 0.1 else lines

    def _lines(self, count: int) -> Reals:
        rows, columns = self._grid
        size = max(rows, columns)
        y, x = np.mgrid[0:rows, 0:columns]
        bright = np.zeros((rows, columns))
        for _ in range(count):
            place = self._rng.uniform(0, 1, 2) * self._grid
            heading, bend = self._rng.uniform(0, 2 * np.pi), self._rng.normal(0, 0.5)
            width = max(0.5, size * self._rng.uniform(0.02, 0.08))
            for _ in range(int(self._rng.integers(1, 12))):
                heading += bend + self._rng.normal(0, 0.2)
                step = size * self._rng.uniform(0.05, 0.2) * np.array([np.sin(heading), np.cos(heading)])
                along = np.clip(((y - place[0]) * step[0] + (x - place[1]) * step[1]) / (step @ step), 0, 1)
                distance = np.hypot(y - place[0] - along * step[0], x - place[1] - along * step[1])
                bright = np.maximum(bright, np.clip(1.5 - distance / width, 0, 1))
                place = place + step
        lines = bright if len(self._shape) > 1 else bright[0]
        return np.array(np.broadcast_to(lines, self._shape))

    def _uniform(self) -> Reals:
        return self._rng.integers(0, self._steps + 1, self._shape) / self._steps

    def _sparse(self) -> Reals:
        return np.where(self._rng.random(self._shape) < self._rng.uniform(0.02, 0.9), self._uniform(), 0.0)

    def _two_levels(self) -> Reals:
        return (self._rng.random(self._shape) < self._rng.uniform(0.02, 0.98)).astype(float)

    def _patched(self, frame: Reals, other: Reals) -> Reals:
        return np.where(self._smooth() > self._rng.normal(), frame, other)

    def _replaced(self, frame: Reals, _other: Reals) -> Reals:
        share = self._rng.choice([0.003, 0.01, 0.03, 0.1])
        chosen = self._rng.random(self._shape) < share
        chosen.flat[self._rng.integers(chosen.size)] = True
        return np.where(chosen, self._uniform(), frame)

    def _shifted(self, frame: Reals, _other: Reals) -> Reals:
        axis = -1 - int(self._rng.integers(len(self._shape[-2:])))
        most = max(2, self._shape[axis] // 3)
        return np.roll(frame, int(self._rng.integers(1, most)) * int(self._rng.choice([-1, 1])), axis)

    def _complemented(self, frame: Reals, _other: Reals) -> Reals:
        return 1 - frame if self._rng.random() < 0.5 else np.flip(frame, -1)

    def _scaled(self, frame: Reals, _other: Reals) -> Reals:
        return np.asarray(frame * self._rng.choice([self._rng.uniform(0.3, 1.7), self._rng.uniform(0.9, 1.1)]))

    def _shaken(self, frame: Reals, _other: Reals) -> Reals:
        depth = max(1.0 / self._steps, self._rng.choice([0.01, 0.05, 0.2]))
        return frame + self._rng.uniform(-depth, depth, self._shape)

    def _drawn(self, frame: Reals, _other: Reals) -> Reals:
        lines = self._lines(1)
        return np.maximum(frame, lines) if self._rng.random() < 0.5 else np.minimum(frame, 1 - lines)

    def _dimmed(self, frame: Reals, _other: Reals) -> Reals:
        """Brighter in some regions, darker in others."""
        return np.asarray(frame * (1 + self._rng.choice([0.05, 0.2, 0.5]) * self._smooth()))


def _hats(extent: int, knots: int) -> Reals:
    """Linear interpolation from ``knots`` equally spaced values to ``extent``.  # -> (extent, knots)"""
    places = np.linspace(0, knots - 1, extent) if extent > 1 else np.zeros(1)
    return np.asarray(np.clip(1 - np.abs(places[:, None] - np.arange(knots)), 0, 1))
