# amaranth: UnusedElaboratable=no
"""Lanes that take bit planes beside lanes that take whole activations, in logic cells.

    python -m benchmarks.bit_serial                     # cells a lane and plane, 16, 32 and 64 lanes
    python -m benchmarks.bit_serial units               # whole units, and their cells for the same cycles a frame
    python -m benchmarks.bit_serial hx8k ternary        # these devices and codes

A lane of a plane is one weight on one bit; ``parallel`` is a lane of whole activations divided by their bits, of ±1
weights with an eighth of the front that eight outputs share. So equal numbers are equal work at equal speed. A plane
also wants a multiplexer a lane, once for all outputs: ``mux`` is that of 8-bit activations, its register included.
"""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks.lanes import FAMILIES, FLOW, OUTPUTS, Outputs
from benchmarks.measure import measure
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.matvec.bit_serial import BIT, BitSerialMatVec, pick_plane
from fewbit.hw.matvec.parallel import MatVec

CODES = ("binary", "ternary")
LANES = (16, 32, 64)
ACTIVATIONS = ("uint2", "uint4", "uint8")


class Picker(wiring.Component):
    """The plane of a word, in a register."""

    def __init__(self, activation: DType, simd: int) -> None:
        self.activation, self.simd = activation, simd
        super().__init__({"word": In(simd * activation.bits), "plane": In(range(activation.bits)), "o": Out(simd)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        picked = pick_plane(m, self.word, self.plane, self.activation)
        m.d.sync += self.o.eq(picked)
        return m


@cache
def lane(code: str, activation: str, simd: int, device: str) -> float:
    """Logic cells of a lane, with its share of what eight outputs have in common."""
    kind = DType.parse(activation)
    outputs = OUTPUTS if code == "binary" and kind.bits > 1 else 1
    block = Outputs(Code.parse(code), kind, simd, outputs, FAMILIES[device], exact=False)
    return measure(block, device, flow=FLOW[device])["lc"] / outputs / simd


def mux(activation: str, simd: int, device: str) -> float:
    """Logic cells that picking a plane takes, a lane."""
    return measure(Picker(DType.parse(activation), simd), device, flow=FLOW[device])["lc"] / simd


def unit(kind: type[FoldedMatVec], code: str, activation: str, pe: int, simd: int, device: str) -> int:
    """Logic cells of a whole unit of 256 inputs and 32 outputs, weights and vectors in block RAM."""
    levels = Code.parse(code).levels
    weights = np.random.default_rng(1).choice(levels, (32, 256))
    layer = Dense(name="dense", weights=weights, code=Code.parse(code))
    block = kind(layer, DType.parse(activation), pe=pe, simd=simd, stages=2, target=FAMILIES[device], exact=False)
    return measure(block, device, flow=FLOW[device])["lc"]


def lanes_table(devices: list[str], codes: list[str]) -> None:
    print("device    code     lanes  plane   mux  " + "  ".join(f"parallel {one}" for one in ACTIVATIONS))
    for device in devices:
        for simd in LANES:
            picked = mux("uint8", simd, device)
            for code in codes:
                whole = [lane(code, one, simd, device) / DType.parse(one).bits for one in ACTIVATIONS]
                print(
                    f"{device:9} {code:8} {simd:5} {lane(code, str(BIT), simd, device):6.2f} {picked:5.2f}  "
                    + "  ".join(f"{one:14.2f}" for one in whole),
                    flush=True,
                )


def units_table(devices: list[str], codes: list[str]) -> None:
    """The parallel unit has as many fewer outputs at a time as the planes take longer."""
    print("256 inputs, 32 outputs; PE x SIMD, logic cells")
    print("device    code     activations  cycles      planes          parallel")
    for device in devices:
        for code in codes:
            for activation in ACTIVATIONS:
                bits = DType.parse(activation).bits
                serial = unit(BitSerialMatVec, code, activation, 8, 32, device)
                whole = unit(MatVec, code, activation, 8 // bits, 32, device)
                both = f"8 x 32 {serial:5}  {8 // bits:5} x 32 {whole:5}"
                print(f"{device:9} {code:8} {activation:11} {32 * bits:7}  {both}", flush=True)


def main(arguments: list[str]) -> None:
    devices = [one for one in FAMILIES if one in arguments] or list(FAMILIES)
    codes = [one for one in CODES if one in arguments] or list(CODES)
    (units_table if "units" in arguments else lanes_table)(devices, codes)


if __name__ == "__main__":
    main(sys.argv[1:])
