"""The bench helpers against one small design in which faults can be switched on: each is caught, by its own check.

This file is also the cocotb module that runs inside the simulator.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import cocotb
import pytest

from fewbit.golden.errors import FewbitError
from fewbit.sim.bench import PATTERNS, Bench, Pattern, compare
from fewbit.sim.cocotb_run import BenchFailure, run_bench

FAULTS = {
    "none": 0, "drops": 1, "unstable": 2, "retracts": 3, "waits": 4, "no_reset": 5, "stuck": 6, "wrong": 7,
    "repeats": 8,
}  # fmt: skip
STAGE = """
module stage(input clk, input rst, input [3:0] fault,
    input [39:0] i__payload, input i__valid, output i__ready,
    output [39:0] o__payload, output o__valid, input o__ready);
  reg full = 0; reg [39:0] word; reg [5:0] count = 0; reg again = 0;
  wire free = ~full | (o__ready & ~again);
  assign i__ready = fault == 1 ? 1'b1 : fault == 6 ? free & count != 12 : free;
  assign o__valid = fault == 4 ? full & o__ready : full;
  assign o__payload = fault == 7 && count == 12 ? word ^ (40'd3 << 16) : word;
  always @(posedge clk) begin
    if (full & o__ready) again <= 0;
    if (free) begin
      full <= i__valid & i__ready; word <= ~i__payload;
      if (i__valid & i__ready) begin count <= count + 1; again <= fault == 8 && count == 39; end
    end else if (~o__ready) begin
      if (fault == 2) word <= word + 1;
      if (fault == 3) full <= 0;
    end
    if (rst) begin count <= 0; again <= 0; if (fault != 5) full <= 0; end
  end
endmodule
"""
CAUGHT = {
    "drops": r"StallError: stalled: \d+ of 40 output words came and 40 of 40 input words were taken, then nothing",
    "unstable": r"ProtocolError: stream o, cycle \d+: the payload of a word not yet taken changed from 0x\w+ to 0x\w+",
    "retracts": r"ProtocolError: stream o, cycle \d+: valid fell before the word was taken",
    "waits": r"ProtocolError: stream o, cycle \d+: valid depends on ready: \d with ready \d, \d with ready \d",
    "no_reset": r"reset_mid_frame: AssertionError: \d+ surplus output words, first 0x\w+"
    r"|frame 0, beat 0, lane \d: got",
    "stuck": r"StallError: stalled: 12 of 40 output words came and 12 of 40 input words were taken, then nothing",
    "wrong": r"AssertionError: frame 2, beat 3, lane 2: got -?\d+, expected -?\d+",
    "repeats": r"AssertionError: 1 surplus output words, first 0x\w+",
}


def words_and_expected(seed: int) -> tuple[list[int], list[int]]:
    rng = random.Random(seed)
    words = [rng.getrandbits(40) for _ in range(40)]
    return words, [word ^ (1 << 40) - 1 for word in words]


@cocotb.test()
@cocotb.parametrize(valid=PATTERNS, ready=PATTERNS)
async def streams(dut, valid: str, ready: str) -> None:
    dut.fault.value = FAULTS[os.environ["STAGE_FAULT"]]
    bench = Bench(dut, valid=valid, ready=ready)
    words, expected = words_and_expected(bench.seed)
    await bench.start()
    for _ in range(2):
        compare(await bench.run(words, 40, patience=300), expected, lanes=5, bits=8, signed=True, beats=4)
        await bench.idle(50)
        if os.environ["STAGE_FAULT"] != "none":
            await bench.reset()


@cocotb.test()
async def reset_mid_frame(dut) -> None:
    dut.fault.value = FAULTS[os.environ["STAGE_FAULT"]]
    bench = Bench(dut, valid="always", ready="slow")
    words, expected = words_and_expected(bench.seed)
    await bench.start()
    for cycles in range(1, 30):
        bench.driver.queue.extend(words[::-1])
        await bench.idle(cycles)
        await bench.reset(cycles=1)
        if cycles % 5 == 0:
            compare(await bench.run(words, 40, patience=300), expected, lanes=5, bits=8, beats=4)


@pytest.fixture(scope="module")
def place(tmp_path_factory, bench_cache):
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWBIT_CACHE_DIR", str(bench_cache))
        patch.syspath_prepend(str(Path(__file__).parent))
        yield folder


def bench(place: Path, fault: str, seed: int = 1):
    return run_bench(
        STAGE,
        toplevel="stage",
        module="test_bench",
        build_dir=place / fault,
        env={"STAGE_FAULT": fault},
        seed=seed,
    )


def test_a_right_design_passes_under_every_pattern(place):
    names = [result.name for result in bench(place, "none")]
    assert len(names) == len(PATTERNS) ** 2 + 1
    assert "fewbit bench: seed " in (place / "none" / "bench.log").read_text()


@pytest.mark.parametrize("fault", list(CAUGHT))
def test_a_planted_fault_is_caught_by_its_own_check(place, fault):
    with pytest.raises(BenchFailure, match=CAUGHT[fault]):
        bench(place, fault)


def test_scoreboard_names_frame_beat_and_lane():
    right = [0x030201, 0x060504, 0x090807]
    compare(right, right, lanes=3, bits=8, beats=2)
    for got, message in (
        ([0x030201, 0x06FF04, 0], "frame 0, beat 1, lane 1: got -1, expected 5"),
        ([0x030201, 0x060504, 0x190807], "frame 1, beat 0, lane 2: got 25, expected 9"),
        ([0x030201, 0x1060504, 0], "frame 0, beat 1, above the lanes: got 0x1060504, expected 0x60504"),
        (right[:2], "got 2 words, expected 3; the first ones are equal"),
        ([*right, 1], "got 4 words, expected 3; the first ones are equal"),
    ):
        with pytest.raises(AssertionError, match=f"^{re.escape(message)}$"):
            compare(got, right, lanes=3, bits=8, signed=True, beats=2)


@pytest.mark.parametrize(("kind", "share"), [("always", 1), ("random", 1 / 2), ("slow", 1 / 8), ("burst", 1 / 2)])
def test_patterns_are_willing_as_often_as_they_say(kind, share):
    pattern = Pattern(kind, random.Random(5))
    assert sum(pattern.next() for _ in range(20_000)) == pytest.approx(20_000 * share, rel=0.1)


def test_an_unknown_pattern_is_refused():
    with pytest.raises(FewbitError, match="^a pattern must be one of always, random, slow, burst, not 'often'$"):
        Pattern("often", random.Random(0))
