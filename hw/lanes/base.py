# amaranth: UnusedElaboratable=no
"""Lanes: what one weight does to one activation, SIMD of them summed: the part of the matrix-vector unit that a code
changes.

Every lane component has the same members, so that the unit takes any of them, and says what its sum stands for:
``sum_i w_i * x_i == step * o + offset + correction(w)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from amaranth.hdl import Mux, Shape, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import TARGETS
from fewbit.hw.memory.rom import rom_words
from fewbit.hw.streams import number


class Lanes(wiring.Component):
    """Base of the lane components: ``sum_i w_i * x_i == step * o + offset + correction(w)``.

    Changes of an activation whose weight is 0 stop at its gate; a lane of which that does not hold says so. ``python -m
    benchmarks.dial --zeros`` counts them.

    **Latency**: ``stages`` cycles with ``en`` high. **Throughput**: one product of SIMD terms a cycle.

    Parameters
    ----------
    simd : int
        Lanes.
    activation : DType
    code : Code
    stages : int
        Pipeline stages in the sum.

    Attributes
    ----------
    step, offset : int
        What ``o`` stands for.
    w_bits : int
        Width of ``w``.
    quality_bits : int
    exact : bool
        ``w`` takes plain code words, and the correction is always 0. Else the weights must be known beforehand.
    front : Component or None
        What is to be put between the activations, its ``x``, and ``x`` of the lanes, its ``o``: once for all lanes of
        the same activations.

    Members
    -------
    x : In(simd * activation.bits)
        Encoded activations, the first in the lowest bits; with a front, what that gives of them.
    w : In(w_bits)
        What :meth:`words` makes of the weights.
    en : In(1)
        Registers advance while it is high.
    quality : In(quality_bits)
        Signed digits that count in a product; absent where no product takes any.
    o : Out(Shape)
    """

    step = 1
    offset = 0
    exact = True

    def __init__(
        self,
        simd: int,
        activation: DType,
        code: Code,
        stages: int,
        o: Shape,
        *,
        w_bits: int | None = None,
        x_bits: int | None = None,
        quality: int = 0,
    ) -> None:
        check_lanes(simd, stages)
        self.simd, self.activation, self.code, self.stages = simd, activation, code, stages
        self.latency = stages
        self.w_bits = simd * code.bits if w_bits is None else w_bits
        x = simd * activation.bits if x_bits is None else x_bits
        self.quality_bits = quality
        dial = {"quality": In(quality)} if quality else {}
        super().__init__({"x": In(x), "w": In(self.w_bits), "en": In(1), **dial, "o": Out(o)})

    @property
    def front(self) -> wiring.Component | None:
        return None

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        """What ``w`` must be for each row of weights, with its scales where there are any.

        # (rows, simd), (rows, scales) -> rows integers
        """
        return rom_words(self.code.encode(weights), self.code.bits)

    def correction(self, weights: Ints) -> Ints:
        """What is to be added for each row of weights.  # (rows, simd) -> (rows,) int64"""
        return np.zeros(len(weights), np.int64)

    def activations(self) -> list[Value]:
        """The numbers in ``x``."""
        words = [self.x.word_select(lane, self.activation.bits) for lane in range(self.simd)]
        return [number(word.as_signed() if self.activation.signed else word, self.activation) for word in words]

    def weights(self) -> list[Value]:
        return [self.w.word_select(lane, self.code.bits) for lane in range(self.simd)]


class CodeLanes(Lanes, ABC):
    """Lanes of a weight code. A class says which weights and activations it serves, for which targets, and its cost.

    It is registered in :data:`fewbit.hw.lanes.choose.LANES`, and needs no other place.

    Parameters
    ----------
    simd, activation, code, stages
        As of :class:`Lanes`.
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``
        What the lanes are made of.
    dsp : bool
        Whether their products are left to the device's DSP blocks, where they have any.

    Attributes
    ----------
    targets : tuple of str
        Targets that the class makes lanes for.
    """

    targets: ClassVar[tuple[str, ...]] = TARGETS

    @classmethod
    @abstractmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        """Whether these lanes multiply weights of ``code`` by activations of that kind, exactly."""

    @classmethod
    @abstractmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        """Logic cells of ``simd`` lanes and of their sum, about; ``family`` is a target. With ``dsp`` the products are
        made in DSP blocks."""

    @classmethod
    def front_cells(cls, code: Code, activation: DType, simd: int, family: str) -> int:
        """Logic cells of the :attr:`front`, about."""
        return 0

    @classmethod
    def exact_cells(cls, code: Code, activation: DType, simd: int, family: str) -> int:
        """Logic cells that lanes of an exact sum take more, about: their negation cannot be left to a correction."""
        return round({"ice40": 3.5, "ecp5": 7.0}.get(family, 2.0) * (simd - 1))

    @classmethod
    def factor_bits(cls, code: Code) -> int | None:
        """Bits that a weight has as the factor of a multiplier; None where lanes have no multiplier."""
        return None


def check_lanes(simd: int, stages: int) -> None:
    if simd < 1:
        raise FewbitError(f"lanes need a SIMD of at least 1, not {simd}")
    if stages < 0:
        raise FewbitError(f"lanes have 0 or more stages, not {stages}")


def saturated(quality: Value, bits: int) -> Value:
    """``quality`` in fewer bits, all ones where it is more: at or above the number of digits a product is exact."""
    if len(quality) <= bits:
        return quality
    return Mux(quality[bits:].any(), (1 << bits) - 1, quality[:bits])
