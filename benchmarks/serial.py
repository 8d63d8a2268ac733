"""Term-serial units compared with parallel ones, on layers of shipped networks: cycles, memory, logic cells.

    python -m benchmarks.serial                      # both networks, HX8K and ECP5-25F; minutes
    python -m benchmarks.serial mnist-conv hx8k      # one network, one device

Units and cycles are those of a single output position; a convolution repeats the cycles at every position. Each
term-serial unit is compared with a parallel unit on the same number of lanes, and with the smallest parallel unit that
is at least as fast.
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
"""PE is the largest divisor of the number of outputs up to this limit."""


NOTE = """\
In the serial unit, each lane processes one term per cycle, so zero weights and zero digits take no cycles. If weights
share a scale, the digits of the scale become terms of each of these weights; a parallel unit, which scales their sum
once, then needs fewer cycles on the same number of lanes. LC are those of the unit without the window unit of a
convolution; vectors and weights are in RAMs.
"""


def layers(network: Network) -> Iterator[tuple[Dense, DType]]:
    """Each layer with weights, as a dense layer of one output position, and the type of its activations."""
    for layer in network.layers:
        if isinstance(layer, Linear):
            yield layer.position(), layer.lane_kind(network.source(layer).dtype)


def outputs_of(layer: Dense) -> int:
    """PE of the units for ``layer``: the largest divisor of its outputs up to :data:`MOST_OUTPUTS`."""
    return max(divisor for divisor in divisors(layer.outputs) if divisor <= MOST_OUTPUTS)


def like(layer: Dense, cycles: int) -> tuple[int, int]:
    """PE and SIMD of the parallel unit with the fewest lanes that takes at most ``cycles``."""
    folds = [
        (pe, simd)
        for pe in divisors(layer.outputs)
        for simd in divisors(layer.fan_in)
        if serves_vectors(layer, pe, simd) and layer.outputs // pe * (layer.fan_in // simd) <= cycles
    ]
    return min(folds, key=lambda fold: (fold[0] * fold[1], fold[1]))


def units(layer: Dense, activation: DType, pe: int, device: str) -> Iterator[tuple[str, FoldedMatVec]]:
    """Name and unit: term-serial; parallel on the same number of lanes; and parallel with at most the same cycles."""
    options = {"target": FAMILIES[device], "exact": False}
    serial = TermSerialMatVec(layer, activation, pe=pe, simd=least_simd(layer, pe), **options)
    yield "terms", serial
    fast = like(layer, serial.cycles_per_frame)
    for outputs, inputs in dict.fromkeys([(pe, 1), fast]):
        try:
            yield "parallel", MatVec(layer, activation, pe=outputs, simd=inputs, **options)
        except FewbitError:  # the layer's scales do not allow this folding
            continue


def rows(network: Network, device: str) -> Iterator[tuple[object, ...]]:
    """Table rows of all units for the layers of ``network``."""
    for layer, activation in layers(network):
        for name, unit in units(layer, activation, outputs_of(layer), device):
            cells = measure(unit, device, flow=FLOW[device])
            bits = unit._memory_bits() * len(unit._memory_words())
            fold = f"{unit.pe} x {unit.simd}"
            yield layer.name, name, fold, unit.cycles_per_frame, bits, cells["lc"], cells["ram"]


def saved(network: Network) -> str:
    """Table with the zero weights and the non-zero terms of each layer, and the time that its lanes wait."""
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
    network_names = [name for name in NETWORKS if name in arguments] or list(NETWORKS)
    devices = [name for name in FAMILIES if name in arguments] or list(FAMILIES)
    for name in network_names:
        network = shipped(name)
        print(f"{name}\n\n{saved(network)}\n", flush=True)
        for device in devices:
            columns = ("layer", "unit", "PE x SIMD", "cycles", "weight bits", "LC", "RAMs")
            print(f"{name}, {device}, one position\n\n{table(columns, rows(network, device), left=3)}\n", flush=True)
    print(NOTE, end="")


if __name__ == "__main__":
    main(sys.argv[1:])
