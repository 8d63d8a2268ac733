"""Runs of a bench: every simulator that is there passes a right bench, and nothing that went wrong passes for right.

This file is also the cocotb module that runs inside the simulator.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import cocotb
import pytest
from cocotb.triggers import FallingEdge

from fewbit.golden.errors import FewbitError
from fewbit.sim import cocotb_run
from fewbit.sim.bench import Bench
from fewbit.sim.cocotb_run import SIMULATORS, BenchFailure, available, run_bench

STAGE = """
module {name} #(parameter ADD = 1) (input clk, input rst,
    input [99:0] i__payload, input i__valid, output i__ready,
    output reg [99:0] o__payload, output reg o__valid, input o__ready);
  assign i__ready = ~o__valid | o__ready;
  always @(posedge clk) begin
    if (i__ready) begin o__valid <= i__valid; o__payload <= i__payload + ADD; end
    if (rst) o__valid <= 0;
  end
endmodule
"""


@cocotb.test()
async def adds(dut) -> None:
    bench = Bench(dut, valid="random", ready="random")
    await bench.start()
    words = [(k << 90) + k for k in range(100)]
    assert await bench.run(words, 100) == [word + int(os.environ["STAGE_ADD"]) for word in words]


@cocotb.test(skip="STAGE_ENDING" not in os.environ)
async def ends(dut) -> None:
    if os.environ["STAGE_ENDING"] == "abruptly":
        os._exit(3)
    await Bench(dut).start()
    while True:
        await FallingEdge(dut.clk)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory, bench_cache):
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWBIT_CACHE_DIR", str(bench_cache))
        patch.syspath_prepend(str(Path(__file__).parent))
        yield folder


def run(place: Path, verilog=None, *, module="test_cocotb_run", add=1, env=None, **options):
    env = {"STAGE_ADD": str(add), **(env or {})}
    verilog = STAGE.format(name="stage") if verilog is None else verilog
    return run_bench(verilog, toplevel="stage", module=module, build_dir=place / "build", env=env, **options)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_every_simulator_passes_a_right_bench(place, simulator):
    if not available(simulator):
        pytest.skip(f"{simulator} is not installed; Icarus Verilog: apt-get install iverilog")
    files = [place / "one.v", place / "two.v"]
    for file, name in zip(files, ("other", "stage"), strict=True):
        file.write_text(STAGE.format(name=name))
    results = run(place, files, simulator=simulator, add=7, parameters={"ADD": 7}, seed=1)
    assert [(result.name, result.passed) for result in results] == [("adds", True)]
    with pytest.raises(BenchFailure, match=r"(?s)1 of 1 tests failed.*\n  adds: AssertionError"):
        run(place, files, simulator=simulator, add=8, parameters={"ADD": 7}, seed=1)


@pytest.mark.skipif(not available("icarus"), reason="Icarus Verilog is not installed: apt-get install iverilog")
def test_icarus_reads_either_edition(place):
    word = STAGE.format(name="stage").replace("endmodule", "wire bit;\nendmodule")  # a type since SystemVerilog
    assert run(place, word, simulator="icarus-2005")
    with pytest.raises(
        FewbitError, match=r"^the bench does not build: iverilog failed with exit status \d+; its last line: design.v:"
    ):
        run(place, word, simulator="icarus")


def test_a_bench_without_tests_fails(place, tmp_path, monkeypatch):
    (tmp_path / "bench_of_nothing.py").write_text("import cocotb\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BenchFailure, match="^bench_of_nothing on stage .*No tests were discovered"):
        run(place, module="bench_of_nothing")
    with pytest.raises(BenchFailure, match="^no_such_bench on stage .*No module named 'no_such_bench'"):
        run(place, module="no_such_bench")


def test_a_simulation_that_ends_early_or_never_fails(place):
    with pytest.raises(BenchFailure, match="failed with exit status 3; its last line: .*; see "):
        run(place, env={"STAGE_ENDING": "abruptly"})
    with pytest.raises(BenchFailure, match="did not end in 3 s; see "):
        run(place, env={"STAGE_ENDING": "never"}, timeout=3)


def test_verilog_that_does_not_build_is_a_clear_error(place):
    with pytest.raises(FewbitError, match="syntax error"):
        run(place, "module stage(; endmodule")


def test_an_absent_simulator_is_a_clear_error(place, monkeypatch):
    with pytest.raises(
        FewbitError, match="^the simulator must be one of cxxrtl, icarus, icarus-2005, verilator, not 'fast'$"
    ):
        run(place, simulator="fast")
    cocotb = ("cocotb", "find_libpython")
    monkeypatch.setattr(cocotb_run, "find_spec", lambda name: name if name in cocotb else None)
    monkeypatch.setattr(cocotb_run.shutil, "which", lambda name: None)
    with pytest.raises(FewbitError, match=re.escape("run: pip install 'fewbit[bench,zig]'")):
        run(place, simulator="cxxrtl")
    with pytest.raises(FewbitError, match="^the simulator icarus-2005 is not installed: .*apt-get install iverilog"):
        run(place, simulator="icarus-2005")
    monkeypatch.delenv("FEWBIT_SIM", raising=False)
    with pytest.raises(FewbitError, match=re.escape("none was found; run: pip install 'fewbit[bench,zig]'")):
        run(place)
