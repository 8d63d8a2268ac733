"""The depthwise unit: the sums of its definition, under every pattern, to the cycle; alone, in networks, planned."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from dense import check, check_network, check_plan, check_times, flip_weight_bit, layer, mapped_words, products
from networks import divisors, random_frames, random_threshold, random_windows
from streaming import PAIRS
from tiers import each_value, slow_but

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Conv, Dense, Flatten, Network, TensorType
from fewbit.hw.fabric.devices import target
from fewbit.hw.fold import DEPTHWISE, Folding, MatVecFold, ThresholdFold, WindowFold
from fewbit.hw.matvec.depthwise import DepthwiseMatVec
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import plan
from fewbit.sim.vectors import Field, Vectors, lane_words

CODES = ("binary", "ternary", "quinary", "shift3", "int(3)", "int(8)", "codebook(-9,-4,-1,0,1,4,9)")
ACTIVATIONS = ("bipolar", "uint1", "int3", "uint8")


def vectors(dense: Dense, activation: DType, pe: int, frames: int = 6) -> Vectors:
    """Blocks of ``pe`` channels, each with a beat for each place of the kernel, and the sums of every channel."""
    channels, places = dense.weights.shape
    x = random_frames(np.random.default_rng(1), activation, (frames, places, channels))
    x[0], x[1] = activation.min, activation.max
    x[2] = np.where(dense.weights.T > 0, activation.max, activation.min)
    stream = x.reshape(frames, places, channels // pe, pe).transpose(0, 2, 1, 3).reshape(frames, -1)
    y = (x * dense.weights.T).sum(1)
    low, high = dense.bounds(activation)
    kind = DType.holding(int(low.min()), int(high.max()))
    return Vectors(
        words=lane_words(stream, activation, pe),
        expected=lane_words(y, kind, pe),
        fields=(Field(name="sum", bits=kind.bits, signed=kind.signed, lanes=pe),),
        beats_in=channels // pe * places,
        beats_out=channels // pe,
    )


@pytest.mark.parametrize("code, activation", each_value(CODES, ACTIVATIONS))
def test_every_code_and_activation(code, activation):
    dense, kind = layer(6, 9, code), DType.parse(activation)
    for pe in (1, 2, 6):
        case = vectors(dense, kind, pe)
        unit = DepthwiseMatVec(dense, kind, pe=pe)
        check_times(unit, case, check(unit, case))
        left_out = DepthwiseMatVec(dense, kind, pe=pe, exact=False)
        assert products(left_out, case) == case.expected


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("valid, ready", slow_but(PAIRS[::5], PAIRS))
def test_every_pattern(valid, ready, exact):
    dense, kind = layer(6, 4, "shift3"), DType.parse("int3")
    case = vectors(dense, kind, 3)
    unit = DepthwiseMatVec(dense, kind, pe=3, exact=exact, stages=2)
    if exact:
        check(unit, case, valid=valid, ready=ready)
    else:
        assert products(unit, case, valid=valid, ready=ready) == case.expected


@pytest.mark.parametrize("memory", sorted(MEMORIES))
def test_ports_and_memory(memory):
    unit = DepthwiseMatVec(layer(6, 9, "ternary"), DType.parse("int3"), pe=2, memory=memory)
    assert set(unit.signature.members) == {"i", "o"} | (set() if MEMORIES[memory].preloaded else {"fill"})
    assert (unit.lanes_in, unit.groups, unit.words, unit.cycles_per_frame) == (2, 3, 9, 27)
    assert len(unit.i.payload.as_value()) == 2 * 3
    bits, words = unit.stored()
    assert len(words) == 27
    assert 0 < max(words) < 1 << bits


@pytest.mark.parametrize("places, channels", [(1, 1), (1, 4), (25, 1), (32, 3)])
def test_odd_sizes(places, channels):
    dense, kind = layer(channels, places, "shift3"), DType.parse("int3")
    for pe in divisors(channels):
        case = vectors(dense, kind, pe, frames=3)
        unit = DepthwiseMatVec(dense, kind, pe=pe)
        check_times(unit, case, check(unit, case))


@pytest.mark.parametrize("family", slow_but(["ecp5"], ("ice40", "ecp5")))
def test_the_mapped_netlist(family, cache):
    dense, kind = layer(4, 9, "int(4)"), DType.parse("uint4")
    case = vectors(dense, kind, 2, frames=12)
    assert mapped_words(DepthwiseMatVec(dense, kind, pe=2, target=family), family, case) == case.expected


def test_a_wrong_weight_is_seen(monkeypatch):
    dense, kind = layer(4, 9, "shift3"), DType.parse("int3")
    case = vectors(dense, kind, 2)
    flip_weight_bit(monkeypatch, word=12, bit=1)
    with pytest.raises(AssertionError):
        check(DepthwiseMatVec(dense, kind, pe=2), case)


def test_what_cannot_be_is_refused():
    kind = DType.parse("int3")
    with pytest.raises(FewbitError, match="PE must divide the 6 outputs, not 4"):
        DepthwiseMatVec(layer(6, 9), kind, pe=4)
    with pytest.raises(FewbitError, match="PE must divide the 6 outputs, not 0"):
        DepthwiseMatVec(layer(6, 9), kind, pe=0)
    scaled = replace(layer(4, 9, "ternary"), scales=np.full((4, 1), 3), vector=9)
    with pytest.raises(FewbitError, match="layer 'dense': a depthwise unit takes no scales"):
        DepthwiseMatVec(scaled, kind, pe=2)
    with pytest.raises(FewbitError, match=re.escape("a depthwise unit has a SIMD of 1, not 3")):
        MatVecFold(pe=2, simd=3, unit=DEPTHWISE)


def depthwise(rng: np.random.Generator, channels: int) -> Conv:
    window = random_windows(rng, (channels, 5, 6))
    kernel = window.pop("kernel")
    code = Code.parse(str(rng.choice(CODES)))
    weights = rng.choice(code.levels, (channels, 1, *kernel))
    return Conv(name="depthwise", weights=weights, code=code, groups=channels, **window)


@pytest.mark.parametrize("seed", slow_but(range(6), range(40)))
def test_networks_are_golden_to_the_cycle(seed):
    """A depthwise convolution, perhaps thresholds, and a dense layer."""
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([2, 4, 6]))
    source = TensorType(DType.parse(str(rng.choice(ACTIVATIONS))), (channels, 5, 6))
    conv = depthwise(rng, channels)
    pe = int(rng.choice(divisors(channels)))
    window = WindowFold(lanes=int(rng.choice(divisors(pe))), memory=str(rng.choice(["block", "distributed"])))
    layers, folds = [conv], {"depthwise": MatVecFold(pe=pe, unit=DEPTHWISE, window=window)}
    here = conv.output(source)
    if rng.random() < 0.7 or here.dtype.bits > 10:
        low, high = conv.bounds(source.dtype)
        layers.append(random_threshold(rng, "act", DType.parse("uint2"), channels, int(low.min()), int(high.max())))
        folds["act"] = ThresholdFold(lanes=int(rng.choice(divisors(channels))))
        here = layers[-1].output(here)
    dense = Dense(name="dense", weights=rng.choice([-1, 1], (3, here.size)), code=Code.parse("binary"))
    layers += [Flatten(name="flatten", channels_last=True), dense]
    folds["dense"] = MatVecFold(pe=1, simd=int(rng.choice(divisors(here.size))))
    network = Network(name="random", input=source, layers=tuple(layers))
    check_network(network, Folding(input_lanes=int(rng.choice(divisors(source.size))), folds=folds), seed, frames=3)


def separable(channels: int, size: int) -> Network:
    """A depthwise and a pointwise convolution, in 8-bit weights, each with thresholds."""
    rng = np.random.default_rng(1)
    code = Code.parse("int(8)")
    source = TensorType(DType.parse("uint4"), (channels, size, size))
    weights = rng.integers(-127, 128, (channels, 1, 3, 3))
    first = Conv(name="depthwise", weights=weights, code=code, groups=channels, padding=(1, 1, 1, 1))
    low, high = first.bounds(source.dtype)
    act = random_threshold(rng, "act", DType.parse("uint2"), channels, int(low.min()), int(high.max()))
    second = Conv(name="pointwise", weights=rng.integers(-127, 128, (4, channels, 1, 1)), code=code)
    return Network(name="separable", input=source, layers=(first, act, second))


def test_the_planner_spreads_channels_over_the_unit():
    """More than one channel at a time, which no other unit can: they are bound by one input a cycle."""
    device = target("ecp5-85k")
    planned = plan(separable(8, 6), device, Constraints(clock_hz=50e6))
    fold = planned.folding.folds["depthwise"]
    assert (fold.unit, fold.pe > 1, fold.window.lanes) == (DEPTHWISE, True, fold.pe)
    assert planned.cycles_per_frame < 8 * 9 * 6 * 6
    check_plan(planned)


@pytest.mark.parametrize(
    "name, cells",
    slow_but([("ecp5-25k", 2500)], [(name, cells) for name in ("up5k", "ecp5-25k") for cells in (1200, 2500)]),
)
def test_plans_are_exact(name, cells):
    check_plan(plan(separable(4, 5), target(name), Constraints(clock_hz=20e6, max_cells=cells)))
