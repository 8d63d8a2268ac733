"""Lanes of every code on every activation kind, held to the golden matrix-vector product."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from faults import mutant
from streaming import pipeline
from tiers import each_value, slow_but_at

from fewbit.golden.codes import Code, TableCode
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.matvec import matvec
from fewbit.hw.lanes.choose import LANES, lane_kind, lanes_for
from fewbit.hw.lanes.codebook import CodebookLanes
from fewbit.hw.lanes.one_bit import XnorLanes
from fewbit.hw.lanes.product import ProductLanes, divided
from fewbit.hw.lanes.terms import TermLanes
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.vectors import lane_words

ACTIVATIONS = ["bipolar", "uint1", "int1", "uint2", "int2", "uint3", "int4", "uint8", "int8"]
FEW_BIT = ["binary", "ternary", "quinary", "shift3", "shift3(1)", "shift3(2)"]
CODEBOOKS = ["codebook(-9,-4,-1,0,1,4,9)", "codebook(-6,-3,5)", "codebook(-1,0,1)", "codebook(1,2)", "codebook(-1,1)"]
CODES = [*FEW_BIT, *CODEBOOKS, "int(1)", "int(2)", "int(3)", "int(4)"]


def values_of(dtype: DType) -> list[int]:
    return list(range(dtype.min, dtype.max + 1, dtype.step))


def words_of(weights, code: Code) -> list[int]:
    return [sum(int(w) << place * code.bits for place, w in enumerate(code.encode(row))) for row in weights]


def sums(x, weights, code: Code, activation: DType) -> list[int]:
    """Row by row: the product of one row of activations with one row of weights."""
    return matvec(x, weights, code, activation).diagonal().tolist()


def outputs(component, x, weights, enable: str = "random") -> list[int]:
    inputs = {
        "x": lane_words(x, component.activation, component.simd),
        "w": component.words(weights),
    }
    assert not component.exact or inputs["w"] == words_of(weights, component.code)
    driven = component if component.front is None else Fronted(component)
    got = pipeline(driven, inputs, latency=component.latency, enable=enable)
    corrections = component.correction(weights)
    assert not component.exact or not corrections.any()
    return [component.step * one + component.offset + int(more) for one, more in zip(got, corrections)]


def random_rows(simd: int, activation: DType, code: Code, rows: int, seed: int = 1):
    rng = np.random.default_rng(seed)
    x = rng.choice(values_of(activation), (rows, simd))
    weights = rng.choice(code.levels, (rows, simd))
    # The ends of the range, where a sum that is too narrow wraps.
    ends = [(a, w) for a in (activation.min, activation.max) for w in (code.levels[0], code.levels[-1])]
    for row, (a, w) in enumerate(ends):
        x[row], weights[row] = a, w
    return x, weights


@pytest.mark.parametrize("kinds, stages", each_value(product(ACTIVATIONS, CODES), [0, 1]))
def test_one_lane_exhaustively(kinds, stages):
    activation, code = kinds
    activation, code = DType.parse(activation), Code.parse(code)
    x, weights = np.array(values_of(activation))[:, None], code.levels[:, None]
    component = lane_kind(activation, code)(1, activation, code, stages)
    got = outputs(component, np.repeat(x, len(weights), 0), np.tile(weights, (len(x), 1)), "always")
    assert got == matvec(x, weights, code, activation).ravel().tolist() == (x * weights.T).ravel().tolist()


class Fronted(wiring.Component):
    """Lanes behind their front."""

    def __init__(self, lanes):
        self.lanes, self.front = lanes, lanes.front
        super().__init__({"x": In(len(self.front.x)), "w": In(len(lanes.w)), "en": In(1), "o": Out(lanes.o.shape())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.lanes, m.submodules.front = lanes, front = self.lanes, self.front
        m.d.comb += [front.x.eq(self.x), lanes.x.eq(front.o), lanes.w.eq(self.w), lanes.en.eq(self.en)]
        m.d.comb += self.o.eq(lanes.o)
        return m


@pytest.mark.parametrize("code", [*FEW_BIT, *CODEBOOKS])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_one_lane_of_known_weights_exhaustively(activation, code):
    activation, code = DType.parse(activation), Code.parse(code)
    x, weights = np.array(values_of(activation))[:, None], code.levels[:, None]
    component = lane_kind(activation, code, "asic", exact=False)(1, activation, code, 1)
    got = outputs(component, np.repeat(x, len(weights), 0), np.tile(weights, (len(x), 1)), "always")
    assert got == (x * weights.T).ravel().tolist()


@pytest.mark.parametrize(
    "activation, code", [("int1", "binary"), ("uint2", "ternary"), ("int3", "shift3"), ("int4", CODEBOOKS[0])]
)
def test_wide_lanes_of_known_weights(activation, code):
    activation, code = DType.parse(activation), Code.parse(code)
    x, weights = random_rows(17, activation, code, 40)
    component = lane_kind(activation, code, exact=False)(17, activation, code, 2)
    assert outputs(component, x, weights) == sums(x, weights, code, activation)


def test_an_illegal_word_counts_as_zero():
    activation = DType.parse("uint4")
    for name, words in (("shift3", [7]), ("quinary", [3, 6, 7]), ("ternary", [2]), ("shift3(1)", [2, 3, 5, 6, 7])):
        component = lane_kind(activation, Code.parse(name))(1, activation, Code.parse(name), 0)
        assert pipeline(component, {"x": [15] * len(words), "w": words}, latency=0) == [0] * len(words)


@pytest.mark.parametrize("code", ["binary", "ternary", "shift3", "int(2)"])
@pytest.mark.parametrize("activation", ["bipolar", "uint1", "uint2", "int2"])
def test_two_lanes_exhaustively(activation, code):
    activation, code = DType.parse(activation), Code.parse(code)
    rows = np.array(list(product(values_of(activation), values_of(activation), code.levels, code.levels)))
    component = lane_kind(activation, code)(2, activation, code, 1)
    assert outputs(component, rows[:, :2], rows[:, 2:]) == sums(rows[:, :2], rows[:, 2:], code, activation)


@pytest.mark.parametrize("simd, stages", [(3, 2), (15, 1), (16, 2), (17, 3), (64, 2)])
@pytest.mark.parametrize(
    "activation, code",
    [
        ("bipolar", "binary"),
        ("uint8", "binary"),
        ("int3", "ternary"),
        ("bipolar", "ternary"),
        ("uint8", "shift3"),
        ("int4", "quinary"),
        ("uint4", "int(4)"),
        ("uint8", CODEBOOKS[0]),
        ("int4", CODEBOOKS[1]),
    ],
)
def test_wide_lanes(activation, code, simd, stages):
    activation, code = DType.parse(activation), Code.parse(code)
    x, weights = random_rows(simd, activation, code, 24)
    component = lane_kind(activation, code)(simd, activation, code, stages)
    assert outputs(component, x, weights) == sums(x, weights, code, activation)


@pytest.mark.parametrize("simd", [1, 2, 5])
def test_products_at_every_number_of_stages(simd):
    """Operands, the inside of multipliers and sums take the stages in turn; none is lost, and none is added."""
    activation, code = DType.parse("int4"), Code.parse("int(4)")
    x, weights = random_rows(simd, activation, code, 40)
    for stages, dsp in product(range(6), (False, True)):
        lanes = ProductLanes(simd, activation, code, stages, dsp=dsp)
        assert outputs(lanes, x, weights) == sums(x, weights, code, activation), (stages, dsp)
        assert sum(divided(simd, stages, dsp=dsp)) == max(0, stages - 1)


@pytest.mark.parametrize(
    "activation, code", slow_but_at((1,), [("bipolar", "binary"), ("int3", "ternary"), ("uint2", "int(3)")])
)
def test_bench_on_the_verilog(bench, activation, code):
    activation, code = DType.parse(activation), Code.parse(code)
    component = lane_kind(activation, code)(5, activation, code, 2)
    bench(component, "tb_pipeline", cases(component, activation, code))


def cases(component, activation: DType, code: Code) -> dict:
    x, weights = random_rows(component.simd, activation, code, 150)
    raw = [(one - component.offset) // component.step for one in sums(x, weights, code, activation)]
    mask = (1 << len(component.o)) - 1
    inputs = {"x": lane_words(x, activation, component.simd), "w": words_of(weights, code)}
    return {"inputs": inputs, "expected": [one & mask for one in raw], "latency": component.latency}


FAULTS = {
    "xor for xnor": (XnorLanes, "popcount.b.eq(self.w)", "popcount.b.eq(~self.w)"),
    "one's complement": (TermLanes, "*([] if self.known else [negative])]", "]"),
    "zero weights count": (TermLanes, "term &= on.replicate(len(bits))", "pass"),
    "no room for a sign": (TermLanes, "else Cat(x, Const(0, 1))", "else Cat(x)"),
    "sum too narrow": (
        TermLanes,
        "- simd * self.known, limit + 1)",
        "// simd, limit // simd + 1)",
    ),
    "multiples shifted too little": (
        CodebookLanes,
        "products[magnitude >> shift] << shift",
        "products[magnitude >> shift] << 0",
    ),
    "weights halved": (ProductLanes, "multiplier.b.eq(w)", "multiplier.b.eq(w >> 1)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    kind, old, new = FAULTS[fault]
    activation, code = {
        XnorLanes: (DType.parse("bipolar"), Code.parse("binary")),
        TermLanes: (DType.parse("uint2"), Code.parse("ternary")),
        ProductLanes: (DType.parse("int2"), Code.parse("int(2)")),
        CodebookLanes: (DType.parse("int2"), Code.parse(CODEBOOKS[0])),
    }[kind]
    x, weights = random_rows(3, activation, code, 40)
    faulty = getattr(mutant(kind.__module__.removeprefix("fewbit."), old, new), kind.__name__)(3, activation, code, 1)
    assert outputs(faulty, x, weights) != sums(x, weights, code, activation)


def test_a_planted_fault_turns_the_bench_red(bench):
    activation, code = DType.parse("uint2"), Code.parse("ternary")
    _, old, new = FAULTS["one's complement"]
    faulty = mutant("hw.lanes.terms", old, new).TermLanes(3, activation, code, 1)
    with pytest.raises(BenchFailure, match=r"case \d+: got 0x\w+, expected 0x\w+"):
        bench(faulty, "tb_pipeline", cases(TermLanes(3, activation, code, 1), activation, code))


def test_each_pair_of_kinds_has_its_lanes():
    for activation, code, kind in (
        ("bipolar", "binary", XnorLanes), ("uint1", "binary", TermLanes), ("bipolar", "ternary", TermLanes),
        ("int8", "ternary", TermLanes), ("uint8", "shift3", TermLanes), ("bipolar", "int(4)", ProductLanes),
    ):  # fmt: skip
        found = DType.parse(activation), Code.parse(code)
        assert type(lane_kind(*found)(2, *found, 1)) is kind


def test_every_class_of_lanes_serves_some_kinds():
    """And where two serve the same, the order of the list decides."""
    kinds = [
        (DType.parse(activation), Code.parse(code), target, exact)
        for activation, code, target, exact in product(
            ACTIVATIONS, [*CODES, "csd(2,4)"], ["generic", "asic", "ice40", "ecp5"], [True, False]
        )
    ]
    chosen = {lanes_for(activation, code, target, exact=exact) for activation, code, target, exact in kinds}
    assert chosen == set(LANES)
    for activation, code, target, exact in kinds:
        kind = lanes_for(activation, code, target, exact=exact)
        assert kind.serves(code, activation)
        assert target in kind.targets
        assert kind.exact or not exact
        assert kind.cells(code, activation, 4, stages=1, family=target, dsp=False) > 0


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("target", ["generic", "ice40", "ecp5"])
def test_a_level_that_is_no_power_of_two_is_never_shifted(target, exact):
    table = TableCode("threefold", 3, {0: 0, 1: 1, 2: 3, 5: -1, 6: -3})
    kind = lanes_for(DType.parse("uint4"), table, target, exact=exact)
    assert issubclass(kind, CodebookLanes)


def test_codes_without_lanes_are_refused():
    table = TableCode("nine bits", 9, dict(enumerate(range(-256, 255, 2))))
    with pytest.raises(FewbitError, match=r"^no lanes support nine bits weights and uint4 activations$"):
        lanes_for(DType.parse("uint4"), table)


def test_lanes_need_a_simd_and_no_negative_stages():
    activation, code = DType.parse("uint2"), Code.parse("ternary")
    with pytest.raises(FewbitError, match=r"^lanes need a SIMD of at least 1, not 0$"):
        TermLanes(0, activation, code, 1)
    with pytest.raises(FewbitError, match=r"^lanes have 0 or more stages, not -1$"):
        TermLanes(1, activation, code, -1)
