"""Sums and differences of pairs of activations: what all outputs of a unit with ±1 weights have in common."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import (
    ONE,
    WITH_CELLS,
    ZERO,
    Slot,
    Target,
    carry_slot,
    check_target,
    ecp5_chain,
    ice40_add,
    lut,
    plain_slot,
    table,
)

_PAIRS_A_ROW = 2


class PairSums(wiring.Component):
    """``x0 + x1`` and ``x0 - x1`` of every pair of lanes; a weighted sum of ±1 weights then picks one of them a pair.

    Both are unsigned, with ``2**bits`` added to the difference, and of two's-complement activations also to the sum.
    So their lowest bit is the same and comes once. A lane left over comes as it is, and of two's complement
    ``2**(bits - 1)`` is added to it.

    **Latency**: ``stages`` cycles with ``en`` high; 0 is combinational. **Throughput**: a word a cycle.
    Cost, a pair of 8 bits: 23 logic cells on iCE40, where the borrow ripples through a LUT a bit, 18 LUT4s on ECP5. All
    outputs share them.

    Parameters
    ----------
    simd : int
        Lanes, at least 1.
    activation : DType
        ``uint`` or ``int`` of 2 bits or more.
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``
    stages : int
        Pipeline stages on the output.

    Members
    -------
    x : In(simd * activation.bits)
        Activations, the first in the lowest bits.
    en : In(1)
        Registers advance while it is high.
    o : Out(simd // 2 * (2 * bits + 1) + simd % 2 * bits)
        Of each pair the sum (bits + 1), then the difference without its lowest bit (bits); then a lane left over.

    Raises
    ------
    FewbitError
        If there is no lane, the activations have no second bit, the stages are negative, or the target is unknown.
    """

    def __init__(self, simd: int, activation: DType, target: str = "generic", stages: int = 0) -> None:
        if simd < 1:
            raise FewbitError(f"sums of pairs need a SIMD of at least 1, not {simd}")
        if activation.bits < 2:
            raise FewbitError(f"sums of pairs need activations of 2 bits or more, not {activation}")
        if stages < 0:
            raise FewbitError(f"sums of pairs have 0 or more stages, not {stages}")
        check_target("a sum of pairs", target)
        self.simd, self.activation, self.target, self.stages = simd, activation, target, stages
        self.latency = stages
        bits = activation.bits
        ports = {"x": In(simd * bits), "en": In(1, init=1), "o": Out(simd // 2 * (2 * bits + 1) + simd % 2 * bits)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        # A difference is `x0 + ~x1 + 1`; with the sign bits turned over, two's complement is unsigned like the rest.
        m = Module()
        bits, signed = self.activation.bits, self.activation.signed
        lanes = [self.x.word_select(lane, bits) for lane in range(self.simd)]
        pairs = list(zip(lanes[::2], lanes[1::2]))
        if self.target == "ice40":
            fields = [bit for index, pair in enumerate(pairs) for bit in _ice40_pair(m, f"pair{index}", *pair, signed)]
        elif self.target == "ecp5":
            groups = [pairs[start : start + _PAIRS_A_ROW] for start in range(0, len(pairs), _PAIRS_A_ROW)]
            fields = [bit for index, group in enumerate(groups) for bit in _ecp5_pairs(m, f"row{index}", group, signed)]
        else:
            fields = []
            for index, (one, other) in enumerate(pairs):
                a, b = (lane ^ (signed << bits - 1) for lane in (one, other))
                total, difference = Signal(bits + 1, name=f"sum_{index}"), Signal(bits + 1, name=f"difference_{index}")
                m.d.comb += [total.eq(a + b), difference.eq(a - b + (1 << bits))]
                fields += [*total, *difference[1:]]
        if self.simd % 2:
            *low, high = lanes[-1]
            if signed:
                high = lut(m, "left", self.target, lambda x: 1 - x, high) if self.target in WITH_CELLS else ~high
            fields += [*low, high]
        result: Value = Cat(fields)
        for stage in range(self.stages):
            register = Signal(len(self.o), name=f"held_{stage}", reset_less=True)
            with m.If(self.en):
                m.d.sync += register.eq(result)
            result = register
        m.d.comb += self.o.eq(result)
        return m


def _ice40_pair(m: Module, name: str, one: Value, other: Value, signed: bool) -> list[Value]:
    """The sum in a chain. The difference in LUTs, two a bit: a chain of it would want as many, with an inverter a bit,
    and also some for its lowest bit and a carry-in of 1."""
    bits = len(one)
    a, b = [*one, one[-1] if signed else ZERO], [*other, other[-1] if signed else ZERO]
    total = ice40_add(m, f"{name}_sum", a, b, [ZERO] * bits + [ONE if signed else ZERO])

    def first(a1: int, b1: int, a0: int, b0: int) -> int:
        return a1 ^ b1 ^ (b0 & (1 - a0))

    def carries(sign: bool, a: int, b: int, below: int) -> int:
        """Whether ``a - b`` and what is below need not borrow; sign bits count the other way round."""
        a, b = (1 - a, 1 - b) if sign else (a, b)
        return int(a + (1 - b) + below >= 2)

    def second(a1: int, b1: int, a0: int, b0: int) -> int:
        return carries(signed and bits == 2, a1, b1, a0 | (1 - b0))

    lowest = (a[1], b[1], a[0], b[0])
    difference: list[Value] = [lut(m, f"{name}_difference1", "ice40", first, *lowest)]
    carry = lut(m, f"{name}_carry2", "ice40", second, *lowest)
    for k in range(2, bits):
        pins = (a[k], b[k], carry)
        difference.append(lut(m, f"{name}_difference{k}", "ice40", lambda a, b, c: a ^ b ^ c ^ 1, *pins))
        carry = lut(m, f"{name}_carry{k + 1}", "ice40", partial(carries, signed and k == bits - 1), *pins)
    return [*total, *difference, carry]


def _ecp5_pairs(m: Module, name: str, pairs: list[tuple[Value, Value]], signed: bool) -> list[Value]:
    """Sums and differences in one row: the slot that ends a chain begins the next with the carry of its lowest bits."""
    target: Target = "ecp5"
    slots: list[Slot] = []
    for one, other in pairs:
        bits = len(one)
        for difference in (False, True):

            def start(a: int, b: int, difference: bool = difference) -> int:
                return a | (1 - b) if difference else a & b

            slots.append(carry_slot(start, one[0], other[0]))
            for k in range(1, bits):
                slots.append(_slot(one[k], other[k], turned=difference, sign=signed and k == bits - 1))
    slots.append(carry_slot(lambda a, b: 0, ZERO))
    made = ecp5_chain(m, name, slots)[1:]
    fields: list[Value] = []
    for index, (one, other) in enumerate(pairs):
        bits = len(one)
        lowest = lut(m, f"{name}_{index}_low", target, int.__xor__, one[0], other[0])
        fields += [lowest, *made[2 * bits * index : 2 * bits * (index + 1)]]
    return fields


def _slot(a: Value, b: Value, *, turned: bool, sign: bool) -> Slot:
    if not sign:
        return plain_slot(lambda b, c: b ^ turned, a, b)

    def contents(a: int, b: int, c: int, d: int) -> int:
        return (1 - a) ^ (1 - b ^ turned) if d else 1 - a

    return table(contents), a, b, ZERO, ONE
