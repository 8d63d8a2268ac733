# amaranth: UnusedElaboratable=no
"""Lanes for weights from any table of integers: a lane selects a multiple of its activation, and negates it."""

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
"""Bits of a code word up to which lanes are made that select."""


def odd_multiples(code: Code) -> list[int]:
    """The odd factors of the levels other than 1, ascending: with shifts they make every magnitude."""
    sizes = [abs(int(level)) for level in code.levels if level]
    return sorted({size >> (size & -size).bit_length() - 1 for size in sizes} - {1})


class Multiples(wiring.Component):
    """Every activation beside its products with the odd factors of a code's levels: what all outputs share.

    **Latency**: 0. Cost: for each factor and activation an adder for every canonic signed digit but one.

    Parameters
    ----------
    simd : int
    activation : DType
    code : Code

    Attributes
    ----------
    factors : list of int
        1, then :func:`odd_multiples`.
    bits : list of int
        Of each of these products.

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
        """The products in a word such as ``o``, each under its factor; one dict an activation."""
        step, found = sum(self.bits), []
        for lane in range(self.simd):
            word, products = lanes[lane * step : (lane + 1) * step], {}
            for factor, bits in zip(self.factors, self.bits):
                products[factor], word = word[:bits].as_signed(), word[bits:]
            found.append(products)
        return found


class CodebookLanes(CodeLanes):
    """Any activation, weights of any code with few levels, as code words at run time: exact for every family.

    ``-x`` is ``~x + 1``: ``o = sum_i ((m_i xor neg_i) + neg_i)``, where ``m_i`` is the product of the activation and
    the weight's magnitude: one of :class:`Multiples`, shifted. An illegal code word is a 0.

    Cost: a multiplexer of as many inputs as there are magnitudes a bit, and an adder; and :class:`Multiples`.
    ``python -m benchmarks.lanes "codebook(-9,-4,-1,0,1,4,9)"`` measures it beside what Yosys makes of products.
    """

    known = False
    """Whether the popcount of the negative weights is left to the correction, and the multiples to a front."""

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return code.bits <= MOST_BITS

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        sizes = len({abs(int(level)) for level in code.levels} - {0})
        each = (activation.bits + 1.6) * (1.65 + 4 * sizes / 3)  # python -m benchmarks.lanes CODE
        own = 0 if cls.known else cls._multiples_cells(code, activation)
        return round(simd * (each + own))

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
    """:class:`CodebookLanes` for weights known beforehand: all outputs share the multiples, and ``o`` lacks the
    popcount of the negative weights."""

    exact = False
    known = True

    @property
    def front(self) -> Multiples:
        return Multiples(self.simd, self.activation, self.code)
