# amaranth: UnusedElaboratable=no
"""Lanes for activations of one bit: a product is a bit, and the sum a popcount."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Shape

from fewbit.golden.codes import Code
from fewbit.golden.dtype import BIPOLAR, DType, Ints
from fewbit.hw.lanes.base import CodeLanes
from fewbit.hw.sums.popcount import GatedPopcount, XnorPopcount


class XnorLanes(CodeLanes):
    """Bipolar activations, binary weights: a product is +1 where the bits agree, so ``o = popcount(x xnor w)``.

    ``sum = 2 o - simd``. ``target`` is that of :class:`fewbit.hw.sums.popcount.XnorPopcount`: what the popcount is made
    of.
    Source: XNOR-Net, arXiv 1603.05279, section 3.2; BinaryNet, arXiv 1602.02830, section 1.5.
    """

    step = 2

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return code.signs_only and activation == BIPOLAR

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        return round({"ice40": 2.05, "ecp5": 1.8}.get(family, 3.0) * simd)  # python -m benchmarks.datapaths

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic", *, dsp: bool = False
    ) -> None:
        self.offset, self.target = -simd, target
        super().__init__(simd, activation, code, stages, Shape.cast(range(simd + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.popcount = popcount = XnorPopcount(self.simd, self.stages, self.target)
        m.d.comb += [popcount.a.eq(self.x), popcount.b.eq(self.w), popcount.en.eq(self.en), self.o.eq(popcount.count)]
        return m


class CountLanes(XnorLanes):
    """Activations of one bit that is 0 or ±1, and binary weights known beforehand: ``o = popcount(x xnor w)`` as well.

    ``w * x`` is 1 less than that where the weight is -1. Of ``int1``, whose 1 is -1, the word holds the inverse.
    """

    exact = False
    step = 1

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return code.signs_only and activation.bits == 1 and activation != BIPOLAR

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic", *, dsp: bool = False
    ) -> None:
        super().__init__(simd, activation, code, stages, target)
        self.offset = 0

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        return super().words(-np.asarray(weights) if self.activation.signed else weights)

    def correction(self, weights: Ints) -> Ints:
        inverted: Ints = (np.asarray(weights) * (-1 if self.activation.signed else 1) < 0).sum(1)
        return -inverted


class GateLanes(CodeLanes):
    """Activations of one bit, ternary weights known beforehand: ``o = popcount((x xor w) and gate)``.

    A weight of 1 lets the bit through and one of -1 its inverse, ``1 - x``, so that a lane is one bit for the popcount
    and not two. Of ``int1``, whose 1 is -1, the word holds the negative. ``target`` is that of
    :class:`fewbit.hw.sums.popcount.GatedPopcount`.
    """

    exact = False

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        ternary = code.bits == 2 and code.largest_shift == 0 and code.sign_bit and code.gate_bit
        return ternary and activation.bits == 1

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        return round({"ice40": 2.48, "ecp5": 2.6}.get(family, 4.0) * simd)  # python -m benchmarks.bit_serial

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic", *, dsp: bool = False
    ) -> None:
        self.target = target
        self.step = 2 if activation.kind == "bipolar" else 1  # its bit is what is counted: x = 2 bit - 1
        super().__init__(simd, activation, code, stages, Shape.cast(range(simd + 1)))

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        return super().words(-np.asarray(weights) if self.activation.signed else weights)

    def correction(self, weights: Ints) -> Ints:
        turned = np.asarray(weights) * (-1 if self.activation.signed and self.step == 1 else 1)
        inverted: Ints = (turned < 0).sum(1)
        return -inverted if self.step == 1 else -2 * inverted - turned.sum(1, dtype=np.int64)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.popcount = popcount = GatedPopcount(self.simd, self.stages, self.target)
        m.d.comb += [
            popcount.a.eq(self.x),
            popcount.b.eq(Cat(w[1] for w in self.weights())),
            popcount.gate.eq(Cat(w[0] for w in self.weights())),
            popcount.en.eq(self.en),
            self.o.eq(popcount.count),
        ]
        return m
