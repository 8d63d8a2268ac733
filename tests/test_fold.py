"""Exact folding, held to direct evaluation of the same curves."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.exact import (
    ROUNDINGS,
    Boundary,
    Curve,
    comparable_scores,
    exact,
    fold_thresholds,
    rounding_boundary,
    square_root,
)

NUMPY_ROUNDINGS = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda y: np.sign(y) * np.ceil(np.abs(y)),
    "DOWN": np.trunc,
    "HALF_UP": lambda y: np.sign(y) * np.floor(np.abs(y) + 0.5),
    "HALF_DOWN": lambda y: np.sign(y) * np.ceil(np.abs(y) - 0.5),
}
quarters = st.integers(-24, 24).map(lambda n: Fraction(n, 4))


@pytest.mark.parametrize("mode", ROUNDINGS)
def test_a_level_begins_where_numpy_rounds_to_it(mode: str) -> None:
    for quarter in range(-40, 41):
        y = Fraction(quarter, 4)
        rounded = int(NUMPY_ROUNDINGS[mode](float(y)))
        reached = [level for level in range(-12, 13) if rounding_boundary(mode, level).reached(y)]
        assert max(reached) == rounded, (mode, y)


def test_square_root_is_exact_or_good_to_60_digits() -> None:
    assert square_root(Fraction(9, 4)) == Fraction(3, 2)
    assert square_root(Fraction(0)) == 0
    assert str(square_root(Fraction(2)).numerator).startswith("1414213562373095048801688724209698078569671875376948073")
    tiny = Fraction(float(np.float32(1e-30)))
    assert abs(square_root(tiny) ** 2 / tiny - 1) < Fraction(1, 10**59)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_thresholds_are_right_on_every_integer(data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 3), "channels")
    vector = st.lists(quarters, min_size=channels, max_size=channels).map(exact) | quarters.map(lambda q: exact([q]))
    curve = Curve()
    for _ in range(data.draw(st.integers(0, 3), "steps")):
        if data.draw(st.booleans(), "clip"):
            low, high = sorted(data.draw(st.tuples(quarters, quarters), "limits"))
            ends = data.draw(st.sampled_from([(low, high), (low, None), (None, high)]), "ends")
            curve = curve.clipped(*ends)
        else:
            curve = curve.scaled(data.draw(vector, "gain"), data.draw(vector, "shift"))
    rows = data.draw(st.sampled_from([1, channels]), "rows")
    boundary = st.builds(Boundary, quarters, st.booleans())
    count = data.draw(st.integers(1, 4), "levels")
    boundaries = [
        sorted(
            data.draw(st.lists(boundary, min_size=count, max_size=count), "boundaries"),
            key=lambda b: (b.value, b.strict),
        )
        for _ in range(rows)
    ]
    low, high = np.array([-9]), np.array([7])
    thresholds, sign = fold_thresholds(curve, boundaries, low, high)
    assert (np.diff(thresholds, axis=1) >= 0).all()
    for row, direction in zip(thresholds, sign):
        ends = sorted((-9 * direction, 7 * direction))
        assert (row >= ends[0]).all()
        assert (row <= ends[1] + 1).all()
    for channel in range(channels):
        row, direction = (values[channel if len(thresholds) > 1 else 0] for values in (thresholds, sign))
        own = boundaries[channel if rows > 1 else 0]
        for x in range(-9, 8):
            real = curve.value(channel if curve.channels > 1 else 0, x)
            assert (direction * x >= row).sum() == sum(b.reached(real) for b in own), (channel, x)


def test_equal_channels_share_one_row_and_unequal_ones_do_not() -> None:
    boundaries = [[Boundary(Fraction(1))]]
    one, two = exact([1, 1]), exact([1, -1])
    low, high = np.array([-4, -6]), np.array([4, 6])
    assert fold_thresholds(Curve().scaled(one, one), boundaries, low, high)[0].tolist() == [[0]]
    rows, sign = fold_thresholds(Curve().scaled(two, exact([0])), boundaries, low, high)
    assert (rows.tolist(), sign.tolist()) == ([[1], [1]], [1, -1])


def test_a_level_always_there_is_not_a_threshold_of_one() -> None:
    # the first channel has its level at x >= 1, the second, of gain 0, always
    curve = Curve().scaled(exact([1, 0]), exact([0, 5]))
    rows, _ = fold_thresholds(curve, [[Boundary(Fraction(1))]], np.array([-4]), np.array([4]))
    assert rows.tolist() == [[1], [-4]]


def best(gain: Any, shift: Any, x: Any) -> int:
    scores = [g * int(v) + s for g, s, v in zip(gain, shift, x)]
    return scores.index(max(scores))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_comparable_scores_keep_every_arg_max(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 4), "classes")
    real = st.integers(-(1 << 26), 1 << 26).map(lambda n: Fraction(n, 3 << 24)) | quarters
    gain = exact(data.draw(st.lists(real, min_size=classes, max_size=classes), "gain"))
    shift = exact(data.draw(st.lists(real, min_size=classes, max_size=classes), "shift"))
    low, high = np.full(classes, -3), np.full(classes, data.draw(st.integers(-3, 3), "high"))
    scale, bias = comparable_scores(gain, shift, low, high)
    for x in np.stack(np.meshgrid(*[np.arange(lo, hi + 1) for lo, hi in zip(low, high)]), -1).reshape(-1, classes):
        assert best(scale, bias, x) == best(gain, shift, x), x


def test_comparable_scores_are_short_where_that_is_proven() -> None:
    gain = exact(np.array([0.1, 0.2, 0.30001], np.float32))
    shift = exact(np.array([0.5, -0.25, 0.125], np.float32))
    scale, bias = comparable_scores(gain, shift, np.full(3, -64), np.full(3, 64))
    assert max(map(abs, (*scale, *bias))).bit_length() <= 24


def test_comparable_scores_without_a_proof_are_exact_or_62_bits() -> None:
    gain, shift = exact([Fraction(1, 3), Fraction(1, 7)]), exact([0, Fraction(1, 5)])
    wide = np.full(2, 1 << 30)
    assert comparable_scores(gain, shift, -wide, wide) == ([35, 15], [0, 21])
    roots = exact([square_root(Fraction(2)), square_root(Fraction(3))])
    scale, bias = comparable_scores(roots, shift, -wide, wide)
    largest = max(abs(s) * (1 << 30) + b for s, b in zip(scale, bias))
    assert 60 <= math.log2(largest) < 62
    assert abs(Fraction(scale[0], scale[1]) / (roots[0] / roots[1]) - 1) < Fraction(1, 1 << 28)
