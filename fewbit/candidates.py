"""Generates candidate frames for test vectors: smooth fields, strokes, noise, and variations of useful frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.dtype import Ints
from fewbit.golden.network import TensorType

Reals = NDArray[Any]


class Candidates:
    """A source of frames of one type, made in several ways. Ways that were useful (:meth:`reward`) are chosen more
    often.

    A frame is drawn as brightness, 0 to 1, over its last two axes (or its only axis), and scaled to the range of its
    type. Smooth fields and strokes bring the sums of a trained network near its thresholds; noise alone saturates the
    sums.

    Parameters
    ----------
    source : TensorType
        Type of the frames.
    rng : numpy.random.Generator
        Random source.
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
        """The constant frames: all elements least, all greatest, and all zero if the type has a zero."""
        dtype = self.source.dtype
        values = {dtype.min, dtype.max} | ({0} if dtype.min <= 0 and dtype.kind != "bipolar" else set())
        return [np.full(self.source.shape, value, np.int64) for value in sorted(values)]

    def fresh(self) -> tuple[Ints, int]:
        """Make a new frame; return it and the number of the way in which it was made."""
        way = self._draw(0, len(self._fresh))
        return self._integers(self._fresh[way]()), way

    def varied(self, frame: Ints, second: Ints) -> tuple[Ints, int]:
        """Vary ``frame``; return the new frame and the number of the way in which it was made.

        One of the ways mixes in parts of ``second``.
        """
        way = self._draw(len(self._fresh), len(self._tried))
        change = self._varied[way - len(self._fresh)]
        return self._integers(change(self._brightness(frame), self._brightness(second))), way

    def reward(self, way: int, share: float) -> None:
        """Record how useful a frame made in ``way`` was: ``share``, 0 to 1, of the value of the round's best frame."""
        self._tried[way] += 1
        self._served[way] += share
        if self._tried[way] > 200:  # recent usefulness counts more
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
        """A smooth random field with mean 0 and standard deviation 1. The channels of a map are correlated."""
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
        """One to three curved bright lines on a dark background, the same in all channels; sometimes inverted."""
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

    def _patched(self, frame: Reals, second: Reals) -> Reals:
        return np.where(self._smooth() > self._rng.normal(), frame, second)

    def _replaced(self, frame: Reals, _second: Reals) -> Reals:
        share = self._rng.choice([0.003, 0.01, 0.03, 0.1])
        chosen = self._rng.random(self._shape) < share
        chosen.flat[self._rng.integers(chosen.size)] = True
        return np.where(chosen, self._uniform(), frame)

    def _shifted(self, frame: Reals, _second: Reals) -> Reals:
        axis = -1 - int(self._rng.integers(len(self._shape[-2:])))
        most = max(2, self._shape[axis] // 3)
        return np.roll(frame, int(self._rng.integers(1, most)) * int(self._rng.choice([-1, 1])), axis)

    def _complemented(self, frame: Reals, _second: Reals) -> Reals:
        return 1 - frame if self._rng.random() < 0.5 else np.flip(frame, -1)

    def _scaled(self, frame: Reals, _second: Reals) -> Reals:
        return np.asarray(frame * self._rng.choice([self._rng.uniform(0.3, 1.7), self._rng.uniform(0.9, 1.1)]))

    def _shaken(self, frame: Reals, _second: Reals) -> Reals:
        depth = max(1.0 / self._steps, self._rng.choice([0.01, 0.05, 0.2]))
        return frame + self._rng.uniform(-depth, depth, self._shape)

    def _drawn(self, frame: Reals, _second: Reals) -> Reals:
        lines = self._lines(1)
        return np.maximum(frame, lines) if self._rng.random() < 0.5 else np.minimum(frame, 1 - lines)

    def _dimmed(self, frame: Reals, _second: Reals) -> Reals:
        """Make ``frame`` brighter in some regions and darker in others."""
        return np.asarray(frame * (1 + self._rng.choice([0.05, 0.2, 0.5]) * self._smooth()))


def _hats(extent: int, knots: int) -> Reals:
    """Matrix of the linear interpolation from ``knots`` equally spaced values to ``extent``.  # -> (extent, knots)"""
    places = np.linspace(0, knots - 1, extent) if extent > 1 else np.zeros(1)
    return np.asarray(np.clip(1 - np.abs(places[:, None] - np.arange(knots)), 0, 1))
