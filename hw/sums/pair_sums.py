"""Sums and differences of pairs of activations, which all outputs of a unit with ±1 weights share."""

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
    """``x0 + x1`` and ``x0 - x1`` of every pair of lanes: a sum with ±1 weights selects one of them for each pair.

    Both are unsigned: ``2**bits`` is added to the difference, and for two's-complement activations also to the sum.
    Their lowest bits are equal, so the output has them once. If SIMD is odd, the last lane is output by itself; for
    two's-complement activations ``2**(bits - 1)`` is added to it.

    **Latency**: ``stages`` cycles with ``en`` high; 0 is combinational. **Throughput**: a word a cycle.
    Cost of a pair of 8 bits: 23 logic cells on iCE40, where the borrow ripples through one LUT a bit; 18 LUT4s on ECP5.

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
        For each pair the sum, ``bits + 1`` bits, and the difference without its lowest bit, ``bits`` bits; then the
        last lane if SIMD is odd.

    Raises
    ------
    FewbitError
        If SIMD is below 1, the activations have 1 bit, the stages are negative, or the target is unknown.
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
        # A difference is `x0 + ~x1 + 1`. Inverting the sign bits turns two's complement into unsigned numbers.
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
            for index, pair in enumerate(pairs):
                a, b = (lane ^ (signed << bits - 1) for lane in pair)
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


def _ice40_pair(m: Module, name: str, x0: Value, x1: Value, signed: bool) -> list[Value]:
    """The sum in a carry chain, the difference in two LUTs a bit. A chain for the difference would take as many, with
    an inverter a bit, and more for its lowest bit and a carry-in of 1."""
    bits = len(x0)
    a, b = [*x0, x0[-1] if signed else ZERO], [*x1, x1[-1] if signed else ZERO]
    total = ice40_add(m, f"{name}_sum", a, b, [ZERO] * bits + [ONE if signed else ZERO])

    def first(a1: int, b1: int, a0: int, b0: int) -> int:
        return a1 ^ b1 ^ (b0 & (1 - a0))

    def carries(sign: bool, a: int, b: int, below: int) -> int:
        """Whether ``a - b`` and the bits below need no borrow; for sign bits, the operands are inverted."""
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
    """Sums and differences in one row: each slot that ends a chain also generates the first carry of the next one."""
    target: Target = "ecp5"
    slots: list[Slot] = []
    for x0, x1 in pairs:
        bits = len(x0)
        for difference in (False, True):

            def start(a: int, b: int, difference: bool = difference) -> int:
                return a | (1 - b) if difference else a & b

            slots.append(carry_slot(start, x0[0], x1[0]))
            for k in range(1, bits):
                slots.append(_slot(x0[k], x1[k], turned=difference, sign=signed and k == bits - 1))
    slots.append(carry_slot(lambda a, b: 0, ZERO))
    sums = ecp5_chain(m, name, slots)[1:]
    fields: list[Value] = []
    for index, (x0, x1) in enumerate(pairs):
        bits = len(x0)
        lowest = lut(m, f"{name}_{index}_low", target, int.__xor__, x0[0], x1[0])
        fields += [lowest, *sums[2 * bits * index : 2 * bits * (index + 1)]]
    return fields


def _slot(a: Value, b: Value, *, turned: bool, sign: bool) -> Slot:
    if not sign:
        return plain_slot(lambda b, c: b ^ turned, a, b)

    def contents(a: int, b: int, c: int, d: int) -> int:
        return (1 - a) ^ (1 - b ^ turned) if d else 1 - a

    return table(contents), a, b, ZERO, ONE
