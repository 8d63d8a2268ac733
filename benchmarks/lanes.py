# amaranth: UnusedElaboratable=no
"""Logic cells per lane of 16 lanes, compared with plain RTL of the same sum of products synthesized by Yosys.

    python -m benchmarks.lanes                  # every code, with uint8 and uint4 activations
    python -m benchmarks.lanes shift3 uint8     # only these codes and activation types
    python -m benchmarks.lanes --exact          # lanes whose weights are code words at run time

Without ``--exact``, the weights are known at synthesis. With binary weights, eight outputs share the sums and
differences of pairs of activations; they are measured together and the result is divided by eight. The plain RTL
shifts by the code word, negates and sums. It is synthesized in the same run with the flow of a build and with an
area-optimized one; the smaller result counts. Required values are in :data:`GOALS`; ``python -m benchmarks.datapaths``
prints these lanes together with the other datapaths.
"""

from __future__ import annotations

import re
import sys

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks.measure import measure
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.hw.lanes.choose import lane_kind

FAMILIES = {"hx8k": "ice40", "ecp5-25k": "ecp5"}
FLOW = {"hx8k": "default", "ecp5-25k": "abc"}
"""Synthesis flow for our own cells. On ECP5 not abc9, which sometimes drops instantiated carry cells."""

CODES = ("binary", "ternary", "quinary", "shift3")
ACTIVATIONS = ("uint8", "uint4")
SIMD, OUTPUTS = 16, 8
GOALS: dict[tuple[str, str, str], tuple[float, float]] = {
    ("hx8k", "binary", "uint8"): (10.4, 9.5),
    ("hx8k", "ternary", "uint8"): (17.3, 16),
    ("hx8k", "shift3", "uint8"): (31.1, 28),
    ("ecp5-25k", "ternary", "uint8"): (14.1, 13),
    ("ecp5-25k", "shift3", "uint8"): (32.4, 26),
}
"""Required and desirable logic cells per lane, for weights known at synthesis."""


class Outputs(wiring.Component):
    """Lanes of several outputs, with the front logic that they share."""

    def __init__(self, code: Code, activation: DType, simd: int, outputs: int, target: str, *, exact: bool) -> None:
        kind = lane_kind(activation, code, target, exact=exact)
        self.lanes = [kind(simd, activation, code, 0) for _ in range(outputs)]
        first = self.lanes[0]
        super().__init__(
            {
                "x": In(simd * activation.bits),
                "w": In(outputs * first.w_bits),
                "o": Out(sum(len(lanes.o) for lanes in self.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        x, front = self.x, self.lanes[0].front
        if front is not None:
            m.submodules.front = front
            m.d.comb += front.x.eq(x)
            x = front.o
        for index, lanes in enumerate(self.lanes):
            m.submodules[f"lanes_{index}"] = lanes
            m.d.comb += [lanes.x.eq(x), lanes.w.eq(self.w.word_select(index, lanes.w_bits)), lanes.en.eq(1)]
        m.d.comb += self.o.eq(Cat(lanes.o for lanes in self.lanes))
        return m


class Plain(wiring.Component):
    """Plain RTL of the lanes: each activation is shifted and negated as its code word says, and all are summed."""

    def __init__(self, code: Code, activation: DType) -> None:
        self.weight_code, self.activation = code, activation
        largest_sum = SIMD * int(abs(code.levels).max()) * max(-activation.min, activation.max)
        ports = {
            "x": In(SIMD * activation.bits),
            "w": In(SIMD * code.bits),
            "o": Out(signed(largest_sum.bit_length() + 1)),
        }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code, bits = self.weight_code, self.activation.bits
        terms = []
        for lane in range(SIMD):
            x, w = self.x.word_select(lane, bits), self.w.word_select(lane, code.bits)
            x = x.as_signed() if self.activation.signed else x
            if not code.powers_of_two:
                term = Signal(signed(bits + code.largest_shift + 2), name=f"term_{lane}")
                with m.Switch(w):
                    for level in code.levels:
                        with m.Case(int(code.encode(level[None])[0])):
                            m.d.comb += term.eq(x * int(level))
                terms.append(term)
                continue
            size = Signal(signed(bits + 3), name=f"size_{lane}")
            with m.Switch(w):
                for level in code.levels:
                    with m.Case(int(code.encode(level[None])[0])):
                        m.d.comb += size.eq(x << int(abs(level)).bit_length() - 1 if level else 0)
            terms.append(Mux(~w[0] if code.signs_only else w[-1], -size, size))
        while len(terms) > 1:
            terms = [left + right for left, right in zip(terms[::2], terms[1::2])]
        m.d.comb += self.o.eq(terms[0])
        return m


def outputs(code: str, activation: str, *, exact: bool = False) -> int:
    """Number of outputs that are measured together: several if they share front logic, otherwise 1."""
    parsed, kind = Code.parse(code), DType.parse(activation)
    return OUTPUTS if lane_kind(kind, parsed, "ice40", exact=exact)(1, kind, parsed, 0).front is not None else 1


def ours(code: str, activation: str, device: str, *, exact: bool = False) -> Outputs:
    """Our lanes, built from the cells of the family of ``device``."""
    kinds = Code.parse(code), DType.parse(activation)
    return Outputs(*kinds, SIMD, outputs(code, activation, exact=exact), FAMILIES[device], exact=exact)


def plain(code: str, activation: str) -> Plain:
    """The same lanes in plain RTL."""
    return Plain(Code.parse(code), DType.parse(activation))


def main(arguments: list[str]) -> None:
    exact = "--exact" in arguments
    names = [name for name in arguments if not name.startswith("--")]
    activations = [name for name in names if re.fullmatch(r"bipolar|u?int[0-9]+", name)] or ACTIVATIONS
    codes = [name for name in names if name not in activations] or CODES
    print("device    code     x        ours  Yosys  ratio   goal")
    for device in FAMILIES:
        for code in codes:
            for kind in activations:
                block, lane_count = ours(code, kind, device, exact=exact), SIMD * outputs(code, kind, exact=exact)
                cells = measure(block, device, flow=FLOW[device])["lc"] / lane_count
                flows = ("default", "area")
                base = min(measure(plain(code, kind), device, flow=flow)["lc"] for flow in flows) / SIMD
                goal, _ = GOALS.get((device, code, kind), (None, None))
                goal_text = "" if goal is None or exact else f"{goal:6.1f}"
                print(
                    f"{device:9} {code:8} {kind:6} {cells:6.2f} {base:6.2f} {cells / base:6.2f} {goal_text}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
