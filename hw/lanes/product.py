# amaranth: UnusedElaboratable=no
"""Lanes for two's-complement weights: one multiplier each."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, signed_bits
from fewbit.hw.fabric.carry import Target
from fewbit.hw.lanes.base import CodeLanes
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.sums.popcount import sum_tree


class ProductLanes(CodeLanes):
    """Any activation, two's-complement weights: ``o = sum_i w_i * x_i``, one multiplier a lane. The baseline for the
    other lanes.

    The first of the ``stages`` pipeline stages is between the products and the adders. Cost: SIMD multipliers
    (:class:`fewbit.hw.multiply.exact.Multiplier`), or with ``dsp`` DSP blocks, and the adders of the products.

    Parameters
    ----------
    target : str
        What the multipliers are built from.
    dsp : bool
        Whether synthesis may put the products into the device's DSP blocks.
    """

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return code.signed_word

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        width = signed_bits(activation)
        multiplier_cells = 0 if dsp else Multiplier.cells(width, code.bits, family)
        return simd * multiplier_cells + (simd - 1) * 8 * (width + code.bits) // 5

    @classmethod
    def factor_bits(cls, code: Code) -> int | None:
        return code.bits

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: Target = "generic", *, dsp: bool = False
    ) -> None:
        self.multipliers = [
            Multiplier(signed_bits(activation), code.bits, "generic" if dsp else target) for _ in range(simd)
        ]
        limit = simd * max(-activation.min, activation.max) * int(-code.levels[0])
        super().__init__(simd, activation, code, stages, Shape.cast(range(-limit, limit + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        products: list[Value] = []
        for lane, (multiplier, x, w) in enumerate(zip(self.multipliers, self.activations(), self.weights())):
            m.submodules[f"multiplier_{lane}"] = multiplier
            m.d.comb += [multiplier.a.eq(x), multiplier.b.eq(w)]
            products.append(multiplier.product)
            if self.stages:
                products[-1] = held = Signal.like(multiplier.product, name=f"product_{lane}", reset_less=True)
                with m.If(self.en):
                    m.d.sync += held.eq(multiplier.product)
        m.d.comb += self.o.eq(sum_tree(m, products, max(0, self.stages - 1), self.en, "sum"))
        return m
