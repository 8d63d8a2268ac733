"""Sums of many short numbers in a tree with registers between its levels; the popcount is the sum of single bits."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError


def sum_tree(m: Module, terms: list[Value], stages: int, enable: Value, name: str) -> Value:
    """Sum of ``terms`` (signed or unsigned, mixed freely), with ``stages`` ranks of registers, the last on the sum.

    The tree is cut into ``stages`` levels of equal fan-in. Within a level the sum is one plain expression, which
    synthesis merges into its own compressor tree. Registers advance while ``enable`` is high.
    """
    fan_in = len(terms)
    if stages:
        fan_in = 1
        while fan_in**stages < len(terms):
            fan_in += 1
    for stage in range(max(stages, 1)):
        groups = [terms[start : start + fan_in] for start in range(0, len(terms), fan_in)]
        terms = []
        for index, group in enumerate(groups):
            total = _plain_sum(group)
            if stages:
                register = Signal(total.shape(), name=f"{name}_{stage}_{index}", reset_less=True)
                with m.If(enable):
                    m.d.sync += register.eq(total)
                total = register
            terms.append(total)
    (result,) = terms
    return result


def _plain_sum(terms: list[Value]) -> Value:
    """Balanced, so that wide sums stay within Python's recursion limit; trimmed to the range it can reach."""
    low, high = 0, 0
    for term in terms:
        shape = term.shape()
        low += -(1 << shape.width - 1) if shape.signed and shape.width else 0
        high += (1 << shape.width - 1) - 1 if shape.signed and shape.width else (1 << shape.width) - 1
    while len(terms) > 1:
        pairs = [one + other for one, other in zip(terms[::2], terms[1::2])]
        terms = pairs + terms[len(pairs) * 2 :]
    width = Shape.cast(range(low, high + 1)).width
    return terms[0][:width].as_signed() if low < 0 else terms[0][:width]


class Popcount(wiring.Component):
    """Number of ones: ``o = sum(i)``.

    **Latency**: ``stages`` cycles with ``en`` high; 0 is combinational. **Throughput**: one a cycle.
    Cost: about 2.75 LUT4 a bit, and the registers.

    Parameters
    ----------
    width : int
        Bits of ``i``, at least 1.
    stages : int
        Ranks of registers, the last on the output.

    Members
    -------
    i : In(width)
    en : In(1)
        Registers advance while it is high.
    o : Out(range(width + 1))
    """

    def __init__(self, width: int, stages: int = 0) -> None:
        if width < 1:
            raise FewbitError(f"a popcount needs a width of at least 1, not {width}")
        if stages < 0:
            raise FewbitError(f"a popcount has 0 or more stages, not {stages}")
        self.width, self.stages = width, stages
        self.latency = stages
        super().__init__({"i": In(width), "en": In(1, init=1), "o": Out(range(width + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(sum_tree(m, list(self.i), self.stages, self.en, "count"))
        return m
