"""Networks with weights from a table of integers, and lanes behind scales: planned, and as netlist equal to golden."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tiers import slow_but

from fewbit import engines
from fewbit.generator import design
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import ArgMax, Conv, Dense, Flatten, Network, TensorType, Threshold
from fewbit.golden.quantizers.rules import quantize
from fewbit.golden.quantizers.weight_vectors import WeightVectors

CODEBOOK = "codebook(-9,-4,-1,0,1,4,9)"
TARGETS = ("up5k", "ecp5-25k")

pytestmark = pytest.mark.usefixtures("cache")


def scaled(code: str, across: bool) -> Network:
    """A dense layer with a scale for every three inputs of an output, or outputs of an input, and an arg-max."""
    rng, kind = np.random.default_rng(1), Code.parse(code)
    dense = Dense(
        name="dense", weights=rng.choice(kind.levels, (6, 12)), code=kind, vector=3, across=across,
        scales=rng.integers(-60, 100, (2, 12) if across else (6, 4)),
    )  # fmt: skip
    source = TensorType(DType.parse("uint4"), (12,))
    return Network(name="scaled", input=source, layers=(dense, ArgMax(name="argmax")))


def convolutional(code: str) -> Network:
    rng, kind = np.random.default_rng(2), Code.parse(code)
    conv = Conv(name="conv", weights=rng.choice(kind.levels, (4, 2, 3, 3)), code=kind, padding=(1, 1, 1, 1))
    threshold = Threshold(
        name="levels", thresholds=np.array([[-90, 0, 90]]), sign=np.ones(1), dtype=DType.parse("uint2"), base=0
    )
    dense = Dense(name="dense", weights=rng.choice(kind.levels, (3, 64)), code=kind)
    layers = (conv, threshold, Flatten(name="flat"), dense, ArgMax(name="argmax"))
    return Network(name="convolutional", input=TensorType(DType.parse("int3"), (2, 4, 4)), layers=layers)


def frames_of(network: Network, count: int = 20):
    kind = network.input.dtype
    return np.random.default_rng(3).integers(kind.min, kind.max + 1, (count, *network.input.shape))


@pytest.mark.parametrize("code, across, target", slow_but(
    [("binary", True, "up5k")],
    product(["binary", "shift3", CODEBOOK], [True, False], TARGETS),
))  # fmt: skip
def test_scales_in_front_of_lanes_and_behind_them(code, across, target):
    network = scaled(code, across)
    frames = frames_of(network)
    golden = engines.run_golden(network, frames)
    assert engines.differing_frames(engines.run_netlist(design(network, target), frames), golden).size == 0


@pytest.mark.parametrize(
    "code, target", slow_but([(CODEBOOK, "up5k")], product([CODEBOOK, "codebook(-6,-3,5)"], TARGETS))
)
def test_a_network_of_tables_is_golden_as_netlist(code, target):
    network = convolutional(code)
    frames = frames_of(network)
    golden = engines.run_golden(network, frames)
    assert len(np.unique(golden.scores)) > 20
    assert engines.differing_frames(engines.run_netlist(design(network, target), frames), golden).size == 0


def test_weights_take_the_nearest_level():
    weights = np.random.default_rng(4).normal(0, 2, (5, 40))
    code = Code.parse(CODEBOOK)
    quantized = quantize(weights, code, rule="nearest", vectors=WeightVectors())
    assert np.isin(quantized.levels, code.levels).all()
    nearest = np.abs(weights[..., None] - quantized.scales[:, :1, None] * code.levels).min(-1)
    error = np.abs(weights - quantized.scales[:, :1] * quantized.levels)
    assert np.allclose(error, nearest)
