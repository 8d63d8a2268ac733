# amaranth: UnusedElaboratable=no
"""Lanes for weights that are signed powers of two: a product is the activation, shifted, inverted or gated."""

from __future__ import annotations

from typing import cast

import numpy as np
from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, signed, unsigned

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints
from fewbit.hw.lanes.base import CodeLanes, check_lanes
from fewbit.hw.sums.exact_cells import ExactCells
from fewbit.hw.sums.pair_sums import PairSums
from fewbit.hw.sums.popcount import sum_tree
from fewbit.hw.sums.term_cells import TermCells
from fewbit.hw.sums.term_tree import Fabric, Item, TermTree


class TermLanes(CodeLanes):
    """Any activation, weights that are 0 or ± a power of two, in plain RTL: a lane shifts, inverts or gates.

    ``-x`` is ``~x + 1``: ``o = sum_i ((2**s_i * x_i xor neg_i) and nonzero_i) + popcount(neg)``, so no lane has an
    adder for its negation. An illegal code word counts as 0.
    """

    known = False
    """Whether the weights are known at generation time: then the ones of the negations are left to the correction."""

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        word = code.signs_only or (code.sign_bit and (code.bits > 2 or code.gate_bit))
        return code.powers_of_two and code.symmetric and word

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        bits = activation.bits + (activation.kind == "uint")
        return round(simd * (2.6 * bits + 2) if code.largest_shift == 0 else simd * (4.5 * bits + 4))

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: str = "generic", *, dsp: bool = False
    ) -> None:
        limit = simd * int(code.levels[-1]) * max(-activation.min, activation.max)
        super().__init__(simd, activation, code, stages, Shape.cast(range(-limit - simd * self.known, limit + 1)))

    def correction(self, weights: Ints) -> Ints:
        negative: Ints = (np.asarray(weights) < 0).sum(1)
        return negative if self.known else 0 * negative

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms: list[Value] = []
        for x, w in zip(self.activations(), self.weights()):
            negative = ~w[0] if self.code.signs_only else w[-1]
            bits = Cat(x) if x.shape().signed else Cat(x, Const(0, 1))
            if self.code.bits > 2:
                bits, on = self.shifted(m, bits.as_signed(), w)
            else:
                on = w[0] if self.code.has_zero else Const(1, 1)
            term = bits ^ negative.replicate(len(bits))
            if self.code.has_zero:
                term &= on.replicate(len(bits))
                negative &= on
            terms += [term.as_signed(), *([] if self.known else [negative])]
        m.d.comb += self.o.eq(sum_tree(m, terms, self.stages, self.en, "sum"))
        return m

    def shifted(self, m: Module, x: Value, w: Value) -> tuple[Value, Value]:
        """The activation times the magnitude of the weight, and whether the weight is not 0."""
        shifts = self.code.largest_shift
        result, on = Signal(signed(len(x) + shifts)), Signal()
        with m.Switch(w):
            for level in self.code.levels:
                if level:
                    with m.Case(int(self.code.encode(level[None])[0])):
                        m.d.comb += [result.eq(x << int(abs(level)).bit_length() - 1), on.eq(1)]
        return result.as_unsigned(), on


class KnownTermLanes(TermLanes):
    """Any activation, weights that are 0 or ± a power of two and known at generation time, in plain RTL.

    It works as :class:`TermLanes`, but ``o`` lacks the ones of the negations (one for each negative weight), which
    :meth:`correction` returns.
    """

    exact = False
    known = True


_TREE: dict[str, dict[tuple[int, bool], tuple[float, float]]] = {
    "ice40": {(0, False): (1.0, 1.3), (0, True): (1.5, 2.25), (1, True): (2.0, 3.9), (2, True): (2.95, 4.6)},
    "ecp5": {(0, False): (0.8, 1.6), (0, True): (1.3, 2.2), (1, True): (2.1, 3.8), (2, True): (2.6, 5.6)},
}
"""Logic cells of a lane: for the largest shift, and whether a weight may be 0, the pair ``slope, constant`` of ``slope
* activation bits + constant``. Measured by ``python -m benchmarks.lanes``."""


