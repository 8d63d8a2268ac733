"""Pipelined adder trees: sums of many short numbers, the popcount (the sum of single bits), and the XNOR-popcount (the
number of bits in which two words agree)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import check_target
from fewbit.hw.sums.xnor_tree import Ecp5Tree, Ice40Tree


def sum_tree(m: Module, terms: list[Value], stages: int, enable: Value, name: str) -> Value:
    """The sum of ``terms`` (signed or unsigned, in any mix), with ``stages`` pipeline stages, the last one on the sum.

    The tree has ``stages`` levels of equal fan-in. Within a level the sum is one plain expression, for which synthesis
    builds its own compressor tree. Registers advance while ``enable`` is high.
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
    """A balanced sum, so wide ones stay within Python's recursion limit, truncated to its actual range."""
    low, high = 0, 0
    for term in terms:
        shape = term.shape()
        low += -(1 << shape.width - 1) if shape.signed and shape.width else 0
        high += (1 << shape.width - 1) - 1 if shape.signed and shape.width else (1 << shape.width) - 1
    while len(terms) > 1:
        pairs = [left + right for left, right in zip(terms[::2], terms[1::2])]
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
        Pipeline stages, the last on the output.

    Members
    -------
    i : In(width)
    en : In(1)
        Registers advance while it is high.
    o : Out(range(width + 1))
    """

    def __init__(self, width: int, stages: int = 0) -> None:
        _check("a popcount", width, stages)
        self.width, self.stages = width, stages
        self.latency = stages
        super().__init__({"i": In(width), "en": In(1, init=1), "o": Out(range(width + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(sum_tree(m, list(self.i), self.stages, self.en, "count"))
        return m


TREES = {"ice40": Ice40Tree, "ecp5": Ecp5Tree}
"""Popcounts in the cells of a family; for all other families they are plain RTL."""


def _check(block: str, width: int, stages: int, target: str = "generic") -> None:
    if width < 1:
        raise FewbitError(f"{block} needs a width of at least 1, not {width}")
    if stages < 0:
        raise FewbitError(f"{block} has 0 or more stages, not {stages}")
    check_target(block, target)


class _WordPopcount(wiring.Component, ABC):
    """Base class of the popcounts of words: the bits that are counted are a function of the operands, place by
    place."""

    block: ClassVar[str]
    operands: ClassVar[tuple[str, ...]]

    def __init__(self, width: int, stages: int = 0, target: str = "generic") -> None:
        _check(self.block, width, stages, target)
        self.width, self.stages, self.target = width, stages, target
        self.latency = stages
        ports = {name: In(width) for name in self.operands}
        super().__init__({**ports, "en": In(1, init=1), "count": Out(range(width + 1))})

    @abstractmethod
    def counted(self) -> Value:
        """The bits to count."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tree = TREES.get(self.target)
        if tree is None:
            m.submodules.popcount = popcount = Popcount(self.width, self.stages)
            m.d.comb += [popcount.i.eq(self.counted()), popcount.en.eq(self.en), self.count.eq(popcount.o)]
        else:
            gates = getattr(self, "gate", None)
            m.d.comb += self.count.eq(Cat(tree(m, self.a, self.b, self.en, self.stages, gates).build()))
        return m


class GatedPopcount(_WordPopcount):
    """Number of bits that a gate passes and in which two words differ: ``count = popcount((a xor b) and gate)``.

    For ``ice40`` and ``ecp5`` it is a compressor tree of instantiated cells, which synthesis leaves unchanged; for
    ``generic`` and ``asic`` it is plain RTL.

    **Latency**: ``stages`` cycles with ``en`` high; 0 is combinational. **Throughput**: one a cycle.
    Cost a bit: about 2.6 logic cells on iCE40, 2.4 LUT4s on ECP5; and pipeline registers.

    Parameters
    ----------
    width : int
        Bits of ``a``, ``b`` and ``gate``, at least 1.
    stages : int
        Pipeline stages, placed to balance the delays; the last one is on the output.
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``

    Members
    -------
    a, b, gate : In(width)
    en : In(1)
        Registers advance while it is high.
    count : Out(range(width + 1))

    Raises
    ------
    FewbitError
        If the width is below 1, the stages are negative, or the target is unknown.
    """

    block = "a gated popcount"
    operands = ("a", "b", "gate")

    def counted(self) -> Value:
        return (self.a ^ self.b) & self.gate


class XnorPopcount(_WordPopcount):
    """Number of bits in which two words agree: ``count = popcount(a xnor b)``.

    For ``ice40`` and ``ecp5`` it is a compressor tree of instantiated cells, which synthesis leaves unchanged; for
    ``generic`` and ``asic`` it is plain RTL for any tool and simulator.

    **Latency**: ``stages`` cycles with ``en`` high; 0 is combinational. **Throughput**: one a cycle.
    Cost a bit: about 2.0 logic cells on iCE40, 1.7 LUT4s on ECP5, 2.75 as plain RTL; and pipeline registers.

    Source: the product of bipolar vectors, ``2 count - width``, is that of XNOR-Net, arXiv 1603.05279, section 3.2.

    Parameters
    ----------
    width : int
        Bits of ``a`` and of ``b``, at least 1.
    stages : int
        Pipeline stages, placed to balance the delays; the last one is on the output.
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``

    Members
    -------
    a : In(width)
    b : In(width)
    en : In(1)
        Registers advance while it is high.
    count : Out(range(width + 1))

    Raises
    ------
    FewbitError
        If the width is below 1, the stages are negative, or the target is unknown.
    """

    block = "an XNOR-popcount"
    operands = ("a", "b")

    def counted(self) -> Value:
        return ~(self.a ^ self.b)
