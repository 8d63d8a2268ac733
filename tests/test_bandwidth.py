"""Weight bandwidth of layers and plans, against counting by hand and the memories of the hardware."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense, Network, TensorType, Threshold
from fewbit.hw.costs.bandwidth import WeightReads
from fewbit.hw.costs.parts import stored_words
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.devices import TARGETS, target
from fewbit.hw.fold import FUSED_SIGN, Folding, MatVecFold
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import plan
from fewbit.hw.top import Top
from fewbit.report import describe_plan, plan_figures


def dense(outputs: int, inputs: int, code: str, name: str = "dense", **options: Any) -> Dense:
    kind = Code.parse(code)
    weights = np.random.default_rng(1).choice(kind.levels, (outputs, inputs))
    return Dense(name=name, weights=weights, code=kind, **options)


def test_bandwidth_of_the_devices() -> None:
    bits = {one.name: one.weight_bandwidth for one in TARGETS}
    assert bits == {"up5k": 30 * 16, "hx8k": 32 * 16, "ecp5-25k": 56 * 36, "ecp5-85k": 208 * 36, "asic": 0}


def test_a_layer_that_uses_its_block_rams_whole() -> None:
    # 4 x 8 ternary weights are 64 bits, the whole width of four RAMs; 2 groups of outputs by 4 words of inputs
    reads = WeightReads.of(dense(8, 32, "ternary"), MatVecFold(pe=4, simd=8), target("up5k"))
    assert reads == WeightReads(word=64, depth=8, words=8, rams=4, gives=64)
    assert (reads.bits_per_cycle(8), reads.share(8)) == (64, 1)
    assert (reads.bits_per_cycle(32), reads.share(32)) == (16, 0.25)  # four planes a word


def test_a_deep_memory_gives_up_width() -> None:
    # 1,024 words of 16 bits: four RAMs as 1024 x 4, which could give 64 bits a cycle
    reads = WeightReads.of(dense(64, 256, "binary"), MatVecFold(pe=1, simd=16), target("up5k"), positions=3)
    assert reads == WeightReads(word=16, depth=1024, words=3072, rams=4, gives=64)
    assert reads.share(3072) == 0.25


def test_thresholds_that_ride_are_words_too() -> None:
    reads = WeightReads.of(dense(8, 32, "binary"), MatVecFold(pe=4, simd=8, unit=FUSED_SIGN), target("ecp5-25k"))
    assert reads == WeightReads(word=32, depth=12, words=12, rams=1, gives=36)


def test_weights_in_logic_take_no_bandwidth() -> None:
    reads = WeightReads.of(dense(8, 32, "binary"), MatVecFold(pe=4, simd=8, memory="logic"), target("up5k"))
    assert (reads.rams, reads.gives, reads.share(8), reads.bits_per_cycle(8)) == (0, 0, None, 32)


SCALES: dict[str, dict[str, Any]] = {
    "plain": {},
    "along inputs": {"scales": np.arange(1, 9).reshape(4, 2), "vector": 8},
    "across outputs": {"scales": np.arange(1, 33).reshape(2, 16), "vector": 2, "across": True},
}


@pytest.mark.parametrize(
    "code, kind",
    [("ternary", "plain"), ("int(4)", "plain"), ("shift3", "along inputs"), ("binary", "across outputs")],
)
def test_words_are_those_of_the_memory(code: str, kind: str) -> None:
    layer = dense(4, 16, code, **SCALES[kind])
    network = Network(name="net", input=TensorType(DType("uint", 4), (16,)), layers=(layer,))
    fold = MatVecFold(pe=2, simd=4)
    text = verilog(Top(network, Folding(input_lanes=4, folds={"dense": fold})), "top")
    memories = {(int(high) + 1, int(last) + 1) for high, last in re.findall(r"reg \[(\d+):0\] \w+ \[(\d+):0\];", text)}
    reads = WeightReads.of(layer, fold, target("up5k"))
    stored = stored_words(layer, 2, 4)
    assert (stored.width, reads.depth) in memories
    assert reads.word == stored.vary <= stored.width  # what is the same in every word is read from nowhere


def network() -> Network:
    layers = (
        dense(32, 64, "ternary", "first"),
        Threshold(name="act", thresholds=np.zeros((32, 1)), sign=np.ones(32), dtype=DType("bipolar", 1), base=-1),
        dense(4, 32, "binary", "second"),
    )
    return Network(name="net", input=TensorType(DType("uint", 2), (64,)), layers=layers)


def test_a_plan_says_how_even_and_how_near_it_is() -> None:
    made = plan(network(), target("up5k"), Constraints(clock_hz=12e6))
    first, second = made.weighted
    assert [one.layer.name for one in made.weighted] == ["first", "second"]
    busiest = max(one.cycles for one in made.layers)
    assert made.busy(made.bottleneck) == 1
    assert made.balance == (first.cycles + second.cycles) / 2 / busiest
    bits = sum(64 * 32 * 2 if one is first else 4 * 32 for one in made.weighted if one.fold.memory == "block")
    assert made.weight_bits_per_cycle == pytest.approx(bits / made.cycles_per_frame)
    assert made.bandwidth_share == pytest.approx(bits / made.cycles_per_frame / 480)
    figures = plan_figures(made)
    assert figures["bottleneck"] == made.bottleneck.layer.name
    assert [row["cycles"] for row in figures["layers"]] == [one.cycles for one in made.layers]
    text = describe_plan(made)
    assert f"balance: layers with weights are busy for {100 * made.balance:.0f} % of them on average" in text
    assert "of the 480 that the device's block RAMs give" in text


def test_where_there_is_no_block_ram_there_is_no_bandwidth() -> None:
    made = plan(network(), target("asic"), Constraints(clock_hz=12e6))
    assert made.bandwidth_share is None
    assert made.weight_bits_per_cycle == 0
    assert "bits a cycle, from LUTs" in describe_plan(made)
