# amaranth: UnusedElaboratable=no
"""Lanes: what one weight does to one activation, SIMD of them summed: the part of the matrix-vector unit that a code
changes.

Every lane component has the same members, so that the unit takes any of them, and says what its sum stands for:
``sum_i w_i * x_i == step * o + offset + correction(w)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.carry import Target, check_target
from fewbit.hw.exact_cells import ExactCells
from fewbit.hw.multiplier import Multiplier
from fewbit.hw.pair_sums import PairSums
from fewbit.hw.popcount import GatedPopcount, XnorPopcount, sum_tree
from fewbit.hw.streams import number
from fewbit.hw.term_cells import TermCells
from fewbit.hw.term_tree import Fabric, Item, TermTree
from fewbit.hw.weights import rom_words


class Lanes(wiring.Component):
    """Base of the lane components: ``sum_i w_i * x_i == step * o + offset + correction(w)``.

    Changes of an activation whose weight is 0 stop at its gate; a lane of which that does not hold says so. ``python -m
    benchmarks.dial --zeros`` counts them.

    **Latency**: ``stages`` cycles with ``en`` high. **Throughput**: one product of SIMD terms a cycle.

    Parameters
    ----------
    simd : int
        Lanes.
    activation : DType
    code : Code
    stages : int
        Ranks of registers in the sum.

    Attributes
    ----------
    step, offset : int
        What ``o`` stands for.
    w_bits : int
        Width of ``w``.
    quality_bits : int
    exact : bool
        ``w`` takes plain code words, and the correction is always 0. Else the weights must be known beforehand.
    front : PairSums or None
        What is to be put between the activations and ``x``: once for all lanes of the same activations.

    Members
    -------
    x : In(simd * activation.bits)
        Encoded activations, the first in the lowest bits; with a front, what that gives of them.
    w : In(w_bits)
        What :meth:`words` makes of the weights.
    en : In(1)
        Registers advance while it is high.
    quality : In(quality_bits)
        Signed digits that count in a product; absent where no product takes any.
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
        _check(simd, stages)
        self.simd, self.activation, self.code, self.stages = simd, activation, code, stages
        self.latency = stages
        self.w_bits = simd * code.bits if w_bits is None else w_bits
        x = simd * activation.bits if x_bits is None else x_bits
        self.quality_bits = quality
        dial = {"quality": In(quality)} if quality else {}
        super().__init__({"x": In(x), "w": In(self.w_bits), "en": In(1), **dial, "o": Out(o)})

    @property
    def front(self) -> PairSums | None:
        return None

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        """What ``w`` must be for each row of weights, with its scales where there are any.

        # (rows, simd), (rows, scales) -> rows integers
        """
        return rom_words(self.code.encode(weights), self.code.bits)

    def correction(self, weights: Ints) -> Ints:
        """What is to be added for each row of weights.  # (rows, simd) -> (rows,) int64"""
        return np.zeros(len(weights), np.int64)

    def activations(self) -> list[Value]:
        """The numbers in ``x``."""
        words = [self.x.word_select(lane, self.activation.bits) for lane in range(self.simd)]
        return [number(word.as_signed() if self.activation.signed else word, self.activation) for word in words]

    def weights(self) -> list[Value]:
        return [self.w.word_select(lane, self.code.bits) for lane in range(self.simd)]


def _check(simd: int, stages: int) -> None:
    if simd < 1:
        raise FewbitError(f"lanes need a SIMD of at least 1, not {simd}")
    if stages < 0:
        raise FewbitError(f"lanes have 0 or more stages, not {stages}")


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