class TreeLanes(CodeLanes):
    """Any activation, weights that are 0 or ± a power of two and known at generation time, in the cells of an FPGA
    family.

    ``o`` is the output of a tree of adders that invert their sum or gate an operand at no cost. The words hold the
    control bits of the tree instead of the weights (:mod:`fewbit.hw.sums.term_tree`), and take no more bits than the
    code. For weights of ±1, ``front`` computes the sum and the difference of each pair of activations, which all
    outputs share.

    On iCE40, the adder cell that takes in a lane of 0, ±1 or 0, ±1, ±2 also gates it. There the gating is incomplete:
    while the weight is 0, the carries of this adder and the LUTs that shift still switch, but no sum does. The cells
    have no input left to gate them.

    Cost a lane, for 16 lanes of 8 unsigned bits, in logic cells on iCE40 and LUT4s on ECP5: ±1 10.3 and 9.0, with an
    eighth of the front; 0, ±1 14.3 and 12.5; 0, ±1, ±2 20.0 and 20.6; 0, ±1, ±2, ±4 28.1 and 26.1. Measured by ``python
    -m benchmarks.lanes``. Source: docs/decisions/0009.
    """

    exact = False
    targets = ("ice40", "ecp5")

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return code.powers_of_two and code.largest_shift <= 2

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        slope, constant = _TREE[family][code.largest_shift, not _paired(code)]
        # There is one adder less than lanes; each sum in front of a pipeline stage but the last takes some cells more.
        sums: float = simd ** (1 - 1 / stages) - 1
        joins = 2.5 * sums if family == "ecp5" else sums - activation.bits - 2
        return round(simd * (slope * activation.bits + constant) + joins)

    @classmethod
    def front_cells(cls, code: Code, activation: DType, simd: int, family: str) -> int:
        return simd * (activation.bits + 1) if _paired(code) and activation.bits > 1 else 0

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: str = "ice40", *, dsp: bool = False
    ) -> None:
        check_lanes(simd, stages)
        self.target = target
        self.paired = _paired(code)
        self.step = 2 if activation.kind == "bipolar" else 1  # the lanes sum the stored bits: x = 2 bit - 1
        self.tree = TermTree(cast(Fabric, target), _items(simd, activation, code, target), stages)
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
        return self.tree.control_words(weights)[0]

    def correction(self, weights: Ints) -> Ints:
        excess = self.tree.control_words(weights)[1]
        total: Ints = np.asarray(weights, np.int64).sum(1)
        return -2 * excess - total if self.step == 2 else -excess

    def elaborate(self, platform: object) -> Module:
        m = Module()
        offset = self.activation.signed and self.target == "ecp5" and not self.paired
        cells = TermCells(m, self.tree, self.x, self.w, self.en, self.stages, offset=offset)
        m.d.comb += self.o.eq(Cat(cells.build()))
        return m


def _paired(code: Code) -> bool:
    """Whether all weights are -1 or +1, so each pair of lanes selects the sum or the difference of two activations."""
    return np.array_equal(code.levels, [-1, 1])


def _items(simd: int, activation: DType, code: Code, target: str) -> list[Item]:
    bits = activation.bits
    if _paired(code):
        pair = Item(bits, False, 0, False, pair=True, bias=activation.signed << bits)
        return [pair] * (simd // 2) + [Item(bits, False, 0, False, bias=activation.signed << bits - 1)] * (simd % 2)
    # The iCE40 adder cell has no input left to invert the sign bit of a plain activation, so there it is sign-extended.
    extends = activation.signed and target == "ice40"
    return [Item(bits, extends, code.largest_shift, True, bias=(activation.signed and not extends) << bits - 1)] * simd


class ExactLanes(CodeLanes):
    """Any activation, weights that are 0 or ± a power of two, as code words at run time, in the cells of an FPGA
    family.

    It computes the sum of :class:`TermLanes`; the ones of the negations enter the carry chains
    (:mod:`fewbit.hw.sums.exact_cells`).

    Cost a lane, for 16 lanes of 8 unsigned bits, in logic cells on iCE40 and LUT4s on ECP5: ±1 21 and 15; 0, ±1 21 and
    15; 0, ±1, ±2, ±4 34 and 35. Measured by ``python -m benchmarks.lanes --exact``.
    """

    targets = ("ice40", "ecp5")

    @classmethod
    def serves(cls, code: Code, activation: DType) -> bool:
        return TermLanes.serves(code, activation) and code.bits <= 3 and code.largest_shift <= 2

    @classmethod
    def cells(cls, code: Code, activation: DType, simd: int, *, stages: int, family: str, dsp: bool) -> int:
        known = TreeLanes.cells(code, activation, simd, stages=stages, family=family, dsp=dsp)
        return known + cls.exact_cells(code, activation, simd, family)

    def __init__(
        self, simd: int, activation: DType, code: Code, stages: int, target: str = "ice40", *, dsp: bool = False
    ) -> None:
        self.target = target
        limit = simd * int(code.levels[-1]) * max(-activation.min, activation.max)
        super().__init__(simd, activation, code, stages, Shape.cast(range(-limit, limit + 1)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fabric = cast(Fabric, self.target)
        cells = ExactCells(m, fabric, self.activation, self.code, self.en, self.stages)
        x = [self.x.word_select(lane, self.activation.bits) for lane in range(self.simd)]
        m.d.comb += self.o.eq(Cat(cells.build(x, self.weights())).as_signed())
        return m
