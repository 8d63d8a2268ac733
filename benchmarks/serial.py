"""Units that walk non-zero terms beside parallel ones, on layers of shipped networks: cycles, memory, logic cells.

    python -m benchmarks.serial                      # both networks, HX8K and ECP5-25F; minutes
    python -m benchmarks.serial mnist-conv hx8k      # one network, one device

Every unit is that of one position: a frame takes as many times its cycles as the layer has positions. A parallel unit
stands beside each, on as many lanes, and the one that is as fast with the fewest weights a cycle.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.measure import measure
from benchmarks.models import shipped
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense, Linear, Network
from fewbit.golden.terms import term_counts
from fewbit.hw.costs.parts import divisors, serves_vectors
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.matvec.term_serial import TermSerialMatVec, least_simd
from fewbit.report import table

NETWORKS = ("mnist-conv", "lenet5-shift3")
FAMILIES = {"hx8k": "ice40", "ecp5-25k": "ecp5"}
FLOW = {"hx8k": "default", "ecp5-25k": "abc"}
MOST_OUTPUTS = 4
"""PE is the largest divisor of the outputs up to this."""


NOTE = """\
A cycle of the serial unit is a term a lane: no zero weight and no zero digit takes one. Where a scale has digits of its
own each of its weights has them again, so that a parallel unit, which scales a sum, is done sooner on as many lanes. LC
are those of the unit without the windows of a convolution; vectors and weights lie in RAMs.
"""


def layers(network: Network) -> Iterator[tuple[Dense, DType]]:
    """Products at one position, and the activations that they take."""
    for layer in network.layers:
        if isinstance(layer, Linear):
            yield layer.position(), layer.lane_kind(network.source(layer).dtype)


def outputs_of(layer: Dense) -> int:
    return max(one for one in divisors(layer.outputs) if one <= MOST_OUTPUTS)


def like(layer: Dense, cycles: int) -> tuple[int, int]:
    """PE and SIMD of the parallel unit that takes at most ``cycles`` and the fewest weights at a time."""
    folds = [
        (pe, simd)
        for pe in divisors(layer.outputs)
        for simd in divisors(layer.fan_in)
        if serves_vectors(layer, pe, simd) and layer.outputs // pe * (layer.fan_in // simd) <= cycles
    ]
    return min(folds, key=lambda fold: (fold[0] * fold[1], fold[1]))


def units(layer: Dense, activation: DType, pe: int, device: str) -> Iterator[tuple[str, FoldedMatVec]]:
    """The serial unit, as many lanes in parallel, and the parallel unit that is as fast."""
    options = {"target": FAMILIES[device], "exact": False}
    serial = TermSerialMatVec(layer, activation, pe=pe, simd=least_simd(layer, pe), **options)
    yield "terms", serial
    fast = like(layer, serial.cycles_per_frame)
    for outputs, inputs in dict.fromkeys([(pe, 1), fast]):
        try:
            yield "parallel", MatVec(layer, activation, pe=outputs, simd=inputs, **options)
        except FewbitError:  # a folding that its scales do not allow
            continue


def rows(network: Network, device: str) -> Iterator[tuple[object, ...]]:
    for layer, activation in layers(network):
        for name, unit in units(layer, activation, outputs_of(layer), device):
            cells = measure(unit, device, flow=FLOW[device])
            bits = unit._memory_bits() * len(unit._memory_words())
            fold = f"{unit.pe} x {unit.simd}"
            yield layer.name, name, fold, unit.cycles_per_frame, bits, cells["lc"], cells["ram"]


def saved(network: Network) -> str:
    """Cycles that the zeros of each layer would take on one lane, and what its lanes wait for one another."""
    lines = []
    for layer, _ in layers(network):
        counts = term_counts(layer)
        terms, zeros = int(counts.sum()), int((layer.weights == 0).sum())
        pe = outputs_of(layer)
        longest = int(counts.reshape(-1, pe).max(1).sum()) * pe
        waits = f"{100 * (longest - terms) / longest:.1f} %"
        share = f"{100 * zeros / layer.weights.size:.1f} %"
        lines.append(
            (layer.name, layer.weights.size, zeros, share, terms, f"{terms / layer.weights.size:.2f}", pe, waits)
        )
    columns = ("layer", "weights", "zeros", "share", "terms", "terms a weight", "PE", "lanes wait")
    return table(columns, lines)


def main(arguments: list[str]) -> None:
    names = [one for one in NETWORKS if one in arguments] or list(NETWORKS)
    devices = [one for one in FAMILIES if one in arguments] or list(FAMILIES)
    for name in names:
        network = shipped(name)
        print(f"{name}\n\n{saved(network)}\n", flush=True)
        for device in devices:
            columns = ("layer", "unit", "PE x SIMD", "cycles", "weight bits", "LC", "RAMs")
            print(f"{name}, {device}, one position\n\n{table(columns, rows(network, device), left=3)}\n", flush=True)
    print(NOTE, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
