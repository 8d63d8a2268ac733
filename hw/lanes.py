"""Lanes: what one weight does to one activation, SIMD of them summed: the part of the matrix-vector unit that a code
changes.

Every lane component has the same members, so that the unit takes any of them, and two numbers that say what its sum
stands for: ``sum_i w_i * x_i == step * o + offset``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from amaranth.hdl import Cat, Const, Module, Shape, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.popcount import XnorPopcount, sum_tree
from fewbit.hw.streams import number


class Lanes(wiring.Component):
    """Base of the lane components.

    **Latency**: ``stages`` cycles with ``en`` high. **Throughput**: one product of SIMD terms a cycle.

    Parameters
    ----------
    simd : int
        Lanes.
    activation : DType
    code : Code
    stages : int
        Ranks of registers in the sum.

    Members
    -------
    x : In(simd * activation.bits)
        Encoded activations, the first in the lowest bits.
    w : In(simd * code.bits)
        Code words, likewise.
    en : In(1)
    o : Out(Shape)
        ``sum_i w_i * x_i == step * o + offset``.
    """

    step = 1
    offset = 0

    def __init__(self, simd: int, activation: DType, code: Code, stages: int, o: Shape) -> None:
        if simd < 1:
            raise FewbitError(f"lanes need a SIMD of at least 1, not {simd}")
        if stages < 0:
            raise FewbitError(f"lanes have 0 or more stages, not {stages}")
        self.simd, self.activation, self.code, self.stages = simd, activation, code, stages
        self.latency = stages
        super().__init__({"x": In(simd * activation.bits), "w": In(simd * code.bits), "en": In(1), "o": Out(o)})

    def activations(self) -> list[Value]:
        """The numbers in ``x``."""
        words = [self.x.word_select(lane, self.activation.bits) for lane in range(self.simd)]
        return [number(word.as_signed() if self.activation.signed else word, self.activation) for word in words]

    def weights(self) -> list[Value]:
        return [self.w.word_select(lane, self.code.bits) for lane in range(self.simd)]


class XnorLanes(Lanes):
    """Bipolar activations, binary weights: a product is +1 where the bits agree, so ``o = popcount(x xnor w)``.

    ``sum = 2 o - simd``. ``target`` is that of :class:`fewbit.hw.popcount.XnorPopcount`: what the popcount is made of.
    Source: XNOR-Net, arXiv 1603.05279, section 3.2; BinaryNet, arXiv 1602.02830, section 1.5.
    """

    step = 2

    def __init__(self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic") -> None:
        self.offset, self.target = -simd, target
        super().__init__(simd, activation, code, stages, Shape.cast(range(simd + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.popcount = popcount = XnorPopcount(self.simd, self.stages, self.target)
        m.d.comb += [popcount.a.eq(self.x), popcount.b.eq(self.w), popcount.en.eq(self.en), self.o.eq(popcount.count)]
        return m


class TermLanes(Lanes):
    """Any activation, weights -1, (0), +1: a lane inverts or gates, and the ones of the negations are added as a count.

    ``-x`` is ``~x + 1``, so ``o = sum_i ((x_i xor neg_i) and nonzero_i) + popcount(neg)``: no lane has an adder of its
    own.
    """

    def __init__(self, simd: int, activation: DType, code: Code, stages: int) -> None:
        reach = simd * max(-activation.min, activation.max)
        super().__init__(simd, activation, code, stages, Shape.cast(range(-reach, reach + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms: list[Value] = []
        for x, w in zip(self.activations(), self.weights()):
            negative = ~w[0] if self.code.name == "binary" else w[1]
            bits = Cat(x) if x.shape().signed else Cat(x, Const(0, 1))
            term = bits ^ negative.replicate(len(bits))
            if self.code.name == "ternary":
                term &= w[0].replicate(len(bits))
            terms += [term.as_signed(), negative]
        m.d.comb += self.o.eq(sum_tree(m, terms, self.stages, self.en, "sum"))
        return m


class ProductLanes(Lanes):
    """Any activation, two's-complement weights: ``o = sum_i w_i * x_i`` with plain multipliers. The yardstick."""

    def __init__(self, simd: int, activation: DType, code: Code, stages: int) -> None:
        reach = simd * max(-activation.min, activation.max) * int(-code.levels[0])
        super().__init__(simd, activation, code, stages, Shape.cast(range(-reach, reach + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms = [x * w.as_signed() for x, w in zip(self.activations(), self.weights())]
        m.d.comb += self.o.eq(sum_tree(m, terms, self.stages, self.en, "sum"))
        return m


def lane_kind(activation: DType, code: Code, target: str = "generic") -> Callable[[int, DType, Code, int], Lanes]:
    """The lane component for ``code`` weights and ``activation`` inputs, made for ``target`` where it has such a form.

    Raises FewbitError if there is none.
    """
    if code.name == "binary" and activation.kind == "bipolar":
        return XnorLanes if target == "generic" else partial(XnorLanes, target=target)
    if code.name in ("binary", "ternary"):
        return TermLanes
    if code.name.startswith("int("):
        return ProductLanes
    raise FewbitError(f"there is no hardware for {code} weights yet; binary, ternary and int weights have it")