class CountLanes(XnorLanes):
    """Activations of one bit that is 0 or ±1, and binary weights known beforehand: ``o = popcount(x xnor w)`` as well.

    ``w * x`` is 1 less than that where the weight is -1. Of ``int1``, whose 1 is -1, the word holds the inverse.
    """

    exact = False
    step = 1

    def __init__(self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic") -> None:
        super().__init__(simd, activation, code, stages, target)
        self.offset = 0

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        return super().words(-np.asarray(weights) if self.activation.signed else weights)

    def correction(self, weights: Ints) -> Ints:
        inverted: Ints = (np.asarray(weights) * (-1 if self.activation.signed else 1) < 0).sum(1)
        return -inverted


class GateLanes(Lanes):
    """Activations of one bit, ternary weights known beforehand: ``o = popcount((x xor w) and gate)``.

    A weight of 1 lets the bit through and one of -1 its inverse, ``1 - x``, so that a lane is one bit for the popcount
    and not two. Of ``int1``, whose 1 is -1, the word holds the negative. ``target`` is that of
    :class:`fewbit.hw.popcount.GatedPopcount`.
    """

    exact = False

    def __init__(self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic") -> None:
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


class TermLanes(Lanes):
    """Any activation, weights that are 0 or ± a power of two: a lane shifts, inverts or gates, in plain RTL.

    ``-x`` is ``~x + 1``: ``o = sum_i ((2**s_i * x_i xor neg_i) and nonzero_i) + popcount(neg)``, so that no lane has an
    adder of its own. An illegal code word is a 0. Where the weights are ``known`` beforehand the popcount is left to
    the correction.
    """

    def __init__(self, simd: int, activation: DType, code: Code, stages: int, *, known: bool = False) -> None:
        self.known, self.exact = known, not known
        reach = simd * int(code.levels[-1]) * max(-activation.min, activation.max)
        super().__init__(simd, activation, code, stages, Shape.cast(range(-reach - simd * known, reach + 1)))

    def correction(self, weights: Ints) -> Ints:
        negative: Ints = (np.asarray(weights) < 0).sum(1)
        return negative if self.known else 0 * negative

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms: list[Value] = []
        for x, w in zip(self.activations(), self.weights()):
            negative = ~w[0] if self.code.name == "binary" else w[-1]
            bits = Cat(x) if x.shape().signed else Cat(x, Const(0, 1))
            if self.code.bits == 3:
                bits, on = self.shifted(m, bits.as_signed(), w)
            else:
                on = w[0] if self.code.name == "ternary" else Const(1, 1)
            term = bits ^ negative.replicate(len(bits))
            if self.code.name != "binary":
                term &= on.replicate(len(bits))
                negative &= on
            terms += [term.as_signed(), *([] if self.known else [negative])]
        m.d.comb += self.o.eq(sum_tree(m, terms, self.stages, self.en, "sum"))
        return m

    def shifted(self, m: Module, x: Value, w: Value) -> tuple[Value, Value]:
        """The activation times the size of the weight, and whether that is not 0."""
        shifts = int(self.code.levels[-1]).bit_length() - 1
        result, on = Signal(signed(len(x) + shifts)), Signal()
        with m.Switch(w):
            for level in self.code.levels:
                if level:
                    with m.Case(int(self.code.encode(level[None])[0])):
                        m.d.comb += [result.eq(x << int(abs(level)).bit_length() - 1), on.eq(1)]
        return result.as_unsigned(), on


class TreeLanes(Lanes):
    """Any activation, weights that are 0 or ± a power of two and known beforehand, in the cells of a fabric.

    ``o`` is a tree of adders that turn over or gate what they add at no cost, steered by what the words hold in place
    of the weights (:mod:`fewbit.hw.term_tree`): never more bits than their codes have. Weights of ±1 take the sums and
    differences of pairs of activations from a ``front`` that all outputs share.

    On iCE40 a lane of 0, ±1 or 0, ±1, ±2 may be gated in the cell of the adder that it enters: with a weight of 0 its
    carries, and a LUT that shifts, still move, though no sum does. No input is left to gate them with.

    Cost, 16 lanes of 8 unsigned bits, logic cells a lane on iCE40, LUT4s on ECP5: ±1 10.3, 9.0 with an eighth of the
    front; 0, ±1 14.3, 12.5; 0, ±1, ±2 20.0, 20.6; 0, ±1, ±2, ±4 28.1, 26.1; ``python -m benchmarks.lanes`` measures.
    Source: docs/decisions/0009.
    """

    exact = False

    def __init__(self, simd: int, activation: DType, code: Code, stages: int, target: str) -> None:
        _check(simd, stages)
        self.target = target
        self.paired = code.name == "binary"
        self.step = 2 if activation.kind == "bipolar" else 1  # its bit is what the lanes sum: x = 2 bit - 1
        self.tree = TermTree("ice40" if target == "ice40" else "ecp5", _items(simd, activation, code, target), stages)
        root = self.tree.root.node
        width = sum(2 * item.bits + 1 if item.pair else item.bits for item in self.tree.items)
        super().__init__(
            simd,
            activation,
            code,
            stages,
            signed(root.width) if root.signed else unsigned(root.width),
            w_bits=self.tree.controls,
            x_bits=width,
        )

    @property
    def front(self) -> PairSums | None:
        return PairSums(self.simd, self.activation, self.target) if self.paired else None

    def words(self, weights: Ints, scales: Ints | None = None) -> list[int]:
        return self.tree.steer(weights)[0]

    def correction(self, weights: Ints) -> Ints:
        excess = self.tree.steer(weights)[1]
        total: Ints = np.asarray(weights, np.int64).sum(1)
        return -2 * excess - total if self.step == 2 else -excess

    def elaborate(self, platform: object) -> Module:
        m = Module()
        offset = self.activation.signed and self.target == "ecp5" and not self.paired
        cells = TermCells(m, self.tree, self.x, self.w, self.en, self.stages, offset=offset)
        m.d.comb += self.o.eq(Cat(cells.build()))
        return m


def _items(simd: int, activation: DType, code: Code, target: str) -> list[Item]:
    bits = activation.bits
    if code.name == "binary":
        pair = Item(bits, False, 0, False, pair=True, bias=activation.signed << bits)
        return [pair] * (simd // 2) + [Item(bits, False, 0, False, bias=activation.signed << bits - 1)] * (simd % 2)
    # iCE40 has no inverter to spare for the sign bit of an activation that nothing else changes, but it can extend it.
    extends = activation.signed and target == "ice40"
    shifts = int(code.levels[-1]).bit_length() - 1
    return [Item(bits, extends, shifts, True, bias=(activation.signed and not extends) << bits - 1)] * simd


class ExactLanes(Lanes):
    """Any activation, weights that are 0 or ± a power of two, as code words at run time, in the cells of a fabric.

    As :class:`TermLanes`; the ones of the negations enter the carry chains (:mod:`fewbit.hw.exact_cells`).

    Cost, 16 lanes of 8 unsigned bits, logic cells a lane on iCE40, LUT4s on ECP5: ±1 21, 15; 0, ±1 21, 15; 0, ±1, ±2,
    ±4 34, 35. ``python -m benchmarks.lanes --exact`` measures them.
    """

    def __init__(self, simd: int, activation: DType, code: Code, stages: int, target: str) -> None:
        self.target = target
        reach = simd * int(code.levels[-1]) * max(-activation.min, activation.max)
        super().__init__(simd, activation, code, stages, Shape.cast(range(-reach, reach + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fabric: Fabric = "ice40" if self.target == "ice40" else "ecp5"
        cells = ExactCells(m, fabric, self.activation, self.code, self.en, self.stages)
        x = [self.x.word_select(lane, self.activation.bits) for lane in range(self.simd)]
        m.d.comb += self.o.eq(Cat(cells.build(x, self.weights())).as_signed())
        return m


class ProductLanes(Lanes):
    """Any activation, two's-complement weights: ``o = sum_i w_i * x_i``, a multiplier a lane. The yardstick.

    The first of the ``stages`` ranks of registers is between products and adders. Cost: SIMD multipliers
    (:class:`fewbit.hw.multiplier.Multiplier`), or with ``dsp`` DSP blocks, and the adders of their products.

    Parameters
    ----------
    target : str
        That of the multipliers.
    dsp : bool
        Whether products are left to the device's DSP blocks.
    """

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: Target = "generic", *, dsp: bool = False
    ) -> None:
        self.multipliers = [
            Multiplier(signed_bits(activation), code.bits, "generic" if dsp else target) for _ in range(simd)
        ]
        reach = simd * max(-activation.min, activation.max) * int(-code.levels[0])
        super().__init__(simd, activation, code, stages, Shape.cast(range(-reach, reach + 1)))

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


def signed_bits(kind: DType) -> int:
    """Bits of an activation as a signed operand."""
    return DType.holding(kind.min, kind.max).bits


def lane_kind(
    activation: DType, code: Code, target: str = "generic", *, exact: bool = True, dsp: bool = False
) -> Callable[[int, DType, Code, int], Lanes]:
    """The lane component for ``code`` weights and ``activation`` inputs, made for ``target``.

    Parameters
    ----------
    activation : DType
    code : Code
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``
    exact : bool
        The weights come as plain code words, and what the lanes give needs no correction. Lanes for weights known
        beforehand are smaller.
    dsp : bool
        Whether products with plain integer weights are left to the device's DSP blocks.

    Raises
    ------
    FewbitError
        If there is none, or the target is unknown.
    """
    check_target("a lane", target)
    cells = target in ("ice40", "ecp5")
    if code.name.startswith("int("):
        return partial(ProductLanes, target=cast(Target, target), dsp=dsp)
    if code.name.startswith("csd("):
        raise FewbitError(f"lanes of {code} weights are those of fewbit.hw.scaled_lanes")
    if code.name == "binary" and activation.kind == "bipolar":
        return partial(XnorLanes, target=target) if cells else XnorLanes
    if exact:
        return partial(ExactLanes, target=target) if cells else TermLanes
    if code.name == "binary" and activation.bits == 1:
        return partial(CountLanes, target=target) if cells else CountLanes
    if code.name == "ternary" and activation.bits == 1:
        return partial(GateLanes, target=target) if cells else GateLanes
    return partial(TreeLanes, target=target) if cells else partial(TermLanes, known=True)
