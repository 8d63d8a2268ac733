# amaranth: UnusedElaboratable=no
"""The three forms of requantization compared: comparators, binary search, and multiply-shift; cells and cycles.

    python -m benchmarks.requantization                   # folded batch norms at 1, 2, 3, 4 and 8 bits, shipped layers
    python -m benchmarks.requantization hx8k bn4 act4     # only these devices and layers
    python -m benchmarks.requantization --place           # also the clocks after place and route

All units have one lane. ``bnK`` is a batch normalization of 64 channels with random gains and offsets in a range
typical of trained networks, quantized to K bits; ``sharedK`` has the same gain in all channels, as with one scale per
tensor. The search is in block RAM, the other forms are in LUTs. There is no row for multiply-shift if no multiplier and
shift give exactly the levels. Comparators are not synthesized if their constants alone exceed the device. ``predicted``
is the planner's estimate of the cells, for multiply-shift only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.lanes import FAMILIES, FLOW
from benchmarks.measure import measure
from benchmarks.models import shipped
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.input_range import threshold_range
from fewbit.golden.network import TensorType, Threshold
from fewbit.hw.costs.parts import multiply_shift_cells, row_stages
from fewbit.hw.fabric.devices import target
from fewbit.hw.layers.multiply_shift import cheapest
from fewbit.hw.layers.threshold import COMPARATORS, MULTIPLY_SHIFT, SEARCH, ThresholdUnit
from fewbit.hw.memory.rom import rom_cells
from fewbit.passes import lower

CLOCK_HZ = {"hx8k": 48e6, "ecp5-25k": 50e6}
CHANNELS = 64
OUTPUT_BITS = (1, 2, 3, 4, 8)
SHIPPED = {"pixels": ("fashion-conv", "pixels"), "act1": ("mnist-conv", "act1"), "act2": ("fashion-conv", "act2"),
           "act4": ("lenet5-shift3", "act4")}  # fmt: skip

Layer = tuple[Threshold, TensorType, tuple[np.ndarray, np.ndarray]]


def folded(bits: int, *, shared: bool = False, seed: int = 1) -> Layer:
    """Thresholds of a random batch normalization and a quantizer to ``bits`` bits, with the type and range of the sums.

    With ``shared``, all channels have the same gain.
    """
    rng, levels, width = np.random.default_rng(seed), (1 << bits) - 1, bits + 9 - bits // 2
    gain = np.full(CHANNELS, 1.1) if shared else rng.uniform(0.6, 1.7, CHANNELS)
    spacing = (1 << width - 2) / levels * gain
    middle = rng.normal(0, 1 << width - 4, CHANNELS)
    places = np.arange(levels) - (levels - 1) / 2
    layer = Threshold(
        name="folded", thresholds=np.ceil(middle[:, None] + spacing[:, None] * places), sign=np.ones(CHANNELS),
        dtype=DType("uint", bits), base=0,
    )  # fmt: skip
    kind = DType("int", width)
    return layer, TensorType(kind, (CHANNELS,)), (np.full(CHANNELS, kind.min), np.full(CHANNELS, kind.max))


def layer_of(model: str, name: str) -> Layer:
    """The threshold layer ``name`` of a shipped network. Raises FewbitError if it is another kind of layer."""
    network = lower(shipped(model))
    layer = next(layer for layer in network.layers if layer.name == name)
    if not isinstance(layer, Threshold):
        raise FewbitError(f"{model}: layer {name!r} has no thresholds")
    return layer, network.source(layer), threshold_range(network, layer)


def layers() -> dict[str, Layer]:
    """All layers to measure, by name."""
    layers_by_name = {f"bn{bits}": folded(bits) for bits in OUTPUT_BITS}
    layers_by_name |= {f"shared{bits}": folded(bits, shared=True) for bits in OUTPUT_BITS[1:]}
    return layers_by_name | {name: layer_of(*place) for name, place in SHIPPED.items()}


def forms(measured_layer: Layer, device: str) -> Iterator[tuple[str, ThresholdUnit, int | None]]:
    """Units of every form for a layer, with one lane; and, for multiply-shift, the predicted cells."""
    layer, source, input_range = measured_layer
    yield COMPARATORS, ThresholdUnit(layer, source, lanes=1), None
    if layer.thresholds.shape[1] > 1:
        yield SEARCH, ThresholdUnit(layer, source, lanes=1, form=SEARCH, memory="block"), None
    form = cheapest(layer, *input_range, FAMILIES[device])
    if form is not None:
        stages = row_stages(form, target(device), CLOCK_HZ[device])
        options: dict[str, Any] = {
            "form": MULTIPLY_SHIFT,
            "input_range": input_range,
            "stages": stages,
            "target": FAMILIES[device],
        }
        unit = ThresholdUnit(layer, source, lanes=1, **options)
        yield MULTIPLY_SHIFT, unit, multiply_shift_cells(form, 1, layer.channels, stages)


def outgrows(layer: Threshold, source: TensorType, device: str) -> bool:
    """Whether the constants of the thresholds alone take more LUTs than the device has."""
    capacity = target(device).capacity
    constants = rom_cells(layer.channels, layer.thresholds.shape[1] * source.dtype.bits)
    return capacity is not None and constants > capacity.cells


def main(arguments: list[str]) -> None:
    place = "--place" in arguments
    every = layers()
    devices = [name for name in arguments if name in FAMILIES] or list(FAMILIES)
    names = [name for name in arguments if name in every] or list(every)
    print("device    layer    levels channels form            rows  predicted    LC   off  RAM  cycles   MHz")
    for device in devices:
        for name in names:
            layer, source, _ = every[name]
            for form, unit, cells in forms(every[name], device):
                rows = len(unit.multiply_shift.rows) if unit.multiply_shift is not None else ""
                head = f"{device:9} {name:8} {layer.thresholds.shape[1] + 1:6} {layer.channels:8} {form:15} {rows:4}"
                if form == COMPARATORS and outgrows(layer, source, device):
                    print(f"{head}                -", flush=True)
                    continue
                # Only multiply-shift is built from the family's cells, which need the older ABC on ECP5.
                flow = FLOW[device] if form == MULTIPLY_SHIFT else "default"
                used = measure(unit, device, flow=flow, place=place)
                wrong = f"{100 * (cells / used['lc'] - 1):+4.0f}%" if cells else ""
                off = f"{cells or '':10} {used['lc']:5} {wrong:5}"
                clock = f"{used['fmax']:5.0f}" if used["fmax"] else ""
                print(f"{head} {off} {used['ram']:4} {unit.cycles_per_beat:7} {clock}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
