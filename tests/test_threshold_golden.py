"""Golden thresholds held to counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.golden.threshold import threshold_level


@given(st.integers(1, 4), st.integers(1, 5), st.booleans(), st.integers(0, 1 << 32))
def test_the_level_counts_thresholds_reached(channels, count, spatial, seed):
    rng = np.random.default_rng(seed)
    thresholds, sign = (
        np.sort(rng.integers(-6, 7, (channels, count)), 1),
        rng.choice([-1, 1], channels).astype(np.int8),
    )
    x = rng.integers(-8, 9, (3, channels, 2) if spatial else (3, channels))
    level = threshold_level(x, thresholds, sign)
    assert level.dtype == np.int64
    for index in np.ndindex(x.shape):
        assert level[index] == sum(int(sign[index[1]]) * int(x[index]) >= int(t) for t in thresholds[index[1]])


@given(st.integers(0, 1 << 32))
def test_one_row_serves_every_element(seed):
    rng = np.random.default_rng(seed)
    thresholds, sign = np.sort(rng.integers(-6, 7, (1, 3)), 1), rng.choice([-1, 1], 1)
    x = rng.integers(-8, 9, (2, 3, 4))
    assert (threshold_level(x, thresholds, sign) == (sign[0] * x[..., None] >= thresholds[0]).sum(-1)).all()


@pytest.mark.parametrize("x, sign, level", [(3, 1, 2), (2, 1, 1), (-3, 1, 0), (-3, -1, 2), (4, -1, 0), (2, -1, 0)])
def test_by_hand(x, sign, level):
    # Thresholds -1 and 3: reached at equality, and a sign of -1 turns the input over.
    assert threshold_level(np.array([[x]]), np.array([[-1, 3]]), np.array([sign])).tolist() == [[level]]


def test_equal_thresholds_count_each():
    assert threshold_level(np.array([[0, 1]]), np.array([[1, 1, 1]]), np.array([1])).tolist() == [[0, 3]]


def test_an_int8_sign_does_not_narrow_the_input():
    x = np.array([[1 << 40, -(1 << 40)]])
    level = threshold_level(x, np.array([[1 << 39]]), np.array([-1], np.int8))
    assert level.tolist() == [[0, 1]]
