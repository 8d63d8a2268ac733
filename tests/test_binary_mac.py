"""The binary MAC array: sums and signs as the golden counts say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from streaming import pipeline

from fewbit.golden.errors import FewbitError
from fewbit.golden.matvec import pack_bits, xnor_popcount
from fewbit.hw.matvec.binary_mac import BinaryMac


def words(pe: int, simd: int, cases: int, begin: float, seed: int = 1):
    rng = np.random.default_rng(seed)
    x, w = rng.integers(0, 2, (cases, simd)), rng.integers(0, 2, (cases, pe, simd))
    x[0], w[0] = 1, 1
    first = rng.random(cases) < begin
    first[0] = True
    return x, w, first


def number(bits) -> int:
    return sum(int(bit) << place for place, bit in enumerate(np.ravel(bits)))


@pytest.mark.parametrize("pe, simd, bits, stages", [(1, 1, 1, 1), (2, 5, 7, 1), (3, 16, 9, 2), (2, 33, 12, 3)])
def test_sums_and_signs(pe, simd, bits, stages):
    x, w, first = words(pe, simd, 120, 0.2)
    low = min(bits, simd.bit_length())
    preset = np.random.default_rng(2).integers(0, 1 << bits - low, (len(x), pe))
    sums, want = [0] * pe, []
    for case in range(len(x)):
        for p in range(pe):
            count = int(xnor_popcount(pack_bits(x[case][None]), pack_bits(w[case, p][None]), simd)[0, 0])
            sums[p] = ((int(preset[case, p]) << low if first[case] else sums[p]) + count) % (1 << bits)
        want.append(sum(value << p * bits for p, value in enumerate(sums)))
    block = BinaryMac(pe, simd, bits, stages=stages)
    block.o = block.sum
    inputs = {"x": [number(row) for row in x], "w": [number(row) for row in w], "first": first.astype(int).tolist()}
    if low < bits:  # taken `stages` later than the word it belongs to
        late = [sum(int(v) << p * (bits - low) for p, v in enumerate(row)) for row in preset]
        inputs["preset"] = [0] * stages + late
        inputs |= {name: [*values, *values[-1:] * stages] for name, values in inputs.items() if name != "preset"}
    got = pipeline(block, inputs, latency=block.latency)
    assert got[: len(want)] == want


def test_bad_parameters():
    for arguments, message in (
        ((0, 8, 8), "a binary MAC needs a PE and a SIMD of at least 1, not 0 and 8"),
        ((1, 0, 8), "a binary MAC needs a PE and a SIMD of at least 1, not 1 and 0"),
        ((1, 8, 3), "sums of 8 bits a word need at least 4 bits, not 3"),
    ):
        with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
            BinaryMac(*arguments)
    with pytest.raises(FewbitError, match=r"^a binary MAC has 1 or more stages, not 0$"):
        BinaryMac(1, 8, 8, stages=0)
    with pytest.raises(FewbitError, match=r"^the preset must begin at bit 0 to 8, not 9$"):
        BinaryMac(1, 8, 8, low=9)
    with pytest.raises(
        FewbitError, match=r"^the target of a binary MAC must be one of generic, asic, ice40, ecp5, not 'xc7'$"
    ):
        BinaryMac(1, 8, 8, target="xc7")
