"""Lanes that multiply, add and shift: by SAT comparators on the whole input range; in units, golden thresholds."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from faults import mutant
from formal import ProofFailedError, prove_equal
from networks import random_conv_design, random_design, random_frames, requantization
from streaming import PAIRS, simulate
from test_threshold import check, every_value, vectors
from tiers import slow_but

from benchmarks import requantization as requantization_benchmark
from benchmarks.lanes import FLOW
from benchmarks.measure import measure
from fewbit.golden.dtype import BIPOLAR, DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.input_range import threshold_range
from fewbit.golden.network import TensorType, Threshold
from fewbit.hw.chain import timing
from fewbit.hw.emit import verilog
from fewbit.hw.fold import FUSED
from fewbit.hw.layers import multiply_shift
from fewbit.hw.layers.multiply_shift import LaneForm, MultiplyShiftLane, cheapest, digit_rows
from fewbit.hw.layers.multiply_shift_forms import fits
from fewbit.hw.layers.threshold import MULTIPLY_SHIFT, ThresholdUnit
from fewbit.hw.top import Top
from fewbit.sim.vectors import network_vectors

TARGETS = ["generic", "ice40", "ecp5"]


class Channels(wiring.Component):
    """A combinational lane, told the channel by its number."""

    def __init__(self, lane: MultiplyShiftLane) -> None:
        self.lane, self.words = lane, lane.form.encoded[1]
        bits = max(1, (len(self.words) - 1).bit_length())
        super().__init__({"x": In(lane.x.shape()), "channel": In(bits), "o": Out(lane.o.shape())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.lane = lane = self.lane
        m.d.comb += lane.x.eq(self.x)
        with m.Switch(self.channel):
            for channel, word in enumerate(self.words):
                with m.Case(channel):
                    m.d.comb += lane.word.eq(word)
        least, most = (_picked(self.channel, ends) for ends in (lane.form.low, lane.form.high))
        within = (self.x >= least) & (self.x <= most) & (self.channel < len(self.words))
        m.d.comb += self.o.eq(Mux(within, lane.o, 0))
        return m


def _picked(channel, values: Ints):
    picked = int(values[-1])
    for index in reversed(range(len(values) - 1)):
        picked = Mux(channel == index, int(values[index]), picked)
    return picked


def specification(layer: Threshold, form: LaneForm) -> str:
    """Comparators: the number of thresholds reached, of the channel told; 0 outside the reach."""
    x, channel = form.source.bits, max(1, (layer.channels - 1).bit_length())
    cases = "\n".join(
        f"      {index}: if (x >= {form.low[index]} && x <= {form.high[index]}) o = "
        + " + ".join(f"({'-' if layer.sign[index] < 0 else ''}wide >= {t})" for t in row)
        + ";"
        for index, row in enumerate(layer.thresholds.tolist())
    )
    return f"""
module specification(
  input signed [{x - 1}:0] x, input [{channel - 1}:0] channel,
  output reg [{form.form.levels.bit_length() - 1}:0] o
);
  wire signed [31:0] wide = x;
  always @* begin
    o = 0;
    case (channel)
{cases}
    endcase
  end
