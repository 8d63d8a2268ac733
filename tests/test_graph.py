"""Networks that branch and join, as hardware: data, cycles and the depths of buffers are exact, whatever the folding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import random_frames, random_graph_design
from streaming import PAIRS, simulate
from tiers import slow_but

from fewbit.golden.network import Join
from fewbit.hw.chain import timing, with_buffers
from fewbit.hw.fold import Folding, JoinFold
from fewbit.hw.top import Top
from fewbit.sim.vectors import network_vectors


def check(seed: int, frames: int = 4, valid: str = "always", ready: str = "always") -> None:
    rng = np.random.default_rng(seed)
    network, folding = random_graph_design(rng)
    x = random_frames(rng, network.input.dtype, (frames, *network.input.shape))
    vectors = network_vectors(network, x, input_lanes=folding.input_lanes)
    promised = timing(network, folding)
    trace = simulate(Top(network, folding), vectors.words, len(vectors.expected), valid=valid, ready=ready, seed=seed,
                     patience=4 * promised.latency + 1000)  # fmt: skip
    assert trace.words == vectors.expected, f"seed {seed}: {network.types}, {folding}"
    if (valid, ready) == ("always", "always"):
        whole = min(len(promised.times), len(trace.given))
        assert trace.given[:whole] == [time + trace.taken[0] for time in promised.times[:whole]], f"seed {seed}"


@pytest.mark.parametrize("seed", slow_but(range(40), range(200)))
def test_random_graphs_to_the_cycle(seed):
    check(seed)
