# amaranth: UnusedElaboratable=no
"""Lanes for weights in canonic signed digits; ``quality`` sets at run time how many digits of a weight count."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Value

from fewbit.golden.codes import Code
from fewbit.golden.digits import digit_word, quality_bits, word_bits
from fewbit.golden.dtype import DType, Ints, signed_bits
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import Target
from fewbit.hw.lanes.base import CodeLanes
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.dsp import DspMultiplier, digit_multiplier
from fewbit.hw.sums.popcount import sum_tree


def digit_words(values: Ints, width: int) -> list[int]:
    """Each row of values as one number: the digit words of the values side by side, the first in the lowest bits
    (:func:`fewbit.golden.digits.digit_word`)."""
    bits = word_bits(width)
    return [sum(digit_word(int(value), width) << place * bits for place, value in enumerate(row)) for row in values]


class CsdLanes(CodeLanes):
    """Any activation, weights of a ``csd`` code: one multiplier a lane, with a partial product for each digit.

    A weight is stored as the word of its digits (:class:`fewbit.golden.digits.RowField`). The partial product of a
    digit that is zero, or beyond ``quality``, is gated. Only the LUT that turns a bipolar bit into -1 or +1, in front
    of the partial products, switches whatever the weight.

    Cost: a CSD multiplier a lane, in cells or with ``dsp`` in a DSP block, and the adders of the products.
    """

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return code.digit_width is not None

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        width = _width(code)
        multiplier_cells = DspMultiplier.cells(width) if dsp else CsdMultiplier.cells(signed_bits(activation), width)
        return simd * (multiplier_cells + activation.bits + width - 1)

    @classmethod
    def factor_bits(cls, code: Code) -> int | None:
        return _width(code) + 1  # the leading digits alone may sum to a power of two that takes one bit more

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: Target = "generic", *, dsp: bool = False
    ) -> None:
        self.width = _width(code)
        self.multipliers = [
            digit_multiplier(signed_bits(activation), self.width, registered=False, target=target, dsp=dsp)
            for _ in range(simd)
        ]
        # The leading digit alone can weigh up to twice the number: 7 = 8 - 1 at a quality of 1 is 8.
        limit = simd * (1 << self.width) * max(-activation.min, activation.max)
        super().__init__(
            simd,
            activation,
            code,
            stages,
            Shape.cast(range(-limit, limit)),
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


def _width(code: Code) -> int:
    if code.digit_width is None:
        raise FewbitError(f"{code} weights are not made of signed digits")
    return code.digit_width
