"""The whole design as Verilog under the bench of whole designs, and faults in it that the bench must name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import random_design, random_frames, random_threshold
from streaming import PAIRS, simulate

from fewbit.golden.codes import Code
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.network import Affine, ArgMax, Dense, Flatten, Network, TensorType, Threshold
from fewbit.hw.chain import timing
from fewbit.hw.emit import verilog
from fewbit.hw.fold import Folding, MatVecFold, ThresholdFold
from fewbit.hw.top import Top
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.vectors import Vectors, network_vectors


def classifier() -> tuple[Network, Folding]:
    """Two dense layers, binary then ternary, both threshold forms, an affine, an arg-max; lanes that do not divide."""
    rng = np.random.default_rng(1)
    binary, ternary = Code.parse("binary"), Code.parse("ternary")
    source = TensorType(DType.parse("uint2"), (3, 4))
    first = Dense(name="first", weights=rng.choice(binary.levels, (10, 12)), code=binary)
    hidden = DType.parse("int3")
    second = Dense(name="second", weights=rng.choice(ternary.levels, (6, 10)), code=ternary)
    layers = (
        Threshold(name="quantize", thresholds=[[2]], sign=[1], dtype=BIPOLAR, base=-1),
        Flatten(name="flatten"),
        first,
        random_threshold(rng, "between", hidden, 10, -12, 12),
        second,
        Affine(name="affine", scale=rng.integers(-9, 10, 6), bias=rng.integers(-50, 51, 6)),
        ArgMax(name="argmax"),
    )
    folds = {
        "first": MatVecFold(pe=2, simd=4, buffer="ring", stages=2),
        "between": ThresholdFold(form="search"),
        "second": MatVecFold(pe=3, simd=5, memory="logic", buffer="distributed"),
    }
    return Network(name="classifier", input=source, layers=layers), Folding(input_lanes=3, folds=folds)


def vectors(network: Network, folding: Folding, frames: int = 8) -> Vectors:
    promised = timing(network, folding)
    x = random_frames(np.random.default_rng(2), network.input.dtype, (frames, *network.input.shape))
    return network_vectors(
        network, x, input_lanes=folding.input_lanes, latency=promised.latency, interval=promised.interval
    )


@pytest.mark.parametrize("valid, ready", PAIRS)
def test_every_pattern(valid, ready):
    network, folding = classifier()
    case = vectors(network, folding, 4)
    trace = simulate(Top(network, folding), case.words, len(case.expected), valid=valid, ready=ready)
    assert trace.words == case.expected


def test_bench_on_the_verilog(bench):
    network, folding = classifier()
    results = bench(Top(network, folding), "tb_top", vectors(network, folding))
    assert len(results) == len(PAIRS) + 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_bench_on_random_networks(bench, seed):
    network, folding = random_design(np.random.default_rng(seed))
    bench(Top(network, folding), "tb_top", vectors(network, folding))


def with_layer(network: Network, name: str, **changes) -> Network:
    layers = tuple(replace(layer, **changes) if layer.name == name else layer for layer in network.layers)
    return replace(network, layers=layers)


def wrong_weight(network: Network) -> Network:
    weights = network.layers[2].weights.copy()
    weights[4, 7] *= -1
    return with_layer(network, "first", weights=weights)


def wrong_threshold(network: Network) -> Network:
    thresholds = network.layers[3].thresholds.copy()
    thresholds[:, 3:] += 1
    return with_layer(network, "between", thresholds=thresholds)


def wrong_bias(network: Network) -> Network:
    return with_layer(network, "affine", bias=network.layers[5].bias + np.array([0, 0, 1, 0, 0, 0]))


@pytest.mark.parametrize("fault", [wrong_weight, wrong_threshold, wrong_bias])
def test_a_planted_fault_is_seen(fault):
    network, folding = classifier()
    case = vectors(network, folding, 20)
    assert simulate(Top(fault(network), folding), case.words, len(case.expected)).words != case.expected


def test_a_planted_fault_turns_the_bench_red(bench):
    network, folding = classifier()
    with pytest.raises(BenchFailure, match=r"score: frame 0, beat 2, lane 0: got -?\d+, expected -?\d+"):
        bench(Top(wrong_bias(network), folding), "tb_top", vectors(network, folding))


def test_a_cycle_more_than_promised_turns_the_bench_red(bench):
    network, folding = classifier()
    case = vectors(network, folding)
    with pytest.raises(
        BenchFailure, match=f"interval is {case.interval} cycles, the plan says {case.interval - 1} "
    ) as red:
        bench(Top(network, folding), "tb_top", replace(case, interval=case.interval - 1))
    assert "1 of " in str(red.value)


def test_the_verilog_is_the_same_every_time():
    assert verilog(Top(*classifier()), "top") == verilog(Top(*classifier()), "top")


def test_the_verilog_has_the_ports_that_engines_expect():
    text = verilog(Top(*classifier()), "top")
    head = text[text.rindex("module top(") :].split(";")[0]
    for port in ("clk", "rst", "i__payload", "i__valid", "i__ready", "o__payload", "o__valid", "o__ready"):
        assert port in head
