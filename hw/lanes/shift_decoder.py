"""The 3-bit shift-and-invert weight decoder."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError


class ShiftDecoder(wiring.Component):
    """``weight = level(code) * scale``: the code shifts the scale, negates it, or gates it to zero.

    | code | 000 | 001 | 010 | 011 | 100 | 101 | 110 | 111 |
    | --- | --- | --- | --- | --- | --- | --- | --- | --- |
    | weight | 0 | +s | +2s | +4s | -s | -2s | -4s | 0, illegal |

    **Latency**: 0, combinational. **Throughput**: a weight a cycle. Cost: about two LUT4 a bit, and the carry chain of
    the negation. Source: the quality-scalable multiplier paper, Table II; 101 and 110 shift left, as in its eq. 6
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
        # Codes 1, 2, 3 are +1, +2, +4, and codes 4, 5, 6 are -1, -2, -4. The negation is ~(x - 1).
        m = Module()
        negative, width = self.code[2], self.scale_width
        once, twice, fourfold = (Signal(name=name) for name in ("once", "twice", "fourfold"))
        magnitude, less = Signal(width + 2), Signal(width + 3)
        m.d.comb += [
            self.illegal.eq(self.code.all()),
            once.eq((self.code == 1) | (self.code == 4)),
            twice.eq((self.code == 2) | (self.code == 5)),
            fourfold.eq((self.code == 3) | (self.code == 6)),
        ]
        scale = Cat(Const(0, 2), self.scale, Const(0, 2))
        m.d.comb += [
            magnitude.eq(
                Cat((once & scale[k + 2]) | (twice & scale[k + 1]) | (fourfold & scale[k]) for k in range(width + 2))
            ),
            less.eq(magnitude + negative.replicate(width + 3)),
            self.weight.eq(less ^ negative.replicate(width + 3)),
        ]
        return m
