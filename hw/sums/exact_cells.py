"""Sums of lanes whose weights come as code words at run time, in the cells of a fabric.

``-x`` is ``~x + 1``: an adder of two sums takes one such 1 as the carry that enters, so that after it one lane still
waits for its own. The first lane of all waits for nobody: it is negated in a chain of its own.
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
"""Lanes that an ECP5 chain takes one after the other, before chains are joined."""


@dataclass(frozen=True, eq=False)
class Sum:
    """Bits of a sum of ``lanes`` lanes, the last one the sign, which ``waits`` for 1 where both pins are 1."""

    bits: list[Pin]
    lanes: int
    waits: tuple[Pin, Pin] | None
    rank: int = 0
    depth: int = 0


class ExactCells(Cells):
    """Builds exact sums of products into ``m``.

    Parameters
    ----------
    m : Module
    fabric : ``"ice40"`` or ``"ecp5"``
    activation : DType
    code : Code
    enable : Value
    ranks : int
        Pipeline stages.
    """

    def __init__(self, m: Module, fabric: Fabric, activation: DType, code: Code, enable: Value, ranks: int) -> None:
        super().__init__(m, fabric, enable)
        self.activation, self.code, self.ranks = activation, code, ranks
        self.reach = int(code.levels[-1]) * max(-activation.min, activation.max)
        self.item = Item(activation.bits, activation.signed, code.largest_shift, code.has_zero)

    def build(self, x: list[Value], w: list[Value]) -> list[Value]:
        """Bits of the sum, ``ranks`` enabled cycles after the operands."""
        lanes = [([Pin(bit) for bit in one], [Pin(bit) for bit in word]) for one, word in zip(x, w, strict=True)]
        fan_in = len(lanes)
        if self.ranks:
            fan_in = 1
            while fan_in**self.ranks < len(lanes):
                fan_in += 1
        sums = [self.lanes(lanes[start : start + fan_in], first=not start) for start in range(0, len(lanes), fan_in)]
        rank = 0
        while len(sums) > 1:
            rank += 1
            groups = [sums[start : start + fan_in] for start in range(0, len(sums), fan_in)]
            sums = [self.joined([self.late(one, rank) for one in group]) for group in groups]
        self.finish()
        return [bit.value for bit in self.held(sums[0].bits, self.ranks - sums[0].rank)]

    def late(self, one: Sum, rank: int) -> Sum:
        """``one`` at a later rank."""
        wait = rank - one.rank
        bits = self.held([*one.bits, *(one.waits or ())], wait)
        waits = (bits[-2], bits[-1]) if one.waits else None
        return Sum(bits[: len(one.bits)], one.lanes, waits, rank)

    def joined(self, sums: list[Sum]) -> Sum:
        while len(sums) > 1:
            pairs = [self.add(a, b) for a, b in zip(sums[::2], sums[1::2])]
            sums = pairs + sums[len(pairs) * 2 :]
        return sums[0]

    def lanes(self, lanes: list[tuple[list[Pin], list[Pin]]], *, first: bool) -> Sum:
        """The sum of some lanes, among them the ``first`` of all."""
        if self.fabric == "ice40" or self.code.bits == 3 or self.activation.bits == 1:
            terms = [self.term(x, w, alone=first and not place) for place, (x, w) in enumerate(lanes)]
            return self.joined(terms)
        # The slot of an ECP5 inverts and gates by itself, as two bits say: a chain takes lanes as they are.
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
        """Two pins that are 1 where the weight is negative."""
        if self.code.bits == 3:
            return w[2], w[2]
        if self.item.zero:
            return w[1], w[0]
        if self.fabric == "ecp5":
            return Pin(w[0].value, True), Pin(w[0].value, True)
        inverse = self.lut(lambda w: 1 - w, w[0])
        return inverse, inverse

    def term(self, x: list[Pin], w: list[Pin], *, alone: bool) -> Sum:
        """One product; it waits for its 1 unless it is ``alone`` in that."""
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
        """The levels of the legal code words."""
        return {int(word): int(level) for word, level in zip(self.code.encode(self.code.levels), self.code.levels)}

    def looked_up(self, x: Pin, w: list[Pin]) -> Sum:
        """Activations of one bit: every bit of the product is a function of that and the code word."""
        legal = self.meanings()
        values = self.activation.min, self.activation.max
        zero, one = values if self.activation.kind == "bipolar" else (0, values[0] or values[1])

        def product(x: int, *word: int) -> int:
            return (one if x else zero) * legal.get(sum(bit << k for k, bit in enumerate(word)), 0)

        width = span(-self.reach, self.reach)
        return Sum(
            [self.lut(lambda *pins, k=k: product(*pins) >> k & 1, x, *w) for k in range(width)], 1, None, depth=1
        )

    def shift_term(self, x: list[Pin], w: list[Pin]) -> list[Pin]:
        """Product of a three-bit code: an illegal word is a 0, whose inverse and 1 come to 0 too."""
        levels = self.meanings()

        def size(*word: int) -> int:
            return abs(levels.get(sum(bit << k for k, bit in enumerate(word)), 0))

        some = self.lut(lambda *word: size(*word) in (2, 4), *w)
        other = self.lut(lambda *word: size(*word) in (0, 4), *w)
        bits = []
        for k in range(self.item.width):
            one, two, four = [*(NONE if p is None else x[p] for p in self.item.sources(k)), NONE, NONE][:3]
            bits.append(self.shifted((one, two, four), some, other, [w[2]], fourfold=self.item.shifts == 2))
        return bits

    def add(self, a: Sum, b: Sum, steering: list[Pin] | None = None) -> Sum:
        """``a + b`` and the 1 that one of them waits for; with ``steering`` (ECP5) ``b`` is an activation as it is."""
        lanes, depth = a.lanes + b.lanes, max(a.depth, b.depth) + 1
        entering, waits = (b.waits, a.waits) if b.waits else (a.waits, None)
        # What waits for 1 lies between -reach - 1 and reach; where activations are two's complement, reach - 1.
        most = lanes * self.reach
        width = span(-most - (waits is not None and not self.activation.signed), most - (waits is not None))
        first = extended(a.bits, width, sign=True)
        if self.fabric == "ice40":
            second = extended(b.bits, width, sign=True)
            bits = self.ice40(first, second, entering)
        else:
            seconds = self.seconds(b, width, steering)
            slots = [self.entering(entering), *(one.slot(pin) for pin, one in zip(first, seconds, strict=True))]
            bits = self.chain((a.rank, depth), slots)[1:]
        return Sum(bits, lanes, waits, a.rank, depth)

    def ice40(self, a: list[Pin], b: list[Pin], entering: tuple[Pin, Pin] | None) -> list[Pin]:
        one, other = ([pin.value for pin in pins] for pins in (a, b))
        if entering is None:
            return [Pin(bit) for bit in ice40_add(self.m, self.name("sum"), one, other, [ZERO] * len(one))]
        one, other = [entering[0].value, *one], [entering[1].value, *other]
        return [Pin(bit) for bit in ice40_add(self.m, self.name("sum"), one, other, [ZERO] * len(one), first=False)[1:]]

    def entering(self, pins: tuple[Pin, Pin] | None) -> Slot:
        if pins is None:
            return carry_slot(lambda a, b: 0, ZERO)
        one, other = pins
        return carry_slot(lambda a, b: one.of(a) & other.of(b), one.value, other.value)

    def seconds(self, b: Sum, width: int, steering: list[Pin] | None) -> list[Second]:
        if not b.lanes:
            return [NOTHING] * width
        if steering is None:
            return [Second(lambda b, c, d: b, pin, always=True) for pin in extended(b.bits, width, sign=True)]
        pins = extended(b.bits, width, sign=self.activation.signed)
        if self.item.zero:
            on, inverse = steering
            return [Second(lambda b, c, d: (b ^ c) & d, pin, inverse, on) for pin in pins]
        return [Second(lambda b, c, d: b ^ c ^ 1, pin, steering[0], always=True) for pin in pins]
