"""Shift-and-invert lanes for weights that arrive at run time, as a stand-alone block."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import check_target
from fewbit.hw.lanes.choose import lane_kind

CODES = ("binary", "ternary", "quinary", "shift3")
_MOST_BITS = 16


class ShiftLane(wiring.Component):
    """``sum = sum_i level(code_i) * x_i``: a code word shifts its activation, inverts it, or gates it to zero.

    | code word | 000 | 001 | 010 | 011 | 100 | 101 | 110 | 111 |
    | --- | --- | --- | --- | --- | --- | --- | --- | --- |
    | shift3 | 0 | +x | +2x | +4x | -x | -2x | -4x | illegal |
    | quinary | 0 | +x | +2x | illegal | -x | -2x | illegal | illegal |
    | ternary | 0 | +x | illegal | -x | | | | |
    | binary | -x | +x | | | | | | |

    An illegal word counts as 0. No lane has an adder for its negation: ``-x`` is ``~x + 1``, and the ones enter the
    adders of the sum as carries. For ``ice40`` and ``ecp5`` it instantiates the family's cells, which synthesis leaves
    unchanged; for ``generic`` it is plain RTL for any tool.

    **Latency**: ``stages`` cycles with ``en`` high; 0 is combinational. **Throughput**: a sum a cycle.
    Cost a lane, for 16 lanes of 8 bits, in logic cells on iCE40 and LUT4s on ECP5: binary 21 and 15, ternary 21 and 15,
    shift3 34 and 35.
    Source: the quality-scalable multiplier paper, Table II; 101 and 110 shift left, as in its eq. 6
    (docs/decisions/0001).

    Parameters
    ----------
    simd : int
        Number of lanes, at least 1.
    activation : DType
        ``bipolar``, or ``uint`` or ``int`` of 1 to 16 bits.
    weight_code : Code
        ``binary``, ``ternary``, ``quinary`` or ``shift3``.
    stages : int
        Pipeline stages in the sum.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``

    Members
    -------
    x : In(simd * activation.bits)
        Activations, the first in the lowest bits; a bipolar bit is -1 or +1 as 0 or 1.
    code : In(simd * weight_code.bits)
        Code words, the first in the lowest bits.
    en : In(1)
        Registers advance while it is high.
    sum : Out(signed)
    illegal : Out(1)
        At least one code word of this sum is illegal. Absent for ``binary``, which has no illegal word.

    Raises
    ------
    FewbitError
        If SIMD, the activation or the stages are out of range, or the code or the target is unknown.
    """

    def __init__(
        self, simd: int, activation: DType, weight_code: Code, stages: int = 0, target: str = "generic"
    ) -> None:
        check_target("a shift lane", target)
        if weight_code.name not in CODES:
            raise FewbitError(f"the code of a shift lane must be one of {', '.join(CODES)}, not {weight_code}")
        if activation.bits > _MOST_BITS:
            raise FewbitError(f"a shift lane takes activations of 1 to {_MOST_BITS} bits, not {activation}")
        kind = lane_kind(activation, weight_code, target)
        self.lanes = kind(simd, activation, weight_code, stages)
        self.simd, self.activation, self.weight_code = simd, activation, weight_code
        self.stages, self.target = stages, target
        self.latency = stages
        limit = simd * int(weight_code.levels[-1]) * max(-activation.min, activation.max)
        ports = {
            "x": In(simd * activation.bits),
            "code": In(simd * weight_code.bits),
            "en": In(1, init=1),
            "sum": Out(signed(limit.bit_length() + 1)),
        }
        legal_words = {int(word) for word in weight_code.encode(weight_code.levels)}
        self.illegal_words = [word for word in range(1 << weight_code.bits) if word not in legal_words]
        super().__init__(ports | ({"illegal": Out(1)} if self.illegal_words else {}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.lanes = lanes = self.lanes
        m.d.comb += [
            lanes.x.eq(self.x),
            lanes.w.eq(self.code),
            lanes.en.eq(self.en),
            self.sum.eq(lanes.step * lanes.o + lanes.offset),
        ]
        if self.illegal_words:
            words = [self.code.word_select(lane, self.weight_code.bits) for lane in range(self.simd)]
            illegal = Cat(word.matches(*self.illegal_words) for word in words).any()
            for stage in range(self.stages):
                register = Signal(name=f"illegal_{stage}", reset_less=True)
                with m.If(self.en):
                    m.d.sync += register.eq(illegal)
                illegal = register
            m.d.comb += self.illegal.eq(illegal)
        return m
