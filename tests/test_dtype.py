"""Number kinds: ranges, storage, names."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError

kinds = st.one_of(
    st.just(BIPOLAR),
    st.builds(DType, st.sampled_from(["uint", "int"]), st.integers(1, 63)),
    st.just(DType("int", 64)),
)


@given(kinds, st.data())
def test_decode_is_the_inverse_of_encode(dtype, data):
    levels = st.sampled_from([-1, 1]) if dtype == BIPOLAR else st.integers(dtype.min, dtype.max)
    values = np.array(data.draw(st.lists(levels, max_size=20)), np.int64)
    stored = dtype.encode(values)
    assert stored.dtype == np.uint64
    assert all(int(word) < 1 << dtype.bits for word in stored)
    assert dtype.decode(stored).tolist() == values.tolist()
    assert dtype.contains(values)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("kind", ["uint", "int"])
def test_every_word_of_a_small_kind_is_one_value(kind, bits):
    dtype = DType(kind, bits)
    values = dtype.decode(np.arange(1 << bits))
    assert sorted(values.tolist()) == list(range(dtype.min, dtype.max + 1))
    assert dtype.encode(values).tolist() == list(range(1 << bits))


def test_storage_by_hand():
    assert BIPOLAR.encode(np.array([-1, 1])).tolist() == [0, 1]
    assert DType("int", 3).encode(np.array([-4, -1, 0, 3])).tolist() == [0b100, 0b111, 0b000, 0b011]
    assert DType("uint", 64).encode(np.array([(1 << 64) - 1], np.uint64)).tolist() == [(1 << 64) - 1]


@pytest.mark.parametrize(
    "name, low, high, step, slot",
    [
        ("bipolar", -1, 1, 2, 1), ("uint1", 0, 1, 1, 1), ("int1", -1, 0, 1, 1), ("uint3", 0, 7, 1, 4),
        ("int4", -8, 7, 1, 4), ("int5", -16, 15, 1, 8), ("uint64", 0, (1 << 64) - 1, 1, 64),
    ],
)  # fmt: skip
def test_properties(name, low, high, step, slot):
    dtype = DType.parse(name)
    assert (dtype.min, dtype.max, dtype.step, dtype.slot, str(dtype)) == (low, high, step, slot, name)


@given(st.integers(-(1 << 62), 1 << 62), st.integers(0, 1 << 62))
def test_holding_is_the_narrowest(low, extent):
    dtype = DType.holding(low, min(low + extent, (1 << 63) - 1))
    high = min(low + extent, (1 << 63) - 1)
    assert dtype.min <= low
    assert high <= dtype.max
    if dtype.bits > 1:
        narrower = DType("int", dtype.bits - 1)
        assert low < narrower.min or high > narrower.max


def test_contains_is_exact():
    assert not BIPOLAR.contains(np.array([1, 0, -1]))
    assert not DType("uint", 2).contains(np.array([-1]))
    assert not DType("uint", 2).contains(np.array([4]))
    assert DType("uint", 2).contains(np.array([0, 3]))
    assert DType("uint", 2).contains(np.array([], int))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DType("float", 8), 'number kind must be "bipolar", "uint" or "int", not \'float\''),
        (lambda: DType("uint", 0), "a number kind has 1 to 64 bits, not 0"),
        (lambda: DType("int", 65), "a number kind has 1 to 64 bits, not 65"),
        (lambda: DType("int", True), "a number kind has 1 to 64 bits, not True"),
        (lambda: DType("int", 2.0), "a number kind has 1 to 64 bits, not 2.0"),
        (lambda: DType("bipolar", 2), "a bipolar number has 1 bit, not 2"),
        (lambda: DType.parse("uint08"), 'number kind must be "bipolar", "uintN" or "intN", not \'uint08\''),
        (lambda: DType.parse("INT8"), 'number kind must be "bipolar", "uintN" or "intN", not \'INT8\''),
        (lambda: DType.parse("uint65"), "a number kind has 1 to 64 bits, not 65"),
    ],
)
def test_what_is_no_kind_is_refused(make, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        make()
