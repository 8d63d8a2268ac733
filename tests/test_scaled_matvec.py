"""Scales by vector and csd weights in the matrix-vector unit: the golden product at every quality."""

from __future__ import annotations

import re

import numpy as np
import pytest
from amaranth.hdl import Const, Module
from amaranth.lib import wiring
from faults import mutant
from networks import random_frames
from streaming import simulate
from tiers import each_value, slow_but_at

from fewbit.golden import csd
from fewbit.golden.codes import Code
from fewbit.golden.digits import digit_word
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.matvec import product
from fewbit.golden.network import Dense
from fewbit.hw.matvec.parallel import MatVec
from fewbit.sim.vectors import lane_words


class AtQuality(wiring.Component):
    """A unit with its quality held."""

    def __init__(self, unit, quality):
        self.unit, self.quality, self.timing = unit, quality, unit.timing
        super().__init__({side: unit.signature.members[side] for side in ("i", "o")})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        wiring.connect(m, wiring.flipped(self.i), self.unit.i)
        wiring.connect(m, self.unit.o, wiring.flipped(self.o))
        m.d.comb += self.unit.quality.eq(Const(self.quality))
        return m


def layer(code, *, outputs=6, inputs=12, vector=0, across=False, two=False, low=-60, high=100, seed=1):
    rng, kind = np.random.default_rng(seed), Code.parse(code)
    scales = {}
    if vector:
        shape = (-(-outputs // vector), inputs) if across else (outputs, -(-inputs // vector))
        scales = {"scales": rng.integers(low, high, shape), "vector": vector, "across": across}
        scales |= {"negative_scales": rng.integers(low, high, shape)} if two else {}
    return Dense(name="dense", weights=rng.choice(kind.levels, (outputs, inputs)), code=kind, **scales)


def check(dense, activation, quality, make=MatVec, frames=5, **options):
    kind = DType.parse(activation)
    unit = make(dense, kind, **options)
    x = random_frames(np.random.default_rng(2), kind, (frames, dense.fan_in))
    x[0], x[1] = kind.min, kind.max
    bias = 0 if options.get("exact", True) else unit.bias
    sums = (product(x, dense.factors(quality), kind) - bias) // unit.step
    words, expected = lane_words(x, kind, unit.simd), lane_words(sums, unit.sum, unit.pe)
    trace = simulate(AtQuality(unit, quality), words, len(expected), ready="random")
    assert trace.words == expected


ALONG = [
    ("binary", 4, False),
    ("ternary", 4, True),
    ("shift3", 6, False),
    ("int(3)", 12, False),
    ("csd(2,5)", 3, False),
]


@pytest.mark.parametrize("weights, inputs", each_value(ALONG, [("bipolar", 1), ("uint2", 7), ("int4", 2), ("int4", 0)]))
def test_scales_along_inputs(weights, inputs):
    (code, vector, two), (activation, quality) = weights, inputs
    dense = layer(code, vector=vector, two=two)
    simd = min(vector, 4 if vector % 4 == 0 else 3)
    check(dense, activation, min(quality, dense.digits), pe=2, simd=simd, stages=1)


@pytest.mark.parametrize(
    "code, inputs, exact",
    each_value(["binary", "shift3", "int(3)"], [("bipolar", 1), ("uint4", 7), ("int3", 2)], [True, False]),
)
def test_scales_across_outputs(code, inputs, exact):
    activation, quality = inputs
    dense = layer(code, vector=3, across=True)
    check(dense, activation, min(quality, dense.digits), pe=3, simd=4, stages=2, exact=exact)


@pytest.mark.parametrize(
    "activation, quality", slow_but_at((1, 2), [("bipolar", 1), ("uint3", 3), ("int5", 2), ("int5", 0)])
)
def test_csd_weights(activation, quality):
    dense = layer("csd(3,6)")
    assert dense.digits == 3
    for pe, simd, stages in [(1, 1, 1), (2, 6, 2)]:
        check(dense, activation, quality, pe=pe, simd=simd, stages=stages)


@pytest.mark.parametrize("pe, simd", [(1, 1), (4, 4), (2, 8)])
@pytest.mark.parametrize("across", [False, True])
def test_one_vector_is_all(pe, simd, across):
    dense = layer("shift3", outputs=4, inputs=8, vector=4 if across else 8, across=across)
    check(dense, "uint2", 2, pe=pe, simd=simd)


@pytest.mark.parametrize("weights, quality", each_value(
    [("shift3", 4, False, False), ("ternary", 4, False, True), ("int(3)", 3, True, False),
     ("csd(2,5)", 4, False, False), ("csd(3,6)", 0, False, False), ("int(4)", 4, False, False)],
    [1, 0, 3],
))  # fmt: skip
def test_products_for_dsp_blocks(weights, quality):
    code, vector, across, two = weights
    dense = layer(code, vector=vector, across=across, two=two)
    check(dense, "uint4", min(quality, dense.digits), pe=3, simd=2, stages=2, dsp=True)


@pytest.mark.parametrize("quality", [1, 3])
@pytest.mark.parametrize("across", [False, True])
def test_groups_have_their_own_scales(across, quality):
    dense = layer("ternary", outputs=8, inputs=4, vector=2, across=across)
    kind = DType.parse("int3")
    unit = MatVec(dense, kind, pe=2, simd=2, groups=2)
    x = random_frames(np.random.default_rng(3), kind, (4, 2, 4))
    sums = np.concatenate([product(x[:, g], dense.factors(quality)[4 * g : 4 * g + 4], kind) for g in (0, 1)], 1)
    words, expected = lane_words(x, kind, 2), lane_words(sums, unit.sum, 2)
    assert simulate(AtQuality(unit, quality), words, len(expected)).words == expected


@pytest.mark.parametrize("width", [1, 4, 8, 12])
def test_words_of_digits_are_those_of_the_golden_model(width):
    values = np.arange(-(1 << width - 1), 1 << width - 1)
    assert [digit_word(int(value), width) for value in values] == csd.encode(csd.recode(values, width)).tolist()


def test_a_scale_of_another_vector_is_seen():
    copy = mutant("hw.matvec.parallel", "self.simd) // layer.vector", "self.simd) // layer.vector // 2")
    with pytest.raises(AssertionError):
        check(layer("shift3", vector=4), "uint2", 3, make=copy.MatVec, pe=2, simd=4)


@pytest.mark.parametrize(
    "options, folds, message",
    [
        ({"code": "shift3", "vector": 4}, {"pe": 2, "simd": 3},
         "layer 'dense': SIMD must divide the vectors of 4, not 3"),
        ({"code": "shift3", "vector": 3, "across": True}, {"pe": 2, "simd": 3},
         "layer 'dense': PE must divide the vectors of 3, not 2"),
        ({"code": "binary", "vector": 4, "two": True}, {"pe": 2, "simd": 2},
         "a second scale for negative weights needs a weight code with a 0, not binary"),
        ({"code": "csd(2,3)", "vector": 3, "across": True}, {"pe": 3, "simd": 2},
         "layer 'dense': scales across outputs exclude a second scale and csd(2,3) weights"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(options, folds, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        MatVec(layer(**options), DType.parse("uint2"), **folds)