endmodule
"""


def prove_lane(layer: Threshold, form: LaneForm, lane: MultiplyShiftLane) -> None:
    cells = form.target if form.target != "generic" else ""
    prove_equal(
        verilog(Channels(lane), "dut"), specification(layer, form), "dut", "specification", cells=cells, seconds=300
    )


LADDER = [(1, 1, 4), (1, 3, 5), (2, 3, 5), (3, 2, 5), (1, 15, 7), (3, 7, 6), (2, 7, 8), (4, 15, 8), (3, 31, 9)]


@pytest.mark.parametrize("target", slow_but(["ice40"], TARGETS))
@pytest.mark.parametrize("channels, count, bits", slow_but([(2, 3, 5)], LADDER))
def test_every_form_equals_comparators_on_the_reach(channels, count, bits, target):
    for seed, alike in ((1, True), (2, False)):
        layer, low, high = requantization(np.random.default_rng(seed), channels, count, bits, alike=alike)
        forms = [LaneForm(form, low, high, target) for form in fits(layer, low, high)]
        assert forms
        for form in forms[:2]:
            prove_lane(layer, form, MultiplyShiftLane(form, 0))


FAULTS = {
    "a digit of -1 lacks its 1": ("generic", "1 << row.place, 0)", "0, 0)"),
    "no clip at the top": ("generic", "level = Mux(over, top, level)", "pass"),
    "no clip at 0": ("generic", "return Mux(number[-1], 0, level) if below else level", "return level"),
    "ice40: never turned": ("ice40", "_SUM[inverted ^ (", "_SUM[0 * ("),
    "ecp5: the first carry is lost": ("ecp5", "carry_slot(lambda a, b: a & b,", "carry_slot(lambda a, b: 0,"),
    "twice is once": ("ice40", "2: below}[digit]", "2: x}[digit]"),
}


@pytest.mark.parametrize("fault", slow_but(["a digit of -1 lacks its 1"], FAULTS))
def test_a_planted_fault_is_refuted(fault):
    target, old, new = FAULTS[fault]
    faulty = mutant("hw.layers.multiply_shift", old, new)
    for seed in range(4):
        layer, low, high = requantization(np.random.default_rng(seed), 3, 3, 6, alike=seed % 2 == 0, signs=(1,))
        form = next(fits(layer, low, high))
        made = faulty.LaneForm(form, low, high, target)
        try:
            prove_lane(layer, made, faulty.MultiplyShiftLane(made, 0))
        except ProofFailedError:
            return
    pytest.fail("no proof failed")


def unit_and_vectors(seed, channels, count, source, lanes, **options):
    rng = np.random.default_rng(seed)
    dtype = DType.parse(source)
    layer, _, _ = requantization(rng, channels, count, dtype.bits, alike=seed % 2 == 0)
    kind = TensorType(dtype, (max(channels, lanes),))
    unit = ThresholdUnit(layer, kind, lanes=lanes, form=MULTIPLY_SHIFT, **options)
    return unit, vectors(layer, kind, every_value(dtype, kind.size), lanes)


@pytest.mark.parametrize("source", slow_but(["uint1", "int5"], ["uint1", "uint4", "int3", "int5", "int6"]))
@pytest.mark.parametrize("count", [1, 2, 3, 7, 15])
@pytest.mark.parametrize("stages", slow_but([1, 3], [1, 2, 3]))
def test_every_value_of_every_kind(source, count, stages):
    unit, case = unit_and_vectors(count + stages, 4, count, source, 2, stages=stages)
    trace = check(unit, case)
    assert trace.given[0] - trace.taken[0] == unit.latency == stages
    assert trace.intervals(unit.beats)[-1] == unit.cycles_per_frame


@pytest.mark.parametrize("out", ["bipolar", "int2", "int3"])
def test_levels_start_at_the_base_of_their_kind(out):
    dtype = DType.parse(out)
    layer, _, _ = requantization(np.random.default_rng(1), 2, (dtype.max - dtype.min) // dtype.step, 5)
    layer = replace(layer, dtype=dtype, base=dtype.min)
    source = TensorType(DType.parse("int5"), (2,))
    unit = ThresholdUnit(layer, source, lanes=1, form=MULTIPLY_SHIFT)
    check(unit, vectors(layer, source, every_value(source.dtype, 2), 1))


def test_bipolar_inputs():
    layer = Threshold(name="t", thresholds=[[0], [1]], sign=[1, -1], dtype=BIPOLAR, base=-1)
    source = TensorType(BIPOLAR, (2,))
    unit = ThresholdUnit(layer, source, lanes=1, form=MULTIPLY_SHIFT)
    check(unit, vectors(layer, source, every_value(BIPOLAR, 2), 1))


@pytest.mark.parametrize("memory", ["block", "logic"])
@pytest.mark.parametrize("lanes", [1, 2, 3, 6])
@pytest.mark.parametrize("channels", [1, 6])
def test_every_number_of_lanes(channels, lanes, memory):
    unit, case = unit_and_vectors(lanes, channels, 3, "int5", lanes, memory=memory)
    check(unit, case, ready="random")


@pytest.mark.parametrize("memory, stages", [("logic", 1), ("block", 3)])
@pytest.mark.parametrize("valid, ready", PAIRS)
def test_every_pattern(valid, ready, memory, stages):
    unit, case = unit_and_vectors(3, 4, 3, "int4", 2, memory=memory, stages=stages)
    check(unit, case, valid=valid, ready=ready)


def test_one_row_serves_a_frame_of_any_shape():
    rng, source = np.random.default_rng(4), TensorType(DType.parse("uint5"), (2, 3, 2))
    layer, _, _ = requantization(rng, 1, 7, 5)
    unit = ThresholdUnit(layer, source, lanes=4, form=MULTIPLY_SHIFT)
    check(unit, vectors(layer, source, random_frames(rng, source.dtype, (5, 2, 3, 2)), 4))


def test_a_narrower_reach_is_enough():
    layer = Threshold(
        name="t", thresholds=[[0, 10, 20, 90, 91]], sign=[1], dtype=DType.parse("uint3"), base=0
    )  # fmt: skip
    source = TensorType(DType.parse("int8"), (1,))
    reach = np.array([-50]), np.array([25])
    unit = ThresholdUnit(layer, source, lanes=1, form=MULTIPLY_SHIFT, input_range=reach)
    check(unit, vectors(layer, source, np.arange(-50, 26)[:, None], 1))


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["block", "logic"])
def test_bench_on_the_verilog(bench, memory):
    unit, case = unit_and_vectors(5, 6, 7, "int6", 2, memory=memory, stages=2)
    bench(unit, "tb_stream", case)


STREAM_FAULTS = {
    "the constants of the group before": (
        "port.addr.eq(group if following is None else following)",
        "port.addr.eq(group)",
    ),
    "a beat before the first constants": ("primed = Signal()", "primed = Signal(init=1)"),
    "a stage overwrites the one behind it": (
        "free.insert(0, ~held[stage] | free[0])",
        "free.insert(0, ~held[stage] | self.o.ready)",
    ),
}


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_planted_fault_in_the_stream_is_seen(fault):
    layer, _, _ = requantization(np.random.default_rng(1), 6, 3, 5)
    source = TensorType(DType.parse("int5"), (6,))
    case = vectors(layer, source, every_value(source.dtype, 6), 2)
    faulty = mutant("hw.layers.threshold", *STREAM_FAULTS[fault]).ThresholdUnit
    unit = faulty(layer, source, lanes=2, form=MULTIPLY_SHIFT, memory="block", stages=3)
    with pytest.raises(AssertionError):
        check(unit, case, valid="always", ready="random")


@pytest.mark.parametrize("design", [random_design, random_conv_design])
@pytest.mark.parametrize("seed", slow_but(range(2), range(40)))
def test_in_random_networks(seed, design):
    rng = np.random.default_rng(seed)
    network, folding = design(rng)
    folds = dict(folding.folds)
    for layer in network.layers:
        fold = folds.get(layer.name)
        if not isinstance(layer, Threshold) or fold is None or fold.form == FUSED:
            continue
        if cheapest(layer, *threshold_range(network, layer)) is not None:
            stages = int(rng.integers(1, 4))
            folds[layer.name] = replace(fold, form=MULTIPLY_SHIFT, stages=stages)
    folding = replace(folding, folds=folds)
    frames = random_frames(rng, network.input.dtype, (6, *network.input.shape))
    case = network_vectors(network, frames, input_lanes=folding.input_lanes)
    trace = simulate(Top(network, folding), case.words, len(case.expected))
    assert trace.words == case.expected
    promised = timing(network, folding)
    assert (trace.latency(case.beats_out), trace.intervals(case.beats_out)[-1]) == (promised.latency, promised.interval)


def test_many_channels_and_thresholds_are_fitted():
    rng = np.random.default_rng(1)
    layer, low, high = requantization(rng, 512, 255, 13)
    assert cheapest(layer, low, high) is not None


@pytest.mark.slow
@pytest.mark.parametrize("device", ["hx8k", "ecp5-25k"])
@pytest.mark.parametrize("name", ["bn1", "bn3", "bn4", "bn8", "shared4", "shared8"])
def test_predicted_cells_are_those_synthesized(name, device):
    form, unit, cells = list(requantization_benchmark.forms(requantization_benchmark.layers()[name], device))[-1]
    assert form == MULTIPLY_SHIFT
    assert cells == pytest.approx(measure(unit, device, flow=FLOW[device])["lc"], rel=0.16, abs=16)


def test_rows_make_the_multiplier():
    for multipliers in ([0], [7], [-7, 7], [1, 2, 3], [-40, 0, 171], list(range(-50, 51))):
        rows = digit_rows(np.array(multipliers))
        assert sum((row.digits << row.place for row in rows), np.zeros(1, int)).tolist() == multipliers or not rows
        assert all(set(row.digits.tolist()) <= {-1, 0, 1, 2} for row in rows)
    assert len(digit_rows(np.array([7, -7]))) == 2


def test_a_shift_alone_takes_no_adder():
    layer = Threshold(
        name="t", thresholds=[[16 * k for k in range(1, 16)]], sign=[1], dtype=DType("uint", 4), base=0
    )  # fmt: skip
    form = cheapest(layer, np.array([0]), np.array([255]))
    assert form is not None
    assert "+" not in verilog(MultiplyShiftLane(form, 0), "lane")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stages": 0}, "layer 't': a multiply-shift needs at least 1 stage, not 0"),
        ({}, "layer 't': no multiply-shift gives the levels of its thresholds"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    layer = Threshold(
        name="t", thresholds=[[0, 1, 2, 90, 91]], sign=[1], dtype=DType.parse("uint3"), base=0
    )  # fmt: skip
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        ThresholdUnit(layer, TensorType(DType.parse("int8"), (1,)), lanes=1, form=MULTIPLY_SHIFT, **options)


def test_a_lane_refuses_what_it_cannot_be():
    form = cheapest(*requantization(np.random.default_rng(1), 1, 3, 5))
    assert form is not None
    with pytest.raises(FewbitError, match=r"^a multiply-shift has 0 or more stages, not -1$"):
        MultiplyShiftLane(form, -1)
    message = "the target of a multiply-shift must be one of generic, asic, ice40, ecp5, not 'abacus'"
    with pytest.raises(FewbitError, match=f"^{message}$"):
        MultiplyShiftLane(multiply_shift.LaneForm(form.form, form.low, form.high, "abacus"))
