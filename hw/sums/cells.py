"""Bits, LUTs and rows of carry chains in the cells of an FPGA family, from which the sums of lanes are built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Module, Signal, Value

from fewbit.hw.fabric.carry import ONE, ZERO, Slot, carry_slot, ecp5_chain, lut, table
from fewbit.hw.sums.term_tree import Fabric

_ROW = 24
"""Slots of an ECP5 row, about. In longer rows, timing analysis would assume that carries propagate through chains that
are in fact separate."""


@dataclass(frozen=True, eq=False)
class Pin:
    """A bit, possibly inverted: the LUT that reads it absorbs the inversion."""

    value: Value
    inverted: bool = False

    def of(self, level: int) -> int:
        """The value of the bit when the signal ``value`` is ``level``."""
        return level ^ self.inverted


NONE = Pin(ZERO)


class Second:
    """The second operand of an ECP5 slot: a function of up to three pins that is 0 if the last two are 0. With
    ``always`` it may be any function of two pins, since the slot then has its input D at 1."""

    def __init__(
        self, function: Callable[[int, int, int], int], b: Pin, c: Pin = NONE, d: Pin = NONE, *, always: bool = False
    ) -> None:
        self.function, self.pins, self.always = function, (b, c, d), always

    def slot(self, a: Pin) -> Slot:
        """The slot that adds this operand to ``a``."""
        b, c, d = self.pins

        def contents(*levels: int) -> int:
            first = a.of(levels[0])
            if self.always and not levels[3]:
                return first
            return first ^ self.function(b.of(levels[1]), c.of(levels[2]), levels[3])

        return table(contents), a.value, b.value, c.value, ONE if self.always else d.value


NOTHING = Second(lambda b, c, d: 0, NONE)


class Cells:
    """Instantiates cells in ``m``; registers advance while ``enable`` is high."""

    def __init__(self, m: Module, fabric: Fabric, enable: Value) -> None:
        self.m, self.fabric, self.enable = m, fabric, enable
        self.names = 0
        self.rows: dict[tuple[int, int], list[tuple[list[Slot], list[Signal]]]] = {}

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def lut(self, function: Callable[..., int], *pins: Pin) -> Pin:
        def seen(*levels: int) -> int:
            return function(*(pin.of(level) for pin, level in zip(pins, levels)))

        return Pin(lut(self.m, self.name("term"), self.fabric, seen, *(pin.value for pin in pins)))

    def held(self, bits: list[Pin], stages: int) -> list[Pin]:
        """``bits`` delayed by ``stages`` registers."""
        for _ in range(stages):
            register = Signal(len(bits), name=self.name("held"), reset_less=True)
            with self.m.If(self.enable):
                self.m.d.sync += [register[k].eq(bit.value) for k, bit in enumerate(bits)]
            bits = [Pin(register[k], bit.inverted) for k, bit in enumerate(bits)]
        return bits

    def shifted(
        self, sources: tuple[Pin, Pin, Pin], some: Pin, other: Pin, inverse: list[Pin], *, fourfold: bool
    ) -> Pin:
        """A bit of an activation times 1, 2, 0 or 4, as ``(other, some)`` is 0, 1, 2 or 3; inverted where ``inverse``.

        ``sources`` are the bits that 1, 2 and 4 times the activation have there. Cost: a LUT4, or two if it has more
        than four inputs.
        """
        distinct = list(dict.fromkeys(pin for pin in sources if pin is not NONE))
        if len(distinct) + 2 + len(inverse) > 4:
            low = self.lower(sources, some, other, fourfold=fourfold)
            return self.lut(
                lambda low, z, other, *inverse: (low & z if other else low) ^ sum(inverse),
                low, sources[2], other, *inverse,
            )  # fmt: skip
        index = [distinct.index(pin) if pin is not NONE else None for pin in sources]

        def whole(*levels: int) -> int:
            x, y, z = (0 if place is None else levels[place] for place in index)
            some, other, *inverse = levels[len(distinct) :]
            return ((some & z & fourfold) if other else y if some else x) ^ sum(inverse)

        return self.lut(whole, *distinct, some, other, *inverse)

    def lower(self, sources: tuple[Pin, Pin, Pin], some: Pin, other: Pin, *, fourfold: bool) -> Pin:
        """The first of two LUTs for a bit of a shifted activation: the bit of 1 or 2 times the activation or, where
        ``other``, a 1 if the second LUT has to select the bit of 4 times the activation."""

        def choose(x: int, y: int, some: int, other: int) -> int:
            return (some & fourfold) if other else y if some else x

        return self.lut(choose, *sources[:2], some, other)

    def chain(self, place: tuple[int, int], slots: list[Slot]) -> list[Pin]:
        """Sum bits of an ECP5 chain with a carry-in of 0, to be placed in a row with other chains of the same ``place``
        (stage and depth).

        The chain has to end with a carry of 0, or the next chain has to begin with a slot that does not pass its
        carry-in on.
        """
        name = self.name("sum")
        sums = [Signal(name=f"{name}_{k}") for k in range(len(slots))]
        self.rows.setdefault(place, []).append((slots, sums))
        return [Pin(bit) for bit in sums]

    def finish(self) -> None:
        """Instantiates the rows. The chains of a row share the slot at its beginning."""
        for _, chains in sorted(self.rows.items(), key=lambda item: item[0]):
            slots: list[Slot] = []
            sums: list[Signal] = []
            for chain_slots, chain_sums in chains:
                if slots and len(slots) + len(chain_slots) > _ROW:
                    self.row(slots, sums)
                    slots, sums = [], []
                slots, sums = slots + chain_slots, sums + chain_sums
            self.row(slots, sums)

    def row(self, slots: list[Slot], sums: list[Signal]) -> None:
        start = carry_slot(lambda a, b: 0, ZERO)
        outputs = ecp5_chain(self.m, self.name("row"), [start, *slots])[1:]
        self.m.d.comb += [target.eq(bit) for target, bit in zip(sums, outputs, strict=True)]


def extended(pins: list[Pin], width: int, *, sign: bool) -> list[Pin]:
    """``pins`` extended to ``width`` bits, by the sign or by zeros, or truncated to them."""
    return [*pins, *[pins[-1] if sign else NONE] * (width - len(pins))][:width]
