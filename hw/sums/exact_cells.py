"""Sums of lanes whose weights arrive as code words at run time, in the cells of an FPGA family.

A negation is ``-x = ~x + 1``. An adder of two sums takes one such ``+ 1`` as its carry-in, so in each sum the ``+ 1``
of one lane is still missing (*pending*). The very first lane is negated by a chain of its own, so nothing is missing at
the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from amaranth.hdl import Module, Value

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.hw.fabric.carry import ZERO, Slot, carry_slot, ice40_add
from fewbit.hw.sums.cells import NONE, NOTHING, Cells, Pin, Second, extended
from fewbit.hw.sums.term_tree import Fabric, Item, span

_CHAIN = 4
"""Lanes that are added one after the other in ECP5 chains, before the results are added in a tree."""


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum of ``lanes`` lanes, lowest bit first, the last bit the sign. If ``waits`` is set, 1 has yet to be added
    where both of its pins are 1."""

    bits: list[Pin]
    lanes: int
    waits: tuple[Pin, Pin] | None
    stage: int = 0
    depth: int = 0


class ExactCells(Cells):
    """Instantiates exact sums of products in ``m``.

    Parameters
    ----------
    m : Module
    fabric : ``"ice40"`` or ``"ecp5"``
    activation : DType
    code : Code
    enable : Value
        Registers advance while it is high.
    stages : int
        Pipeline stages.
    """

    def __init__(self, m: Module, fabric: Fabric, activation: DType, code: Code, enable: Value, stages: int) -> None:
        super().__init__(m, fabric, enable)
        self.activation, self.code, self.stages = activation, code, stages
        self.limit = int(code.levels[-1]) * max(-activation.min, activation.max)
        self.item = Item(activation.bits, activation.signed, code.largest_shift, code.has_zero)

    def build(self, x: list[Value], w: list[Value]) -> list[Value]:
        """Bits of the sum, ``stages`` cycles with ``enable`` high after the operands."""
        lanes = [([Pin(bit) for bit in bits], [Pin(bit) for bit in word]) for bits, word in zip(x, w, strict=True)]
        fan_in = len(lanes)
        if self.stages:
            fan_in = 1
            while fan_in**self.stages < len(lanes):
                fan_in += 1
        sums = [self.lanes(lanes[start : start + fan_in], first=not start) for start in range(0, len(lanes), fan_in)]
        stage = 0
        while len(sums) > 1:
            stage += 1
            groups = [sums[start : start + fan_in] for start in range(0, len(sums), fan_in)]
            sums = [self.joined([self.late(part, stage) for part in group]) for group in groups]
        self.finish()
        return [bit.value for bit in self.held(sums[0].bits, self.stages - sums[0].stage)]

    def late(self, part: Sum, stage: int) -> Sum:
        """``part`` delayed to pipeline stage number ``stage``."""
        wait = stage - part.stage
        bits = self.held([*part.bits, *(part.waits or ())], wait)
        waits = (bits[-2], bits[-1]) if part.waits else None
        return Sum(bits[: len(part.bits)], part.lanes, waits, stage)

    def joined(self, sums: list[Sum]) -> Sum:
        while len(sums) > 1:
            pairs = [self.add(a, b) for a, b in zip(sums[::2], sums[1::2])]
            sums = pairs + sums[len(pairs) * 2 :]
        return sums[0]

    def lanes(self, lanes: list[tuple[list[Pin], list[Pin]]], *, first: bool) -> Sum:
        """The sum of some lanes; ``first`` if the very first lane is among them."""
        if self.fabric == "ice40" or self.code.bits == 3 or self.activation.bits == 1:
            terms = [self.term(x, w, alone=first and not place) for place, (x, w) in enumerate(lanes)]
            return self.joined(terms)
        # An ECP5 slot inverts and gates its operand under control of two bits, so lanes need no LUTs of their own.
        count = ceil(len(lanes) / _CHAIN)
        chains = []
        for k in range(count):
            (x, w), *rest = lanes[k::count]
            total = self.term(x, w, alone=first and not k)
            for x, w in rest:
                total = self.add(total, Sum(x, 1, self.negative(w)), w)
            chains.append(total)
        return self.joined(chains)

    def negative(self, w: list[Pin]) -> tuple[Pin, Pin]:
        """Two pins that are both 1 if the weight is negative."""
        if self.code.bits == 3:
            return w[2], w[2]
        if self.item.zero:
            return w[1], w[0]
        if self.fabric == "ecp5":
            return Pin(w[0].value, True), Pin(w[0].value, True)
        inverse = self.lut(lambda w: 1 - w, w[0])
        return inverse, inverse

    def term(self, x: list[Pin], w: list[Pin], *, alone: bool) -> Sum:
        """One product. Its ``+ 1`` is pending, unless it is ``alone``: then a chain of its own adds it."""
        if self.activation.bits == 1:
            return self.looked_up(x[0], w)
        waits = self.negative(w)
        if self.code.bits == 3:
            bits = self.shift_term(x, w)
            sign = w[2]
        elif self.item.zero:
            bits = [self.lut(lambda x, inverse, on: (x ^ inverse) & on, pin, w[1], w[0]) for pin in x]
            sign = NONE if self.activation.signed else self.lut(lambda inverse, on: inverse & on, w[1], w[0])
        else:
            bits = [self.lut(lambda x, w: x ^ w ^ 1, pin, w[0]) for pin in x]
            sign = waits[0]
        term = Sum(bits if self.activation.signed else [*bits, sign], 1, waits, depth=1)
        return self.add(term, Sum([NONE], 0, None)) if alone else term

    def meanings(self) -> dict[int, int]:
        """The level of each legal code word."""
        return {int(word): int(level) for word, level in zip(self.code.encode(self.code.levels), self.code.levels)}

    def looked_up(self, x: Pin, w: list[Pin]) -> Sum:
        """The product of a one-bit activation: each bit is a function of the activation and the code word."""
        levels = self.meanings()
        values = self.activation.min, self.activation.max
        low_value, high_value = values if self.activation.kind == "bipolar" else (0, values[0] or values[1])

        def product(x: int, *word: int) -> int:
            return (high_value if x else low_value) * levels.get(sum(bit << k for k, bit in enumerate(word)), 0)

        width = span(-self.limit, self.limit)
        return Sum(
            [self.lut(lambda *pins, k=k: product(*pins) >> k & 1, x, *w) for k in range(width)], 1, None, depth=1
        )

    def shift_term(self, x: list[Pin], w: list[Pin]) -> list[Pin]:
        """The product by a weight of a three-bit code. An illegal word counts as 0: inverted, with its ``+ 1``, it is 0
        again."""
        levels = self.meanings()

        def size(*word: int) -> int:
            return abs(levels.get(sum(bit << k for k, bit in enumerate(word)), 0))

        some = self.lut(lambda *word: size(*word) in (2, 4), *w)
        zero_or_four = self.lut(lambda *word: size(*word) in (0, 4), *w)
        bits = []
        for k in range(self.item.width):
            once, twice, fourfold = [*(NONE if p is None else x[p] for p in self.item.sources(k)), NONE, NONE][:3]
            bits.append(
                self.shifted((once, twice, fourfold), some, zero_or_four, [w[2]], fourfold=self.item.shifts == 2)
            )
        return bits

    def add(self, a: Sum, b: Sum, controls: list[Pin] | None = None) -> Sum:
        """``a + b`` and the pending 1 of one of them.

        With ``controls`` (ECP5), ``b`` is a plain activation, which the slots invert and gate as these pins say.
        """
        lanes, depth = a.lanes + b.lanes, max(a.depth, b.depth) + 1
        entering, waits = (b.waits, a.waits) if b.waits else (a.waits, None)
        # A pending 1 shifts the range down by 1; with two's-complement activations its lower end stays the same.
        most = lanes * self.limit
        width = span(-most - (waits is not None and not self.activation.signed), most - (waits is not None))
        first = extended(a.bits, width, sign=True)
        if self.fabric == "ice40":
            second = extended(b.bits, width, sign=True)
            bits = self.ice40(first, second, entering)
        else:
            seconds = self.seconds(b, width, controls)
            slots = [self.entering(entering), *(second.slot(pin) for pin, second in zip(first, seconds, strict=True))]
            bits = self.chain((a.stage, depth), slots)[1:]
        return Sum(bits, lanes, waits, a.stage, depth)

    def ice40(self, a: list[Pin], b: list[Pin], entering: tuple[Pin, Pin] | None) -> list[Pin]:
        a_bits, b_bits = ([pin.value for pin in pins] for pins in (a, b))
        if entering is None:
            return [Pin(bit) for bit in ice40_add(self.m, self.name("sum"), a_bits, b_bits, [ZERO] * len(a_bits))]
        a_bits, b_bits = [entering[0].value, *a_bits], [entering[1].value, *b_bits]
        return [
            Pin(bit)
            for bit in ice40_add(self.m, self.name("sum"), a_bits, b_bits, [ZERO] * len(a_bits), first=False)[1:]
        ]

    def entering(self, pins: tuple[Pin, Pin] | None) -> Slot:
        if pins is None:
            return carry_slot(lambda a, b: 0, ZERO)
        first, second = pins
        return carry_slot(lambda a, b: first.of(a) & second.of(b), first.value, second.value)

    def seconds(self, b: Sum, width: int, controls: list[Pin] | None) -> list[Second]:
        if not b.lanes:
            return [NOTHING] * width
        if controls is None:
            return [Second(lambda b, c, d: b, pin, always=True) for pin in extended(b.bits, width, sign=True)]
        pins = extended(b.bits, width, sign=self.activation.signed)
        if self.item.zero:
            on, inverse = controls
            return [Second(lambda b, c, d: (b ^ c) & d, pin, inverse, on) for pin in pins]
        return [Second(lambda b, c, d: b ^ c ^ 1, pin, controls[0], always=True) for pin in pins]
