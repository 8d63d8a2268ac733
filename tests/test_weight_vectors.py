"""Weights that share a scale, held to how a layer spreads its scales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weights import vectors

from fewbit.golden.codes import TERNARY
from fewbit.golden.errors import FewbitError
from fewbit.golden.linear import Dense
from fewbit.golden.quantizers.weight_vectors import Groups, WeightVectors


@pytest.mark.parametrize(
    "given_, shape, groups",
    [
        (WeightVectors("tensor"), (1, 1), [[0, 0, 0], [0, 0, 0]]),
        (WeightVectors("channel"), (2, 1), [[0, 0, 0], [1, 1, 1]]),
        (WeightVectors("inputs", 2), (2, 2), [[0, 0, 1], [2, 2, 3]]),
        (WeightVectors("inputs", 3), (2, 1), [[0, 0, 0], [1, 1, 1]]),
        (WeightVectors("inputs", 99), (2, 1), [[0, 0, 0], [1, 1, 1]]),
        (WeightVectors("outputs", 1), (2, 3), [[0, 1, 2], [3, 4, 5]]),
        (WeightVectors("outputs", 2), (1, 3), [[0, 1, 2], [0, 1, 2]]),
    ],
)
def test_groups_by_hand(given_, shape, groups):
    assert given_.scales_shape((2, 3)) == shape
    assert given_.groups((2, 3)).index.reshape(2, 3).tolist() == groups
    assert given_.groups((2, 3)).count == shape[0] * shape[1]


@given(vectors, st.integers(1, 7), st.integers(1, 7))
def test_groups_are_those_of_a_layer_with_scales(given_, outputs, inputs):
    if not given_.runs:
        return
    shape = given_.scales_shape((outputs, inputs))
    scales = 1 + np.arange(shape[0] * shape[1]).reshape(shape)
    layer = Dense(
        name="dense",
        weights=np.ones((outputs, inputs)),
        code=TERNARY,
        scales=scales,
        vector=given_.length_in((outputs, inputs)),
        across=given_.axis == "outputs",
    )
    each = given_.groups((outputs, inputs)).each(scales.ravel())
    assert np.array_equal(each.reshape(outputs, inputs), layer.factors())


def test_groups_by_sign():
    groups = Groups(np.array([0, 0, 1]), 2).by_sign(np.array([1.0, -1.0, 0.0]))
    assert groups.index.tolist() == [0, 1, 2]
    assert groups.sum(np.array([5, 6, 7])).tolist() == [5, 6, 7, 0]


@pytest.mark.parametrize(
    "axis, length, message",
    [
        ("rows", 0, "the axis of weight vectors must be one of tensor, channel, inputs, outputs, not 'rows'"),
        ("inputs", 0, "vectors along inputs have a length of 1 or more, not 0"),
        ("tensor", 4, "one scale a tensor takes no vector length, not 4"),
    ],
)
def test_refused(axis, length, message):
    with pytest.raises(FewbitError, match=f"^{message}$"):
        WeightVectors(axis, length)
