"""What a float input is made of: integers to reals and back."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from fewbit.golden.errors import FewbitError
from fewbit.input_kind import InputKind


@pytest.mark.parametrize(
    "text, scale", [("uint8", 1), ("uint8/255", Fraction(1, 255)), ("int4*0.5", Fraction(1, 2)), ("uint2 / 4", 0.25)]
)
def test_integers_and_reals(text, scale):
    kind = InputKind.parse(text)
    assert kind.scale == scale
    integers = np.arange(kind.dtype.min, kind.dtype.max + 1)
    reals = kind.reals(integers)
    assert reals.dtype == np.float32
    assert np.array_equal(kind.integers(reals), integers)
    assert np.array_equal(kind.integers(integers), integers)


@pytest.mark.parametrize(
    "frames, message",
    [
        (np.array([0.5]), "float inputs must be 1/255 times a whole number, and some are not"),
        (np.array([np.nan]), "float inputs must be 1/255 times a whole number, and some are not"),
        (np.array([0, 256]), "inputs must be uint8, got 0 to 256"),
        (np.array([-1.0, 1.0]), "inputs must be uint8, got -255 to 255"),
    ],
)
def test_refused(frames, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        InputKind.parse("uint8/255").integers(frames)
