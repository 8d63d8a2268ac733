"""Activations of a few bits: the levels of a real, and the scale that suits reals best."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.exact import Boundary
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.quantization.activation_range import Activation, activation_kind, choose_activation

UINT2, INT2 = DType("uint", 2), DType("int", 2)


@pytest.mark.parametrize(
    "bits, signed, kind",
    [(8, False, "uint8"), (1, False, "uint1"), (8, True, "int8"), (2, True, "int2"), (1, True, "bipolar")],
)
def test_kinds(bits, signed, kind):
    assert str(activation_kind(bits, signed)) == kind


def test_boundaries_by_hand():
    """Levels begin halfway; the half itself goes to the even one."""
    quarter = Fraction(1, 4)
    assert Activation(UINT2, 0.5).boundaries == [
        Boundary(quarter, True),
        Boundary(3 * quarter, False),
        Boundary(5 * quarter, True),
    ]
    assert Activation(BIPOLAR, 0.5).boundaries == [Boundary(Fraction(0))]


@given(st.integers(-40, 40), st.sampled_from([UINT2, INT2, DType("uint", 1), BIPOLAR]))
def test_boundaries_are_where_the_levels_begin(eighths, dtype):
    activation = Activation(dtype, 0.5)
    reached = sum(one.reached(Fraction(eighths, 8)) for one in activation.boundaries)
    assert activation.apply(np.array([eighths / 8])) == 0.5 * (dtype.min + dtype.step * reached)


@pytest.mark.parametrize("bits, signed", [(1, False), (2, False), (4, True), (8, True)])
def test_levels_that_fit_exactly_are_found(bits, signed):
    dtype = activation_kind(bits, signed)
    levels = np.arange(-dtype.max, dtype.max + 1, dtype.step) if signed else np.arange(dtype.max + 1)
    chosen = choose_activation(levels * 0.3, bits, signed)
    assert chosen.scale == pytest.approx(0.3)
    assert choose_activation(levels * 0.3, bits, signed, margin=2.0).scale == pytest.approx(0.6)


def test_an_outlier_is_clipped():
    reals = np.append(np.linspace(0, 1, 10_000), 50)
    assert choose_activation(reals, 4, False).scale * 15 < 25


def test_reals_that_are_all_zero():
    assert choose_activation(np.zeros(4), 4, False) == Activation(DType("uint", 4), 1.0)
