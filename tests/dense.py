"""Dense layers for folded units, and what the tests of all such units do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from networks import random_frames
from streaming import Trace, simulate

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import ArgMax, Dense, Network, TensorType
from fewbit.hw.chain import timing
from fewbit.hw.emit import verilog
from fewbit.hw.fold import Folding
from fewbit.hw.matvec import base
from fewbit.hw.memory.rom import join_words
from fewbit.hw.planner.plan import Plan
from fewbit.hw.schedule import Schedule, schedule
from fewbit.hw.steps import Sink
from fewbit.hw.top import Top
from fewbit.sim.compile import compile_design
from fewbit.sim.netlist import netlist
from fewbit.sim.vectors import Vectors, network_vectors, product_vectors
from fewbit.sim.words import pack_words

BAD_FOLDS = [
    ({"pe": 4, "simd": 1}, "layer 'dense': PE must divide the 6 outputs, not 4"),
    ({"pe": 0, "simd": 1}, "layer 'dense': PE must divide the 6 outputs, not 0"),
    ({"pe": 1, "simd": 3}, "layer 'dense': SIMD must divide the 10 inputs, not 3"),
    ({"pe": 1, "simd": 1, "stages": 0}, "layer 'dense': the sum needs at least 1 stage, not 0"),
    (
        {"pe": 1, "simd": 1, "memory": "tape"},
        'layer \'dense\': the memory for weights must be "block", "distributed", "logic" or "spram", not \'tape\'',
    ),
    (
        {"pe": 1, "simd": 1, "buffer": "tape"},
        'a vector buffer must be "block", "distributed" or "ring", not \'tape\'',
    ),
    (
        {"pe": 1, "simd": 1, "target": "tape"},
        "the target of a lane must be one of generic, asic, ice40, ecp5, not 'tape'",
    ),
]
"""Folds that ``layer(6, 10)`` cannot have, and what is said of them."""


def layer(outputs: int, inputs: int, code: str = "binary", seed: int = 1) -> Dense:
    kind = Code.parse(code)
    weights = np.random.default_rng(seed).choice(kind.levels, (outputs, inputs))
    return Dense(name="dense", weights=weights, code=kind)


def vectors(dense: Dense, activation: DType, pe: int, simd: int, frames: int = 5, seed: int = 1) -> Vectors:
    x = random_frames(np.random.default_rng(seed), activation, (frames, dense.fan_in))
    # The ends of the accumulator's range: every product as low, then as high as it gets.
    x[0], x[1] = activation.min, activation.max
    x[2] = np.where(dense.weights[0] > 0, activation.max, activation.min)
    return product_vectors(dense, activation, x, pe=pe, simd=simd)


def check(unit: Any, case: Vectors, **patterns: Any) -> Trace:
    trace = simulate(unit, case.words, len(case.expected), **patterns)
    assert trace.words == case.expected
    return trace


def check_times(unit: Any, case: Vectors, trace: Trace) -> Schedule:
    """Every transfer is when the timing model of ``unit`` says; what that promises of frames after each other."""
    promised = schedule(unit.timing(), case.beats_in, case.beats_out, unit.cycles_per_frame)
    assert trace.latency(case.beats_out) == promised.latency
    assert trace.intervals(case.beats_out)[-1] == promised.interval == unit.cycles_per_frame
    (step,) = unit.timing()
    step.following = sink = Sink()
    taken: list[int] = []
    for _ in case.words:
        taken.append(step.accept(taken[-1] + 1 if taken else 0))
    assert (trace.taken, trace.given) == (taken, sink.times)
    return promised


def check_network(network: Network, folding: Folding, seed: int, frames: int) -> None:
    """Data, latency and interval of a folded network are exact."""
    x = random_frames(np.random.default_rng(seed), network.input.dtype, (frames, *network.input.shape))
    case = network_vectors(network, x, input_lanes=folding.input_lanes)
    for valid, ready in (("always", "always"), ("burst", "random")):
        trace = simulate(Top(network, folding), case.words, len(case.expected), valid=valid, ready=ready, seed=seed)
        assert trace.words == case.expected, f"seed {seed}: {network.types}, {folding}"
        if valid == "always":
            promised = timing(network, folding)
            measured = (trace.latency(case.beats_out), trace.intervals(case.beats_out)[-1])
            assert measured == (promised.latency, promised.interval), f"seed {seed}: {network.types}, {folding}"


def scores(dense: Dense, source: str) -> Network:
    """A network of one layer and an arg-max."""
    kind = TensorType(DType.parse(source), (dense.fan_in,))
    return Network(name="scores", input=kind, layers=(dense, ArgMax(name="argmax")))


def check_plan(made: Plan, frames: int = 4) -> None:
    """A plan is as exact as what it plans."""
    network, inputs = made.network, made.network.input
    x = random_frames(np.random.default_rng(1), inputs.dtype, (frames, *inputs.shape))
    case = network_vectors(network, x, input_lanes=made.folding.input_lanes)
    trace = simulate(Top(network, made.folding), case.words, len(case.expected))
    assert trace.words == case.expected
    assert trace.latency(case.beats_out) == made.latency
    assert trace.intervals(case.beats_out)[-1] == made.cycles_per_frame


def whole(unit: Any, words: Sequence[int], case: Vectors) -> list[int]:
    """The words that the unit would have given for ``words`` if it added its bias."""
    (field,) = case.fields
    kind, places = DType("int", field.bits), np.arange(unit.pe)
    stored = np.array(words, object)[:, None] >> places * unit.sum.bits & (1 << unit.sum.bits) - 1
    sums = unit.sum.decode(stored.astype(np.uint64)).reshape(-1, unit.layer.outputs)
    products = kind.encode(unit.step * sums + unit.bias).reshape(-1, unit.pe).astype(object)
    return (products << places * field.bits).sum(1).tolist()


def products(unit: Any, case: Vectors, **patterns: Any) -> list[int]:
    """As :func:`whole`, of what the unit gives for the words of the case."""
    return whole(unit, simulate(unit, case.words, len(case.expected), **patterns).words, case)


def mapped_words(unit: Any, family: str, case: Vectors) -> list[int]:
    """What the netlist of the unit gives, valid and ready at random."""
    text = netlist(verilog(unit, "unit"), top="unit", family=family)
    bits = len(unit.i.payload.as_value())
    words = np.array([[word >> bit & 1 for bit in range(bits)] for word in case.words])
    trace = compile_design(text, top="unit").run(
        pack_words(words, 1), len(case.expected), max_cycles=10**6, valid_pattern="random", ready_pattern="random"
    )
    return trace.outputs[:, 0].tolist()


def flip_weight_bit(monkeypatch: pytest.MonkeyPatch, word: int, bit: int = 0) -> None:
    """One bit of the memories of weights is wrong from now on."""

    def wrong(*arguments: Any) -> list[int]:
        words = join_words(*arguments)
        words[word] ^= 1 << bit
        return words

    monkeypatch.setattr(base, "join_words", wrong)
