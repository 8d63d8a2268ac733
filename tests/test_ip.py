"""Blocks as single Verilog files: names, ports, datasheet, bench, and one line for each mistake."""

import re

import numpy as np
import pytest
from tiers import slow_but, slow_but_at

from fewbit.cli import main as cli
from fewbit.golden.errors import FewbitError
from fewbit.ip import BLOCKS, block, check_ip, ip, write_ip
from fewbit.sim.cocotb_run import BenchFailure, run_bench

OPTIONS = {
    "shift-decoder": {"scale_width": 8},
    "xnor-popcount": {"width": 9, "stages": 2},
    "csd-multiplier": {"width_a": 4, "width_b": 5},
    "binary-mac": {"pe": 2, "simd": 9, "bits": 7},
    "matvec": {"weights": np.array([[1, -1, -1, 1, 1, 1], [-1, -1, 1, -1, 1, 1]]), "pe": 2, "simd": 3},
    "shift-lane": {"simd": 2, "activation": "uint4", "stages": 1},
}
LEVELS = np.random.default_rng(1).integers(-1, 2, (4, 10))
FORMS = [
    ("shift-decoder", {"scale_width": 1}),
    ("shift-decoder", {"scale_width": 8}),
    ("xnor-popcount", {"width": 1}),
    ("xnor-popcount", {"width": 4}),
    ("xnor-popcount", {"width": 49, "stages": 3}),
    ("xnor-popcount", {"width": 40, "stages": 2, "target": "ice40"}),
    ("xnor-popcount", {"width": 33, "target": "ecp5"}),
    ("csd-multiplier", {"width_a": 4, "width_b": 4}),
    ("csd-multiplier", {"width_a": 3, "width_b": 8, "recoded": True}),
    ("csd-multiplier", {"width_a": 8, "width_b": 8, "form": "serial"}),
    ("csd-multiplier", {"width_a": 5, "width_b": 4, "form": "serial", "recoded": True}),
    ("binary-mac", {"pe": 1, "simd": 1, "bits": 1}),
    ("binary-mac", {"pe": 3, "simd": 16, "bits": 12, "stages": 2}),
    ("binary-mac", {"pe": 2, "simd": 20, "bits": 9, "stages": 2, "target": "ice40"}),
    ("binary-mac", {"pe": 2, "simd": 20, "bits": 9, "stages": 3, "target": "ecp5"}),
    ("matvec", {"weights": LEVELS, "code": "ternary", "activation": "uint3", "pe": 2, "simd": 5, "buffer": "ring"}),
    ("matvec", {"weights": 2 * (LEVELS > 0) - 1, "pe": 4, "simd": 10, "stages": 2, "target": "ice40"}),
    ("shift-lane", {}),
    ("shift-lane", {"code": "quinary", "simd": 3, "activation": "int5", "stages": 2}),
    ("shift-lane", {"code": "ternary", "simd": 2, "activation": "bipolar"}),
    ("shift-lane", {"code": "binary", "simd": 5, "activation": "bipolar", "stages": 1}),
    ("shift-lane", {"code": "binary", "simd": 4, "activation": "int1"}),
]
QUICK = (0, 3, 5, 8, 10, 14, 15, 18)
"""The forms that the default tier has: one at least of each block and family."""


@pytest.mark.parametrize("name, options", slow_but_at(QUICK, FORMS))
def test_bench_passes(name, options, tmp_path):
    assert check_ip(name, ip(name, **options), tmp_path, **options)


