"""The float32 steps between a model's input and its first quantizer, executed as the model executes them.

Only here does float32 rounding matter: the input is real, and the float32 arithmetic of the source graph decides which
numbers reach a level. Each step rounds a monotone function and is therefore monotone, and so is the chain. Bisection
finds the float32 numbers at which the level rises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_INFINITY = 0x7F80_0000


def _clip(x: Floats, low: Floats, high: Floats) -> Floats:
    return np.asarray(np.minimum(np.maximum(x, low), high))


def _batch_normalization(x: Floats, gain: Floats, bias: Floats, mean: Floats, var: Floats, epsilon: Floats) -> Floats:
    scale = (np.float32(1) / np.sqrt(var + epsilon)) * gain
    return np.asarray(x * scale + (bias - mean * scale), np.float32)


def _sigmoid(x: Floats) -> Floats:
    power, one = np.exp(-np.abs(x)), np.float32(1)
    return np.asarray(np.where(x > 0, one, power) / (one + power), np.float32)


def _leaky_relu(x: Floats, slope: Floats) -> Floats:
    return np.asarray(np.where(x >= 0, x, x * slope), np.float32)


_STEPS: dict[str, Callable[..., Floats]] = {
    "add": np.add,
    "sub": np.subtract,
    "rsub": lambda x, constant: np.subtract(constant, x),
    "mul": np.multiply,
    "div": np.divide,
    "clip": _clip,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "leaky_relu": _leaky_relu,
    "batch_normalization": _batch_normalization,
}


@dataclass(frozen=True)
class FloatChain:
    """Elementwise float32 steps: a name and its constants, each (1,) or (channels,)."""

    steps: tuple[tuple[str, tuple[Floats, ...]], ...] = ()

    def then(self, step: str, *constants: Floats) -> FloatChain:
        return FloatChain((*self.steps, (step, constants)))

    @property
    def channels(self) -> int:
        return max((c.size for _, constants in self.steps for c in constants), default=1)

    def of_channels(self, channels: Any) -> FloatChain:
        """The steps of ``channels``, an index each: flattening a frame makes a channel of each of its elements."""
        return FloatChain(
            tuple((step, tuple(c[channels] if c.size > 1 else c for c in constants)) for step, constants in self.steps)
        )

    @staticmethod
    def beside(chains: Sequence[FloatChain | None], channels: Sequence[int]) -> FloatChain | None:
        """The steps of tensors side by side, of so many ``channels`` each; None if their kinds of steps differ."""
        known = [chain.steps for chain in chains if chain is not None]
        if len(known) < len(chains) or len({tuple(step for step, _ in steps) for steps in known}) > 1:
            return None
        merged = FloatChain()
        for step, *others in zip(*known):
            sides = [step, *others]
            constants = [
                np.concatenate([np.resize(values, count) for values, count in zip(same, channels)])
                for same in zip(*(constants for _, constants in sides))
            ]
            merged = merged.then(
                step[0], *(values[:1] if (values == values[0]).all() else values for values in constants)
            )
        return merged

    def run(self, x: Floats) -> Floats:
        """# (K,) -> (K, 1) or (K, channels)"""
        x = x[:, None].astype(np.float32)
        with np.errstate(all="ignore"):
            for step, constants in self.steps:
                x = _STEPS[step](x, *constants)
        assert x.dtype == np.float32, x.dtype
        return x


def level_table(chain: FloatChain, level: Callable[[Floats], Any], values: Any) -> Any:
    """Levels of the integers ``values``.  # (K,) -> (K, channels) int64"""
    return np.asarray(level(chain.run(np.asarray(values).astype(np.float32)))).astype(np.int64)


def table_thresholds(table: Any, values: Any, count: int) -> tuple[Any, Any] | None:
    """Integer thresholds and signs that give ``table`` (K, channels), levels 0 to ``count`` of ``values``.

    None if a channel neither rises nor falls throughout.
    """
    rows, signs = [], []
    for levels in table.T:
        sign = 1 if levels[-1] >= levels[0] else -1
        rising, at = (levels, values) if sign > 0 else (levels[::-1], -values[::-1])
        if (np.diff(rising) < 0).any():
            return None
        at = np.append(at, at[-1] + 1)
        rows.append(at[np.searchsorted(rising, np.arange(1, count + 1), side="left")])
        signs.append(sign)
    return np.array(rows, np.int64), np.array(signs, np.int64)


def input_thresholds(chain: FloatChain, level: Callable[[Floats], Any], count: int) -> tuple[Floats, int, int] | None:
    """float32 thresholds, sign and lowest level of the chain followed by ``level``, for every float32.

    ``level(x) = lowest + number of t with sign * x >= t``, where the level of a channel is 0 to ``count``.
    Levels that no input reaches have no threshold. None if the level is the same for every input.
    """

    def at(keys: Any) -> Any:
        return level_table(chain, level, _float(keys))[:, 0]

    ends = at(np.array([-_INFINITY, _INFINITY]))
    if ends[0] == ends[1]:
        return None
    sign = 1 if ends[1] > ends[0] else -1
    lowest, highest = int(ends.min()), int(ends.max())
    levels = np.arange(lowest + 1, highest + 1)
    below = np.full(levels.shape, -_INFINITY, np.int64)
    reached = np.full(levels.shape, _INFINITY, np.int64)
    while (reached - below > 1).any():
        middle = (below + reached) >> 1
        enough = at(sign * middle) >= levels
        reached, below = np.where(enough, middle, reached), np.where(enough, below, middle)
    return _float(reached), sign, lowest


def _float(keys: Any) -> Floats:
    """float32 numbers by their rank: 0 is 0.0, 1 the least positive number, -1 the least negative one."""
    keys = np.asarray(keys, np.int64)
    magnitude = np.abs(keys).astype(np.uint32).view(np.float32)
    return np.asarray(np.where(keys < 0, -magnitude, magnitude), np.float32)
