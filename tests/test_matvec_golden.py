"""The golden matrix-vector product held to Python's own integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.golden import matvec as golden
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.matvec import matvec, pack_bits, xnor_popcount

CODES = ["binary", "ternary", "quinary", "shift3", "csd(2,6)", "int(1)", "int(5)"]
KINDS = ["bipolar", "uint1", "uint8", "int1", "int2", "int8", "uint16"]


def by_python(x, weights) -> list[list[int]]:
    return [[sum(int(a) * int(w) for a, w in zip(row, column)) for column in weights] for row in x]


def random_x(rng, dtype: DType, shape):
    return rng.choice([-1, 1], shape) if dtype.kind == "bipolar" else rng.integers(dtype.min, dtype.max + 1, shape)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [1, 63, 64, 65])
def test_around_a_word_of_64_bits(code, kind, inputs):
    rng, weight_code, dtype = np.random.default_rng(inputs), Code.parse(code), DType.parse(kind)
    x, weights = random_x(rng, dtype, (4, inputs)), rng.choice(weight_code.levels, (3, inputs))
    x[0], x[1] = dtype.min, dtype.max
    result = matvec(x, weights, weight_code, dtype)
    assert result.dtype == np.int64
    assert result.tolist() == by_python(x, weights)


@settings(deadline=None)
@given(
    st.sampled_from(CODES),
    st.sampled_from(KINDS),
    st.integers(0, 5),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(0, 1 << 32),
)
def test_random_shapes(code, kind, frames, inputs, outputs, seed):  # fmt: skip
    rng, weight_code, dtype = np.random.default_rng(seed), Code.parse(code), DType.parse(kind)
    x, weights = random_x(rng, dtype, (frames, inputs)), rng.choice(weight_code.levels, (outputs, inputs))
    assert matvec(x, weights, weight_code, dtype).tolist() == by_python(x, weights)


def test_blocks_of_rows_join(monkeypatch):
    monkeypatch.setattr(golden, "_BLOCK", 7)
    rng, dtype = np.random.default_rng(1), DType.parse("int3")
    x, weights = random_x(rng, dtype, (20, 70)), rng.choice([-1, 0, 1], (3, 70))
    assert matvec(x, weights, Code.parse("ternary"), dtype).tolist() == by_python(x, weights)


def test_the_widest():
    rng = np.random.default_rng(1)
    x, weights = rng.choice([-1, 1], (2, 4096)), rng.choice([-1, 1], (2, 4096))
    assert matvec(x, weights, Code.parse("binary"), DType.parse("bipolar")).tolist() == by_python(x, weights)


def test_weights_all_zero():
    x = np.array([[1, 2, 3]])
    assert matvec(x, np.zeros((2, 3), int), Code.parse("ternary"), DType.parse("uint2")).tolist() == [[0, 0]]


def test_xnor_popcount_by_hand():
    x, w = (
        pack_bits(np.array([[1, 0, 1, 1]])),
        pack_bits(np.array([[1, 1, 1, 0], [1, 0, 1, 1], [0, 1, 0, 0]])),
    )
    assert xnor_popcount(x, w, 4).tolist() == [[2, 4, 0]]
    assert pack_bits(np.array([1, 0, 1, 1])).tolist() == [0b1101]
    assert pack_bits(np.ones(65, int)).tolist() == [(1 << 64) - 1, 1]