WRONG = {
    "shift-decoder": """
module shift_decoder(input [2:0] code, input [7:0] scale, output signed [10:0] weight, output illegal);
  inner right(.code(code), .scale(scale), .weight(weight));
  assign illegal = &code[1:0];
endmodule
""",
    "xnor-popcount": """
module xnor_popcount(input [8:0] a, b, input clk, rst, output [3:0] count);
  inner right(.a(a), .b(b & ~9'd16), .clk(clk), .rst(rst), .count(count));
endmodule
""",
    "csd-multiplier": """
module csd_multiplier(input signed [3:0] a, input signed [4:0] b, input [1:0] quality, output signed [8:0] product);
  inner right(.a(a), .b(b), .quality(~quality), .product(product));
endmodule
""",
    "binary-mac": """
module binary_mac(
  input [8:0] x, input [17:0] w, input first, input [5:0] preset, input clk, rst, output [13:0] sum, output [1:0] sign
);
  inner right(.x(x), .w(w), .first(first), .preset(preset & 6'd31), .clk(clk), .rst(rst), .sum(sum), .sign(sign));
endmodule
""",
    "matvec": """
module matvec(
  input clk, rst, input [2:0] i__payload, input i__valid, output i__ready,
  output [7:0] o__payload, output o__valid, input o__ready
);
  inner right(.clk(clk), .rst(rst), .i__payload(i__payload ^ 3'd2), .i__valid(i__valid), .i__ready(i__ready),
              .o__payload(o__payload), .o__valid(o__valid), .o__ready(o__ready));
endmodule
""",
    "shift-lane": """
module shift_lane(input [7:0] x, input [5:0] code, input clk, rst, output signed [7:0] sum, output illegal);
  inner right(.x(x), .code(code == 6'o77 ? 6'o71 : code), .clk(clk), .rst(rst), .sum(sum), .illegal(illegal));
endmodule
""",
}
"""Each block inside a module that spoils it: a wrong flag, a bit that is not read, the complement of the quality, a bit
that a sum does not start with, an input turned over, illegal words that are taken for others."""


@pytest.mark.parametrize("name", slow_but(["xnor-popcount", "csd-multiplier"], BLOCKS))
def test_bench_sees_a_fault(name, tmp_path):
    text = ip(name, **OPTIONS[name])
    inner = text.replace(f"\nmodule {block(name).module}(", "\nmodule inner(")
    assert inner != text
    with pytest.raises(BenchFailure):
        check_ip(name, inner + WRONG[name], tmp_path, **OPTIONS[name])


@pytest.mark.parametrize(
    "name, options, ports",
    [
        ("xnor-popcount", {"width": 5}, {"a", "b", "count"}),
        ("xnor-popcount", {"width": 5, "stages": 1}, {"a", "b", "count", "clk", "rst"}),
        ("csd-multiplier", {"width_a": 8, "width_b": 8}, {"a", "b", "quality", "product"}),
        ("csd-multiplier", {"width_a": 8, "width_b": 8, "recoded": True}, {"a", "digits", "quality", "product"}),
        (
            "csd-multiplier",
            {"width_a": 8, "width_b": 8, "form": "serial"},
            {"a", "b", "quality", "product", "clk", "rst", "start", "done"},
        ),
        ("shift-lane", {}, {"x", "code", "sum", "illegal"}),
        ("shift-lane", {"code": "binary", "stages": 1}, {"x", "code", "sum", "clk", "rst"}),
    ],
)
def test_exactly_these_ports(name, options, ports):
    text = ip(name, **options)
    named = re.search(rf"^module {block(name).module}\((.*?)\);", text, re.MULTILINE | re.DOTALL)[1]
    assert {port.strip() for port in named.split(",")} == ports


@pytest.mark.parametrize("target", ["ice40", "ecp5"])
def test_popcount_of_a_fabric_is_made_of_its_cells(target):
    text = ip("xnor-popcount", width=16, target=target)
    assert {"ice40": "SB_CARRY", "ecp5": "CCU2C"}[target] in text


@pytest.mark.parametrize("target", ["ice40", "ecp5"])
def test_lanes_of_a_fabric_are_made_of_its_cells(target):
    text = ip("shift-lane", simd=4, target=target)
    assert {"ice40": "SB_CARRY", "ecp5": "CCU2C"}[target] in text


@pytest.mark.parametrize("name", BLOCKS)
def test_one_module_first_and_its_datasheet_in_front(name):
    text = ip(name, **OPTIONS[name])
    header, rest = text.split("\nmodule ", 1)
    assert rest.startswith(f"{block(name).module}(")
    assert all(line.startswith("//") or not line for line in header.splitlines())
    for word in ("Ports:", "**Latency**", "**Throughput**", "Parameters", "Members"):
        assert word in header


