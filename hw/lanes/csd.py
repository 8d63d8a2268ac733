# amaranth: UnusedElaboratable=no
"""Lanes for weights in canonic signed digits, as many of them as a run-time quality allows."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Value

from fewbit.golden.codes import Code, CsdCode
from fewbit.golden.digits import digit_word, quality_bits, word_bits
from fewbit.golden.dtype import DType, Ints, signed_bits
from fewbit.hw.fabric.carry import Target
from fewbit.hw.lanes.base import Lanes
from fewbit.hw.multiply.dsp import digit_multiplier
from fewbit.hw.sums.popcount import sum_tree


def digit_words(values: Ints, width: int) -> list[int]:
    """Each row of values as one number, the words of their digits side by side, the first lowest."""
    bits = word_bits(width)
    return [sum(digit_word(int(value), width) << place * bits for place, value in enumerate(row)) for row in values]


class CsdLanes(Lanes):
    """Any activation, weights of a ``csd`` code: a multiplier a lane, whose rows are the digits kept.

    A weight lies in memory as the word of its digits (:class:`fewbit.golden.digits.RowField`); a digit that is zero, or
    beyond ``quality``, has a row that is gated. A bipolar bit becomes -1 or +1 in front of the rows, in a LUT that
    moves whatever the weight.

    Cost: a CSD multiplier a lane, in cells or with ``dsp`` in DSP blocks, and the adders of their products.
    """

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: Target = "generic", *, dsp: bool = False
    ) -> None:
        assert isinstance(code, CsdCode)
        self.width = code.exponents + 1
        self.multipliers = [
            digit_multiplier(signed_bits(activation), self.width, registered=False, target=target, dsp=dsp)
            for _ in range(simd)
        ]
        # Of few digits of a number the most significant alone can be twice as much as all.
        reach = simd * (2 << code.exponents) * max(-activation.min, activation.max)
        super().__init__(
            simd,
            activation,
            code,
            stages,
            Shape.cast(range(-reach, reach)),
            w_bits=simd * word_bits(self.width),
            quality=quality_bits(self.width),
        )

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        return digit_words(weights, self.width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        products: list[Value] = []
        bits = word_bits(self.width)
        for lane, (multiplier, x) in enumerate(zip(self.multipliers, self.activations())):
            m.submodules[f"multiplier_{lane}"] = multiplier
            m.d.comb += [
                multiplier.a.eq(x),
                multiplier.digits.eq(self.w.word_select(lane, bits)),
                multiplier.quality.eq(self.quality),
            ]
            products.append(multiplier.product)
        m.d.comb += self.o.eq(sum_tree(m, products, self.stages, self.en, "sum"))
        return m
