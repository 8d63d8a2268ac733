"""Zeros and signed digits of layers, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense
from fewbit.golden.sparsity import Sparsity
from fewbit.hw.lanes.csd import CsdLanes


def of(code, weights, **scales):
    return Sparsity.of(Dense(name="dense", weights=np.array(weights), code=Code.parse(code), **scales))


def test_a_ternary_layer():
    found = of("ternary", [[0, 1, -1], [0, 0, 1]])
    assert (found.weights, found.zeros, found.terms) == (6, 3, 3)
    assert (found.multiplications, found.rows, found.partial_products) == (0, 0, (0,))


def test_weights_of_several_digits():
    # 11 = 16 - 4 - 1, 3 = 4 - 1, 8, two zeros, -8: 3 + 2 + 1 + 1 digits
    found = of("csd(3,5)", [[11, 3, 8], [0, 0, -8]])
    assert (found.zeros, found.terms) == (2, 7)
    assert (found.multiplications, found.rows) == (6, 18)  # 6 bits: 3 rows
    assert found.partial_products == (0, 4, 6, 7)


@pytest.mark.parametrize("two, rows, formed", [(False, 8, (0, 3, 5)), (True, 16, (0, 5, 8))])
def test_scales(two, rows, formed):
    # 7 = 8 - 1, 5 = 4 + 1, 4, 0; for negative weights 0, 0, 3 = 4 - 1, 1; 4 bits: 2 rows
    other = {"negative_scales": np.array([[0, 0], [3, 1]])} if two else {}
    found = of("ternary", [[0, 1, 1], [-1, 0, 0]], scales=np.array([[7, 5], [4, 0]]), vector=2, **other)
    assert (found.multiplications, found.rows, found.partial_products) == (rows // 2, rows, formed)


def test_a_csd_weight_has_as_many_rows_as_its_multiplier():
    for code in ("csd(1,1)", "csd(2,4)", "csd(3,7)", "csd(8,16)"):
        lanes = CsdLanes(1, DType("uint", 2), Code.parse(code), 1)
        assert of(code, [[1]]).rows == lanes.multipliers[0].rows
