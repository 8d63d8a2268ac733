# amaranth: UnusedElaboratable=no
"""The multiplier of canonic signed digits in a DSP block: the digits kept are summed to a factor, which multiplies."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from fewbit.hw.fabric.carry import ZERO, Target
from fewbit.hw.multiply.csd import CsdMultiplier, check_widths, controls_of, ports


class FactorMultiplier(wiring.Component):
    """``product = a * b``, of ``b`` the ``quality`` most significant non-zero canonic signed digits only.

    The integers of :class:`fewbit.hw.multiply.csd.CsdMultiplier`, whose place it takes, at every quality. There are no
    rows to gate: digits beyond the quality are left out of the factor, and save no switching in the block.

    **Latency**: :attr:`latency` cycles with ``en`` high. **Throughput**: one a cycle. Cost: a DSP block, whose operands
    are ``width_a`` and ``width_b + 1`` bits; 8-bit digits, 41 logic cells on iCE40 and 39 on ECP5:
    ``python -m benchmarks.dsp``.

    Parameters
    ----------
    width_a, width_b : int
        Bits of the operands, both signed; at least 1.
    registered : bool
        Whether there is a pipeline stage in front of the multiplication.

    Members
    -------
    a : In(signed(width_a))
    digits : In(word_bits(width_b))
    quality : In(quality_bits(width_b))
    en : In(1)
        Registers advance while it is high. Absent without registers.
    product : Out(signed(width_a + width_b))
    """

    @staticmethod
    def cells(width: int) -> int:
        """Logic cells that sum digits of ``width`` bits to a factor, about: ``python -m benchmarks.dsp``."""
        return 24 * width // 5

    def __init__(self, width_a: int, width_b: int, *, registered: bool = False) -> None:
        check_widths("a CSD multiplier", width_a, width_b)
        self.width_a, self.width_b, self.recoded, self.registered = width_a, width_b, True, registered
        self.latency = int(registered)
        enable = {"en": In(1, init=1)} if registered else {}
        super().__init__(ports(width_a, width_b, recoded=True, **enable))

    def elaborate(self, platform: object) -> Module:
        """``plus`` and ``minus`` have a bit for each digit that counts."""
        m = Module()
        plus: list[Value] = []
        minus: list[Value] = []
        for on, negative, upper in controls_of(self.digits, self.quality, self.width_b):
            for here in (on,) if upper is None else (on & ~upper, on & upper):
                plus.append(here & ~negative)
                minus.append(here & negative)
        a = Signal(signed(self.width_a), name="operand", reset_less=True)
        factor = Signal(signed(self.width_b + 1), reset_less=True)
        given = [a.eq(self.a), factor.eq(Cat(*plus, ZERO).as_signed() - Cat(*minus, ZERO).as_signed())]
        if self.registered:
            with m.If(self.en):
                m.d.sync += given
        else:
            m.d.comb += given
        m.d.comb += self.product.eq(a * factor)
        return m


def digit_multiplier(
    width_a: int, width_b: int, *, registered: bool, target: Target, dsp: bool
) -> CsdMultiplier | FactorMultiplier:
    """The multiplier of digits recoded beforehand: in the cells of ``target``, or with ``dsp`` in a DSP block."""
    if dsp:
        return FactorMultiplier(width_a, width_b, registered=registered)
    return CsdMultiplier(width_a, width_b, recoded=True, target=target, registers="digits" if registered else "none")
