"""Weights to levels and scales by every rule: examples by hand, and what holds for any weights."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from weights import band_codes, codes, matrices, vectors

from fewbit.golden.codes import BINARY, TERNARY, Code
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.rules import RULES, quantize
from fewbit.golden.quantizers.weight_vectors import WeightVectors

TENSOR = WeightVectors("tensor")


def squared_error(made):
    return float(np.sum((made.weights - made.reals) ** 2))


@pytest.mark.parametrize("rule", RULES)
def test_binary_by_hand(rule):
    """XNOR-Net: the sign, and the mean magnitude of an output's weights."""
    made = quantize([[0.5, -1.5, 0.0, 2.0], [-1.0, -1.0, 1.0, 3.0]], BINARY, rule=rule)
    assert made.levels.tolist() == [[1, -1, 1, 1], [-1, -1, 1, 1]]
    assert made.scales.tolist() == [[1.0], [1.5]]


def test_the_paper_s_rule_by_hand():
    """sigma is 1 for the positive weights, 2 for the negative ones; alpha = 12.5 / (4 * 6) is far too small for their
    level 4, and the best that the search can do is to put everything there."""
    weights = np.array([[0.5, 2.5, -0.5, -4.5, 2.0, 2.5]])
    made = quantize(weights, Code.parse("shift3"), TENSOR, rule="paper")
    assert made.scales.tolist() == [[12.5 / 24]]
    assert made.bands is not None
    assert made.bands.sigma[1] == 2.0
    better = quantize(weights, Code.parse("shift3"), TENSOR, rule="least-squares")
    assert made.bands.delta == 1.0
    assert squared_error(better) < squared_error(made)


@pytest.mark.parametrize("rule", ["least-squares", "nearest"])
def test_two_scales_by_hand(rule):
    """Wp and Wn of Trained Ternary Quantization: the mean of the weights that are +1, and of those that are -1."""
    weights = [[0.1, 1.0, 1.2, -0.1, -3.0, -3.4, 0.0]]
    made = quantize(weights, TERNARY, TENSOR, rule=rule, two_scales=True)
    assert made.levels.tolist() == [[0, 1, 1, 0, -1, -1, 0]]
    assert made.negative_scales is not None
    assert (made.scales.item(), made.negative_scales.item()) == pytest.approx((1.1, 3.2))
    assert made.reals[0] == pytest.approx([0, 1.1, 1.1, 0, -3.2, -3.2, 0])
    assert made.memory_bits(8) == 2 * 7 + 2 * 8


def test_memory_by_hand():
    """Equation 12: 3 bits a weight and 8 a scale; 5 inputs are 3 vectors of 2, the last one shorter."""
    made = quantize(np.ones((4, 5)), Code.parse("shift3"), WeightVectors("inputs", 2))
    assert made.memory_bits(8) == 3 * 20 + 8 * 12


@given(matrices(), codes, vectors, st.sampled_from(RULES), st.booleans())
def test_levels_scales_and_reals_agree(weights, code, cut, rule, two_scales):
    try:
        made = quantize(weights, code, cut, rule=rule, two_scales=two_scales)
    except FewbitError:
        assume(False)
    assert code.contains(made.levels)
    assert made.scales.shape == cut.scales_shape(weights.shape)
    assert (made.scales >= 0).all()
    assert (made.levels * weights >= 0).all()
    assert made.relative_error <= 1 + 1e-9 or rule == "paper"


@given(matrices(), band_codes, vectors)
def test_no_rule_is_worse_than_the_one_before_it(weights, code, cut):
    paper, least_squares, nearest = (squared_error(quantize(weights, code, cut, rule=rule)) for rule in RULES)
    assert least_squares <= paper + 1e-9
    assert nearest <= least_squares + 1e-9


