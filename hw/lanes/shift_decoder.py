"""The 3-bit shift-and-invert weight decoder."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError


class ShiftDecoder(wiring.Component):
    """``weight = level(code) * scale``: the code shifts the scale, inverts it, or gates it to zero.

    | code | 000 | 001 | 010 | 011 | 100 | 101 | 110 | 111 |
    | --- | --- | --- | --- | --- | --- | --- | --- | --- |
    | weight | 0 | +s | +2s | +4s | -s | -2s | -4s | 0, illegal |

    **Latency**: 0, combinational. **Throughput**: a weight a cycle. Cost: about two LUT4 a bit, and the negation's
    carry chain.
    Source: the quality-scalable multiplier paper, Table II; 101 and 110 shift to the left, as its eq. 6 has it
    (docs/decisions/0001).

    Parameters
    ----------
    scale_width : int
        Bits of the scale, at least 1.

    Members
    -------
    code : In(3)
    scale : In(unsigned(scale_width))
    weight : Out(signed(scale_width + 3))
    illegal : Out(1)
        The code is 111.
    """

    latency = 0

    def __init__(self, scale_width: int) -> None:
        if scale_width < 1:
            raise FewbitError(f"the scale must have at least 1 bit, not {scale_width}")
        self.scale_width = scale_width
        super().__init__(
            {"code": In(3), "scale": In(scale_width), "weight": Out(signed(scale_width + 3)), "illegal": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        # Codes 1, 2, 3 are the positive levels +1, +2, +4, and codes 4, 5, 6 the same ones negated.
        m = Module()
        negative = self.code[2]
        shift = Signal(2)
        shifted = Signal(self.scale_width + 2)
        zero = Signal()
        m.d.comb += [
            self.illegal.eq(self.code.all()),
            zero.eq((self.code == 0) | self.illegal),
            shift.eq(Mux(negative, self.code[:2], self.code[:2] - 1)),
        ]
        with m.Switch(shift):
            for distance in range(3):
                with m.Case(distance):
                    m.d.comb += shifted.eq(Cat(Const(0, distance), self.scale))
        magnitude = Mux(zero, 0, shifted)
        m.d.comb += self.weight.eq(Mux(negative, -magnitude, magnitude))
        return m
