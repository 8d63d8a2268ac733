# amaranth: UnusedElaboratable=no
"""Lanes for two's-complement weights: one multiplier each."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, signed_bits
from fewbit.hw.fabric.carry import Target
from fewbit.hw.fabric.families import FAMILIES
from fewbit.hw.lanes.base import CodeLanes
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.sums.popcount import sum_tree


class ProductLanes(CodeLanes):
    """Any activation, two's-complement weights: ``o = sum_i w_i * x_i``, one multiplier a lane. The baseline for the
    other lanes.

    Of the ``stages`` pipeline stages, the first one in this list holds the products, the second one their sum (a single
    lane has none), the third one the operands, so that multipliers start behind registers rather than memories, the
    fourth one is inside the multipliers (DSP blocks have none), and all others divide the sum. Cost: SIMD multipliers
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
        operands, inside, _ = divided(simd, stages, dsp=dsp)
        registers = 0 if FAMILIES[family].free_registers else (operands + inside) * (width + code.bits)
        return simd * (multiplier_cells + registers) + (simd - 1) * 8 * (width + code.bits) // 5

    @classmethod
    def factor_bits(cls, code: Code) -> int | None:
        return code.bits

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: Target = "generic", *, dsp: bool = False
    ) -> None:
        self._operands, inside, self._sums = divided(simd, stages, dsp=dsp)
        self.multipliers = [
            Multiplier(signed_bits(activation), code.bits, "generic" if dsp else target, registered=bool(inside))
            for _ in range(simd)
        ]
        limit = simd * max(-activation.min, activation.max) * int(-code.levels[0])
        super().__init__(simd, activation, code, stages, Shape.cast(range(-limit, limit + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def held(value: Value, name: str) -> Value:
            register = Signal(value.shape(), name=name, reset_less=True)
            with m.If(self.en):
                m.d.sync += register.eq(value)
            return register

        products: list[Value] = []
        for lane, (multiplier, x, w) in enumerate(zip(self.multipliers, self.activations(), self.weights())):
            m.submodules[f"multiplier_{lane}"] = multiplier
            if self._operands:
                x, w = held(x, f"x_{lane}"), held(w, f"w_{lane}")
            m.d.comb += [multiplier.a.eq(x), multiplier.b.eq(w)]
            if multiplier.registered:
                m.d.comb += multiplier.en.eq(self.en)
            products.append(held(multiplier.product, f"product_{lane}") if self.stages else multiplier.product)
        m.d.comb += self.o.eq(sum_tree(m, products, self._sums, self.en, "sum"))
        return m


def divided(simd: int, stages: int, *, dsp: bool) -> tuple[int, int, int]:
    """The pipeline stages of ``stages`` that hold operands (0 or 1), are inside the multipliers (0 or 1), and divide
    the sum of the products."""
    left = max(0, stages - 1)
    sums = min(left, int(simd > 1))
    operands = min(left - sums, 1)
    inside = min(left - sums - operands, 1 - dsp)
    return operands, inside, left - operands - inside
