"""Plans: folds divide, costs keep to the budget, the cycles are those of the hardware, misfits are explained."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from networks import random_conv_design, random_design, random_frames
from streaming import simulate
from tiers import each_value

from fewbit.engines import differing_frames, run_golden, run_netlist
from fewbit.generator import MODULE, design
from fewbit.golden.codes import Code
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Affine, ArgMax, Conv, Dense, Layer, Network, TensorType, Threshold
from fewbit.hw.chain import chain
from fewbit.hw.cost import Cost
from fewbit.hw.costs.parts import dense_cycles, sum_stages
from fewbit.hw.fabric.devices import TARGETS, target
from fewbit.hw.fold import FUSED_SIGN, MatVecFold
from fewbit.hw.layers.threshold import MULTIPLY_SHIFT
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import FILL, SHELL, MisfitError, Plan, plan
from fewbit.hw.top import Top
from fewbit.sim.netlist import netlist
from fewbit.sim.vectors import network_vectors

CLOCK = 12e6


def network(*sizes: int, source: str = "uint4", code: str = "ternary", hidden: str = "bipolar") -> Network:
    """Dense layers of these sizes with thresholds between them and an arg-max at the end."""
    rng, kind, dtype = np.random.default_rng(1), Code.parse(code), DType.parse(hidden)
    layers: list[Layer] = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        if index:
            count = (dtype.max - dtype.min) // dtype.step
            layers.append(
                Threshold(
                    name=f"threshold_{index}",
                    thresholds=np.sort(rng.integers(-inputs, inputs, (inputs, count)), 1),
                    sign=np.ones(inputs),
                    dtype=dtype,
                    base=dtype.min,
                )
            )
        weights = rng.choice(kind.levels, (outputs, inputs))
        layers.append(Dense(name=f"dense_{index}", weights=weights, code=kind))
    layers.append(ArgMax(name="argmax"))
    return Network(name="net", input=TensorType(DType.parse(source), (sizes[0],)), layers=tuple(layers))


def check(made: Plan, budget_share: float = FILL) -> None:
    """What every plan promises of itself, without running it."""
    capacity = made.target.capacity
    if capacity is not None:
        assert made.cost.cells <= int(capacity.cells * budget_share)
        assert made.cost.rams <= capacity.rams
    assert made.network.input.size % made.folding.input_lanes == 0
    for one in made.layers:
        if isinstance(one.layer, Conv):
            assert one.layer.outputs % (one.layer.groups * one.fold.pe) == 0
        elif isinstance(one.layer, Dense):
            assert one.layer.outputs % one.fold.pe == 0
            assert one.layer.fan_in % one.fold.simd == 0
            source = made.network.source(one.layer).dtype
            starts = 2 * one.layer.outputs // one.fold.pe if fuses_thresholds(made, one.layer.name) else 0
            assert one.cycles == dense_cycles(one.layer, source, one.fold) + starts
        assert made.folding.folds[one.layer.name] == one.fold
    # A unit of the chain is busy for the cycles that the plan says of its layer.
    busy = {
        part.unit.layer.name: getattr(part.unit, "cycles_per_frame", 0)
        for part in chain(made.network, made.folding)
        if hasattr(part.unit, "layer")
    }
    for one in made.layers:
        assert busy.get(one.layer.name, one.cycles) == one.cycles, one.layer.name
    assert made.bottleneck.cycles <= made.cycles_per_frame
    assert made.frames_per_second == made.clock_hz / made.cycles_per_frame
    assert all(made.busy(one) <= 1 for one in made.layers)
    assert 0 < made.balance <= 1
    assert made.weight_rams <= made.cost.rams
    for one in made.weighted:
        assert one.reads is not None
        assert (one.reads.share(one.cycles) or 0) <= 1
        assert one.reads.words * one.reads.word >= one.layer.weights.size * one.layer.code.bits


def fuses_thresholds(made: Plan, dense: str) -> bool:
    """Whether the unit of layer ``dense`` holds the thresholds behind it."""
    fold = made.folding.folds[dense]
    return isinstance(fold, MatVecFold) and fold.unit == FUSED_SIGN


def simulated(made: Plan, frames: int = 12) -> tuple[int, int]:
    """Latency and interval that the hardware shows; its data is checked on the way."""
    x = random_frames(np.random.default_rng(1), made.network.input.dtype, (frames, *made.network.input.shape))
    vectors = network_vectors(made.network, x, input_lanes=made.folding.input_lanes)
    trace = simulate(Top(made.network, made.folding), vectors.words, len(vectors.expected))
    assert trace.words == vectors.expected
    return trace.latency(vectors.beats_out), trace.intervals(vectors.beats_out)[-1]


@pytest.mark.parametrize("seed, device", each_value(range(8), ["up5k", "ecp5-25k", "asic"]))
def test_convolutions_are_planned_to_the_cycle(device, seed):
    net, _ = random_conv_design(np.random.default_rng(seed))
    made = plan(net, target(device), Constraints(clock_hz=CLOCK))
    check(made)
    assert simulated(made, 4) == (made.latency, made.cycles_per_frame)


@pytest.mark.parametrize(
    "device, sizes",
    each_value(
        [one.name for one in TARGETS],
        [(1, 1), (1, 2), (2, 1), (7, 5, 3), (13, 11), (16, 8, 4), (12, 10, 10, 10), (31, 1, 7)],
    ),
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value)),
)
def test_planned_cycles_are_simulated_cycles(device, sizes):
    made = plan(network(*sizes), target(device), Constraints(clock_hz=CLOCK))
    check(made)
    assert simulated(made) == (made.latency, made.cycles_per_frame)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("device", ["up5k", "ecp5-25k"])
def test_plans_of_random_networks(device, seed):
    net, _ = random_design(np.random.default_rng(seed))
    made = plan(net, target(device), Constraints(clock_hz=CLOCK))
    check(made)
    assert simulated(made) == (made.latency, made.cycles_per_frame)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
@pytest.mark.parametrize("device", [one.name for one in TARGETS])
def test_plans_of_many_random_networks(device, seed):
    rng = np.random.default_rng(seed)
    net, _ = random_design(rng)
    slowest = plan(net, target(device), Constraints(clock_hz=CLOCK)).cycles_per_frame * int(rng.integers(1, 20))
    made = plan(net, target(device), Constraints(clock_hz=CLOCK, fps=CLOCK / slowest))
    check(made)
    assert made.cycles_per_frame <= slowest
    assert simulated(made) == (made.latency, made.cycles_per_frame)


@pytest.mark.parametrize("device", ["up5k", "hx8k", "ecp5-25k", "ecp5-85k", "asic"])
@pytest.mark.parametrize("sizes", [(784, 64, 64, 10), (97, 89, 10)], ids=["tfc", "primes"])
def test_larger_networks_fit_their_budget(device, sizes):
    made = plan(network(*sizes, source="bipolar", code="binary"), target(device), Constraints(clock_hz=CLOCK))
    check(made)


def test_a_frame_rate_is_met_at_less_cost_than_the_fastest():
    net = network(48, 24, 10)
    fastest = plan(net, target("up5k"), Constraints(clock_hz=CLOCK))
    costs = []
    for share in (1, 4, 16):
        made = plan(net, target("up5k"), Constraints(clock_hz=CLOCK, fps=fastest.frames_per_second / share))
        check(made)
        assert made.frames_per_second >= fastest.frames_per_second / share
        costs.append(made.cost.cells)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_the_plan_names_the_device_and_the_clock_it_is_made_for():
    made = plan(network(7, 3), target("hx8k"), Constraints(clock_hz=CLOCK))
    assert (made.target.name, made.clock_hz, made.network.name) == ("hx8k", CLOCK, "net")
    assert made.cost.cells > SHELL.cells


def test_a_faster_clock_takes_more_stages():
    assert [sum_stages(BIPOLAR, 64, target("up5k"), mhz * 1e6) for mhz in (6, 12, 96)] == [1, 2, 3]
    assert sum_stages(BIPOLAR, 1, target("up5k"), 48e6) == 1


@pytest.mark.parametrize(
    "net, options, message",
    [
        (network(7, 3), {"clock_hz": 0}, "the clock must be above 0 Hz, not 0"),
        (network(7, 3), {"clock_hz": CLOCK, "fps": 0}, "the frame rate must be above 0, not 0"),
        (network(7, 3), {"clock_hz": CLOCK, "fps": 1e9}, None),
    ],
)
def test_a_wish_that_cannot_be_is_refused(net, options, message):
    if message is None:
        best = plan(net, target("up5k"), Constraints(clock_hz=CLOCK)).frames_per_second
        message = (
            "1e+09 frames a second are out of reach on Lattice iCE40UP5K at 12 MHz; "
            f"the fastest that fits gives {best:,.0f}"
        )
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        plan(net, target("up5k"), Constraints(**options))


def test_a_misfit_says_what_is_scarce():
    with pytest.raises(FewbitError) as refused:
        plan(network(1024, 512, 10), target("up5k"), Constraints(clock_hz=CLOCK, spram=False))
    pattern = (
        r"network 'net' does not fit Lattice iCE40UP5K: it needs about "
        r"(\d+ block RAMs where 30 are free|[\d,]+ logic cells where 5,004 are free)"
        r"( and [\d,]+ logic cells where 5,004 are free)? "
        r"for its 1,058,816 weight bits; take a larger board, more --max-lut, or a smaller network"
    )
    assert re.fullmatch(pattern, str(refused.value)), refused.value


def test_a_reserve_leaves_less_for_the_network():
    net = network(48, 24, 10)
    free = plan(net, target("up5k"), Constraints(clock_hz=CLOCK))
    tight = plan(net, target("up5k"), Constraints(clock_hz=CLOCK), reserve=Cost(cells=4200))
    assert tight.cost.cells <= int(5280 * FILL)
    assert tight.cycles_per_frame > free.cycles_per_frame


def test_an_unknown_target_is_refused():
    message = "unknown target 'z80'; there are up5k, hx8k, ecp5-25k, ecp5-85k, asic"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        target("z80")


def test_scores_of_an_affine_end_are_planned_too():
    layers = (
        Dense(name="dense", weights=np.ones((6, 8)), code=Code.parse("binary")),
        Affine(name="affine", scale=np.arange(6), bias=np.arange(6)),
    )
    net = Network(name="a", input=TensorType(BIPOLAR, (8,)), layers=layers)
    made = plan(net, target("up5k"), Constraints(clock_hz=CLOCK))
    check(made)
    assert simulated(made) == (made.latency, made.cycles_per_frame)


def test_a_wish_for_the_fastest_rate_is_met_to_the_cycle():
    # Here the cheapest choice at 6 cycles a layer has a ring, whose vector takes a 7th cycle to move over.
    net, _ = random_design(np.random.default_rng(108))
    for cycles in range(6, 12):
        made = plan(net, target("up5k"), Constraints(clock_hz=CLOCK, fps=CLOCK / cycles))
        assert simulated(made)[1] == made.cycles_per_frame <= cycles


@pytest.mark.parametrize("code, scaled, dsp, blocks", [
    ("int(4)", False, False, True), ("shift3", True, False, False), ("shift3", True, True, True),
    ("csd(2,6)", False, False, False), ("csd(2,6)", False, True, True), ("ternary", False, True, False),
])  # fmt: skip
@pytest.mark.parametrize("device", ["up5k", "hx8k", "ecp5-25k"])
def test_products_take_the_dsp_blocks_there_are(device, code, scaled, dsp, blocks):
    rng, kind = np.random.default_rng(3), Code.parse(code)
    scales = {"scales": rng.integers(60, 127, (10, 16)), "vector": 4} if scaled else {}
    layers = (
        Dense(name="dense", weights=rng.choice(kind.levels, (10, 64)), code=kind, **scales),
        ArgMax(name="argmax"),
    )
    net = Network(name="net", input=TensorType(DType.parse("uint8"), (64,)), layers=layers)
    constraints = Constraints(clock_hz=CLOCK, fps=30_000, dsp=dsp)
    made = plan(net, target(device), constraints)
    check(made)
    has = made.target.capacity.dsps
    assert (made.cost.dsps > 0) == (blocks and has > 0)
    assert made.layers[0].fold.dsp == (made.cost.dsps > 0)
    if made.cost.dsps:
        without = plan(net, replace(made.target, capacity=replace(made.target.capacity, dsps=0)), constraints)
        assert made.cost.dsps <= has
        assert made.cost.cells < without.cost.cells


@pytest.mark.slow
@pytest.mark.parametrize("device, cell", [("up5k", "SB_MAC16"), ("ecp5-25k", "MULT18X18D")])
def test_blocks_in_the_netlist_are_those_of_the_plan(device, cell):
    rng, kind = np.random.default_rng(4), Code.parse("int(6)")
    layers = (
        Dense(name="dense", weights=rng.choice(kind.levels, (10, 24)), code=kind),
        Affine(name="affine", scale=rng.integers(-50, 50, 10), bias=rng.integers(-50, 50, 10)),
        ArgMax(name="argmax"),
    )
    net = Network(name="net", input=TensorType(DType.parse("uint8"), (24,)), layers=layers)
    made = design(net, device, Constraints(fps=200_000))
    frames = random_frames(rng, net.input.dtype, (20, 24))
    text = netlist(made.mapped_verilog, top=MODULE, family=made.plan.target.family, dsp=True)
    assert len(re.findall(rf"^\s+{cell} ", text, re.MULTILINE)) == made.plan.cost.dsps > 0
    assert not len(differing_frames(run_netlist(made, frames), run_golden(net, frames)))


def test_memories_that_are_loaded_are_taken_where_nothing_else_fits():
    """What needs more block RAM than the device has goes into SPRAM, unless that is not wanted; nothing else does."""
    large, small = network(512, 256, 10), network(64, 32, 10)
    constraints = Constraints(clock_hz=CLOCK)
    made = plan(large, target("up5k"), constraints)
    check(made)
    assert made.folding.folds["dense_0"].memory == "spram"
    assert 0 < made.cost.sprams <= 4
    with pytest.raises(MisfitError, match="^network 'net' does not fit Lattice iCE40UP5K: it needs about"):
        plan(large, target("up5k"), replace(constraints, spram=False))
    with pytest.raises(MisfitError, match="^network 'net' does not fit Lattice iCE40HX8K: it needs about"):
        plan(large, target("hx8k"), constraints)
    without = plan(small, target("up5k"), constraints)
    assert without.cost.sprams == 0
    assert without.target == target("up5k")
    allowed = plan(small, target("up5k"), replace(constraints, spram=True))
    assert allowed.cycles_per_frame <= without.cycles_per_frame


def test_a_network_too_large_for_all_memories_is_refused_as_without_them():
    with pytest.raises(
        MisfitError, match="^network 'net' does not fit Lattice iCE40UP5K: it needs about .* block RAMs"
    ):
        plan(network(2048, 512, 10), target("up5k"), Constraints(clock_hz=CLOCK))


@pytest.mark.parametrize("device", ["up5k", "ecp5-25k"])
@pytest.mark.parametrize("even", [True, False])
def test_thresholds_are_a_multiplication_where_that_is_smallest(device, even):
    rng = np.random.default_rng(5)
    steps = 7 * np.arange(1, 16) if even else np.sort(rng.choice(np.arange(-100, 100), 15, replace=False))
    layers = (
        Dense(name="dense", weights=rng.choice([-1, 0, 1], (8, 32)), code=Code.parse("ternary")),
        Threshold(
            name="levels",
            thresholds=np.resize(steps, (8, 15)) + rng.integers(-40, 0, 8)[:, None],
            sign=np.ones(8),
            dtype=DType.parse("uint4"),
            base=0,
        ),
    )
    net = Network(name="net", input=TensorType(DType.parse("uint4"), (32,)), layers=layers)
    made = plan(net, target(device), Constraints(clock_hz=CLOCK, fps=700_000))
    check(made)
    assert (made.folding.folds["levels"].form == MULTIPLY_SHIFT) == even
    assert simulated(made) == (made.latency, made.cycles_per_frame)
