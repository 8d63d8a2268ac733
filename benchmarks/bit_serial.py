# amaranth: UnusedElaboratable=no
"""Bit-serial lanes compared with lanes for whole activations, in logic cells.

    python -m benchmarks.bit_serial                     # cells per lane and bit plane, 16, 32 and 64 lanes
    python -m benchmarks.bit_serial units               # whole units with the same number of cycles per frame
    python -m benchmarks.bit_serial hx8k ternary        # only these devices and codes

``plane`` is the cost of a lane that multiplies one bit of an activation by a weight. ``parallel`` is the cost of a lane
for whole activations, divided by their bits; for binary weights it includes an eighth of the logic that eight outputs
share. So equal numbers mean equal throughput per cell. In addition, bit planes need a multiplexer per lane, which all
outputs share: ``mux`` is its cost for 8-bit activations, with its register.
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
    """Selects a bit plane of a word of activations, with an output register."""

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
    """Logic cells per lane, with its share of the logic that several outputs have in common."""
    kind = DType.parse(activation)
    outputs = OUTPUTS if code == "binary" and kind.bits > 1 else 1
    block = Outputs(Code.parse(code), kind, simd, outputs, FAMILIES[device], exact=False)
    return measure(block, device, flow=FLOW[device])["lc"] / outputs / simd


def mux(activation: str, simd: int, device: str) -> float:
    """Logic cells per lane of the multiplexer that selects a bit plane."""
    return measure(Picker(DType.parse(activation), simd), device, flow=FLOW[device])["lc"] / simd


def unit(kind: type[FoldedMatVec], code: str, activation: str, pe: int, simd: int, device: str) -> int:
    """Logic cells of a whole unit with 256 inputs and 32 outputs, with weights and vectors in block RAM."""
    levels = Code.parse(code).levels
    weights = np.random.default_rng(1).choice(levels, (32, 256))
    layer = Dense(name="dense", weights=weights, code=Code.parse(code))
    block = kind(layer, DType.parse(activation), pe=pe, simd=simd, stages=2, target=FAMILIES[device], exact=False)
    return measure(block, device, flow=FLOW[device])["lc"]


def lanes_table(devices: list[str], codes: list[str]) -> None:
    """Print logic cells per lane and bit plane."""
    print("device    code     lanes  plane   mux  " + "  ".join(f"parallel {activation}" for activation in ACTIVATIONS))
    for device in devices:
        for simd in LANES:
            picked = mux("uint8", simd, device)
            for code in codes:
                whole = [
                    lane(code, activation, simd, device) / DType.parse(activation).bits for activation in ACTIVATIONS
                ]
                print(
                    f"{device:9} {code:8} {simd:5} {lane(code, str(BIT), simd, device):6.2f} {picked:5.2f}  "
                    + "  ".join(f"{activation:14.2f}" for activation in whole),
                    flush=True,
                )


def units_table(devices: list[str], codes: list[str]) -> None:
    """Print whole units with equal cycles per frame: the parallel one computes fewer outputs at a time."""
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
    devices = [name for name in FAMILIES if name in arguments] or list(FAMILIES)
    codes = [name for name in CODES if name in arguments] or list(CODES)
    (units_table if "units" in arguments else lanes_table)(devices, codes)


if __name__ == "__main__":
    main(sys.argv[1:])
