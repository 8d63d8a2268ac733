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
from fewbit.golden.network import Dense
from fewbit.hw import matvec
from fewbit.hw.emit import verilog
from fewbit.hw.weights import join_words
from fewbit.sim.compile import compile_design
from fewbit.sim.netlist import netlist
from fewbit.sim.run import pack_words
from fewbit.sim.vectors import Vectors, product_vectors

BAD_FOLDS = [
    ({"pe": 4, "simd": 1}, "layer 'dense': PE must divide the 6 outputs, not 4"),
    ({"pe": 0, "simd": 1}, "layer 'dense': PE must divide the 6 outputs, not 0"),
    ({"pe": 1, "simd": 3}, "layer 'dense': SIMD must divide the 10 inputs, not 3"),
    ({"pe": 1, "simd": 1, "stages": 0}, "layer 'dense': the sum needs at least 1 stage, not 0"),
    (
        {"pe": 1, "simd": 1, "memory": "tape"},
        'layer \'dense\': weights lie in "block", "logic" or "spram", not \'tape\'',
    ),
    (
        {"pe": 1, "simd": 1, "buffer": "tape"},
        'a vector buffer must be "block", "distributed" or "ring", not \'tape\'',
    ),
    ({"pe": 1, "simd": 1, "target": "tape"}, "a lane is made for one of generic, asic, ice40, ecp5, not 'tape'"),
]
"""Folds that ``layer(6, 10)`` cannot have, and what is said of them."""


def layer(outputs: int, inputs: int, code: str = "binary", seed: int = 1) -> Dense:
    kind = Code.parse(code)
    weights = np.random.default_rng(seed).choice(kind.levels, (outputs, inputs))
    return Dense(name="dense", weights=weights, code=kind)


def vectors(dense: Dense, activation: DType, pe: int, simd: int, frames: int = 5, seed: int = 1) -> Vectors:
    x = random_frames(np.random.default_rng(seed), activation, (frames, dense.inputs))
    # The ends of the accumulator's range: every product as low, then as high as it gets.
    x[0], x[1] = activation.min, activation.max
    x[2] = np.where(dense.weights[0] > 0, activation.max, activation.min)
    return product_vectors(dense, activation, x, pe=pe, simd=simd)


def check(unit: Any, case: Vectors, **patterns: Any) -> Trace:
    trace = simulate(unit, case.words, len(case.expected), **patterns)
    assert trace.words == case.expected
    return trace


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

    monkeypatch.setattr(matvec, "join_words", wrong)
