"""Nearest levels and their scales: examples by hand, and what every turn must keep."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from weights import codes, matrices, vectors

from fewbit.golden.codes import BINARY, TERNARY, Code
from fewbit.golden.quantizers.least_squares import least_squares_scales, squared_errors
from fewbit.golden.quantizers.nearest import alternate, nearest, nearest_levels
from fewbit.golden.quantizers.weight_vectors import Groups

SHIFT3 = Code.parse("shift3")


def test_nearest_levels_by_hand():
    weights = np.array([0.5, 0.51, 1.5, 3.0, 3.1, 9, -0.5, -0.51, -3.0, -3.1, 0])
    assert nearest_levels(weights, np.ones(11), SHIFT3).tolist() == [0, 1, 1, 2, 4, 4, 0, -1, -2, -4, 0]
    assert nearest_levels(weights, np.zeros(11), SHIFT3).tolist() == [0] * 11
    assert nearest_levels(np.array([0.0, -0.1, 0.1]), np.ones(3), BINARY).tolist() == [1, -1, 1]


def test_one_turn_by_hand():
    """At 1 the levels are 0, 1 and 1, whose best scale is (0.6 + 1.6) / 2; at 1.1 they stay."""
    weights, one = np.array([0.4, 0.6, 1.6]), Groups(np.zeros(3, np.int64), 1)
    (levels, scales), *more = alternate(weights, np.array([0, 1, 1]), one, TERNARY)
    assert (levels.tolist(), scales.tolist(), more) == ([0, 1, 1], [1.1], [])


@given(matrices(), codes, vectors)
def test_no_turn_raises_the_error(weights, code, cut):
    flat, groups = weights.ravel(), cut.groups(weights.shape)
    start = nearest_levels(flat, np.full(flat.size, 0.1), code)
    turns = [squared_errors(flat, levels, scales, groups) for levels, scales in alternate(flat, start, groups, code)]
    for before, after in pairwise(turns):
        assert (after <= before + 1e-12).all()


@given(matrices(), codes, vectors)
def test_levels_are_the_code_s_and_scales_those_of_least_squares(weights, code, cut):
    flat, groups = weights.ravel(), cut.groups(weights.shape)
    levels, scales = nearest(flat, groups, code)
    assert code.contains(levels)
    assert (scales >= 0).all()
    assert np.array_equal(scales, least_squares_scales(flat, levels, groups))


@given(matrices(1, 6))
def test_ternary_comes_close_to_the_best_of_all(weights):
    """Every start ends in a local optimum; of six weights the best of them is the best of all or near it."""
    flat, one = weights.ravel(), Groups(np.zeros(weights.size, np.int64), 1)
    levels, _ = nearest(flat, one, TERNARY)

    def error(levels):
        return float(squared_errors(flat, levels, least_squares_scales(flat, levels, one), one)[0])

    best = min(error(np.array(every)) for every in product((-1, 0, 1), repeat=flat.size))
    assert error(levels) <= best + 0.1 * float(flat @ flat)


@pytest.mark.parametrize("name", ["binary", "ternary", "shift3", "int(8)"])
def test_weights_that_are_levels_stay(name):
    code = Code.parse(name)
    weights = code.levels * 0.25
    levels, scales = nearest(weights, Groups(np.zeros(weights.size, np.int64), 1), code)
    assert np.array_equal(levels, code.levels)
    assert scales == pytest.approx([0.25])


def test_whole_weights_become_levels_but_for_a_common_divisor():
    weights = np.array([6.0, -3, 0, 10, -20, 5])
    levels, scales = nearest(weights, Groups(np.array([0, 0, 0, 1, 1, 1]), 2), Code.parse("int(8)"))
    assert levels.tolist() == [2, -1, 0, 2, -4, 1]
    assert scales.tolist() == [3, 5]
