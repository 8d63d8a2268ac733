"""What all matrix-vector units promise, held by one set of tests over all of them: ports, data under every pattern of
valid and ready, exact timing, memory, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from dense import BAD_FOLDS, check, check_times, layer, mapped_words, products, vectors
from streaming import PAIRS
from test_sign_matvec import layers as sign_layers
from test_sign_matvec import vectors as sign_vectors
from tiers import each_value, slow_but

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense
from fewbit.hw.matvec.bit_serial import BitSerialMatVec
from fewbit.hw.matvec.fused_sign import SignMatVec
from fewbit.hw.matvec.parallel import MatVec
from fewbit.hw.matvec.term_serial import TermSerialMatVec
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.sim.vectors import Vectors

FAMILIES = ("ice40", "ecp5")


@dataclass(frozen=True)
class Kind:
    """A kind of unit, the weights and activations that it is tried on, and the least SIMD that it takes."""

    make: Callable[..., Any]
    code: str
    activation: str
    least_simd: int = 1
    buffers: tuple[str, ...] = ("block", "distributed", "ring")

    def layer(self, outputs: int, inputs: int) -> Any:
        if self.make is SignMatVec:
            return sign_layers(outputs, inputs)
        return (layer(outputs, inputs, self.code),)

    def unit(self, parts: tuple[Any, ...], **fold: Any) -> Any:
        if self.make is SignMatVec:
            fold.pop("exact", None)
            return SignMatVec(*parts, **fold)
        return self.make(*parts, DType.parse(self.activation), **fold)

    def case(self, parts: tuple[Any, ...], pe: int, simd: int, frames: int = 8) -> Vectors:
        if self.make is SignMatVec:
            return sign_vectors(*parts, pe, simd, frames=frames)
        return vectors(parts[0], DType.parse(self.activation), pe, simd, frames=frames)


KINDS = {
    "parallel": Kind(MatVec, "shift3", "int3"),
    "bit planes": Kind(BitSerialMatVec, "ternary", "int3"),
    "terms": Kind(TermSerialMatVec, "ternary", "int3", buffers=("block", "distributed")),
    "fused sign": Kind(SignMatVec, "binary", "bipolar", least_simd=15),
}
SUMS = {name: kind for name, kind in KINDS.items() if kind.make is not SignMatVec}
"""Kinds from which sums come."""

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
every_sum = pytest.mark.parametrize("kind", SUMS.values(), ids=SUMS)


def folded(kind: Kind, *, exact: bool = True, **fold: Any) -> tuple[Any, Vectors]:
    parts = kind.layer(4, 4 * kind.least_simd)
    fold = {"pe": 2, "simd": 2 * kind.least_simd} | fold
    return kind.unit(parts, exact=exact, **fold), kind.case(parts, fold["pe"], fold["simd"])


@every_kind
@pytest.mark.parametrize("memory", sorted(MEMORIES))
def test_ports_and_memory(kind, memory):
    if kind.make is TermSerialMatVec and not MEMORIES[memory].preloaded:
        return  # the first word is read before anything can be filled in
    unit, _ = folded(kind, memory=memory)
    dense = unit.layer
    assert isinstance(dense, Dense)
    assert (unit.pe, unit.simd, unit.words) == (2, 2 * kind.least_simd, 2)
    filled = set() if MEMORIES[memory].preloaded else {"fill"}
    dial = {"quality"} if dense.digits else set()
    assert set(unit.signature.members) == {"i", "o"} | dial | filled
    assert len(unit.i.payload.as_value()) == unit.simd * DType.parse(kind.activation).bits
    assert len(unit.o.payload.as_value()) == unit.pe * unit.sum.bits
    bits, words = unit.stored()
    assert 0 < max(words) < 1 << bits
    assert unit.bias.shape == (dense.outputs,)
    assert unit.cycles_per_frame >= unit.words
    assert unit.latency >= 1


@every_kind
@pytest.mark.parametrize("pattern, exact", each_value(PAIRS, [True, False]))
def test_every_pattern(kind, pattern, exact):
    valid, ready = pattern
    unit, case = folded(kind, exact=exact, stages=2)
    if exact or kind.make is SignMatVec:
        check(unit, case, valid=valid, ready=ready)
    else:
        assert products(unit, case, valid=valid, ready=ready) == case.expected


@every_kind
def test_every_buffer_and_memory_to_the_cycle(kind):
    for buffer in kind.buffers:
        for memory in ("block", "logic"):
            unit, case = folded(kind, buffer=buffer, memory=memory)
            check_times(unit, case, check(unit, case))


@every_sum
@pytest.mark.parametrize("sizes, exact", each_value(product([1, 2, 31, 32, 33], [1, 2, 3]), [False, True]))
def test_degenerate_and_odd_sizes_all_at_once_and_one_by_one(kind, sizes, exact):
    inputs, outputs = sizes
    parts = kind.layer(outputs, inputs)
    for pe, simd in ((1, 1), (outputs, inputs)):
        unit, case = kind.unit(parts, pe=pe, simd=simd, exact=exact), kind.case(parts, pe, simd, frames=3)
        if exact:
            check(unit, case)
        else:
            assert products(unit, case) == case.expected


@every_sum
def test_what_is_left_out_is_said(kind):
    """``step * x + bias`` of what the kind holds reaches all that sums can be."""
    unit, _ = folded(kind, exact=False)
    low, high = unit.layer.bounds(DType.parse(kind.activation))
    assert (unit.step * unit.sum.min + unit.bias <= low).all()
    assert (unit.step * unit.sum.max + unit.bias >= high).all()


@every_kind
@pytest.mark.parametrize("family", slow_but(["ice40"], FAMILIES))
def test_the_mapped_netlist(kind, family, cache):
    buffer = "block" if family == "ice40" else kind.buffers[1]
    parts, simd = kind.layer(4, 4 * kind.least_simd), 2 * kind.least_simd
    unit = kind.unit(parts, pe=2, simd=simd, buffer=buffer, stages=2, target=family)
    case = kind.case(parts, 2, simd, frames=16)
    assert mapped_words(unit, family, case) == case.expected


@every_sum
@pytest.mark.parametrize("fold, message", BAD_FOLDS)
def test_a_fold_that_cannot_be_is_refused(kind, fold, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        kind.make(layer(6, 10), DType.parse("uint2"), **fold)


@every_kind
def test_expectations_differ(kind):
    """Words that are all alike would hold nothing."""
    _, case = folded(kind)
    assert len(set(case.expected)) > 2
