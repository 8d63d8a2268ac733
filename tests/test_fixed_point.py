"""Scales in fixed point: examples by hand, half a unit at most, and what overflows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.fixed_point import fixed_point


@pytest.mark.parametrize(
    "reals, bits, integers, fraction",
    [
        ([0.5, 0.25], 8, [64, 32], 7),
        ([1.0], 8, [64], 6),
        ([0.9922], 8, [127], 7),
        ([0.999], 8, [64], 6),  # would round up to 128
        ([100.0, 0.4], 8, [100, 0], 0),
        ([1000.0], 4, [4], -8),  # 4 * 256, which is nearer than 3 * 256
        ([0.0], 8, [0], 0),
        ([0.75], 2, [1], 0),
    ],
)
def test_by_hand(reals, bits, integers, fraction):
    found = fixed_point(np.array(reals), bits)
    assert (found[0].tolist(), found[1]) == (integers, fraction)


@given(
    arrays.arrays(np.float64, st.integers(1, 9), elements=st.floats(0, 1e6, allow_subnormal=False)),
    st.integers(2, 32),
)
def test_within_half_a_unit_and_no_coarser_than_needed(reals, bits):
    integers, fraction = fixed_point(reals, bits)
    unit = 2.0**-fraction
    assert np.abs(integers * unit - reals).max() <= unit / 2
    assert integers.max() < 1 << bits - 1
    if integers.any():
        with pytest.raises(FewbitError, match="overflows"):
            fixed_point(reals, bits, fraction + 1)


@pytest.mark.parametrize(
    "bits, fraction, message",
    [
        (1, None, "a scale has 2 to 32 bits, not 1"),
        (33, None, "a scale has 2 to 32 bits, not 33"),
        (
            8,
            5,
            "a scale of 4 overflows 8 bits with 5 after the point, at most 3.96875: "
            "give scales more bits, or fewer after the point",
        ),
    ],
)
def test_refused(bits, fraction, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        fixed_point(np.array([4.0, 1.0]), bits, fraction)
