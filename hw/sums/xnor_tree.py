"""Compressor trees of XNORs in the cells of a fabric, after the plan of :mod:`fewbit.hw.sums.compress`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Module, Signal, Value

from fewbit.hw.fabric.carry import ONE, ZERO, Slot, carry_slot, ecp5_chain, ice40_add, lut, slot, table
from fewbit.hw.sums.compress import Count, Fabric, arrival, cut, plan

_ROW = 16
"""Slots of an ECP5 row, about: longer ones are smaller, but their carries look to timing analysis as if they ran on."""

_WAY = 1.5
"""What operands take from their registers, in LUTs more than from cell to cell: each goes to many trees."""


@dataclass(frozen=True)
class Bit:
    """A bit as it stands in the tree: while nobody has computed it ``a xnor b``, or with a gate ``(a xor b) and gate``;
    then ``a``, inverted or not."""

    a: Value
    b: Value | None = None
    inverted: bool = False
    gate: Value | None = None

    @property
    def pins(self) -> tuple[Value, ...]:
        return tuple(pin for pin in (self.a, self.b, self.gate) if pin is not None)

    def of(self, *pins: int) -> int:
        """The bit that the values of ``pins`` mean."""
        if self.gate is not None:
            return (pins[0] ^ pins[1]) & pins[2]
        return pins[0] ^ self.inverted if self.b is None else pins[0] ^ pins[1] ^ 1


Number = list[Bit]
"""Lowest bit first."""


class XnorTree(ABC):
    """Builds ``popcount(a xnor b)`` into ``m``, or with gates ``popcount((a xor b) and gates)``; ``ranks`` ranks of
    registers, the last on the count.

    The sums of a plan are built from the operands on; what comes early waits in registers for what it is added to.
    """

    def __init__(self, m: Module, a: Value, b: Value, enable: Value, ranks: int, gates: Value | None = None) -> None:
        self.m, self.enable, self.ranks, self.gated = m, enable, ranks, gates is not None
        every = [None] * len(a) if gates is None else list(gates)
        self.operands = [Bit(x, y, gate=gate) for x, y, gate in zip(a, b, every, strict=True)]
        self.names = 0
        self.limit = 0.0

    fabric: Fabric

    def build(self) -> list[Value]:
        """Bits of the count, ``ranks`` enabled cycles after the operands."""
        root = plan(len(self.operands), self.fabric, gated=self.gated)
        self.limit = cut(root, max(self.ranks - 1, 0), _WAY)
        bits = self.plain(self.number(root, last=True), 0)
        self.finish()
        return self.held(bits, self.ranks - self.rank(root))

    @abstractmethod
    def number(self, count: Count, last: bool = False, waits: bool = False) -> Number:
        """The bits of ``count``, at its own rank; ``last`` if nothing follows, ``waits`` if registers do."""

    @abstractmethod
    def finish(self) -> None:
        """What is left to do when all sums are built."""

    def rank(self, count: Count) -> int:
        return arrival(count, self.limit, _WAY)[0]

    def time(self, count: Count) -> float:
        return arrival(count, self.limit, _WAY)[1]

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def lut(self, function: Callable[..., int], *inputs: Value) -> Bit:
        return Bit(lut(self.m, self.name("bit"), self.fabric, function, *inputs))

    def take(self, count: int) -> Number:
        """The next operands."""
        taken, self.operands = self.operands[:count], self.operands[count:]
        return taken

    def held(self, values: list[Value], ranks: int) -> list[Value]:
        """``values`` after ``ranks`` registers."""
        for _ in range(ranks):
            register = Signal(len(values), name=self.name("held"), reset_less=True)
            with self.m.If(self.enable):
                self.m.d.sync += [register[k].eq(value) for k, value in enumerate(values)]
            values = list(register)
        return values

    def plain(self, bits: Number, ranks: int) -> list[Value]:
        """The bits computed, and held for ``ranks`` registers."""
        return self.held([
            bit.a if bit.b is None and not bit.inverted else self.lut(bit.of, *bit.pins).a for bit in bits
        ], ranks)  # fmt: skip

    def part(self, count: Count | None, rank: int) -> Number:
        """A summand at ``rank``. An operand stays uncomputed where it need not wait."""
        if count is None:
            return []
        if count.bits == 1:
            (bit,) = self.take(1)
            return [bit] if rank == 0 else [Bit(value) for value in self.plain([bit], rank)]
        wait = rank - self.rank(count)
        bits = self.number(count, waits=wait > 0)
        if not wait:
            return bits
        return [Bit(value, inverted=bit.inverted)
                for bit, value in zip(bits, self.held([bit.a for bit in bits], wait))]  # fmt: skip

    def computed(self, bit: Bit) -> Bit:
        """The bit in a LUT, if it is gated."""
        return bit if bit.gate is None else self.lut(bit.of, *bit.pins)

    def three(self, waits: bool = False) -> Number:
        """Three operands in 3 LUTs, gated ones in 4; one more where registers follow, which then are in the cells of
        both results. Those of three LUTs are no fewer cells, since a result that another one needs leaves its cell no
        register, and they are a LUT slower."""
        one, two, three = self.take(3)
        one = self.computed(one)
        ours = len(one.pins)
        parity = self.lut(lambda *pins: one.of(*pins[:ours]) ^ two.of(*pins[ours:]), *one.pins, *two.pins)
        if waits:
            last = self.lut(three.of, *three.pins)
            return [
                self.lut(lambda p, z: p ^ z, parity.a, last.a),
                self.lut(lambda p, z, *pins: z if p else one.of(*pins), parity.a, last.a, *one.pins),
            ]
        total = self.lut(lambda p, *pins: p ^ three.of(*pins), parity.a, *three.pins)
        carry = self.lut(lambda p, s, *pins: 1 - s if p else one.of(*pins), parity.a, total.a, *one.pins)
        return [total, carry]

    def two(self) -> Number:
        """Two operands in 2 LUTs, gated ones in 3."""
        one, two = self.take(2)
        one = self.computed(one)
        ours = len(one.pins)
        return [
            self.lut(lambda *pins: one.of(*pins[:ours]) ^ two.of(*pins[ours:]), *one.pins, *two.pins),
            self.lut(lambda *pins: one.of(*pins[:ours]) & two.of(*pins[ours:]), *one.pins, *two.pins),
        ]


@dataclass
class Wanted:
    """A carry-in of an iCE40 chain: ``carry``, the XNOR of ``bit``, in rank 0 by ``time``, or held for ``ranks``."""

    bit: Bit
    carry: Signal
    time: float
    ranks: int


class Ice40Tree(XnorTree):
    """Small counts in LUTs, larger ones in carry chains.

    A chain has one cell more for the bit that enters. Its LUT is free and computes the bit that enters another chain,
    unless that is gated: two of its inputs are taken.
    """

    fabric = "ice40"

    def __init__(self, m: Module, a: Value, b: Value, enable: Value, ranks: int, gates: Value | None = None) -> None:
        super().__init__(m, a, b, enable, ranks, gates)
        self.wanted: list[Wanted] = []

    def number(self, count: Count, last: bool = False, waits: bool = False) -> Number:
        if count.high is None:
            return self.three(waits) if count.bits == 3 else self.two() if count.bits == 2 else self.take(1)
        rank = self.rank(count)
        high, low = self.part(count.high, rank), self.part(count.low, rank)
        if count.short:
            return self.short(high, low, self.take(1) if count.carry else [], rank)
        return self.chain(count, high, [Bit(value) for value in self.plain(low, 0)], rank)

    def short(self, high: Number, low: Number, carry: Number, rank: int) -> Number:
        """Two-bit numbers, without a chain: a LUT for each bit, and one for the carry of the lowest if a bit enters."""
        if carry and (rank or carry[0].gate is not None):
            carry = [Bit(value) for value in self.plain(carry, rank)]
        bit = carry[0] if carry else None
        a0, a1 = (part.a for part in high)
        if not low:
            assert bit is not None
            return [
                self.lut(lambda a, *pins: a ^ bit.of(*pins), a0, *bit.pins),
                self.lut(lambda b, a, *pins: b ^ (a & bit.of(*pins)), a1, a0, *bit.pins),
                self.lut(lambda b, a, *pins: b & a & bit.of(*pins), a1, a0, *bit.pins),
            ]
        b0, b1 = (part.a for part in low)
        if bit is None:
            return [
                self.lut(lambda a, b: a ^ b, a0, b0),
                self.lut(lambda c, d, a, b: c ^ d ^ (a & b), a1, b1, a0, b0),
                self.lut(lambda c, d, a, b: (c + d + (a & b)) >> 1, a1, b1, a0, b0),
            ]
        inner = self.lut(lambda a, b, *pins: (a + b + bit.of(*pins)) >> 1, a0, b0, *bit.pins).a
        return [
            self.lut(lambda a, b, *pins: a ^ b ^ bit.of(*pins), a0, b0, *bit.pins),
            self.lut(lambda a, b, c: a ^ b ^ c, a1, b1, inner),
            self.lut(lambda a, b, c: (a + b + c) >> 1, a1, b1, inner),
        ]

    def chain(self, count: Count, high: Number, low: Number, rank: int) -> Number:
        name = self.name("chain")
        a = [bit.a for bit in high]
        b = [*(bit.a for bit in low), *[ZERO] * (len(high) - len(low))]
        if count.width > len(high):
            a, b = [*a, ZERO], [*b, ZERO]
        if count.carry:
            entering = Signal(name=f"{name}_in")
            time = self.time(count) - count.own_delay if rank == 0 else self.limit
            self.wanted.append(Wanted(self.take(1)[0], entering, time, rank))
            a, b = [entering, *a], [entering, *b]
        total = ice40_add(self.m, name, a, b, [ZERO] * len(a), first=not count.carry)
        return [Bit(bit) for bit in total[count.carry :]]

    def finish(self) -> None:
        """Computes the bits that enter chains, where it can in the first cell of another chain.

        That cell is seen as waiting for its own carry-in, so that a bit goes where this one is there in time.
        """
        free: list[tuple[float, Value]] = []
        for wanted in sorted(self.wanted, key=lambda wanted: (-wanted.ranks, wanted.time)):
            ready, place = max(
                (pair for pair in free if pair[0] + 1 <= wanted.time and not self.gated),
                key=lambda pair: pair[0],
                default=(_WAY, None),
            )
            if place is None:
                computed = self.lut(wanted.bit.of, *wanted.bit.pins)
            else:
                free = [pair for pair in free if pair[1] is not place]
                a, b = wanted.bit.pins
                computed = self.lut(lambda a, _1, _2, b: a ^ b ^ 1, a, place, place, b)
            (entering,) = self.held([computed.a], wanted.ranks)
            self.m.d.comb += wanted.carry.eq(entering)
            free.append((0.0 if wanted.ranks else ready + 1, wanted.carry))


class Ecp5Tree(XnorTree):
    """Everything in carry chains: a slot adds two bits that may be XNORs of operands, and a third enters as carry.

    Two uncomputed operands fill the four pins of a slot, which then can only count the bits that differ. A sum whose
    inputs are all inverted is inverted itself, if it is told of the zeros; the next one takes that back. A gated
    operand goes to a slot with a computed one.
    """

    fabric = "ecp5"

    def __init__(self, m: Module, a: Value, b: Value, enable: Value, ranks: int, gates: Value | None = None) -> None:
        super().__init__(m, a, b, enable, ranks, gates)
        self.chains: dict[tuple[int, float], list[tuple[list[Slot], list[Signal]]]] = {}

    def number(self, count: Count, last: bool = False, waits: bool = False) -> Number:
        if count.high is None:
            return self.take(1)
        if last and count.bits <= 3:
            return self.two() if count.bits == 2 else self.three()
        rank = self.rank(count)
        high, low = self.part(count.high, rank), self.part(count.low, rank)
        carry = self.take(1)[0] if count.carry else None
        if carry and rank:
            carry = Bit(self.plain([carry], rank)[0])
        elif carry:
            carry = self.computed(carry)
        high = [self.computed(bit) for bit in high]
        inverted = bool(low) and high[0].b is not None and low[0].b is not None
        slots = [self.entering(carry, inverted)]
        for k, bit in enumerate(high):
            slots.append(self.slot(bit, low[k] if k < len(low) else None, inverted))
        name = self.name("sum")
        total = [Signal(name=f"{name}_{k}") for k in range(count.width)]
        self.chains.setdefault((rank, round(self.time(count), 3)), []).append((slots, total))
        return [Bit(bit, inverted=inverted) for bit in total]

    def entering(self, carry: Bit | None, inverted: bool) -> Slot:
        if carry is None:
            return carry_slot(lambda a, b: int(inverted), ZERO)
        pins = carry.pins
        return carry_slot(lambda a, b: carry.of(*(a, b)[: len(pins)]) ^ inverted, *pins)

    def slot(self, one: Bit, other: Bit | None, inverted: bool) -> Slot:
        """Adds two bits, or as ``inverted`` what they are not. A plain bit goes to the pins that give the carry."""
        if other is not None and other.gate is not None:
            x, y, gate = other.pins
            return slot(lambda gate, x, y: gate & (x ^ y), one.a, gate, x, y)
        if other is not None and one.b is not None and other.b is None:
            one, other = other, one
        if other is not None and one.b is not None:
            assert other.b is not None
            return table(lambda a, b, c, d: a ^ b ^ c ^ d), *one.pins, *other.pins
        ours = len(one.pins)

        def passes(*pins: int) -> int:
            second = inverted if other is None else other.of(*pins[ours : ours + len(other.pins)]) ^ inverted
            first = one.of(*pins[:ours]) ^ inverted
            return first ^ second if pins[3] else first

        a, b, c = [*one.pins, *(other.pins if other else ()), ZERO, ZERO][:3]
        return table(passes), a, b, c, ONE

    def finish(self) -> None:
        """Sums that are there at the same time stand in rows: the slot after one gives the next its carry."""
        for _, chains in sorted(self.chains.items(), key=lambda item: item[0]):
            row: list[Slot] = []
            sums: list[Signal | None] = [None]  # what a slot's sum is; the first is none
            for slots, total in chains:
                if row and len(row) + len(slots) + 1 > _ROW:
                    self.row(row, sums)
                    row, sums = [], [None]
                row += slots
                width = len(slots) - 1
                sums += [*total[:width], total[width] if len(total) > width else None]
            self.row(row, sums)

    def row(self, slots: list[Slot], sums: list[Signal | None]) -> None:
        if sums[-1] is not None:
            slots = [*slots, carry_slot(lambda a, b: 0, ZERO)]
        for made, wanted in zip(ecp5_chain(self.m, self.name("row"), slots), sums):
            if wanted is not None:
                self.m.d.comb += wanted.eq(made)
