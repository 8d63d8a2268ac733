# amaranth: UnusedElaboratable=no
"""The binary MAC array: in each cycle PE popcounts of SIMD XNORs are accumulated; the signs of the sums are outputs."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.accumulate import accumulate
from fewbit.hw.fabric.carry import check_target
from fewbit.hw.sums.popcount import XnorPopcount


class BinaryMac(wiring.Component):
    """``sum[p] += popcount(x xnor w[p])`` for PE words ``w`` at once; ``sign[p]`` is the sum's upper bit.

    A word with ``first`` high starts a new sum: its count is added to ``preset[p] * 2**low``. A sum that starts at
    ``2**(bits - 1) - T`` has the result of ``count >= T`` as its sign, without a comparator.

    **Latency**: ``latency`` cycles with ``en`` high from a word to the sum that includes it. ``preset`` is read one
    cycle before that: ``stages`` cycles after the word with ``first``. **Throughput**: a word a cycle.

    Cost in logic cells: PE popcounts (2.0 a bit on iCE40, 1.7 on ECP5, and their registers), and PE times ``bits``.

    Source: the product of bipolar vectors, ``2 count - n``, is from XNOR-Net, arXiv 1603.05279, section 3.2; a
    threshold for each output as its activation is from FINN, arXiv 1612.07119, section 4.2.2.

    Parameters
    ----------
    pe : int
        Number of sums.
    simd : int
        Bits of a word of ``x``.
    bits : int
        Bits of a sum, at least as many as a count has. Sums are modulo ``2**bits``.
    low : int or None
        Position of the lowest bit of ``preset``; by default just above the bits of a count. If it is lower, the count
        of a word with ``first`` must be below ``2**low``.
    stages : int
        Pipeline stages in a popcount, at least 1.
    target : ``"generic"``, ``"asic"``, ``"ice40"`` or ``"ecp5"``

    Members
    -------
    x : In(simd)
    w : In(pe * simd)
        The word of sum 0 in the lowest bits.
    first : In(1)
        The word is the first one of a sum.
    preset : In(pe * (bits - low))
        Start values, the one of sum 0 in the lowest bits; absent if ``low`` is ``bits``.
    en : In(1)
        Registers advance while it is high.
    sum : Out(pe * bits)
    sign : Out(pe)

    Raises
    ------
    FewbitError
        If a parameter is out of range, or the target is unknown.
    """

    def __init__(
        self, pe: int, simd: int, bits: int, *, low: int | None = None, stages: int = 1, target: str = "generic"
    ) -> None:
        if pe < 1 or simd < 1:
            raise FewbitError(f"a binary MAC needs a PE and a SIMD of at least 1, not {pe} and {simd}")
        count = simd.bit_length()
        if bits < count:
            raise FewbitError(f"sums of {simd} bits a word need at least {count} bits, not {bits}")
        if stages < 1:
            raise FewbitError(f"a binary MAC has 1 or more stages, not {stages}")
        low = count if low is None else low
        if not 0 <= low <= bits:
            raise FewbitError(f"the preset must begin at bit 0 to {bits}, not {low}")
        check_target("a binary MAC", target)
        self.pe, self.simd, self.bits, self.low, self.stages, self.target = pe, simd, bits, low, stages, target
        self.latency = stages + 1
        self.popcounts = [XnorPopcount(simd, stages, "generic" if target == "asic" else target) for _ in range(self.pe)]
        preset = {"preset": In(pe * (bits - low))} if low < bits else {}
        super().__init__(
            {"x": In(simd), "w": In(pe * simd), "first": In(1)}
            | preset
            | {"en": In(1, init=1), "sum": Out(pe * bits), "sign": Out(pe)}
        )

    def elaborate(self, platform: object) -> Module:
        """``begins`` is ``first``, delayed like the counts; the accumulators add the counts."""
        m = Module()
        begins = self.first
        for stage in range(self.stages):
            travelling = Signal(name=f"begins_{stage}")
            with m.If(self.en):
                m.d.sync += travelling.eq(begins)
            begins = travelling
        width = self.bits - self.low
        sums = []
        for index, popcount in enumerate(self.popcounts):
            m.submodules[f"popcount_{index}"] = popcount
            m.d.comb += [
                popcount.a.eq(self.x),
                popcount.b.eq(self.w.word_select(index, self.simd)),
                popcount.en.eq(self.en),
            ]
            total = Signal(self.bits, name=f"sum_{index}", reset_less=True)
            preset = list(self.preset.word_select(index, width)) if width else []
            following = accumulate(m, f"add_{index}", self.target, total, popcount.count, begins, preset)
            with m.If(self.en):
                m.d.sync += total.eq(following)
            sums.append(total)
        m.d.comb += [self.sum.eq(Cat(*sums)), self.sign.eq(Cat(*(total[-1] for total in sums)))]
        return m
