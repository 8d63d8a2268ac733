"""Builds the compressor trees that :mod:`fewbit.hw.sums.compress` plans, in the cells of an FPGA family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Module, Signal, Value

from fewbit.hw.fabric.carry import ONE, ZERO, Slot, carry_slot, ecp5_chain, ice40_add, lut, slot, table
from fewbit.hw.sums.compress import Count, Fabric, arrival, cut, plan

_ROW = 16
"""Slots of an ECP5 row, about. Longer rows take fewer cells, but timing analysis would assume that carries propagate
through chains that are in fact separate."""

_WAY = 1.5
"""Delay of the wires from the operands' registers, in LUT delays, beyond that between cells: each goes to many
trees."""


@dataclass(frozen=True)
class Bit:
    """A bit in the tree. With ``b`` it is not yet computed: ``a xnor b``, or with a gate ``(a xor b) and gate``.
    Without ``b`` it is ``a``, or its inverse if ``inverted``."""

    a: Value
    b: Value | None = None
    inverted: bool = False
    gate: Value | None = None

    @property
    def pins(self) -> tuple[Value, ...]:
        return tuple(pin for pin in (self.a, self.b, self.gate) if pin is not None)

    def of(self, *pins: int) -> int:
        """The value of the bit for given values of its ``pins``."""
        if self.gate is not None:
            return (pins[0] ^ pins[1]) & pins[2]
        return pins[0] ^ self.inverted if self.b is None else pins[0] ^ pins[1] ^ 1


Number = list[Bit]
"""Bits, lowest first."""


class XnorTree(ABC):
    """Instantiates ``popcount(a xnor b)`` in ``m``, or with gates ``popcount((a xor b) and gates)``.

    It has ``stages`` pipeline stages, the last one on the count. A part that is ready earlier than the one that it is
    added to is delayed by registers.
    """

    def __init__(self, m: Module, a: Value, b: Value, enable: Value, stages: int, gates: Value | None = None) -> None:
        self.m, self.enable, self.stages, self.gated = m, enable, stages, gates is not None
        gate_bits = [None] * len(a) if gates is None else list(gates)
        self.operands = [Bit(x, y, gate=gate) for x, y, gate in zip(a, b, gate_bits, strict=True)]
        self.names = 0
        self.limit = 0.0

    fabric: Fabric

    def build(self) -> list[Value]:
        """Bits of the count, ``stages`` cycles with ``enable`` high after the operands."""
        root = plan(len(self.operands), self.fabric, gated=self.gated)
        self.limit = cut(root, max(self.stages - 1, 0), _WAY)
        bits = self.plain(self.number(root, last=True), 0)
        self.finish()
        return self.held(bits, self.stages - self.stage(root))

    @abstractmethod
    def number(self, count: Count, last: bool = False, waits: bool = False) -> Number:
        """The bits of ``count`` in its own pipeline stage; ``last`` if no sum follows, ``waits`` if registers
        follow."""

    @abstractmethod
    def finish(self) -> None:
        """Instantiates what can only be built after all sums."""

    def stage(self, count: Count) -> int:
        return arrival(count, self.limit, _WAY)[0]

    def time(self, count: Count) -> float:
        return arrival(count, self.limit, _WAY)[1]

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def lut(self, function: Callable[..., int], *inputs: Value) -> Bit:
        return Bit(lut(self.m, self.name("bit"), self.fabric, function, *inputs))

    def take(self, count: int) -> Number:
        """The next ``count`` operands."""
        taken, self.operands = self.operands[:count], self.operands[count:]
        return taken

    def held(self, values: list[Value], stages: int) -> list[Value]:
        """``values`` delayed by ``stages`` registers."""
        for _ in range(stages):
            register = Signal(len(values), name=self.name("held"), reset_less=True)
            with self.m.If(self.enable):
                self.m.d.sync += [register[k].eq(value) for k, value in enumerate(values)]
            values = list(register)
        return values

    def plain(self, bits: Number, stages: int) -> list[Value]:
        """The computed values of ``bits``, delayed by ``stages`` registers."""
        return self.held([
            bit.a if bit.b is None and not bit.inverted else self.lut(bit.of, *bit.pins).a for bit in bits
        ], stages)  # fmt: skip

    def part(self, count: Count | None, stage: int) -> Number:
        """A summand in pipeline stage ``stage``. An operand that needs no delay stays uncomputed."""
        if count is None:
            return []
        if count.bits == 1:
            (bit,) = self.take(1)
            return [bit] if stage == 0 else [Bit(value) for value in self.plain([bit], stage)]
        wait = stage - self.stage(count)
        bits = self.number(count, waits=wait > 0)
        if not wait:
            return bits
        return [Bit(value, inverted=bit.inverted)
                for bit, value in zip(bits, self.held([bit.a for bit in bits], wait))]  # fmt: skip

    def computed(self, bit: Bit) -> Bit:
        """The bit, computed in a LUT if it is gated."""
        return bit if bit.gate is None else self.lut(bit.of, *bit.pins)

    def three(self, waits: bool = False) -> Number:
        """The sum of three operands in 3 LUTs, or 4 if they are gated; one more if registers follow, which then share
        cells with both results.

        With registers, the form with 3 LUTs would not save a cell, since a LUT whose output another LUT needs cannot
        share its cell with a register; and it is one LUT slower.
        """
        first, second, third = self.take(3)
        first = self.computed(first)
        first_pins = len(first.pins)
        parity = self.lut(
            lambda *pins: first.of(*pins[:first_pins]) ^ second.of(*pins[first_pins:]), *first.pins, *second.pins
        )
        if waits:
            last = self.lut(third.of, *third.pins)
            return [
                self.lut(lambda p, z: p ^ z, parity.a, last.a),
                self.lut(lambda p, z, *pins: z if p else first.of(*pins), parity.a, last.a, *first.pins),
            ]
        total = self.lut(lambda p, *pins: p ^ third.of(*pins), parity.a, *third.pins)
        carry = self.lut(lambda p, s, *pins: 1 - s if p else first.of(*pins), parity.a, total.a, *first.pins)
        return [total, carry]

    def two(self) -> Number:
        """The sum of two operands in 2 LUTs, or 3 if they are gated."""
        first, second = self.take(2)
        first = self.computed(first)
        first_pins = len(first.pins)
        return [
            self.lut(
                lambda *pins: first.of(*pins[:first_pins]) ^ second.of(*pins[first_pins:]), *first.pins, *second.pins
            ),
            self.lut(
                lambda *pins: first.of(*pins[:first_pins]) & second.of(*pins[first_pins:]), *first.pins, *second.pins
            ),
        ]


@dataclass
class CarryIn:
    """A carry-in of an iCE40 chain that is not built yet: ``carry`` has to become the value of ``bit``, in the first
    stage by ``time``, or delayed by ``stages`` registers."""

    bit: Bit
    carry: Signal
    time: float
    stages: int


class Ice40Tree(XnorTree):
    """Small counts in LUTs, larger ones in carry chains.

    A chain has one more cell for its carry-in. The LUT of that cell is unused and computes the carry-in of another
    chain, unless that is gated: two inputs of the LUT are taken.
    """

    fabric = "ice40"

    def __init__(self, m: Module, a: Value, b: Value, enable: Value, stages: int, gates: Value | None = None) -> None:
        super().__init__(m, a, b, enable, stages, gates)
        self.carry_ins: list[CarryIn] = []

    def number(self, count: Count, last: bool = False, waits: bool = False) -> Number:
        if count.high is None:
            return self.three(waits) if count.bits == 3 else self.two() if count.bits == 2 else self.take(1)
        stage = self.stage(count)
        high, low = self.part(count.high, stage), self.part(count.low, stage)
        if count.short:
            return self.short(high, low, self.take(1) if count.carry else [], stage)
        return self.chain(count, high, [Bit(value) for value in self.plain(low, 0)], stage)

    def short(self, high: Number, low: Number, carry: Number, stage: int) -> Number:
        """The sum of two-bit numbers without a chain: a LUT for each bit, and one for the carry of the lowest bits if
        there is a carry-in."""
        if carry and (stage or carry[0].gate is not None):
            carry = [Bit(value) for value in self.plain(carry, stage)]
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

    def chain(self, count: Count, high: Number, low: Number, stage: int) -> Number:
        name = self.name("chain")
        a = [bit.a for bit in high]
        b = [*(bit.a for bit in low), *[ZERO] * (len(high) - len(low))]
        if count.width > len(high):
            a, b = [*a, ZERO], [*b, ZERO]
        if count.carry:
            entering = Signal(name=f"{name}_in")
            time = self.time(count) - count.own_delay if stage == 0 else self.limit
            self.carry_ins.append(CarryIn(self.take(1)[0], entering, time, stage))
            a, b = [entering, *a], [entering, *b]
        total = ice40_add(self.m, name, a, b, [ZERO] * len(a), first=not count.carry)
        return [Bit(bit) for bit in total[count.carry :]]

    def finish(self) -> None:
        """Computes the carry-ins of the chains, where possible in the first cell of another chain.

        The output of that cell is assumed to be as late as the carry-in of its own chain, so it is used only for a
        carry-in that may be later.
        """
        free: list[tuple[float, Value]] = []
        for carry_in in sorted(self.carry_ins, key=lambda carry_in: (-carry_in.stages, carry_in.time)):
            ready, place = max(
                (pair for pair in free if pair[0] + 1 <= carry_in.time and not self.gated),
                key=lambda pair: pair[0],
                default=(_WAY, None),
            )
            if place is None:
                computed = self.lut(carry_in.bit.of, *carry_in.bit.pins)
            else:
                free = [pair for pair in free if pair[1] is not place]
                a, b = carry_in.bit.pins
                computed = self.lut(lambda a, _1, _2, b: a ^ b ^ 1, a, place, place, b)
            (entering,) = self.held([computed.a], carry_in.stages)
            self.m.d.comb += carry_in.carry.eq(entering)
            free.append((0.0 if carry_in.stages else ready + 1, carry_in.carry))


class Ecp5Tree(XnorTree):
    """Everything in carry chains: a slot adds two bits, each of which may be the XNOR of operands; a third enters as
    carry-in.

    Two uncomputed operands take all four pins of a slot, which then can only count the bits that differ. A sum whose
    inputs are all inverted is itself inverted, if the carry-in is too; the next sum corrects that. A gated operand is
    added to a computed one.
    """

    fabric = "ecp5"

    def __init__(self, m: Module, a: Value, b: Value, enable: Value, stages: int, gates: Value | None = None) -> None:
        super().__init__(m, a, b, enable, stages, gates)
        self.chains: dict[tuple[int, float], list[tuple[list[Slot], list[Signal]]]] = {}

    def number(self, count: Count, last: bool = False, waits: bool = False) -> Number:
        if count.high is None:
            return self.take(1)
        if last and count.bits <= 3:
            return self.two() if count.bits == 2 else self.three()
        stage = self.stage(count)
        high, low = self.part(count.high, stage), self.part(count.low, stage)
        carry = self.take(1)[0] if count.carry else None
        if carry and stage:
            carry = Bit(self.plain([carry], stage)[0])
        elif carry:
            carry = self.computed(carry)
        high = [self.computed(bit) for bit in high]
        inverted = bool(low) and high[0].b is not None and low[0].b is not None
        slots = [self.entering(carry, inverted)]
        for k, bit in enumerate(high):
            slots.append(self.slot(bit, low[k] if k < len(low) else None, inverted))
        name = self.name("sum")
        total = [Signal(name=f"{name}_{k}") for k in range(count.width)]
        self.chains.setdefault((stage, round(self.time(count), 3)), []).append((slots, total))
        return [Bit(bit, inverted=inverted) for bit in total]

    def entering(self, carry: Bit | None, inverted: bool) -> Slot:
        if carry is None:
            return carry_slot(lambda a, b: int(inverted), ZERO)
        pins = carry.pins
        return carry_slot(lambda a, b: carry.of(*(a, b)[: len(pins)]) ^ inverted, *pins)

    def slot(self, left: Bit, right: Bit | None, inverted: bool) -> Slot:
        """Adds two bits, or their inverses if ``inverted``. A computed bit goes to the pins that generate the carry."""
        if right is not None and right.gate is not None:
            x, y, gate = right.pins
            return slot(lambda gate, x, y: gate & (x ^ y), left.a, gate, x, y)
        if right is not None and left.b is not None and right.b is None:
            left, right = right, left
        if right is not None and left.b is not None:
            assert right.b is not None
            return table(lambda a, b, c, d: a ^ b ^ c ^ d), *left.pins, *right.pins
        left_pins = len(left.pins)

        def passes(*pins: int) -> int:
            second = inverted if right is None else right.of(*pins[left_pins : left_pins + len(right.pins)]) ^ inverted
            first = left.of(*pins[:left_pins]) ^ inverted
            return first ^ second if pins[3] else first

        a, b, c = [*left.pins, *(right.pins if right else ()), ZERO, ZERO][:3]
        return table(passes), a, b, c, ONE

    def finish(self) -> None:
        """Instantiates the rows. Sums that are ready at the same time share a row; the slot between two starts the
        second one."""
        for _, chains in sorted(self.chains.items(), key=lambda item: item[0]):
            row: list[Slot] = []
            sums: list[Signal | None] = [None]  # the target of each slot's sum bit; the first slot has none
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
        for output, target in zip(ecp5_chain(self.m, self.name("row"), slots), sums):
            if target is not None:
                self.m.d.comb += target.eq(output)