def test_ports_of_the_shift_decoder():
    text = ip("shift-decoder", scale_width=5)
    assert re.search(r"module shift_decoder\(", text)
    for port in ("input [2:0] code;", "input [4:0] scale;", "output signed [7:0] weight;", "output illegal;"):
        assert port in text


def test_testbench_lies_beside_the_file(tmp_path):
    files = write_ip("shift-decoder", tmp_path / "dec.v", testbench=True, scale_width=4)
    assert [file.name for file in files] == ["dec.v", "tb_shift_decoder.py"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dec.v", "tb_shift_decoder.py"]


@pytest.mark.parametrize("name", ["shift-decoder", "binary-mac", "matvec"])
def test_testbench_has_the_tests_of_the_bench_and_no_more(name, tmp_path, monkeypatch):
    verilog, *_, bench = write_ip(name, tmp_path / "block.v", testbench=True, **OPTIONS[name])
    monkeypatch.syspath_prepend(str(tmp_path))
    found = run_bench(verilog, toplevel=block(name).module, module=bench.stem, build_dir=tmp_path / "run")
    (tmp_path / "ours").mkdir()
    ours = check_ip(name, verilog.read_text(), tmp_path / "ours", **OPTIONS[name])
    assert [result.name for result in found] == [result.name for result in ours]


def test_unknown_block():
    with pytest.raises(
        FewbitError,
        match="unknown block 'adder'; the blocks are xnor-popcount, shift-decoder, csd-multiplier, binary-mac, matvec, "
        "shift-lane",
    ):
        ip("adder")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["shift-decoder", "--scale-width", "0"], "the scale must have at least 1 bit, not 0"),
        (["xnor-popcount", "--width", "0"], "an XNOR-popcount needs a width of at least 1, not 0"),
        (
            ["binary-mac", "--pe", "2", "--simd", "9", "--bits", "3"],
            "sums of 9 bits a word need at least 4 bits, not 3",
        ),
        (
            ["binary-mac", "--pe", "0", "--simd", "9", "--bits", "8"],
            "a binary MAC needs a PE and a SIMD of at least 1, not 0 and 9",
        ),
        (["matvec", "--weights", "no.npy"], "no.npy: no such file or directory"),
        (["shift-lane", "--simd", "0"], "lanes need a SIMD of at least 1, not 0"),
        (["shift-lane", "--stages", "-1"], "lanes have 0 or more stages, not -1"),
        (["shift-lane", "--activation", "uint17"], "a shift lane takes activations of 1 to 16 bits, not uint17"),
        (["shift-lane", "--activation", "8"], 'number kind must be "bipolar", "uintN" or "intN", not \'8\''),
        (
            ["shift-lane", "--code", "int(4)"],
            "the code of a shift lane must be one of binary, ternary, quinary, shift3, not int(4)",
        ),
        (["shift-decoder", "--scale-width", "-2"], "the scale must have at least 1 bit, not -2"),
        (
            ["shift-decoder", "--scale-width", "3", "--testbench"],
            "a bench is written to the folder of the Verilog file: name the file with -o FILE",
        ),
        (
            ["shift-decoder", "--scale-width", "3", "-o", "no/such/x.v"],
            "cannot write no/such/x.v: no such file or directory",
        ),
    ],
)
def test_mistakes(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["ip", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"fewbit: {message}\n")


@pytest.mark.parametrize(
    "weights, arguments, message",
    [
        (np.ones((2, 3)), [], "W.npy: weights must be an integer array, outputs x inputs, not float64 (2, 3)"),
        (np.ones(3, int), [], "W.npy: weights must be an integer array, outputs x inputs, not int64 (3,)"),
        (np.array([[1, 2]]), [], "layer 'matvec': weight 2 is not a level of the binary code"),
        (np.array([[1, -1]]), ["--simd", "3"], "layer 'matvec': SIMD must divide the 2 inputs, not 3"),
        (np.array([[1, -1]]), ["--activation", "uint99"], "a number kind has 1 to 64 bits, not 99"),
    ],
)
def test_mistakes_in_weights(weights, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("W.npy", weights)
    with pytest.raises(SystemExit) as end:
        cli.main(["ip", "matvec", "--weights", "W.npy", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr() == ("", f"fewbit: {message}\n")
