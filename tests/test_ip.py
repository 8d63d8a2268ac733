"""Blocks as single Verilog files: names, ports, datasheet, bench, and one line for each mistake."""

import re

import pytest

from fewbit import cli
from fewbit.golden.errors import FewbitError
from fewbit.ip import BLOCKS, block, check_ip, ip, write_ip
from fewbit.sim.cocotb_run import BenchFailure

OPTIONS = {"shift-decoder": {"scale_width": 8}}


@pytest.mark.parametrize("name", BLOCKS)
def test_bench_passes(name, tmp_path):
    results = check_ip(name, ip(name, **OPTIONS[name]), tmp_path)
    assert results


@pytest.mark.parametrize("name, old, new", [("shift-decoder", "illegal = & code", "illegal = & code[1:0]")])
def test_bench_sees_a_fault(name, old, new, tmp_path):
    text = ip(name, **OPTIONS[name])
    assert text.count(old) == 1
    with pytest.raises(BenchFailure):
        check_ip(name, text.replace(old, new), tmp_path)


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


def test_unknown_block():
    with pytest.raises(FewbitError, match="unknown block 'adder'; there are shift-decoder"):
        ip("adder")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["shift-decoder", "--scale-width", "0"], "the scale must have at least 1 bit, not 0"),
        (["shift-decoder", "--scale-width", "-2"], "the scale must have at least 1 bit, not -2"),
        (
            ["shift-decoder", "--scale-width", "3", "--testbench"],
            "a bench is written beside the file: name one with -o FILE",
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
