"""The serial canonic-signed-digit multiplier: one non-zero digit a cycle, most significant first."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.digits import largest_count, quality_bits, row_fields
from fewbit.hw.multiply.csd import check_widths, ports
from fewbit.hw.multiply.recoder import Recoder


class CsdMultiplierSerial(wiring.Component):
    """``product = a * b``, where only the ``quality`` most significant non-zero canonic signed digits of ``b`` count;
    it adds one digit a cycle.

    The product equals that of :class:`fewbit.hw.multiply.csd.CsdMultiplier` at the same quality. Zero digits take no
    cycle: the multiplier is done after the last non-zero digit, or after ``quality`` digits.

    **Handshake**: in a cycle with ``start`` high the operands and the quality are taken, and a product in progress is
    abandoned. ``done`` is high while ``product`` is valid, until the cycle after the next ``start``; it is low after a
    reset. **Latency**: ``1 + min(digits, quality)`` cycles from ``start`` to ``done``: one for ``start``, one for every
    digit added.
    **Throughput**: a product every ``1 + min(digits, quality)`` cycles, if ``start`` is raised with ``done``.

    Cost of 8 by 8 bits in logic cells: recoded 109 on iCE40 and 94 on ECP5, else 117 and 101.

    Parameters
    ----------
    width_a, width_b : int
        Bits of the operands, both signed; at least 1.
    recoded : bool
        Whether the port ``digits`` replaces ``b``; it takes the word that :func:`fewbit.golden.csd.encode` makes.

    Members
    -------
    a : In(signed(width_a))
    b : In(signed(width_b))
        Absent if ``recoded``.
    digits : In(word_bits(width_b))
        Present only if ``recoded``.
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
        """``left`` holds the digits not yet added. In each step the highest of them shifts ``a``, which is added to the
        total, and is removed from ``left``."""
        m = Module()
        nonzero, negative = self._from_word() if self.recoded else self._recode(m)
        a = Signal(signed(self.width_a), reset_less=True)
        left = Signal(self.width_b)
        signs = Signal(self.width_b, reset_less=True)
        budget = Signal(quality_bits(self.width_b))
        busy = Signal()
        total = Signal(signed(self.width_a + self.width_b), reset_less=True)

        highest, above = Signal(self.width_b), Signal(self.width_b)  # above: there is a remaining digit above this one
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

    def _from_word(self) -> tuple[Value, Value]:
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
