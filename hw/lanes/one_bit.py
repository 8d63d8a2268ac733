# amaranth: UnusedElaboratable=no
"""Lanes for activations of one bit: each product is one bit, and the sum is a popcount."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Shape

from fewbit.golden.codes import Code
from fewbit.golden.dtype import BIPOLAR, DType, Ints
from fewbit.hw.lanes.base import CodeLanes
from fewbit.hw.sums.popcount import GatedPopcount, XnorPopcount


class XnorLanes(CodeLanes):
    """Bipolar activations, binary weights: a product is +1 where the bits agree, so ``o = popcount(x xnor w)`` and the
    sum of products is ``2 * o - simd``.

    ``target`` selects what :class:`fewbit.hw.sums.popcount.XnorPopcount` is built from. Source: XNOR-Net, arXiv
    1603.05279, section 3.2; BinaryNet, arXiv 1602.02830, section 1.5.
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
    """One-bit activations that are not bipolar (``uint1``: 0 or 1, ``int1``: 0 or -1), binary weights known at
    generation time: ``o = popcount(x xnor w)``.

    Where the weight is -1, the XNOR is ``w * x + 1``; the correction subtracts these ones. For ``int1``, whose bit 1
    stands for -1, the stored weights are negated.
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
    """One-bit activations, ternary weights known at generation time: ``o = popcount((x xor w) and gate)``.

    A weight of 1 passes the bit, and one of -1 its inverse, ``1 - x``, so a lane adds one bit to the popcount instead
    of two. For ``int1``, whose bit 1 stands for -1, the stored weights are negated. ``target`` selects what
    :class:`fewbit.hw.sums.popcount.GatedPopcount` is built from.
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
        self.step = 2 if activation.kind == "bipolar" else 1  # the stored bit is counted: x = 2 bit - 1
        super().__init__(simd, activation, code, stages, Shape.cast(range(simd + 1)))

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        return super().words(-np.asarray(weights) if self.activation.signed else weights)

    def correction(self, weights: Ints) -> Ints:
        stored = np.asarray(weights) * (-1 if self.activation.signed and self.step == 1 else 1)
        inverted: Ints = (stored < 0).sum(1)
        return -inverted if self.step == 1 else -2 * inverted - stored.sum(1, dtype=np.int64)

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
