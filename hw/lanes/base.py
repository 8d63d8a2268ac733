# amaranth: UnusedElaboratable=no
"""Lanes: each multiplies one activation by one weight, and SIMD of them are summed. They are the part of a
matrix-vector unit that depends on the weight code.

All lane components have the same members, so the unit can use any of them. Each states how its output relates to the
sum of products: ``sum_i w_i * x_i == step * o + offset + correction(w)``.
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
    """Base class of the lane components: ``sum_i w_i * x_i == step * o + offset + correction(w)``.

    Where a weight is 0, its activation is gated: changes of the activation cause no switching behind the gate. A
    subclass for which this does not hold says so. ``python -m benchmarks.dial --zeros`` measures it.

    **Latency**: ``stages`` cycles with ``en`` high. **Throughput**: one sum of SIMD products a cycle.

    Parameters
    ----------
    simd : int
        Number of lanes.
    activation : DType
    code : Code
    stages : int
        Pipeline stages in the sum.

    Attributes
    ----------
    step, offset : int
        Scale and offset of ``o`` in the equation above.
    w_bits : int
        Width of ``w``.
    quality_bits : int
        Width of ``quality``; 0 where the port is absent.
    exact : bool
        True: ``w`` takes plain code words and the correction is always 0. False: the weights must be known at
        generation
        time, for :meth:`words` and :meth:`correction`.
    front : Component or None
        A component to put between the activations (its ``x``) and the ``x`` of the lanes (its ``o``). All outputs that
        read the same activations share it.

    Members
    -------
    x : In(simd * activation.bits)
        Encoded activations, the first in the lowest bits; if there is a ``front``, its output.
    w : In(w_bits)
        The weights in the form that :meth:`words` returns.
    en : In(1)
        Registers advance while it is high.
    quality : In(quality_bits)
        How many signed digits of each factor count; absent where no product uses signed digits.
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
        """The value of ``w`` for each row of weights, and for its scales if the lanes take any.

        # (rows, simd), (rows, scales) -> rows integers
        """
        return rom_words(self.code.encode(weights), self.code.bits)

    def correction(self, weights: Ints) -> Ints:
        """What has to be added to the sum of each row of weights.  # (rows, simd) -> (rows,) int64"""
        return np.zeros(len(weights), np.int64)

    def activations(self) -> list[Value]:
        """The activations as numbers, decoded from ``x``."""
        words = [self.x.word_select(lane, self.activation.bits) for lane in range(self.simd)]
        return [number(word.as_signed() if self.activation.signed else word, self.activation) for word in words]

    def weights(self) -> list[Value]:
        return [self.w.word_select(lane, self.code.bits) for lane in range(self.simd)]


class CodeLanes(Lanes, ABC):
    """Lanes for a weight code. A subclass says which codes, activations and targets it serves, and what it costs.

    To add a kind of lanes, write a subclass and list it in :data:`fewbit.hw.lanes.choose.LANES`.

    Parameters
    ----------
    simd, activation, code, stages
        See :class:`Lanes`.
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``
        Plain RTL, or the FPGA family whose cells the lanes instantiate.
    dsp : bool
        Whether synthesis may put the products into the device's DSP blocks.

    Attributes
    ----------
    targets : tuple of str
        Targets that the class can be built for.
    """

    targets: ClassVar[tuple[str, ...]] = TARGETS

    @classmethod
    @abstractmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        """Whether these lanes compute exact products of weights of ``code`` and activations of kind ``activation``."""

    @classmethod
    @abstractmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        """Estimated logic cells of ``simd`` lanes and their sum for the target ``family``; with ``dsp`` the products
        are in DSP blocks."""

    @classmethod
    def front_cells(cls, code: Code, activation: DType, simd: int, family: str) -> int:
        """Estimated logic cells of the :attr:`front`."""
        return 0

    @classmethod
    def exact_cells(cls, code: Code, activation: DType, simd: int, family: str) -> int:
        """Estimated logic cells that lanes take in addition when they have to be exact, because the ``+ 1`` of each
        negation cannot be left to a correction."""
        return round({"ice40": 3.5, "ecp5": 7.0}.get(family, 2.0) * (simd - 1))

    @classmethod
    def factor_bits(cls, code: Code) -> int | None:
        """Bits of a weight as the operand of a multiplier; None where the lanes have no multiplier."""
        return None


def check_lanes(simd: int, stages: int) -> None:
    if simd < 1:
        raise FewbitError(f"lanes need a SIMD of at least 1, not {simd}")
    if stages < 0:
        raise FewbitError(f"lanes have 0 or more stages, not {stages}")


def saturated(quality: Value, bits: int) -> Value:
    """``quality`` reduced to ``bits`` bits, saturated to all ones. Nothing is lost: from the number of digits on, a
    product is exact at any quality."""
    if len(quality) <= bits:
        return quality
    return Mux(quality[bits:].any(), (1 << bits) - 1, quality[:bits])
