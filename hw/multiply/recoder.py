"""Recodes a signed number to canonic signed digits at run time."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import ONE, ZERO, Target, carry_slot, check_target, ecp5_chain, table
from fewbit.hw.fabric.families import family
from fewbit.hw.fabric.family import CarryChain


class Recoder(wiring.Component):
    """Canonic signed digits of a number: ``i = sum_k digit[k] * 2**k`` with digits -1, 0 and +1, of which no two
    neighbours are non-zero.

    Digit k is not zero where ``i[k]`` and ``carry[k]`` differ, with ``carry[k+1] = majority(i[k], i[k+1], carry[k])``:
    these are the carries of ``i + 2i``, so one carry chain is enough. Source: G. W. Reitwiesner, "Binary arithmetic",
    Advances in Computers 1, 1960.

    **Latency**: 0. **Throughput**: combinational. Cost: ``width`` logic cells on iCE40; on ECP5 one more LUT a bit,
    which synthesis may merge into the logic behind it.

    Parameters
    ----------
    width : int
        Bits of the number, at least 1. There are as many digits.
    target : str
        ``generic``, ``asic``, ``ice40`` or ``ecp5``.

    Members
    -------
    i : In(signed(width))
    nonzero : Out(width)
        Digit k is -1 or +1.
    negative : Out(width)
        Digit k is -1; undefined where the digit is zero.
    """

    def __init__(self, width: int, target: Target = "generic") -> None:
        if width < 1:
            raise FewbitError(f"a recoder needs a width of at least 1, not {width}")
        check_target("a recoder", target)
        self.width, self.target = width, target
        super().__init__({"i": In(signed(width)), "nonzero": Out(width), "negative": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = [*self.i, self.i[-1]]
        m.d.comb += self.negative.eq(Cat(*bits[1:]))
        carry = family(self.target).carry
        if carry is CarryChain.SB_CARRY:
            nonzero = self._ice40(m, bits)
        elif carry is CarryChain.CCU2C:
            nonzero = self._ecp5(m, bits)
        else:
            triple = Signal(self.width + 1)
            m.d.comb += triple.eq(Cat(*bits) + Cat(ZERO, *bits[:-1]))
            nonzero = list((triple ^ Cat(*bits))[1:])
        m.d.comb += self.nonzero.eq(Cat(*nonzero))
        return m

    def _ice40(self, m: Module, bits: list[Value]) -> list[Value]:
        """The cell of an adder sees a bit, the next bit and the carry-in: their majority is the carry-out, and its LUT
        gives the digit."""
        nonzero: list[Value] = [bits[0]]
        carry: Value = ZERO
        for k in range(1, self.width):
            out = Signal(name=f"carry{k}")
            m.submodules[f"co{k}"] = Instance("SB_CARRY", i_I0=bits[k - 1], i_I1=bits[k], i_CI=carry, o_CO=out)
            carry, o = out, Signal(name=f"nonzero{k}")
            m.submodules[f"lut{k}"] = Instance(
                "SB_LUT4", p_LUT_INIT=Const(table(lambda x, bit, after, carry: bit ^ carry), 16),
                i_I0=ZERO, i_I1=bits[k], i_I2=bits[k + 1], i_I3=carry, o_O=o,
            )  # fmt: skip
            nonzero.append(o)
        return nonzero

    def _ecp5(self, m: Module, bits: list[Value]) -> list[Value]:
        """A slot passes the carry on where a bit and the next one differ, so its sum has to be corrected by the next
        bit."""
        if self.width == 1:
            return [bits[0]]
        passes = table(lambda bit, after, c, d: bit ^ after if d else after)
        slots = [carry_slot(lambda bit, after: bit & after, bits[0], bits[1])]
        slots += [(passes, bits[k], bits[k + 1], ZERO, ONE) for k in range(1, self.width - 1)]
        slots.append((table(lambda bit, b, c, d: bit), bits[-1], ZERO, ZERO, ONE))
        sums = ecp5_chain(m, "digits", slots)
        return [bits[0], *(sums[k] ^ bits[k + 1] for k in range(1, self.width - 1)), sums[-1]]