@given(matrices(), codes, vectors, st.sampled_from(["least-squares", "nearest"]))
def test_what_least_squares_leaves_is_orthogonal_to_the_levels(weights, code, cut, rule):
    try:
        made = quantize(weights, code, cut, rule=rule)
    except FewbitError:
        assume(False)
    residual = (weights - made.reals) * made.levels
    assert cut.groups(weights.shape).sum(residual.ravel()) == pytest.approx(0, abs=1e-9)


@given(matrices(), codes, vectors, st.sampled_from(RULES), st.integers(-20, 20))
def test_scaled_weights_have_the_same_levels(weights, code, cut, rule, exponent):
    weights = weights * np.pi  # whole ones are taken by their common divisor
    try:
        made = quantize(weights, code, cut, rule=rule)
    except FewbitError:
        assume(False)
    scaled = quantize(np.ldexp(weights, exponent), code, cut, rule=rule)
    assert np.array_equal(scaled.levels, made.levels)
    assert np.array_equal(scaled.scales, np.ldexp(made.scales, exponent))


@given(matrices(), codes, vectors, st.sampled_from(RULES), st.booleans(), st.integers(3, 12))
def test_fixed_point_is_within_half_a_unit(weights, code, cut, rule, two_scales, bits):
    try:
        made = quantize(weights, code, cut, rule=rule, two_scales=two_scales)
    except FewbitError:
        assume(False)
    fixed = made.in_fixed_point(bits)
    pairs = [(fixed.scales, made.scales)]
    if two_scales:
        pairs.append((fixed.negative_scales, made.negative_scales))
    for integers, scales in pairs:
        assert np.array_equal(integers, np.rint(integers))
        assert integers.max() < 1 << bits - 1
        assert np.abs(fixed.unit * integers - scales).max() <= fixed.unit / 2
    assert code.contains(fixed.levels)
    each = fixed._each(weights)
    assert np.array_equal(np.where(fixed.levels == 0, 0, each * fixed.levels), fixed.reals)
    if rule == "nearest":
        for level in code.levels:
            nearest = np.abs(weights - fixed.reals) <= np.abs(weights - level * each) + 1e-12
            other_sign = two_scales * (level * weights < 0)
            assert (nearest | other_sign).all()
    else:
        assert np.array_equal(fixed.levels, made.levels)


def test_the_criterion_decides_on_the_bands():
    weights = np.array([[0.1, 0.5, 1.5, 2.5, -0.5, -2.5, -4.5]])
    seen = []

    def criterion(reals):
        seen.append(reals.shape)
        return float(np.sum(reals == 0))

    made = quantize(weights, Code.parse("shift3"), TENSOR, rule="least-squares", criterion=criterion)
    plain = quantize(weights, Code.parse("shift3"), TENSOR, rule="least-squares")
    assert set(seen) == {(1, 7)}
    assert np.sum(made.levels == 0) == 0 < np.sum(plain.levels == 0)


@pytest.mark.parametrize(
    "weights, options, message",
    [
        ([1.0], {}, "weights must have the shape (outputs, inputs), neither of them 0, not (1,)"),
        ([[]], {}, "weights must have the shape (outputs, inputs), neither of them 0, not (1, 0)"),
        ([[np.nan]], {}, "a weight is not a finite number"),
        ([[1.0]], {"rule": "best"}, "the rule must be one of paper, least-squares, nearest, not 'best'"),
        (
            [[1.0]],
            {"rule": "paper", "two_scales": True},
            "the rule paper has one scale a vector; for two scales use least-squares or nearest",
        ),
        (
            [[1.0]],
            {"code": Code.parse("int(4)"), "two_scales": True},
            "two scales need a code whose levels are symmetric about 0, not int(4)",
        ),
        (
            [[1.0]],
            {"code": Code.parse("int(4)"), "rule": "paper"},
            "the rules paper and least-squares are for binary, ternary, quinary and shift3, not int(4): use nearest",
        ),
    ],
)
def test_refused(weights, options, message):
    options = {"code": TERNARY} | options
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        quantize(np.array(weights), **options)
