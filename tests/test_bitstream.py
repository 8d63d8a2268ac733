"""Bitstreams, unpacked and talked to over their UART pins: they answer as golden does, and a changed bit is seen."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from dial_networks import small_dial
from networks import random_frames

from fewbit import engines
from fewbit.boards import protocol, tools
from fewbit.boards.flow import build
from fewbit.boards.report import Report
from fewbit.golden.codes import BINARY
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import BIPOLAR, ArgMax, Dense, Network, TensorType
from fewbit.golden.run import classify, run
from fewbit.hw.fold import Folding, MatVecFold
from fewbit.hw.top import Top
from fewbit.sim import bitstream
from fewbit.sim.bitstream import unpack

try:
    bitstream.find_icebox()
except FewbitError as error:
    absent = str(error)
else:
    absent = ""


def needs_icebox(test):
    """A slow test, skipped where there is no `icebox_vlog`."""
    return pytest.mark.slow(pytest.mark.skipif(bool(absent), reason=absent)(test))


RNG = np.random.default_rng(1)
NETWORK = Network(
    name="tiny",
    input=TensorType(BIPOLAR, (64,)),
    layers=(Dense(name="fc", weights=RNG.choice([-1, 1], (10, 64)), code=BINARY), ArgMax(name="argmax")),
)
FRAMES = random_frames(np.random.default_rng(0), NETWORK.input.dtype, (60, 64))


pytestmark = pytest.mark.usefixtures("cache")


def make(board, out, design=None, **options):
    folds = {"fc": MatVecFold(pe=1, simd=16, memory="block", buffer="ring")}
    top = design or Top(NETWORK, Folding(input_lanes=8, folds=folds))
    baud = options.pop("baud", 3_000_000)
    types = {"input": NETWORK.input, "scores": NETWORK.scores, "has_index": True}
    return build(board, top, **types, out_dir=out, baud=baud, cycles_per_frame=64, **options)


@pytest.fixture(scope="module")
def icebreaker(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "out"
    return out, make("icebreaker", out)


def load(out: Path, report: Report, **changes):
    file = out / report.bitstream
    options = {"target": report.target, "clock_hz": report.clock_hz, **changes}
    return unpack(file, file.with_suffix(".pcf"), **options)


def answers(out, report, frames=FRAMES):
    """Scores and indices that the bitstream in ``out`` gives for ``frames``."""
    link = report.link
    replies = load(out, report).exchange(
        [protocol.encode_frame(link.input, frame) for frame in frames],
        reply_bytes=protocol.reply_bytes(link.scores, link.has_index),
        window=link.window,
        baud=link.baud,
        cycles_per_request=report.cycles_per_frame,
    )
    decoded = [protocol.decode_reply(link.scores, link.has_index, reply) for reply in replies]
    return np.stack([scores for scores, _ in decoded]), np.array([index for _, index in decoded])


def correct(out, report):
    scores, index = answers(out, report)
    golden = run(NETWORK, FRAMES).scores
    return (scores == golden).all() and (index == classify(NETWORK, golden)).all()


@needs_icebox
def test_bitstream_equals_golden(icebreaker):
    assert correct(*icebreaker)


@needs_icebox
@pytest.mark.parametrize("damage", ["truncated", "flipped", "no manifest"])
def test_a_damaged_entry_of_the_cache_is_made_anew(icebreaker, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path))
    out, report = icebreaker
    library = load(out, report).library
    content = library.read_bytes()
    library.unlink()  # this process has it in memory: another file takes its place
    library.write_bytes(content)
    if damage == "truncated":
        library.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        library.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    else:
        (library.parent / "manifest.json").unlink()
    assert load(out, report).library == library
    assert library.stat().st_size == len(content)
    assert correct(out, report)


@needs_icebox
@pytest.mark.parametrize(
    "board, options",
    [
        ("ice40-hx8k-b-evn", {"baud": 2_000_000}),
        ("icebreaker", {"clock_hz": 12_000_000, "baud": 1_000_000}),
    ],
)
def test_other_clocks_and_boards(tmp_path, board, options):
    """The core PLL of the HX8K board, and no PLL at all."""
    assert correct(tmp_path / "out", make(board, tmp_path / "out", **options))


@needs_icebox
def test_the_quality_of_each_frame(tmp_path):
    network, folding = small_dial("uint4", 16)
    frames = random_frames(np.random.default_rng(3), network.input.dtype, (40, 16))
    qualities = [1, 1, 3, None, 0, 2, 2, 200, 1, 4] * 4
    report = build(
        "icebreaker",
        Top(network, folding, "ice40"),
        input=network.input,
        scores=network.scores,
        has_index=True,
        out_dir=tmp_path / "out",
        baud=3_000_000,
        cycles_per_frame=128,
    )
    link = report.link
    assert link.has_quality
    assert Report.load(tmp_path / "out") == report
    replies = load(tmp_path / "out", report).exchange(
        [protocol.encode_request(link.input, frame, True, one) for frame, one in zip(frames, qualities)],
        reply_bytes=protocol.reply_bytes(link.scores, True),
        window=link.window,
        baud=link.baud,
        cycles_per_request=report.cycles_per_frame,
    )
    scores = [run(network, frame[None], one).scores for frame, one in zip(frames, qualities)]
    assert replies == [protocol.encode_reply(link.scores, one[0], int(classify(network, one)[0])) for one in scores]
    whole = run(network, frames).scores
    assert sum((one[0] != two).any() for one, two in zip(scores, whole)) > 15
    for quality in (1, None):
        result = engines.run_bitstream(network, frames[:10], tmp_path / "out", quality=quality)
        assert (result.scores == run(network, frames[:10], quality).scores).all()


def changed(out: Path, report: Report, to: Path, change) -> Path:
    """The build of ``out`` in ``to``, with the text form of its bitstream changed by ``change``."""
    to.mkdir()
    for name in (report.bitstream, Path(report.bitstream).with_suffix(".pcf").name):
        (to / name).write_bytes((out / name).read_bytes())
    folder = Path(tools.require("yowasp-icepack")).parent
    for tool, source, target in (("iceunpack", report.bitstream, "b.asc"), ("icepack", "b.asc", report.bitstream)):
        subprocess.run([folder / f"yowasp-{tool}", source, target], cwd=to, check=True, capture_output=True)
        if tool == "iceunpack":
            text = (to / "b.asc").read_text()
            (to / "b.asc").write_text(change(text))
            assert change(text) != text
    return to


def flip_ram_bit(text: str) -> str:
    """Inverts the lowest bit of the first row of a block RAM that is not blank."""
    row = re.search(r"^\.ram_data \d+ \d+\n(?:0+\n)*(?!0+\n)([0-9a-f]+)\n", text, re.MULTILINE)
    assert row is not None
    at = row.end(1) - 1
    return text[:at] + f"{int(text[at], 16) ^ 1:x}" + text[at + 1 :]


def flip_lut_bits(text: str) -> str:
    """Inverts one bit in the middle of the contents of a look-up table, in ten logic tiles."""
    tiles = list(re.finditer(r"^\.logic_tile \d+ \d+\n((?:[01]{54}\n){16})", text, re.MULTILINE))
    used = [tile for tile in tiles if "1" in tile[1][36:44]][:10]
    for tile in used:
        at = tile.start(1) + 40
        text = text[:at] + ("0" if text[at] == "1" else "1") + text[at + 1 :]
    return text


@needs_icebox
@pytest.mark.parametrize("change", [flip_ram_bit, flip_lut_bits])
def test_a_flipped_bit_is_seen(icebreaker, tmp_path, change):
    out, report = icebreaker
    wrong = changed(out, report, tmp_path / "wrong", change)
    try:
        seen = not correct(wrong, report)
    except FewbitError as error:
        seen = "the bitstream does not work" in str(error) or "does the board run another design" in str(error)
    assert seen


@needs_icebox
def test_a_clock_of_another_frequency_is_seen(icebreaker):
    out, report = icebreaker
    with pytest.raises(FewbitError, match=r"^the bitstream has a clock of 24 MHz, not the report's 25 MHz$"):
        load(out, report, clock_hz=25e6)


class Hard(wiring.Component):
    """The tiny design with a hard block between its score and the output: a DSP block, or single-port RAM."""

    def __init__(self, block):
        folds = {"fc": MatVecFold(pe=1, simd=16, memory="block", buffer="ring")}
        self.top, self.block = Top(NETWORK, Folding(input_lanes=8, folds=folds)), block
        super().__init__(self.top.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.top = self.top
        wiring.connect(m, wiring.flipped(self.i), self.top.i)
        wiring.connect(m, self.top.o, wiring.flipped(self.o))
        score = self.top.o.payload.score
        if self.block == "dsps":
            m.d.comb += self.o.payload.score.eq((score * score) >> 7)
            return m
        stored = Signal(16)
        m.submodules.ram = Instance(
            "SB_SPRAM256KA",
            i_ADDRESS=Const(0, 14), i_DATAIN=score, i_MASKWREN=Const(15, 4), i_WREN=self.top.o.valid,
            i_CHIPSELECT=Const(1), i_CLOCK=ClockSignal(), i_STANDBY=Const(0), i_SLEEP=Const(0), i_POWEROFF=Const(1),
            o_DATAOUT=stored,
        )  # fmt: skip
        m.d.comb += self.o.payload.score.eq(stored)
        return m


@needs_icebox
@pytest.mark.parametrize("block", ["dsps", "sprams"])
def test_hard_blocks_are_refused(tmp_path, block):
    report = make("icebreaker", tmp_path / "out", Hard(block), dsp=True)
    assert report.used(block) == 1
    with pytest.raises(FewbitError, match="for which there is no model: use the netlist engine$"):
        load(tmp_path / "out", report)


def test_what_cannot_be_unpacked(tmp_path, monkeypatch):
    file = tmp_path / "b.bin"
    with pytest.raises(
        FewbitError, match=r"^the bitstream engine supports up5k and hx8k, not ecp5-25k: use the netlist engine$"
    ):
        unpack(file, tmp_path / "b.pcf", target="ecp5-25k", clock_hz=1e6)
    monkeypatch.setattr(bitstream, "find_icebox", lambda: Path(__file__))
    with pytest.raises(FewbitError, match=rf"^cannot read {re.escape(str(file))}: No such file or directory$"):
        unpack(file, tmp_path / "b.pcf", target="up5k", clock_hz=1e6)


def test_an_absent_icebox_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bitstream, "_ICEBOX", tmp_path / "icebox_vlog")
    with pytest.raises(FewbitError, match=r"which was not found: apt-get install fpga-icestorm$"):
        bitstream.find_icebox()
    monkeypatch.setattr(bitstream, "_ICEBOX", Path(__file__))
    assert bitstream.find_icebox() == Path(__file__)
