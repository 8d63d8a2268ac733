"""What a memory of weights holds: against the words that the hardware stores, and against Yosys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given
from hypothesis import strategies as st
from tiers import slow_but

from benchmarks.measure import measure
from benchmarks.models import shipped
from fewbit.golden.codes import BINARY, TERNARY, Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Dense, Linear
from fewbit.hw.costs.columns import (
    DEEPEST,
    Field,
    scale_columns,
    scale_field,
    weight_columns,
    weight_field,
)
from fewbit.hw.costs.parts import stored_words
from fewbit.hw.fabric.devices import target
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.memory.kinds import Stored
from fewbit.hw.memory.rom import weight_memory

UINT4 = DType("uint", 4)


def columns(stored: Stored) -> list[tuple[int, ...]]:
    """Those that are not the same in every word."""
    bits, words = stored
    every = [tuple(word >> column & 1 for word in words) for column in range(bits)]
    return [column for column in every if len(set(column)) > 1]


def unit(layer: Dense, pe: int, simd: int) -> MatVec:
    return MatVec(layer, UINT4, pe=pe, simd=simd)


CODES = ["binary", "ternary", "quinary", "shift3", "shift3(2)", "shift3(1)", "csd(1,5)", "csd(2,5)", "int(4)"]


@given(code=st.sampled_from(CODES), pe=st.sampled_from([1, 2, 4]), simd=st.sampled_from([1, 3, 6]), seed=st.integers(0))
def test_columns_of_weights_are_those_of_the_memory(code: str, pe: int, simd: int, seed: int) -> None:
    rng, kind = np.random.default_rng(seed), Code.parse(code)
    few = rng.choice(kind.levels, 2)  # not every level has to occur
    layer = Dense(name="fc", weights=rng.choice(few, (4, 6)), code=kind)
    stored = stored_words(layer, pe, simd)
    found = unit(layer, pe, simd).stored()
    assert (stored.width, stored.depth) == (found[0], len(found[1]))
    assert stored.columns == len(set(columns(found)))
    assert stored.vary >= len(columns(found))


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("vector", [2, 4, 8])
def test_columns_of_scales_are_those_of_the_memory(vector: int, across: bool) -> None:
    rng = np.random.default_rng(vector)
    vectors = 8 // vector
    scales = rng.integers(1, 200, (vectors, 8) if across else (8, vectors))
    layer = Dense(
        name="fc", weights=np.ones((8, 8)), code=BINARY, scales=scales, vector=vector, across=across
    )  # weights that are all the same are no columns
    for pe, simd in [(1, 1), (2, 2), (2, 1), (1, 2)]:
        found = unit(layer, pe, simd).stored()
        words, kept = scale_columns(layer, pe, simd)
        assert words == scales.size // (simd if across else pe)
        assert kept == len(set(columns(found)))
        assert stored_words(layer, pe, simd).width == found[0]
        assert (simd if across else pe) * scale_field(layer).varying >= len(columns(found))


def test_two_scales_have_lanes_each() -> None:
    options: dict[str, Any] = {"vector": 4, "scales": np.full((2, 1), 3), "negative_scales": np.full((2, 1), 5)}
    layer = Dense(name="fc", weights=[[1, 0, -1, 1], [0, 1, 1, -1]], code=TERNARY, **options)
    # a weight is 00 or 01 in the lanes of the positive ones, 00 or 11 in the others; equal scales vary nowhere
    assert weight_field(layer) == Field(4, 3)
    assert scale_field(layer).varying == 0
    bits, _ = found = unit(layer, 1, 2).stored()
    stored = stored_words(layer, 1, 2)
    assert (stored.width, stored.vary) == (bits, len(columns(found)))
    assert stored.columns == len(set(columns(found)))


def test_bits_of_a_code_that_no_weight_needs_do_not_vary() -> None:
    weights = np.random.default_rng(1).choice([-1, 0, 1], (16, 16))
    assert weight_field(Dense(name="fc", weights=weights, code=Code.parse("shift3"))) == Field(3, 2)
    assert weight_field(Dense(name="fc", weights=weights, code=Code.parse("int(8)"))) == Field(8, 8)


@pytest.mark.parametrize("name, varying", [("lenet5-csd-1-5", 8), ("lenet5-csd-2-5", 10)])
def test_bits_of_shipped_csd_words(name: str, varying: int) -> None:
    """As decisions 18 and 20 say."""
    layers = [layer for layer in shipped(name).layers if isinstance(layer, Linear)]
    assert {weight_field(layer) for layer in layers} == {Field(11, varying)}


def test_scales_of_a_first_convolution_are_two_columns() -> None:
    """As decision 20 says."""
    first = next(layer for layer in shipped("lenet5-ternary-two-scales").layers if isinstance(layer, Linear))
    assert 6 * scale_field(first).varying == 162
    assert scale_columns(first.position(), 6, 1) == (2, 2)


def test_of_many_words_no_two_columns_are_taken_for_equal() -> None:
    layer = Dense(name="fc", weights=np.tile([[1, -1]], (DEEPEST + 1, 4)), code=BINARY)
    assert weight_columns(layer, 1, 8) == 8
    assert weight_columns(layer, DEEPEST + 1, 4) == 0  # two words, and the same
    layer = Dense(name="fc", weights=np.tile([[1, -1]], (DEEPEST, 4)), code=BINARY)
    assert weight_columns(layer, DEEPEST, 1) == 1


class Rom(wiring.Component):
    """Constants without a pattern, in block RAM."""

    def __init__(self, depth: int, width: int) -> None:
        self.depth, self.width = depth, width
        super().__init__({"address": In(range(depth)), "data": Out(width)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        planes = np.random.default_rng(1).integers(0, 2, (self.depth, self.width))
        words = [int("".join(map(str, row)), 2) for row in planes]
        m.submodules.memory = memory = weight_memory(self.width, words, "block")
        port = memory.read_port()
        m.d.comb += [port.addr.eq(self.address), self.data.eq(port.data), port.en.eq(1)]
        return m


ROMS = [(600, 20), (300, 36), (1200, 12), (3000, 30), (1260, 23), (2049, 5), (700, 33)]


@pytest.mark.parametrize(
    "depth, width, device",
    slow_but(
        [(600, 20, "ecp5-25k"), (1260, 23, "up5k")], [(*rom, device) for rom in ROMS for device in ("up5k", "ecp5-25k")]
    ),
)
def test_parts_of_constants_share_block_rams(depth: int, width: int, device: str) -> None:
    assert measure(Rom(depth, width), device)["ram"] == target(device).block_rams(depth, width, constant=True)


@pytest.mark.parametrize("depth, width, constant, written", [(3000, 30, 5, 6), (1260, 23, 2, 3), (512, 36, 1, 1)])
def test_block_rams_by_hand(depth: int, width: int, constant: int, written: int) -> None:
    # 3,000 words of 30 bits: three parts of 1,024 lie side by side, 90 bits in five RAMs of 18
    device = target("ecp5-25k")
    assert device.block_rams(depth, width, constant=True) == constant
    assert device.block_rams(depth, width) == written
