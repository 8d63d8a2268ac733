"""Networks that branch and join, as hardware: data, cycles and the depths of buffers are exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import random_frames, random_graph_design
from streaming import PAIRS, simulate
from tiers import slow_but

from fewbit.golden.codes import TERNARY
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Add, ArgMax, Conv, Dense, Flatten, Join, Network, TensorType, Threshold
from fewbit.golden.run import run
from fewbit.hw import buffers
from fewbit.hw.buffers import buffer_depths, joins
from fewbit.hw.chain import design_nodes, timing, with_buffers
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.devices import Target, target
from fewbit.hw.fold import Folding, JoinFold, MatVecFold, ThresholdFold, WindowFold
from fewbit.hw.latest import Latest
from fewbit.hw.planner import plan as planning
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.planner.plan import plan
from fewbit.hw.streams import to_stream
from fewbit.hw.top import Top
from fewbit.sim.compile import PATTERNS, compile_design
from fewbit.sim.vectors import network_vectors
from fewbit.sim.words import extract, pack_words

UINT2 = DType("uint", 2)


def check(seed: int, frames: int = 4, valid: str = "always", ready: str = "always") -> None:
    rng = np.random.default_rng(seed)
    network, folding = random_graph_design(rng)
    x = random_frames(rng, network.input.dtype, (frames, *network.input.shape))
    vectors = network_vectors(network, x, input_lanes=folding.input_lanes)
    promised = timing(network, folding)
    trace = simulate(Top(network, folding), vectors.words, len(vectors.expected), valid=valid, ready=ready, seed=seed,
                     patience=4 * promised.latency + 1000)  # fmt: skip
    assert trace.words == vectors.expected, f"seed {seed}: {network.types}, {folding}"
    if (valid, ready) == ("always", "always"):
        whole = min(len(promised.times), len(trace.given))
        assert trace.given[:whole] == promised.times[:whole], f"seed {seed}"
        assert (trace.taken[0], trace.latency(vectors.beats_out)) == (promised.start, promised.latency), f"seed {seed}"


@pytest.mark.parametrize("seed", slow_but((1, 3, 7, 8, 11, 12, 16, 19), range(120)))
def test_random_graphs_to_the_cycle(seed):
    check(seed)


@pytest.mark.parametrize("valid, ready", slow_but([("random", "slow"), ("burst", "burst")], PAIRS[1:]))
@pytest.mark.parametrize("seed", [1003, 1005])
def test_random_graphs_under_pressure(seed, valid, ready):
    check(seed, 3, valid, ready)


def residual(gain: int = 4, kernel: int = 3) -> tuple[Network, Folding]:
    """A residual block of two convolutions around a map of 2 channels, between a convolution and a dense layer."""
    rng = np.random.default_rng(7)
    pad = (kernel - 1) // 2

    def conv(name: str, **fields) -> Conv:
        return Conv(name=name, weights=rng.choice(TERNARY.levels, (2, 2, kernel, kernel)), code=TERNARY,
                    padding=(pad,) * 4, **fields)  # fmt: skip

    def active(name: str) -> Threshold:
        thresholds = np.sort(rng.integers(-9, 10, (2, 3)), 1)
        return Threshold(name=name, thresholds=thresholds, sign=np.ones(2), dtype=UINT2, base=0)

    layers = (
        conv("conv0"), active("act0"), conv("conv1"), active("act1"), conv("conv2"),
        Add(name="add", gains=[1, gain], inputs=("conv2", "act0")), active("act2"),
        Flatten(name="flatten", channels_last=True),
        Dense(name="dense", weights=rng.choice(TERNARY.levels, (3, 72)), code=TERNARY), ArgMax(name="argmax"),
    )  # fmt: skip
    network = Network(name="residual", input=TensorType(UINT2, (2, 6, 6)), layers=layers)
    fold = MatVecFold(pe=2, simd=6, window=WindowFold(lanes=2))
    folds = {f"conv{number}": fold for number in range(3)} | {"add": JoinFold(lanes=2), "dense": MatVecFold(simd=6)}
    folds |= {f"act{number}": ThresholdFold(lanes=2) for number in range(3)}
    return network, Folding(input_lanes=2, folds=folds)


def with_depths(network: Network, folding: Folding, **depths: tuple[int, ...]) -> Folding:
    whole = with_buffers(network, folding)
    return replace(whole, folds=whole.folds | {
        name: replace(whole.of(next(layer for layer in network.layers if layer.name == name), JoinFold), depths=words)
        for name, words in depths.items()
    })  # fmt: skip


def compiled(network: Network, folding: Folding):
    """Runs frames through the design, by a pattern of valid and of ready: scores and the cycle of each output beat."""
    design = compile_design(verilog(Top(network, folding), "top"))
    kind, scores = network.input.dtype, network.scores

    def frames_through(x, valid="always", ready="always"):
        stream = to_stream(kind.encode(x), network.input.shape).reshape(-1, folding.input_lanes)
        trace = design.run(pack_words(stream, kind.bits), len(x) * scores.size, max_cycles=100_000,
                           valid_pattern=valid, ready_pattern=ready, seed=3)  # fmt: skip
        got = scores.dtype.decode(extract(trace.outputs, 0, scores.dtype.bits)).reshape(len(x), scores.size)
        return got, trace.output_cycles - trace.input_cycles[0]

    return frames_through


@pytest.mark.parametrize("words", slow_but(["one less"], ["one less", 1, 1000]))
def test_the_buffer_of_a_join_has_the_fewest_words_that_cost_no_cycle(tmp_path, monkeypatch, words):
    """One word less comes later, or never; as many, and more, are as fast as unlimited, in every pattern."""
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path))
    network, folding = residual()
    whole = with_buffers(network, folding)
    conv_side, skip = whole.of(network.layers[5], JoinFold).depths
    assert conv_side == 0
    assert skip > 2
    x = random_frames(np.random.default_rng(5), UINT2, (6, 2, 6, 6))
    scores = run(network, x).scores
    other = compiled(network, with_depths(network, folding, add=(0, {"one less": skip - 1}.get(words, words))))
    if words == 1:
        with pytest.raises(FewbitError, match=r"100,000 cycles|100000 cycles"):
            other(x)
        return
    exact = compiled(network, with_depths(network, folding, add=(0, skip)))
    promised = timing(network, folding)
    for valid in PATTERNS:
        for ready in PATTERNS:
            got, times = exact(x, valid, ready)
            assert (got == scores).all()
            if valid == ready == "always":
                assert times[: len(promised.times)].tolist() == promised.times[: len(times)]
            if words == 1000:
                unlimited, best = other(x, valid, ready)
                assert (unlimited == scores).all()
                assert times[-1] == best[-1], (valid, ready)
            elif valid == ready == "always":
                _, late = other(x, valid, ready)
                assert late[-1] > times[-1]


@pytest.mark.parametrize("seed", slow_but((1, 3, 12), range(40)))
def test_one_word_less_comes_later_or_never(seed):
    """By the schedule, which test_random_graphs_to_the_cycle holds to the hardware."""
    network, folding = random_graph_design(np.random.default_rng(seed))
    whole = with_buffers(network, folding)
    best = timing(network, whole).times
    for layer in network.layers:
        if not isinstance(layer, Join):
            continue
        depths = whole.of(layer, JoinFold).depths
        for side, words in enumerate(depths):
            if words > 1:
                less = tuple(count - (place == side) for place, count in enumerate(depths))
                fewer = replace(whole, folds=whole.folds | {layer.name: replace(whole.folds[layer.name], depths=less)})
                try:
                    times = timing(network, fewer).times
                except FewbitError:
                    continue
                assert any(late > early for late, early in zip(times, best)), (layer.name, depths, side)


@pytest.mark.parametrize("seed", slow_but((1, 3, 12), range(200)))
def test_latest_cycles_change_how_long_the_search_takes_not_what_it_finds(seed, monkeypatch):
    network, folding = random_graph_design(np.random.default_rng(seed))
    parts = design_nodes(network, folding)
    bounded = buffer_depths(*parts)

    class Unlimited(Latest):
        """Checks the latest cycles, then takes them away."""

        def __init__(self, nodes, scores):
            super().__init__(nodes, scores)
            earliest = [pushes for join in joins(nodes) for pushes in join.pushes]
            pairs = [*self.streams, *zip(earliest, (sides for join in self.pushes for sides in join))]
            assert all((np.array(early) <= late).all() for early, late in pairs)
            self.pushes = [[np.full_like(pushes, 1 << 60) for pushes in sides] for sides in self.pushes]
            monkeypatch.setattr(buffers, "least_words", lambda pops, pushes: 1)

    monkeypatch.setattr(buffers, "Latest", Unlimited)
    assert buffer_depths(*parts) == bounded


def test_a_join_without_a_buffer_that_it_needs_stands_still():
    network, folding = residual()
    without = with_depths(network, folding, add=(0, 0))
    with pytest.raises(FewbitError, match=r"^network 'residual' deadlocks: the buffers of a join are too small; .*"):
        timing(network, without)


def test_depths_for_another_number_of_inputs_are_refused():
    network, folding = residual()
    with pytest.raises(FewbitError, match=r"^layer 'add': needs a buffer depth for each of 2 inputs, not 3$"):
        Top(network, with_depths(network, folding, add=(0, 1, 2)))


def test_lanes_that_do_not_divide_are_refused():
    network, folding = residual()
    with pytest.raises(FewbitError, match=r"^layer 'add': lanes must divide the 2 consecutive elements .*, not 4$"):
        Top(network, replace(folding, folds=folding.folds | {"add": JoinFold(lanes=4)}))


def test_depthwise_pointwise_and_strided_branches_join():
    rng = np.random.default_rng(4)

    def conv(name: str, shape: tuple[int, ...], padding: int, groups: int) -> Conv:
        return Conv(name=name, weights=rng.choice(TERNARY.levels, shape), code=TERNARY, stride=(2, 2),
                    padding=(padding,) * 4, groups=groups, inputs=("input",))  # fmt: skip

    layers = (
        conv("depthwise", (4, 1, 3, 3), 1, 4), conv("pointwise", (4, 4, 1, 1), 0, 1),
        Add(name="add", gains=[1, 2], inputs=("depthwise", "pointwise")),
    )  # fmt: skip
    network = Network(name="branches", input=TensorType(UINT2, (4, 7, 7)), layers=layers)
    folds = {
        "depthwise": MatVecFold(simd=3), "pointwise": MatVecFold(pe=2, simd=4, window=WindowFold(lanes=4)),
        "add": JoinFold(lanes=2),
    }  # fmt: skip
    x = random_frames(rng, UINT2, (3, 4, 7, 7))
    folding = Folding(input_lanes=2, folds=folds)
    vectors = network_vectors(network, x, input_lanes=2)
    trace = simulate(Top(network, folding), vectors.words, len(vectors.expected), patience=5000)
    assert trace.words == vectors.expected


def test_a_plan_has_room_for_the_exact_buffers(monkeypatch):
    """An estimate that is far too small is corrected by the schedule; where nothing is left, that is said."""
    network, _ = residual()
    device, constraints = target("up5k"), Constraints(clock_hz=12e6)
    monkeypatch.setattr(planning, "early_elements", lambda network, layer: [0] * len(layer.inputs))
    least = _least(network, device)
    assert plan(network, device, replace(constraints, max_cells=least)).cost.cells <= least
    with pytest.raises(FewbitError, match=r"(buffers where its branches meet|logic cells where)"):
        plan(network, device, replace(constraints, max_cells=least - 1))


def _least(network: Network, device: Target) -> int:
    """The fewest logic cells for which there is a plan, found by bisection."""
    low, high = 1, plan(network, device, Constraints(clock_hz=12e6)).cost.cells
    while low < high:
        middle = (low + high) // 2
        try:
            plan(network, device, Constraints(clock_hz=12e6, max_cells=middle))
            high = middle
        except FewbitError:
            low = middle + 1
    return low
