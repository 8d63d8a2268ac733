"""The binary layer whose thresholds are fused into the weight stream gives the golden bits in every folding, as RTL and
in the cells of each family, and keeps its promise of cycles."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from dense import check, mapped_words
from faults import mutant
from networks import divisors, random_frames
from streaming import PAIRS
from tiers import each_value, slow_but

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.matvec import matvec
from fewbit.golden.network import Dense, Threshold
from fewbit.golden.threshold import threshold_level
from fewbit.hw.matvec import fused_sign
from fewbit.hw.matvec.fused_sign import SignMatVec, start_words
from fewbit.hw.schedule import schedule
from fewbit.sim.cocotb_run import BenchFailure
from fewbit.sim.vectors import Vectors, folded_vectors

BIPOLAR, BINARY = DType.parse("bipolar"), Code.parse("binary")
FAMILIES = ("ice40", "ecp5")


def layers(outputs: int, inputs: int, seed: int = 1, output: str = "bipolar") -> tuple[Dense, Threshold]:
    """A layer whose thresholds lie everywhere: near the middle, at both ends of the reachable range and beyond them."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([-1, 1], (outputs, inputs))
    bounds = rng.integers(-inputs, inputs + 1, outputs)
    ends = [-inputs - 5, -inputs, inputs, inputs + 1, 10**6, -(10**6), 1 - inputs, inputs - 1]
    near = rng.integers(-3, 4, outputs)
    bounds = np.where(rng.random(outputs) < 0.6, near, bounds)
    bounds[: len(ends)] = ends[:outputs]
    bounds = rng.permutation(bounds)
    kind = DType.parse(output)
    threshold = Threshold(
        name="sign", thresholds=bounds[:, None], sign=rng.choice([-1, 1], outputs), dtype=kind, base=kind.min
    )
    return Dense(name="dense", weights=weights, code=BINARY), threshold


