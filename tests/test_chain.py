"""Random networks in random foldings: data, arg-max, latency and interval are exact, whatever the folding."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from networks import random_conv_design, random_design, random_frames, streamed_design
from streaming import simulate
from tiers import each_value, slow_but

from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Dense, Flatten, Network, OneInput, TensorType
from fewbit.golden.run import run
from fewbit.hw.chain import chain, timing
from fewbit.hw.emit import verilog
from fewbit.hw.fold import Folding, MatVecFold, WindowFold
from fewbit.hw.streams import to_stream
from fewbit.hw.top import Top
from fewbit.sim.compile import PATTERNS, compile_design
from fewbit.sim.netlist import netlist
from fewbit.sim.vectors import network_vectors
from fewbit.sim.words import extract, pack_words


def check(seed: int, frames: int = 12, valid: str = "always", ready: str = "always", make=random_design) -> None:
    rng = np.random.default_rng(seed)
    network, folding = make(rng)
    x = random_frames(rng, network.input.dtype, (frames, *network.input.shape))
    vectors = network_vectors(network, x, input_lanes=folding.input_lanes)
    trace = simulate(Top(network, folding), vectors.words, len(vectors.expected), valid=valid, ready=ready, seed=seed)
    assert trace.words == vectors.expected, f"seed {seed}: {network.types}, {folding}"
    if (valid, ready) == ("always", "always"):
        promised = timing(network, folding)
        measured = (trace.latency(vectors.beats_out), trace.intervals(vectors.beats_out)[-1])
        assert measured == (promised.latency, promised.interval), f"seed {seed}: {network.types}, {folding}"


PRESSURE = [("random", "slow"), ("slow", "random"), ("burst", "burst")]
"""Patterns of valid and of ready."""


@pytest.mark.parametrize("seed", slow_but(range(12), range(40)))
def test_random_networks_to_the_cycle(seed):
    check(seed)


@pytest.mark.parametrize("seed, pattern", each_value(range(1000, 1005), PRESSURE))
def test_random_networks_under_pressure(seed, pattern):
    check(seed, 4, *pattern)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2400))
def test_several_hundred_random_networks_to_the_cycle(seed):
    check(seed)


@pytest.mark.parametrize(
    "make, seed",
    [
        (random_conv_design, 3106),
        *(
            pytest.param(random_conv_design, seed, marks=pytest.mark.slow)
            for seed in (*range(3100, 3106), *range(3107, 3112))
        ),
        *(pytest.param(random_design, seed, marks=pytest.mark.slow) for seed in range(3000, 3012)),
    ],
)
def test_random_networks_at_compiled_speed(make, seed, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(seed)
    network, folding = make(rng)
    design = compile_design(verilog(Top(network, folding), "top"))
    dtype, classes = network.input.dtype, network.scores.size
    x = random_frames(rng, dtype, (300, *network.input.shape))
    stream = to_stream(dtype.encode(x), network.input.shape)
    words = pack_words(stream.reshape(-1, folding.input_lanes), dtype.bits)
    scores = to_stream(run(network, x).scores, network.scores.shape)
    kind = network.scores.dtype
    index_bits = max(1, (classes - 1).bit_length())
    for valid in PATTERNS:
        for ready in PATTERNS:
            trace = design.run(
                words,
                300 * classes,
                max_cycles=10_000_000,
                valid_pattern=valid,
                ready_pattern=ready,
                seed=seed,
            )
            got = kind.decode(extract(trace.outputs, 0, kind.bits)).reshape(300, classes)
            assert (got == scores).all(), (seed, valid, ready)
            index = extract(trace.outputs, kind.bits, index_bits).reshape(300, classes)
            assert (index[:, -1] == scores.argmax(1)).all(), (seed, valid, ready)
            if (valid, ready) == ("always", "always"):
                assert trace.output_cycles[classes - 1] - trace.input_cycles[0] + 1 == timing(network, folding).latency
                gap = trace.output_cycles[-1] - trace.output_cycles[-1 - classes]
                assert gap == timing(network, folding).interval, seed


@pytest.mark.parametrize(
    "seed, pattern",
    slow_but(
        [(0, ("always", "always")), (1, ("random", "slow")), (2, ("burst", "burst")), (3, ("always", "always"))],
        product(range(8), [("always", "always"), ("random", "slow"), ("burst", "burst")]),
    ),
)
def test_thresholds_in_the_weight_streams(seed, pattern):
    check(seed, 6, *pattern, streamed_design)


@pytest.mark.parametrize("seed", slow_but(range(12), range(60)))
def test_random_convolutions_to_the_cycle(seed):
    check(seed, 4, make=random_conv_design)


@pytest.mark.parametrize("seed, pattern", each_value(range(1000, 1004), PRESSURE))
def test_random_convolutions_under_pressure(seed, pattern):
    check(seed, 3, *pattern, random_conv_design)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2000, 2300))
def test_several_hundred_random_convolutions_to_the_cycle(seed):
    check(seed, 4, make=random_conv_design)


def test_random_designs_have_every_code():
    designs = [random_design(np.random.default_rng(seed)) for seed in range(40)]
    codes = {layer.code.name for network, _ in designs for layer in network.layers if isinstance(layer, Dense)}
    assert codes == {"binary", "ternary", "quinary", "shift3", "int(3)"}


@pytest.mark.parametrize(
    "make, seed, family",
    slow_but(
        [(random_design, 5001, "ice40")],
        [
            (make, seed, family)
            for make, seeds in (
                (random_design, range(5001, 5010)), (streamed_design, range(1, 6)), (random_conv_design, range(1, 6)),
            )
            for seed in seeds
            for family in ("ice40", "ecp5")
        ],
    ),
)  # fmt: skip
def test_random_networks_in_the_cells_of_a_family(make, seed, family, tmp_path, monkeypatch):
    """What synthesis makes of the datapaths' own cells gives the golden scores, as plain RTL does."""
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path))
    rng = np.random.default_rng(seed)
    network, folding = make(rng)
    if family == "ice40":  # it has no memory of LUTs that can be written
        folds = {name: _in_blocks(fold) for name, fold in folding.folds.items()}
        folding = replace(folding, folds=folds)
    mapped = netlist(verilog(Top(network, folding, family), "top"), top="top", family=family)
    dtype, size = network.input.dtype, network.scores.size
    x = random_frames(rng, dtype, (100, *network.input.shape))
    stream = to_stream(dtype.encode(x), network.input.shape)
    words = pack_words(stream.reshape(-1, folding.input_lanes), dtype.bits)
    trace = compile_design(mapped, top="top").run(
        words, 100 * size, max_cycles=10_000_000, valid_pattern="random", ready_pattern="burst", seed=seed
    )
    kind = network.scores.dtype
    got = kind.decode(extract(trace.outputs, 0, kind.bits)).reshape(100, size)
    assert (got == to_stream(run(network, x).scores, network.scores.shape)).all()


