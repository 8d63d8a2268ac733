"""Equations 8 to 10 of the quality-scalable multiplier paper by hand, and the search against trying every pair."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from weights import band_codes, matrices, vectors

from fewbit.golden.codes import Code
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.bands import (
    DELTAS,
    GAMMAS,
    Bands,
    code_bits,
    deviations,
    largest_level,
    mean_scales,
    search_bands,
    search_bands_by,
)
from fewbit.golden.quantizers.least_squares import least_squares_scales, squared_errors
from fewbit.golden.quantizers.weight_vectors import Groups, WeightVectors

ONE = Groups(np.zeros(4, np.int64), 1)


@pytest.mark.parametrize("phi, bits", [(1, 2), (2, 3), (4, 3)])  # log2 of 3, 5 and 7, rounded up
def test_equation_8(phi, bits):
    assert code_bits(phi) == bits


@pytest.mark.parametrize("phi, scale", [(1, 0.5), (2, 0.25), (4, 0.125)])  # (0.5 + 1 + 0.25 + 0.25) / (phi * 4)
def test_equation_9(phi, scale):
    assert mean_scales(np.array([0.5, -1.0, 0.25, -0.25]), ONE, phi).tolist() == [scale]


def test_equation_9_divides_by_the_length_of_a_shorter_vector():
    groups = WeightVectors("inputs", 2).groups((1, 3))
    assert mean_scales(np.array([1.0, -3.0, 8.0]), groups, 4).tolist() == [0.5, 2.0]


def test_deviations_are_those_of_either_sign():
    assert deviations(np.array([0.5, 2.5, -0.5, -4.5, 0.0])) == (1.0, 2.0)
    assert deviations(np.array([0.0, -3.0])) == (0.0, 0.0)


@pytest.mark.parametrize(
    "phi, levels",
    [
        (1, [0, 1, 1, 1, 1, 1, 0, -1, -1, -1, -1, -1, 0]),
        (2, [0, 1, 1, 2, 2, 2, 0, -1, -1, -2, -2, -2, 0]),
        (4, [0, 1, 1, 2, 2, 4, 0, -1, -1, -2, -2, -4, 0]),
    ],
)
def test_equation_10(phi, levels):
    weights = [0.25, 0.26, 1, 1.01, 2, 2.01, -0.25, -0.3, -2, -2.1, -4, -4.1, 0]
    bands = Bands(gamma=0.25, delta=2.0, sigma=(1.0, 2.0), phi=phi)
    assert bands.levels(np.array(weights)).tolist() == levels


def test_equation_10_to_the_words_of_table_2():
    bands = Bands(gamma=0.25, delta=2.0, sigma=(1.0, 2.0), phi=4)
    words = Code.parse("shift3").encode(bands.levels(np.array([0.1, 0.5, 1.5, 2.5, -0.5, -2.5, -4.5])))
    assert [f"{word:03b}" for word in words] == ["000", "001", "010", "011", "100", "101", "110"]


@pytest.mark.parametrize(
    "name, phi",
    [("ternary", 1), ("shift3(1)", 1), ("quinary", 2), ("shift3(2)", 2), ("shift3", 4)],
)
def test_largest_level(name, phi):
    assert largest_level(Code.parse(name)) == phi


@pytest.mark.parametrize("name", ["binary", "int(4)", "csd(2,4)", "csd(1,4)"])
def test_a_code_without_bands_is_refused(name):
    with pytest.raises(FewbitError, match="are for binary, ternary, quinary and shift3, not"):
        largest_level(Code.parse(name))


@pytest.mark.parametrize("least_squares", [False, True])
@given(matrices(), band_codes, vectors)
def test_the_search_finds_the_least_error_of_all_pairs(least_squares, weights, code, cut):
    flat, groups, phi = weights.ravel(), cut.groups(weights.shape), largest_level(code)
    gammas, deltas = GAMMAS[::4], DELTAS[::8]
    found = search_bands(flat, groups, phi, least_squares=least_squares, gammas=gammas, deltas=deltas)
    sigma = deviations(flat)
    unit = min([one for one, there in zip(sigma, (flat > 0, flat < 0)) if there.any()], default=0)

    def error(bands):
        levels = bands.levels(flat)
        scales = least_squares_scales(flat, levels, groups) if least_squares else mean_scales(flat, groups, phi)
        return squared_errors(flat, levels, scales, groups).sum()

    every = [
        error(Bands(gamma * unit, delta, sigma, phi))
        for gamma, delta in product(gammas, deltas)
        if phi == 1 or gamma <= 1
    ]
    assert error(found) == pytest.approx(min(every), abs=1e-12)
    tried = search_bands_by(
        lambda reals: float(np.sum((reals - weights) ** 2)),
        flat,
        groups,
        phi,
        weights.shape,
        least_squares=least_squares,
        gammas=gammas,
        deltas=deltas,
    )
    assert error(tried) == pytest.approx(min(every), abs=1e-12)


def test_the_search_follows_its_criterion():
    weights = np.array([0.5, 2.5, -0.5, -4.5])
    fewest_zeros = search_bands_by(lambda reals: float(np.sum(reals == 0)), weights, ONE, 1, (1, 4))
    most_zeros = search_bands_by(lambda reals: float(np.sum(reals != 0)), weights, ONE, 1, (1, 4))
    assert fewest_zeros.levels(weights).tolist() == [1, 1, -1, -1]
    assert most_zeros.levels(weights).tolist() == [0, 1, 0, -1]
