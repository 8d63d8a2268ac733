# amaranth: UnusedElaboratable=no
"""Lanes for weights from any table of integers: each selects a multiple of its activation and may negate it."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import Code, csd_digits
from fewbit.golden.dtype import DType, Ints, signed_bits
from fewbit.hw.lanes.base import CodeLanes
from fewbit.hw.streams import number
from fewbit.hw.sums.popcount import sum_tree

MOST_BITS = 8
"""Widest code word, in bits, for which these lanes are made."""


def odd_multiples(code: Code) -> list[int]:
    """The odd parts of a code's levels, without 1, ascending. Shifting the activation or one of these odd multiples of
    it gives every magnitude of the code."""
    magnitudes = [abs(int(level)) for level in code.levels if level]
    return sorted({magnitude >> (magnitude & -magnitude).bit_length() - 1 for magnitude in magnitudes} - {1})


class Multiples(wiring.Component):
    """Every activation with its products by the odd parts of a code's levels. All outputs share them.

    **Latency**: 0. Cost for each multiple and activation: one adder less than the multiple has canonic signed digits.

    Parameters
    ----------
    simd : int
    activation : DType
    code : Code

    Attributes
    ----------
    factors : list of int
        The multiples: 1, then :func:`odd_multiples`.
    bits : list of int
        Width of the product by each of them.

    Members
    -------
    x : In(simd * activation.bits)
    o : Out(simd * sum(bits))
        The products of the first activation in the lowest bits.
    """

    def __init__(self, simd: int, activation: DType, code: Code) -> None:
        self.simd, self.activation = simd, activation
        self.factors = [1, *odd_multiples(code)]
        width = signed_bits(activation)
        self.bits = [width + (factor - 1).bit_length() for factor in self.factors]
        super().__init__({"x": In(simd * activation.bits), "o": Out(simd * sum(self.bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts: list[Value] = []
        for lane in range(self.simd):
            word = self.x.word_select(lane, self.activation.bits)
            x = number(word.as_signed() if self.activation.signed else word, self.activation)
            for factor, bits in zip(self.factors, self.bits):
                (sign, shift), *lower = reversed(csd_digits(factor))
                total = x << shift
                assert sign > 0
                for sign, shift in lower:
                    total = total + (x << shift) if sign > 0 else total - (x << shift)
                product = Signal(signed(bits), name=f"product_{lane}_{factor}")
                m.d.comb += product.eq(total)
                parts.append(product)
        m.d.comb += self.o.eq(Cat(parts))
        return m

    def of(self, lanes: Value) -> list[dict[int, Value]]:
        """Splits a word laid out like ``o`` into products: for each activation a dict from multiple to product."""
        step, lane_products = sum(self.bits), []
        for lane in range(self.simd):
            word, products = lanes[lane * step : (lane + 1) * step], {}
            for factor, bits in zip(self.factors, self.bits):
                products[factor], word = word[:bits].as_signed(), word[bits:]
            lane_products.append(products)
        return lane_products


class CodebookLanes(CodeLanes):
    """Any activation, weights of any code with few levels, as code words at run time. The sum is exact.

    ``-x`` is ``~x + 1``: ``o = sum_i ((m_i xor neg_i) + neg_i)``, where ``m_i`` is the product of the activation and
    the weight's magnitude, a shifted output of :class:`Multiples`. An illegal code word counts as 0.

    Cost: for each bit of a lane's product a multiplexer with one input for each magnitude, and an adder; and
    :class:`Multiples`. ``python -m benchmarks.lanes "codebook(-9,-4,-1,0,1,4,9)"`` compares it with the multiplication
    that Yosys makes.
    """

    known = False
    """Whether the weights are known at generation time: then the ones of the negations are left to the correction, and
    the multiples are in a shared front."""

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return code.bits <= MOST_BITS

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        magnitudes = len({abs(int(level)) for level in code.levels} - {0})
        lane_cells = (activation.bits + 1.6) * (1.65 + 4 * magnitudes / 3)  # python -m benchmarks.lanes CODE
        multiples_cells = 0 if cls.known else cls._multiples_cells(code, activation)
        return round(simd * (lane_cells + multiples_cells))

    @classmethod
    def front_cells(cls, code: Code, activation: DType, simd: int, family: str) -> int:
        return simd * cls._multiples_cells(code, activation) if cls.known else 0

    @classmethod
    def exact_cells(cls, code: Code, activation: DType, simd: int, family: str) -> int:
        return simd * cls._multiples_cells(code, activation)

    @staticmethod
    def _multiples_cells(code: Code, activation: DType) -> int:
        return sum(
            (len(csd_digits(factor)) - 1) * (signed_bits(activation) + factor.bit_length())
            for factor in odd_multiples(code)
        )

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic", *, dsp: bool = False
    ) -> None:
        ends = [int(level) * x for level in code.levels[[0, -1]] for x in (activation.min, activation.max)]
        low, high = simd * (min(0, *ends) - self.known), simd * max(0, *ends)
        x_bits = simd * sum(Multiples(simd, activation, code).bits) if self.known else None
        super().__init__(simd, activation, code, stages, Shape.cast(range(low, high + 1)), x_bits=x_bits)

    def correction(self, weights: Ints) -> Ints:
        negative: Ints = (np.asarray(weights) < 0).sum(1)
        return negative if self.known else 0 * negative

    def elaborate(self, platform: object) -> Module:
        m = Module()
        multiples, x = Multiples(self.simd, self.activation, self.code), self.x
        if not self.known:
            m.submodules.multiples = multiples
            m.d.comb += multiples.x.eq(self.x)
            x = multiples.o
        width = max(abs(int(level)) for level in self.code.levels).bit_length() + signed_bits(self.activation)
        words = self.code.encode(self.code.levels)
        terms: list[Value] = []
        for lane, (products, w) in enumerate(zip(multiples.of(x), self.weights())):
            size = Signal(signed(width), name=f"size_{lane}")
            negative = Signal(name=f"negative_{lane}")
            with m.Switch(w):
                for word, level in zip(words, self.code.levels):
                    if level:
                        magnitude = abs(int(level))
                        shift = (magnitude & -magnitude).bit_length() - 1
                        with m.Case(int(word)):
                            m.d.comb += [size.eq(products[magnitude >> shift] << shift), negative.eq(int(level < 0))]
            term = size.as_unsigned() ^ negative.replicate(width)
            terms += [term.as_signed(), *([] if self.known else [negative])]
        m.d.comb += self.o.eq(sum_tree(m, terms, self.stages, self.en, "sum"))
        return m


class KnownCodebookLanes(CodebookLanes):
    """Any activation, weights of any code with few levels, known at generation time.

    It works as :class:`CodebookLanes`, but all outputs share the multiples, in ``front``, and ``o`` lacks the ones of
    the negations (one for each negative weight), which :meth:`correction` returns.
    """

    exact = False
    known = True

    @property
    def front(self) -> Multiples:
        return Multiples(self.simd, self.activation, self.code)
