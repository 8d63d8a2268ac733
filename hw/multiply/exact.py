"""The smallest exact multiplier in LUTs, for two operands that both vary, where no DSP block is left."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.hw.fabric.carry import (
    ONE,
    ZERO,
    Slot,
    Target,
    carry_slot,
    check_target,
    ecp5_chain,
    plain_slot,
)
from fewbit.hw.fabric.families import family as family_of
from fewbit.hw.fabric.family import CarryChain
from fewbit.hw.multiply.csd import check_widths
from fewbit.hw.multiply.partial_products import Row, chain_sum, row_term

NARROW = {CarryChain.SB_CARRY: 3, CarryChain.CCU2C: 2}
"""Widest operand, in bits, for which instantiated cells save nothing: ``python -m benchmarks.dsp`` measures it."""


class Multiplier(wiring.Component):
    """Exact product of two signed numbers: ``product = a * b``. The form depends on ``target``:

    - ``ecp5``: a row for every bit of ``b``, with the AND inside the adder's cell. All rows are in a single carry
      chain, which saves the cells at the ends of chains. Signs as in C. R. Baugh and B. A. Wooley,
      "A two's complement parallel array multiplication algorithm", IEEE Transactions on Computers C-22, 1973.
    - ``ice40``: radix-4 Booth rows, O. L. MacSorley, "High-speed arithmetic in binary computers", Proceedings of the
      IRE 49, 1961, with signs as in :mod:`fewbit.hw.multiply.partial_products`.
    - ``ecp5`` or ``ice40`` with an operand of at most :data:`NARROW` bits: plain RTL that sums the other operand, gated
      by each of these bits.
    - ``generic``, ``asic``: the operator ``*``, which synthesis may put into a DSP block.

    **Latency**: 0. **Throughput**: combinational. Cost of 8 by 8 bits in logic cells: 74 on ECP5, 89 on iCE40.

    Parameters
    ----------
    width_a, width_b : int
        Bits of the operands, both signed; at least 1.
    target : str
        ``generic``, ``asic``, ``ice40`` or ``ecp5``.

    Members
    -------
    a : In(signed(width_a))
    b : In(signed(width_b))
    product : Out(signed(width_a + width_b))
    """

    @staticmethod
    def cells(width_a: int, width_b: int, family: str) -> int:
        """Estimated logic cells: ``python -m benchmarks.dsp`` measures them."""
        wide, narrow = max(width_a, width_b), min(width_a, width_b)
        carry = family_of(family).carry
        if carry is CarryChain.NONE:
            return 14 * wide * narrow // 5
        if narrow <= NARROW[carry]:
            return 9 * wide * narrow // 5
        return narrow * (wide + 1) + 3 if carry is CarryChain.CCU2C else -(-narrow // 2) * (4 * wide + 13) // 2

    def __init__(self, width_a: int, width_b: int, target: Target = "generic") -> None:
        check_widths("a multiplier", width_a, width_b)
        check_target("a multiplier", target)
        self.width_a, self.width_b, self.target = width_a, width_b, target
        super().__init__(
            {"a": In(signed(width_a)), "b": In(signed(width_b)), "product": Out(signed(width_a + width_b))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        carry = family_of(self.target).carry
        if carry is CarryChain.NONE:
            m.d.comb += self.product.eq(self.a * self.b)
            return m
        if min(self.width_a, self.width_b) <= NARROW[carry]:
            m.d.comb += self.product.eq(self._gated())
            return m
        bits = self._booth(m) if carry is CarryChain.SB_CARRY else self._binary(m)
        m.d.comb += self.product.eq(Cat(*bits).as_signed())
        return m

    def _gated(self) -> Value:
        few, many = (self.a, self.b) if self.width_a < self.width_b else (self.b, self.a)
        *low, sign = (Mux(bit, many, 0) << place for place, bit in enumerate(few))
        return sum(low, Const(0, 1)) - sign

    def _booth(self, m: Module) -> list[Value]:
        """Radix-4 Booth rows: row j is ``b[2j-1] + b[2j] - 2 b[2j+1]``, which is -2 to 2."""
        b = [ZERO, *self.b, self.b[-1]]
        rows = []
        for j in range(-(-self.width_b // 2)):
            below, low, high = b[2 * j], b[2 * j + 1], b[2 * j + 2]
            if 2 * j + 1 == self.width_b:  # the last row of an odd width: b is sign-extended, so high equals low
                rows.append(Row(row_term(m, f"row{j}", self.target, list(self.a), below ^ low, None), high))
                continue
            on, upper = (below ^ low) | (low ^ high), ~(below ^ low)
            rows.append(Row(row_term(m, f"row{j}", self.target, list(self.a), on, upper), high))
        return chain_sum(m, "sum", self.target, rows, self.width_a)

    def _binary(self, m: Module) -> list[Value]:
        """Baugh-Wooley: partial products that involve one sign bit are inverted, which requires the constant ``2**top +
        2**last + 2**(top + last + 1)`` to be added.

        Its first two terms enter where an adder has an unused input: at the end of row 0, and as the carry into the
        last row. Each row ends in a slot that outputs its last carry as a sum bit and passes no carry on, so that the
        next row can follow in the same chain.
        """
        top, last = self.width_a - 1, self.width_b - 1
        running: list[Value] = [x & self.b[0] for x in self.a]
        # The top bit p of row 0 counts inverted. Both constants at its place: ~p + 2. One: ~p + 1, sum p and carry ~p.
        running = [*running[:-1], ~running[-1], ONE] if top == last else [*running, ~running[-1]]
        done, running = [running[0]], running[1:]
        slots: list[Slot] = []
        sums = [Signal(name=f"sum{k}") for k in range(1 + last * (top + 2))]
        for row in range(1, last + 1):
            enters = ONE if row == last and top != last else ZERO
            if row == 1:
                slots.append(carry_slot(lambda a, b: a, enters))
            elif row == last and top != last:
                slots[-1] = carry_slot(lambda a, b: a, enters)
            first = len(slots)
            for k, (x, addend) in enumerate(zip(self.a, running)):
                inverted = (k == top) != (row == last)
                slots.append(plain_slot(_nand if inverted else int.__and__, addend, x, self.b[row]))
            slots.append(carry_slot(lambda a, b: 0, ZERO) if row < last else (0xFFFF, ZERO, ZERO, ZERO, ZERO))
            done.append(sums[first])
            running = list(sums[first + 1 : len(slots)])
        m.d.comb += Cat(*sums).eq(Cat(*ecp5_chain(m, "rows", slots)))
        return done + running


def _nand(a: int, b: int) -> int:
    return 1 - (a & b)
