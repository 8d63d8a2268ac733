"""Fault coverage of chosen and of random test vectors, on every shipped network or on those named.

    python -m benchmarks.stimulus [NETWORK ...]

The reference are :data:`REFERENCE` frames that were not used to choose the vectors: half of them images of the
network's test set, half uniform random. ``visible`` is the number of single-weight faults that the reference frames
detect. The columns after it are the shares of these faults that the random and the chosen vectors detect. ``own`` is
the coverage that ``fewbit verilog`` reports, relative to all faults that any frame it tried detects. Seconds are CPU
time.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks import models
from benchmarks.command import command
from fewbit import arrays
from fewbit.engines import network_inputs
from fewbit.golden.dtype import Ints
from fewbit.golden.faults import KINDS, FaultSimulator
from fewbit.golden.network import Network
from fewbit.models import shipped, test_set
from fewbit.stimulus import choose

REFERENCE = 3000
RANDOM = 16
"""Number of uniform random vectors that are compared with the chosen ones."""

HEAD = (
    "network", "single-weight faults", "visible", f"{RANDOM} random vectors see", "chosen vectors", "they see", "own",
    "seconds",
)  # fmt: skip


def random_frames(network: Network, count: int, seed: int) -> Ints:
    """Random frames (count, \\*shape), uniform over the values of the network's input type."""
    kind, rng = network.input.dtype, np.random.default_rng(seed)
    levels = rng.integers(0, (kind.max - kind.min) // kind.step + 1, (count, *network.input.shape))
    return np.asarray(kind.min + kind.step * levels)


def reference(name: str, network: Network) -> Ints:
    """The reference frames, which are not used to choose vectors."""
    images = arrays.read(test_set(name)[0])[: REFERENCE // 2]
    if network.input_quantizer is not None:
        images = images.astype(np.float32) / 255
    return np.concatenate([network_inputs(network, images), random_frames(network, REFERENCE // 2, 77)])


def seen(simulator: FaultSimulator, frames: Ints, among: Ints) -> Ints:
    """The faults of ``among`` that at least one of ``frames`` detects."""
    left = among
    for frame in frames:
        if len(left):
            left = np.setdiff1d(left, simulator.visible(frame, left), assume_unique=True)
    return np.setdiff1d(among, left, assume_unique=True)


def row(name: str) -> tuple[str, ...]:
    """Measure a network; return its row of the table."""
    network = models.shipped(name)
    simulator = FaultSimulator(network)
    weights = np.flatnonzero(simulator.kinds == KINDS.index("weight"))
    began = time.process_time()
    chosen = choose(network)
    seconds = time.process_time() - began
    visible = seen(simulator, reference(name, network), weights)
    by_random = seen(simulator, random_frames(network, RANDOM, 1), visible)
    by_chosen = seen(simulator, chosen.frames, visible)
    return (
        f"`{name}`",
        f"{len(weights):,}",
        f"{len(visible):,}",
        f"{100 * len(by_random) / len(visible):.2f} %",
        f"{len(chosen.frames)}",
        f"{100 * len(by_chosen) / len(visible):.2f} %",
        f"{100 * chosen.coverage('weight'):.2f} %",
        f"{seconds:.0f}",
    )


def main(names: list[str]) -> None:
    for name in names:
        models.shipped(name)
    print(models.markdown(HEAD, []), flush=True)
    for name in names or shipped():
        print(models.markdown(HEAD, [row(name)]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    command("stimulus", main)
