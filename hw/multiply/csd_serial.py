"""The canonic-signed-digit multiplier, serial: a non-zero digit a cycle, most significant first."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.digits import largest_count, quality_bits, row_fields
from fewbit.hw.multiply.csd import check_widths, ports
from fewbit.hw.multiply.recoder import Recoder


class CsdMultiplierSerial(wiring.Component):
    """``product = a * b``, of ``b`` the ``quality`` most significant non-zero canonic signed digits only, one a cycle.

    The same product as that of :class:`fewbit.hw.multiply.csd.CsdMultiplier` at the same quality. Zero digits take no
    time: it ends after the last non-zero digit, or at ``quality``.

    **Handshake**: in a cycle with ``start`` high the operands and the quality are taken, whatever was under way before.
    ``done`` is high, and ``product`` right, from the cycle in which it is there until after the next ``start``; after a
    reset ``done`` is low. **Latency**: ``1 + min(digits, quality)`` cycles from that of ``start`` to the first of
    ``done``: one for ``start``, one for every digit added.
    **Throughput**: a product every ``1 + min(digits, quality)`` cycles, if ``start`` is raised with ``done``.

    Cost, 8 by 8, logic cells: recoded 109 on iCE40 and 94 on ECP5, else 117 and 101.

    Parameters
    ----------
    width_a, width_b : int
        Bits of the operands, both signed; at least 1.
    recoded : bool
        Whether digits come in place of ``b``, as for the parallel form.

    Members
    -------
    a : In(signed(width_a))
    b : In(signed(width_b))
        Absent if recoded.
    digits : In(word_bits(width_b))
        Only if recoded.
    quality : In(quality_bits(width_b))
    start : In(1)
    done : Out(1)
    product : Out(signed(width_a + width_b))
    """

    def __init__(self, width_a: int, width_b: int, *, recoded: bool = False) -> None:
        check_widths("a serial CSD multiplier", width_a, width_b)
        self.width_a, self.width_b, self.recoded = width_a, width_b, recoded
        self.most_cycles = 1 + largest_count(width_b)
        super().__init__(ports(width_a, width_b, recoded=recoded, start=In(1), done=Out(1)))

    def elaborate(self, platform: object) -> Module:
        """The digits not yet added stand in a register; the highest of them shifts ``a``, is added, and struck out."""
        m = Module()
        nonzero, negative = self._given() if self.recoded else self._recode(m)
        a = Signal(signed(self.width_a), reset_less=True)
        left = Signal(self.width_b)
        signs = Signal(self.width_b, reset_less=True)
        budget = Signal(quality_bits(self.width_b))
        busy = Signal()
        total = Signal(signed(self.width_a + self.width_b), reset_less=True)

        highest, above = Signal(self.width_b), Signal(self.width_b)  # above: a digit that is left stands above this one
        m.d.comb += above.eq(Cat(*(above[k + 1] | left[k + 1] for k in range(self.width_b - 1)), 0))
        m.d.comb += highest.eq(left & ~above)
        ends = Signal()
        m.d.comb += ends.eq((left == 0) | (budget == 0))
        position = Signal(range(max(self.width_b, 2)))
        places = [Cat(*(highest[k] for k in range(self.width_b) if k >> bit & 1)).any() for bit in range(len(position))]
        m.d.comb += position.eq(Cat(*places))
        sign = (highest & signs).any()
        shifted = Signal(signed(self.width_a + self.width_b))
        m.d.comb += shifted.eq(a << position)

        step = Signal()
        m.d.comb += step.eq(busy & ~ends)
        added = (shifted ^ sign.replicate(len(shifted))).as_signed() + sign
        with m.If(self.start):
            m.d.sync += [a.eq(self.a), signs.eq(negative), busy.eq(1), budget.eq(self.quality)]
        with m.Elif(step):
            m.d.sync += budget.eq(budget - 1)
        with m.If(self.start | step):
            m.d.sync += [
                total.eq(Mux(self.start, 0, total + added)),
                left.eq(Mux(self.start, nonzero, left & above)),
            ]
        m.d.comb += [self.done.eq(busy & ends), self.product.eq(total)]
        return m

    def _given(self) -> tuple[Value, Value]:
        nonzero: list[Value] = []
        negative: list[Value] = []
        for field in row_fields(self.width_b):
            some = self.digits[field.offset : field.negative].any()
            sign = self.digits[field.negative]
            if field.upper_bits:
                upper = self.digits[field.upper]
                nonzero += [some & ~upper, some & upper]
                negative += [sign, sign]
            else:
                nonzero, negative = [*nonzero, some], [*negative, sign]
        return Cat(*nonzero), Cat(*negative)

    def _recode(self, m: Module) -> tuple[Value, Value]:
        m.submodules.recoder = recoder = Recoder(self.width_b)
        m.d.comb += recoder.i.eq(self.b)
        return recoder.nonzero, recoder.negative