def frames_of(dense: Dense, threshold: Threshold, frames: int, seed: int = 1):
    """Inputs near to each threshold: an output's own weights with about as many bits turned over as it takes."""
    rng = np.random.default_rng(seed)
    x = random_frames(rng, BIPOLAR, (frames, dense.fan_in))
    for row in range(min(frames, 2 * dense.outputs)):
        output = row // 2 % dense.outputs
        own = dense.weights[output] * threshold.sign[output % threshold.channels]
        wanted = -(-(int(threshold.thresholds[output % threshold.channels, 0]) + dense.fan_in) // 2) - row % 2
        turned = rng.permutation(dense.fan_in)[: max(0, min(dense.fan_in, dense.fan_in - wanted))]
        x[row] = own
        x[row, turned] *= -1
    return x


def expected(dense: Dense, threshold: Threshold, x):
    return threshold_level(matvec(x, dense.weights, BINARY, BIPOLAR), threshold.thresholds, threshold.sign)


def vectors(dense: Dense, threshold: Threshold, pe: int, simd: int, frames: int = 6) -> Vectors:
    x = frames_of(dense, threshold, frames)
    levels = expected(dense, threshold, x)
    return folded_vectors(dense, (x, BIPOLAR, simd), (levels, DType.parse("uint1"), pe), name="bit")


@pytest.mark.parametrize("buffer", ["block", "distributed", "ring"])
@pytest.mark.parametrize("pe", divisors(6))
@pytest.mark.parametrize("simd, stages", [(30, 1), (30, 2), (60, 1), (20, 3), (15, 2)])
def test_every_folding(pe, simd, stages, buffer):
    dense, threshold = layers(6, 60)
    unit = SignMatVec(dense, threshold, pe=pe, simd=simd, buffer=buffer, stages=stages)
    case = vectors(dense, threshold, pe, simd, frames=12)
    trace = check(unit, case)
    promised = schedule(unit.timing(), case.beats_in, case.beats_out, unit.cycles_per_frame)
    assert trace.latency(case.beats_out) == promised.latency
    assert trace.intervals(case.beats_out)[-1] == promised.interval == unit.cycles_per_frame


@pytest.mark.parametrize("pattern, read_register", each_value(PAIRS, [0, 1, 2]))
def test_every_pattern(pattern, read_register):
    valid, ready = pattern
    dense, threshold = layers(8, 36)
    unit = SignMatVec(dense, threshold, pe=4, simd=18, stages=2, read_register=read_register)
    check(unit, vectors(dense, threshold, 4, 18, frames=16), valid=valid, ready=ready)


@pytest.mark.parametrize("seed", range(12))
def test_random_layers(seed):
    rng = np.random.default_rng(seed)
    simd = int(rng.integers(20, 90))
    words, pe, folds = (int(rng.integers(1, most)) for most in (5, 5, 4))
    dense, threshold = layers(pe * folds, simd * words, seed, output="uint1" if seed % 3 == 0 else "bipolar")
    unit = SignMatVec(
        dense, threshold, pe=pe, simd=simd, stages=int(rng.integers(1, words + 1)), read_register=int(rng.integers(3))
    )
    check(unit, vectors(dense, threshold, pe, simd, frames=24), ready="random")


def test_one_threshold_for_all():
    dense, _ = layers(4, 40)
    shared = Threshold(name="sign", thresholds=np.array([[3]]), sign=np.array([-1]), dtype=BIPOLAR, base=-1)
    check(SignMatVec(dense, shared, pe=2, simd=20), vectors(dense, shared, 2, 20, frames=12))


@pytest.mark.parametrize(
    "shape, family",
    slow_but(
        [((24, 1, 2, 0), "ecp5")],
        product([(24, 1, 2, 0), (48, 3, 2, 0), (48, 3, 3, 2), (64, 2, 3, 1), (72, 2, 1, 0), (31, 1, 2, 0)], FAMILIES),
    ),
)
def test_the_mapped_netlist(shape, family, cache):
    """`test_matvec_contract.py` has the other family."""
    simd, pe, stages, read_register = shape
    dense, threshold = layers(12, 4 * simd, seed=simd)
    unit = SignMatVec(dense, threshold, pe=pe, simd=simd, stages=stages, read_register=read_register, target=family)
    case = vectors(dense, threshold, pe, simd, frames=200)
    assert mapped_words(unit, family, case) == case.expected


def test_bench_on_the_verilog(bench):
    dense, threshold = layers(6, 60)
    unit = SignMatVec(dense, threshold, pe=2, simd=20, stages=2)
    bench(unit, "tb_stream", vectors(dense, threshold, 2, 20, frames=12))


FAULTS = {
    "first start not held at 0": ("start.eq(~busy | (index == self.stages))", "start.eq(index == self.stages)"),
    "second start a word early": (
        "[self._starts[:, :1], bits[:, : self.stages - 1],",
        "[bits[:, : self.stages - 1], self._starts[:, :1],",
    ),
    "a threshold off by one": ("- np.clip(np.broadcast_to(least", "+ 1 - np.clip(np.broadcast_to(least"),
    "signs forgotten": ("np.where(self.threshold.sign < 0, -1, 1)", "np.where(self.threshold.sign < 0, 1, 1)"),
    "a sum begins without a place": ("room.eq(following != self.results)", "room.eq(1)"),
    "places forgotten": ("begun + begin - taken", "begun + begin"),
    "memory runs on": ("with m.If(asked):", "with m.If(1):"),
    "vector given back a fold early": ("fold == share - 1)),", "fold == share - 2)),"),
    "preset of the neighbour": ("w.word_select(pe, self.simd)", "w.word_select(self.pe - 1 - pe, self.simd)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    dense, threshold = layers(8, 60)
    faulty = mutant("hw.matvec.fused_sign", *FAULTS[fault]).SignMatVec(dense, threshold, pe=2, simd=20, stages=2)
    with pytest.raises(AssertionError):
        check(faulty, vectors(dense, threshold, 2, 20, frames=16), ready="slow")


def test_a_wrong_threshold_turns_the_bench_red(bench, monkeypatch):
    dense, threshold = layers(6, 60)
    monkeypatch.setattr(fused_sign, "start_words", lambda value, *rest: start_words(value + 1, *rest))
    unit = SignMatVec(dense, threshold, pe=2, simd=20, stages=2)
    with pytest.raises(BenchFailure, match=r"bit: frame \d+, beat \d, lane \d: got \d, expected \d"):
        bench(unit, "tb_stream", vectors(dense, threshold, 2, 20, frames=12))


@pytest.mark.parametrize("simd, bits, low", [(48, 12, 6), (64, 12, 6), (72, 12, 7), (15, 8, 4)])
def test_start_words_say_what_they_should(simd, bits, low):
    for value in range(1 << bits):
        words = start_words(value, bits, low, simd)
        if words is None:
            continue
        first, second = words
        assert first.count(0) < 1 << low
        upper = sum(bit << low + k for k, bit in enumerate(second[: bits - low]))
        assert (upper + first.count(0) + second.count(0)) % (1 << bits) == value
    assert start_words(1 << bits - 1, bits, low, simd) is not None


def test_what_does_not_ride_is_refused():
    dense, threshold = layers(4, 40)
    two = Threshold(
        name="two", thresholds=np.zeros((4, 2), int), sign=threshold.sign, dtype=DType.parse("uint2"), base=0
    )
    message = "layer 'two': only thresholds from binary weights to bits, one a channel, can be fused"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        SignMatVec(dense, two, pe=1, simd=20)
    for fold, text in (
        ({"pe": 3, "simd": 20}, "layer 'dense': PE must divide the 4 outputs, not 3"),
        ({"pe": 1, "simd": 7}, "layer 'dense': SIMD must divide the 40 inputs, not 7"),
        ({"pe": 1, "simd": 20, "stages": 3}, "layer 'dense': the sum has 1 to 2 stages, not 3"),
        (
            {"pe": 1, "simd": 20, "memory": "tape"},
            'layer \'dense\': the memory for weights must be "block", "distributed", "logic" or "spram", not \'tape\'',
        ),
        ({"pe": 1, "simd": 4}, "layer 'dense': a SIMD of 4 is too small for fused thresholds"),
    ):  # fmt: skip
        with pytest.raises(FewbitError, match=f"^{re.escape(text)}$"):
            SignMatVec(dense, threshold, **fold)