def _in_blocks(fold):
    if isinstance(fold, WindowFold):
        return replace(fold, memory="block")
    if isinstance(fold, MatVecFold):
        buffer = "block" if fold.buffer == "distributed" else fold.buffer
        return replace(fold, buffer=buffer, window=_in_blocks(fold.window))
    return fold


def one_dense(**weights_of: int) -> Network:
    outputs, inputs = weights_of["outputs"], weights_of["inputs"]
    dense = Dense(name="dense", weights=np.ones((outputs, inputs)), code=BINARY)
    return Network(name="one", input=TensorType(BIPOLAR, (inputs,)), layers=(dense,))


def test_units_are_named_in_stream_order():
    parts = chain(one_dense(outputs=6, inputs=12), Folding(input_lanes=2, folds={"dense": MatVecFold(pe=3, simd=4)}))
    assert [part.name for part in parts] == [
        "layer_0_dense_gearbox",
        "layer_0_dense",
        "scores_gearbox",
        "argmax",
    ]
    parts = chain(one_dense(outputs=6, inputs=12), Folding(input_lanes=4, folds={"dense": MatVecFold(pe=1, simd=4)}))
    assert [part.name for part in parts] == ["layer_0_dense", "argmax"]


def test_a_network_without_arithmetic_is_wires_and_an_arg_max():
    layers = (Flatten(name="flatten"), ArgMax(name="argmax"))
    network = Network(name="nothing", input=TensorType(DType("int", 3), (2, 3)), layers=layers)
    folding = Folding(input_lanes=2, folds={})
    vectors = network_vectors(network, np.array([[[1, -2, 3], [3, -4, 0]]]), input_lanes=2)
    trace = simulate(Top(network, folding), vectors.words, 6)
    assert trace.words == vectors.expected
    assert trace.latency(6) == timing(network, folding).latency


@pytest.mark.parametrize(
    "lanes, fold, message",
    [
        (5, MatVecFold(), "input lanes must divide the 12 inputs, not 5"),
        (0, MatVecFold(), "input lanes must divide the 12 inputs, not 0"),
        (1, MatVecFold(pe=4), "layer 'dense': PE must divide the 6 outputs, not 4"),
        (1, MatVecFold(simd=5), "layer 'dense': SIMD must divide the 12 inputs, not 5"),
        (1, MatVecFold(stages=0), "layer 'dense': the sum needs at least 1 stage, not 0"),
    ],
)
def test_a_fold_that_does_not_divide_is_refused(lanes, fold, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        chain(one_dense(outputs=6, inputs=12), Folding(input_lanes=lanes, folds={"dense": fold}))


def test_a_layer_without_hardware_is_refused():
    class Strange(OneInput):
        kind = "strange"

        def output(self, source: TensorType) -> TensorType:
            return source

        def step(self, source, x, quality=None):
            return x

    network = Network(name="odd", input=TensorType(BIPOLAR, (4,)), layers=(Strange(name="x"),))
    with pytest.raises(FewbitError, match=r"^layer 'x': there is no hardware for a strange layer$"):
        chain(network, Folding(input_lanes=1, folds={}))
