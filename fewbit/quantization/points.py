"""Where a float network is quantized to few-bit integers.

A product takes few-bit levels of one scale; so does a join, whose sides must have scales that integers can bring
together. What lies between, such as maxima, limits, gains and means, is computed on the levels, or on the sums of the
product before, where that is exact. A quantizer therefore stands as late as it can, but before the maxima that it
follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fewbit.importers.float_onnx.layers import (
    Bend,
    Best,
    Clip,
    Concat,
    Flat,
    FloatLayer,
    FloatPool,
    Product,
    Relu,
    Scale,
    Smooth,
    Sum,
)
from fewbit.importers.float_onnx.network import FloatNetwork

JOIN_BITS = 8
"""Bits of levels that only sums of branches read, and of a mean of levels, unless the levels themselves have more: no
product multiplies the former, so that more bits cost thresholds only."""


@dataclass(kw_only=True)
class Point:
    """A quantizer of activations.

    Attributes
    ----------
    tensor : int
        Number of the tensor that is quantized.
    measured : list of int
        The tensors from whose reals the scale is chosen: what reads the levels. Only reals that pass the maxima in
        between matter.
    signed : bool
        Whether reals below 0 can occur.
    few : bool
        Whether something else than sums reads the levels, so that they have as few bits as the user asks for.
    least_bits : int
        Bits that the levels have at least: those of the levels that are quantized again.
    """

    tensor: int
    measured: list[int] = field(default_factory=list)
    signed: bool = True
    few: bool = False
    least_bits: int = 1


@dataclass(kw_only=True)
class Points:
    """All quantizers of a network.

    Attributes
    ----------
    points : dict of int to Point
        By the number of the tensor that is quantized, in order.
    groups : list of lists of int
        Points that must have one type and one scale, because a concatenation puts them side by side.
    sums : list of lists of int
        Points whose scales must be powers of two apart, because they are added; 0 is the network's input, whose scale
        is given.
    narrowed : set of int
        Means of levels, which are rounded to few bits again because a product or a join depends on them.
    """

    points: dict[int, Point]
    groups: list[list[int]]
    sums: list[list[int]]
    narrowed: set[int]


@dataclass(frozen=True, kw_only=True)
class _State:
    """What is known of the integers that carry a tensor.

    Attributes
    ----------
    levels : bool
        Whether they are few-bit levels, not sums of a product.
    points : tuple of int
        The points whose scale they have, with no offset; 0 is the input.
    affine, uniform, centred, rising : bool
        Whether the real is a gain times the integer plus an offset; whether all channels have one; whether the offset
        is 0; whether the gain is above 0.
    positive : bool
        Whether no real below 0 can occur.
    bits : int
        Bits of the levels, as far as they come from the input.
    """

    levels: bool = False
    points: tuple[int, ...] = ()
    affine: bool = True
    uniform: bool = False
    centred: bool = True
    rising: bool = True
    positive: bool = False
    bits: int = 1

    @property
    def pure(self) -> bool:
        return self.levels and bool(self.points)


def points_of(network: FloatNetwork, bits: int, positive: bool) -> Points:
    """The quantizers of ``network``, whose input has levels of ``bits``, none below 0 if ``positive``."""
    source = _State(levels=True, points=(0,), uniform=True, positive=positive, bits=bits)
    joined = _depends_join(network)
    chosen: set[int] = set()
    while True:
        walk = _Walk(network, chosen, source, joined)
        if walk.demand is None:
            return walk.result()
        chosen.add(walk.demand)


def _depends_join(network: FloatNetwork) -> set[int]:
    """The tensors on which a product or a join depends."""
    wanted: set[int] = set()
    for place in reversed(range(len(network.layers))):
        if isinstance(network.layers[place], (Product, Sum, Concat)) or place + 1 in wanted:
            wanted.update(network.reads[place])
    return wanted


class _Walk:
    """States of all tensors with quantizers at ``chosen``; ``demand`` is where the first further one must be."""

    def __init__(self, network: FloatNetwork, chosen: set[int], source: _State, joined: set[int]) -> None:
        self.network, self.chosen, self.joined = network, chosen, joined
        self.points: dict[int, Point] = {}
        self.groups: list[list[int]] = []
        self.sums: list[list[int]] = []
        self.narrowed: set[int] = set()
        self.demand: int | None = None
        self.states: list[_State] = [self._quantized(0, source)]
        for place, layer in enumerate(network.layers):
            number, read = place + 1, network.reads[place]
            state = _STEPS[type(layer)](self, layer, number, read)
            if self.demand is not None:
                return
            self.states.append(self._quantized(number, state))
        if not isinstance(network.layers[-1], Best):
            self._needs(len(network.layers), self.states[-1].affine, few=True)

    def result(self) -> Points:
        return Points(points=self.points, groups=_merged(self.groups), sums=_merged(self.sums), narrowed=self.narrowed)

    def _quantized(self, number: int, state: _State) -> _State:
        if number not in self.chosen:
            return state
        least = state.bits if state.levels else 1
        self.points[number] = Point(tensor=number, signed=not state.positive, least_bits=min(JOIN_BITS, least))
        return _State(levels=True, points=(number,), uniform=True, positive=state.positive, bits=least)

    def _needs(self, number: int, fulfilled: bool, few: bool = False) -> _State:
        """The state of tensor ``number``, which is read; a quantizer is demanded unless it is as it must be."""
        state = self.states[number]
        if fulfilled:
            for point in state.points:
                if point in self.points:
                    self.points[point].measured.append(number)
                    self.points[point].few |= few
        elif self.demand is None:
            self.demand = self._before_maxima(number)
        return state

    def _before_maxima(self, number: int) -> int:
        """The tensor to quantize in place of tensor ``number``: that in front of the maxima and Flat layers before."""
        while number:
            layer = self.network.layers[number - 1]
            if not isinstance(layer, Flat) and not (isinstance(layer, FloatPool) and layer.mode == "max"):
                break
            number = self.network.reads[number - 1][0]
        return number

    def product(self, layer: Product, number: int, read: Sequence[int]) -> _State:
        state = self.states[read[0]]
        padded = any(layer.padding)
        fits = state.levels and state.affine and state.uniform and (state.centred or not padded)
        self._needs(read[0], fits, few=True)
        return _State()

    def pool(self, layer: FloatPool, number: int, read: Sequence[int]) -> _State:
        state = self.states[read[0]]
        if layer.mode == "max":
            if not state.rising:
                self._needs(read[0], False)
            return state
        self._needs(read[0], state.affine and (state.centred or not any(layer.padding)), few=True)
        if not state.levels:
            return state
        if state.uniform and state.centred and number in self.joined:
            self.narrowed.add(number)
            return replace(state, points=())
        return replace(state, points=(), levels=False)

    def limit(self, layer: Clip, number: int, read: Sequence[int]) -> _State:
        state = self.states[read[0]]
        if isinstance(layer, Relu) and state.positive and state.affine:
            return state
        positive = state.positive or (layer.low is not None and layer.low >= 0)
        self._measure(read[0], state)
        return replace(state, points=(), affine=False, positive=positive)

    def smooth(self, layer: Smooth, number: int, read: Sequence[int]) -> _State:
        state = self.states[read[0]]
        self._measure(read[0], state)
        return replace(state, points=(), affine=False, positive=layer.name == "sigmoid" or state.positive)

    def bend(self, layer: Bend, number: int, read: Sequence[int]) -> _State:
        state = self.states[read[0]]
        self._measure(read[0], state)
        return replace(state, points=(), affine=False)

    def scale(self, layer: Scale, number: int, read: Sequence[int]) -> _State:
        state = self.states[read[0]]
        self._measure(read[0], state)
        gain, shift = layer.gain, layer.shift
        return replace(
            state,
            points=(),
            uniform=state.uniform and bool((gain == gain[0]).all() and (shift == shift[0]).all()),
            centred=state.centred and not shift.any(),
            rising=state.rising and bool((gain > 0).all()),
            positive=state.positive and bool((gain >= 0).all() and (shift >= 0).all()),
        )

    def _measure(self, number: int, state: _State) -> None:
        if state.pure:
            self._needs(number, True, few=True)

    def flat(self, layer: FloatLayer, number: int, read: Sequence[int]) -> _State:
        return self.states[read[0]]

    def best(self, layer: Best, number: int, read: Sequence[int]) -> _State:
        return self._needs(read[0], self.states[read[0]].affine, few=True)

    def sum(self, layer: Sum, number: int, read: Sequence[int]) -> _State:
        sides = [self.states[side] for side in read]
        for side, state in zip(read, sides):
            self._needs(side, state.pure and state.affine)
        self.sums.append([point for state in sides for point in state.points])
        return _State(uniform=True, positive=all(state.positive for state in sides))

    def concat(self, layer: Concat, number: int, read: Sequence[int]) -> _State:
        sides = [self.states[side] for side in read]
        for side, state in zip(read, sides):
            self._needs(side, state.levels and state.affine, few=True)
        positive, bits = all(state.positive for state in sides), max(state.bits for state in sides)
        points = tuple(point for state in sides for point in state.points)
        if all(state.pure for state in sides) and 0 not in points:
            self.groups.append(list(points))
            return _State(levels=True, points=points, uniform=True, positive=positive, bits=bits)
        rising, centred = all(state.rising for state in sides), all(state.centred for state in sides)
        return _State(levels=True, rising=rising, centred=centred, positive=positive, bits=bits)


_STEPS: Mapping[type[FloatLayer], Callable[[_Walk, Any, int, Sequence[int]], _State]] = {
    Bend: _Walk.bend,
    Best: _Walk.best,
    Clip: _Walk.limit,
    Concat: _Walk.concat,
    Flat: _Walk.flat,
    FloatPool: _Walk.pool,
    Product: _Walk.product,
    Relu: _Walk.limit,
    Scale: _Walk.scale,
    Smooth: _Walk.smooth,
    Sum: _Walk.sum,
}


def _merged(sets: Sequence[Sequence[int]]) -> list[list[int]]:
    """The union of those ``sets`` that have an element in common, each in ascending order."""
    merged: list[set[int]] = []
    for members in sets:
        union, rest = set(members), []
        for other in merged:
            if union & other:
                union |= other
            else:
                rest.append(other)
        merged = [*rest, union]
    return [sorted(members) for members in merged]
