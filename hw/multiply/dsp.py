# amaranth: UnusedElaboratable=no
"""The canonic-signed-digit multiplier in a DSP block: the digits that count are first summed to one operand of it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from fewbit.hw.fabric.carry import ZERO, Target
from fewbit.hw.multiply.csd import CsdMultiplier, check_widths, controls_of, ports


class DspMultiplier(wiring.Component):
    """``product = a * b``, where only the ``quality`` most significant non-zero canonic signed digits of ``b`` count.

    It replaces :class:`fewbit.hw.multiply.csd.CsdMultiplier` with ``recoded`` and gives the same integers at every
    quality. A lower quality saves no switching: the digits that count are summed to an operand of the DSP block, and
    there are no partial-product rows to gate.

    **Latency**: :attr:`latency` cycles with ``en`` high. **Throughput**: one product a cycle. Cost: a DSP block with
    operands of ``width_a`` and ``width_b + 1`` bits, and the logic cells that sum the digits: 41 on iCE40 and 39 on
    ECP5 for 8 bits, measured by ``python -m benchmarks.dsp``.

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
        Registers advance while it is high. Absent if not ``registered``.
    product : Out(signed(width_a + width_b))
    """

    @staticmethod
    def cells(width: int) -> int:
        """Estimated logic cells that sum the digits of ``width`` bits: ``python -m benchmarks.dsp`` measures them."""
        return 24 * width // 5

    def __init__(self, width_a: int, width_b: int, *, registered: bool = False) -> None:
        check_widths("a CSD multiplier", width_a, width_b)
        self.width_a, self.width_b, self.recoded, self.registered = width_a, width_b, True, registered
        self.latency = int(registered)
        enable = {"en": In(1, init=1)} if registered else {}
        super().__init__(ports(width_a, width_b, recoded=True, **enable))

    def elaborate(self, platform: object) -> Module:
        """``plus`` and ``minus`` have a bit for each digit position: a digit of +1 or -1 that counts."""
        m = Module()
        plus: list[Value] = []
        minus: list[Value] = []
        for on, negative, upper in controls_of(self.digits, self.quality, self.width_b):
            for here in (on,) if upper is None else (on & ~upper, on & upper):
                plus.append(here & ~negative)
                minus.append(here & negative)
        a = Signal(signed(self.width_a), name="operand", reset_less=True)
        factor = Signal(signed(self.width_b + 1), reset_less=True)
        statements = [a.eq(self.a), factor.eq(Cat(*plus, ZERO).as_signed() - Cat(*minus, ZERO).as_signed())]
        if self.registered:
            with m.If(self.en):
                m.d.sync += statements
        else:
            m.d.comb += statements
        m.d.comb += self.product.eq(a * factor)
        return m


def digit_multiplier(
    width_a: int, width_b: int, *, registered: bool, target: Target, dsp: bool
) -> CsdMultiplier | DspMultiplier:
    """A multiplier that takes digit words: in the cells of ``target``, or with ``dsp`` in a DSP block."""
    if dsp:
        return DspMultiplier(width_a, width_b, registered=registered)
    return CsdMultiplier(width_a, width_b, recoded=True, target=target, registers="digits" if registered else "none")
