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

    **Latency**: 0, or with ``registered`` one cycle with ``en`` high. **Throughput**: one product a cycle. Cost of 8 by
    8 bits in logic cells: 74 on ECP5, 89 on iCE40.

    Parameters
    ----------
    width_a, width_b : int
        Bits of the operands, both signed; at least 1.
    target : str
        ``generic``, ``asic``, ``ice40`` or ``ecp5``.
    registered : bool
        Whether there is a pipeline stage: between the rows of the ``ecp5`` form, in front of the others.

    Members
    -------
    a : In(signed(width_a))
    b : In(signed(width_b))
    en : In(1)
        Registers advance while it is high. Absent if not ``registered``.
    product : Out(signed(width_a + width_b))
    """

    @staticmethod
    def rows(width_a: int, width_b: int, family: str) -> int:
        """Rows that are summed one after the other: the measure of the delay."""
        narrow = min(width_a, width_b)
        return -(-narrow // 2) if family_of(family).carry is CarryChain.SB_CARRY else narrow

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

    def __init__(self, width_a: int, width_b: int, target: Target = "generic", *, registered: bool = False) -> None:
        check_widths("a multiplier", width_a, width_b)
        check_target("a multiplier", target)
        self.width_a, self.width_b, self.target, self.registered = width_a, width_b, target, registered
        self.latency = int(registered)
        enable = {"en": In(1, init=1)} if registered else {}
        super().__init__(
            {"a": In(signed(width_a)), "b": In(signed(width_b)), **enable, "product": Out(signed(width_a + width_b))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        carry = family_of(self.target).carry
        narrow = carry is not CarryChain.NONE and min(self.width_a, self.width_b) <= NARROW[carry]
        if carry is CarryChain.CCU2C and not narrow:
            m.d.comb += self.product.eq(Cat(*self._binary(m)).as_signed())
            return m
        a, b = (self._held(m, value, name) for name, value in (("a", self.a), ("b", self.b)))
        if carry is CarryChain.NONE:
            m.d.comb += self.product.eq(a * b)
        elif narrow:
            m.d.comb += self.product.eq(_gated(a, b))
        else:
            m.d.comb += self.product.eq(Cat(*self._booth(m, a, b)).as_signed())
        return m

    def _held(self, m: Module, value: Value, name: str) -> Value:
        """``value`` behind the pipeline stage, if there is one."""
        if not self.registered:
            return value
        register = Signal(value.shape(), name=f"{name}_held", reset_less=True)
        with m.If(self.en):
            m.d.sync += register.eq(value)
        return register

    def _booth(self, m: Module, a: Value, factor: Value) -> list[Value]:
        """Radix-4 Booth rows: row j is ``b[2j-1] + b[2j] - 2 b[2j+1]``, which is -2 to 2."""
        b = [ZERO, *factor, factor[-1]]
        rows = []
        for j in range(-(-self.width_b // 2)):
            below, low, high = b[2 * j], b[2 * j + 1], b[2 * j + 2]
            if 2 * j + 1 == self.width_b:  # the last row of an odd width: b is sign-extended, so high equals low
                rows.append(Row(row_term(m, f"row{j}", self.target, list(a), below ^ low, None), high))
                continue
            on, upper = (below ^ low) | (low ^ high), ~(below ^ low)
            rows.append(Row(row_term(m, f"row{j}", self.target, list(a), on, upper), high))
        return chain_sum(m, "sum", self.target, rows, self.width_a)

    def _binary(self, m: Module) -> list[Value]:
        """Baugh-Wooley: partial products that involve one sign bit are inverted, which requires the constant ``2**top +
        2**last + 2**(top + last + 1)`` to be added.

        Its first two terms enter where an adder has an unused input: at the end of row 0, and as the carry into the
        last row. Each row ends in a slot that outputs its last carry as a sum bit and passes no carry on, so that the
        next row can follow in the same chain. A pipeline stage halves the rows, with a chain before it and one behind.
        """
        top, last = self.width_a - 1, self.width_b - 1
        a, b = self.a, self.b
        running: list[Value] = [x & b[0] for x in a]
        # The top bit p of row 0 counts inverted. Both constants at its place: ~p + 2. One: ~p + 1, sum p and carry ~p.
        running = [*running[:-1], ~running[-1], ONE] if top == last else [*running, ~running[-1]]
        done, running = [running[0]], running[1:]
        chains = [_Chain("rows")]
        half = last // 2 + 1 if self.registered else 0
        for row in range(1, last + 1):
            if row == half:
                chains.append(_Chain("last_rows"))
                done, running = [*self._held(m, Cat(done), "done")], [*self._held(m, Cat(running), "running")]
                a, b = self._held(m, a, "a"), self._held(m, b, "b")
            chain = chains[-1]
            enters = ONE if row == last and top != last else ZERO
            first = carry_slot(lambda a, b: a, enters)
            if not chain.slots:
                chain.add(first)
            elif enters is ONE:
                chain.slots[-1] = first
            begin = len(chain.slots)
            for k, (x, addend) in enumerate(zip(a, running)):
                inverted = (k == top) != (row == last)
                chain.add(plain_slot(_nand if inverted else int.__and__, addend, x, b[row]))
            chain.add(carry_slot(lambda a, b: 0, ZERO) if row < last else (0xFFFF, ZERO, ZERO, ZERO, ZERO))
            done.append(chain.sums[begin])
            running = [*chain.sums[begin + 1 :]]
        for chain in chains:
            m.d.comb += Cat(*chain.sums).eq(Cat(*ecp5_chain(m, chain.name, chain.slots)))
        return done + running


class _Chain:
    """Slots of a carry chain, with a signal for the sum bit of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slots: list[Slot] = []
        self.sums: list[Value] = []

    def add(self, slot: Slot) -> None:
        self.sums.append(Signal(name=f"{self.name}_{len(self.slots)}"))
        self.slots.append(slot)


def _gated(a: Value, b: Value) -> Value:
    """The sum of one operand, gated by each bit of the narrower one."""
    few, many = (a, b) if len(a) < len(b) else (b, a)
    *low, sign = (Mux(bit, many, 0) << place for place, bit in enumerate(few))
    return sum(low, Const(0, 1)) - sign


def _nand(a: int, b: int) -> int:
    return 1 - (a & b)
