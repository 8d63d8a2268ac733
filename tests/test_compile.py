"""Compiled simulation: words of any width arrive, stalls and mistakes are named, the cache serves and never hinders."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fewbit.golden.errors import FewbitError
from fewbit.sim import compile as compiling
from fewbit.sim.compile import PATTERNS, compile_design, find_compiler
from fewbit.sim.words import extract, pack_words, unpack_words

PORTS = """input clk, input rst, input [{w}-1:0] i__payload, input i__valid, output i__ready,
  output reg [{w}:0] o__payload, output reg o__valid, input o__ready"""
STAGE = (
    "module stage("
    + PORTS
    + """);
  wire free = ~o__valid | o__ready;
  assign i__ready = {ready};
  always @(posedge clk) begin
    if (free) begin o__valid <= i__valid; o__payload <= {{^i__payload, i__payload}}; end
    if (rst) o__valid <= 0;
  end
endmodule
"""
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("FEWBIT_CACHE_DIR", str(folder))
        yield folder


def stage(width: int, ready: str = "free"):
    return compile_design(STAGE.format(w=width, ready=ready))


def words_and_parity(width: int, n: int = 300):
    rng = np.random.default_rng(width)
    bits = rng.integers(0, 2, (n, width))
    return pack_words(bits, 1), pack_words(np.hstack([bits, bits.sum(1, keepdims=True) % 2]), 1)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 1000])
def test_words_arrive_whole(width):
    design = stage(width)
    assert (design.top, design.input_width, design.output_width) == ("stage", width, width + 1)
    words, expected = words_and_parity(width)
    trace = design.run(words, len(words), max_cycles=1000)
    assert (trace.outputs == expected).all()


@pytest.mark.parametrize("valid", PATTERNS)
@pytest.mark.parametrize("ready", PATTERNS)
def test_every_pattern(valid, ready):
    words, expected = words_and_parity(64, 200)
    trace = stage(64).run(words, 200, max_cycles=10_000, valid_pattern=valid, ready_pattern=ready, seed=3)
    assert (trace.outputs == expected).all()
    assert (np.diff(trace.input_cycles) > 0).all()
    assert (np.diff(trace.output_cycles) > 0).all()
    assert (trace.output_cycles > trace.input_cycles).all()
    assert trace.cycles == trace.output_cycles[-1] + 1
    gap = max(1 if pattern == "always" else 8 if pattern == "slow" else 2 for pattern in (valid, ready))
    assert 0.6 * 200 * gap < trace.cycles < 2.5 * 200 * gap


def test_cycles_count_from_the_end_of_reset():
    words, _ = words_and_parity(64, 5)
    trace = stage(64).run(words, 5, max_cycles=100)
    assert trace.input_cycles.tolist() == [0, 1, 2, 3, 4]
    assert trace.output_cycles.tolist() == [1, 2, 3, 4, 5]


def test_one_seed_gives_one_run():
    words, _ = words_and_parity(64)
    options = {"max_cycles": 10_000, "valid_pattern": "random", "ready_pattern": "burst"}
    one, same, other = (stage(64).run(words, 300, seed=seed, **options) for seed in (1, 1, 2))
    assert (one.output_cycles == same.output_cycles).all()
    assert (one.output_cycles != other.output_cycles).any()


def test_a_design_that_drops_words_under_back_pressure_delivers_others():
    words, expected = words_and_parity(64)
    design = stage(64, ready="1")
    assert (design.run(words, 300, max_cycles=1000).outputs == expected).all()
    with pytest.raises(FewbitError, match="stage delivered [12].. of 300 output words and took 300 of 300 input"):
        design.run(words, 300, max_cycles=5000, ready_pattern="random")


def test_a_stall_is_named_with_its_counts():
    words, _ = words_and_parity(64, 10)
    with pytest.raises(
        FewbitError,
        match=re.escape(
            "stage delivered 0 of 10 output words and took 0 of 10 input words in 5000 cycles; "
            "it stalls, or max_cycles is too low"
        ),
    ):
        compile_design(STAGE.format(w=64, ready="0").replace("<= i__valid", "<= 0")).run(words, 10, max_cycles=5000)


def test_progress_is_told_and_an_interrupt_ends_the_run():
    words, _ = words_and_parity(64, 10)
    told = []

    def stop(outputs, cycles):
        told.append((outputs, cycles))
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(64).run(words, 11, max_cycles=10**12, on_progress=stop)
    assert [outputs for outputs, _ in told] == [10, 10, 10]
    assert told[0][1] < told[1][1] < told[2][1]


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (
            np.zeros((4, 2), np.uint64),
            {},
            "input words of stage must be uint64 (n, 1) for 64 bits, not uint64 (4, 2)",
        ),
        (
            np.zeros((4, 1), np.int64),
            {},
            "input words of stage must be uint64 (n, 1) for 64 bits, not int64 (4, 1)",
        ),
        (
            np.zeros((4, 1), np.uint64),
            {"ready_pattern": "often"},
            "ready_pattern must be one of always, random, slow, burst, not 'often'",
        ),
    ],
)
def test_wrong_arguments_are_refused(words, options, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        stage(64).run(words, 4, max_cycles=100, **options)


def test_wrong_verilog_is_refused():
    with pytest.raises(FewbitError, match=r"^Yosys rejects the design: .*ERROR: syntax error"):
        compile_design("module stage(; endmodule")
    with pytest.raises(FewbitError, match="^stage has no output i__ready; a fewbit design has the ports clk, rst, i__"):
        compile_design(STAGE.format(w=8, ready="free").replace("i__ready", "i_ready"))


def test_a_design_without_registers_needs_no_clock():
    text = """module wires(input [6:0] i__payload, input i__valid, output i__ready,
      output [6:0] o__payload, output o__valid, input o__ready);
      assign {o__payload, o__valid, i__ready} = {~i__payload, i__valid, o__ready};
    endmodule"""
    words = np.arange(100, dtype=np.uint64)[:, None]
    trace = compile_design(text).run(words, 100, max_cycles=1000, ready_pattern="random")
    assert (trace.outputs == 127 - words).all()
    assert (trace.input_cycles == trace.output_cycles).all()


def test_the_cache_serves_and_replaces_what_does_not_load(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path))
    words, expected = words_and_parity(9)
    stage(9)
    (kept,) = (tmp_path / "sim").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "run_yosys", lambda *_: pytest.fail("compiled again"))
        assert (stage(9).run(words, 300, max_cycles=1000).outputs == expected).all()
    (kept / "ports").write_text("nothing")
    assert (stage(9).run(words, 300, max_cycles=1000).outputs == expected).all()
    assert (kept / "ports").read_text() == "stage\n9\n10\n"


def test_a_cache_that_cannot_be_written_only_keeps_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    words, expected = words_and_parity(9)
    assert (stage(9).run(words, 300, max_cycles=1000).outputs == expected).all()


def test_compiler_choice(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiling, "find_spec", lambda name: name)
    assert find_compiler() == [sys.executable, "-m", "ziglang", "c++"]
    (tmp_path / "clang++").write_text("#!/bin/sh\n")
    (tmp_path / "clang++").chmod(0o755)
    assert find_compiler() == [str(tmp_path / "clang++")]
    monkeypatch.setenv("CXX", "clang++ -pipe")
    assert find_compiler() == ["clang++", "-pipe"]
    monkeypatch.setenv("CXX", "icc")
    with pytest.raises(FewbitError, match="^CXX names 'icc', which is not on the PATH; install it or unset CXX$"):
        find_compiler()
    monkeypatch.delenv("CXX")
    Path(tmp_path / "clang++").unlink()
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    with pytest.raises(FewbitError, match=re.escape("none was found; run: pip install 'fewbit[zig]'")):
        find_compiler()


@pytest.mark.parametrize("bits", [*range(1, 18), 31, 32, 33, 63, 64])
@pytest.mark.parametrize("signed", [False, True])
def test_packing_against_python_integers(bits, signed):
    rng = np.random.default_rng(bits)
    lanes = 13
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << min(bits, 63)) - 1)
    values = rng.integers(low, high, (20, lanes), endpoint=True)
    words = pack_words(values, bits)
    assert words.shape == (20, -(-lanes * bits // 64))
    for row, word in zip(values.tolist(), words.tolist(), strict=True):
        packed = sum((value & (1 << bits) - 1) << lane * bits for lane, value in enumerate(row))
        assert packed == sum(part << 64 * k for k, part in enumerate(word))
    assert (unpack_words(words, lanes, bits, signed) == values).all()
    for lane in (0, 5, lanes - 1):
        assert (extract(words, lane * bits, bits, signed) == values[:, lane]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_words(np.array([[4]]), 2), "lanes of 2 bits cannot hold the values 4 to 4"),
        (lambda: pack_words(np.array([[-1, 2]]), 2), "lanes of 2 bits cannot hold the values -1 to 2"),
        (
            lambda: pack_words(np.array([[0.5]]), 2),
            "lanes must be a table (n, lanes) of integers, not float64 (1, 1)",
        ),
        (lambda: unpack_words(np.zeros((1, 1), np.uint64), 9, 8), "words must have at least 72 bits, not 64"),
        (lambda: extract(np.zeros((1, 1), np.uint64), 0, 65), "lanes and fields have 1 to 64 bits, not 65"),
        (lambda: extract(np.zeros((1, 1), np.uint64), -1, 4), "a field begins at bit 0 or above, not -1"),
    ],
)
def test_packing_refuses(call, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        call()
