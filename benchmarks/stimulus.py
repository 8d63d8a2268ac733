"""What vectors see: chosen ones beside uniform random ones, on every shipped network or on those named.

    python -m benchmarks.stimulus [NETWORK ...]

The measure is of single-weight faults that :data:`REFERENCE` frames see which had no part in the choice: half of them
images of the network's test set, half uniform random. ``visible`` counts those faults; the columns behind it are shares
of them that the vectors see, and ``own`` the share that ``fewbit verilog`` itself reports, of all that any frame tried
sees. Seconds are of CPU.
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
"""Uniform random frames, as vectors were before they were chosen."""

HEAD = (
    "network", "single-weight faults", "visible", f"{RANDOM} random vectors see", "chosen vectors", "they see", "own",
    "seconds",
)  # fmt: skip


def random_frames(network: Network, count: int, seed: int) -> Ints:
    """Frames (count, \\*shape) of the network's input kind, uniform over its values."""
    kind, rng = network.input.dtype, np.random.default_rng(seed)
    levels = rng.integers(0, (kind.max - kind.min) // kind.step + 1, (count, *network.input.shape))
    return np.asarray(kind.min + kind.step * levels)


def reference(name: str, network: Network) -> Ints:
    """Frames that take no part in a choice."""
    images = arrays.read(test_set(name)[0])[: REFERENCE // 2]
    if network.input_quantizer is not None:
        images = images.astype(np.float32) / 255
    return np.concatenate([network_inputs(network, images), random_frames(network, REFERENCE // 2, 77)])


def seen(simulator: FaultSimulator, frames: Ints, among: Ints) -> Ints:
    """Those of the faults ``among`` that any of ``frames`` sees."""
    left = among
    for frame in frames:
        if len(left):
            left = np.setdiff1d(left, simulator.visible(frame, left), assume_unique=True)
    return np.setdiff1d(among, left, assume_unique=True)


def row(name: str) -> tuple[str, ...]:
    """A row of the table."""
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
