"""The datapaths take no more cells than the committed table has, and every goal stands."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator
from tiers import slow_but

from benchmarks import datapaths
from benchmarks.measure import Measured, _wrapper, netlist
from fewbit.golden.errors import FewbitError
from fewbit.golden.shift import decode_weight
from fewbit.sim.toggles import Mapped

CELLS = json.loads((Path(__file__).parent / "datapath_cells.json").read_text(encoding="utf-8"))
ROWS = {row.key: row for device in datapaths.DEVICES for row in datapaths.rows(device)}
QUICK = [
    "XNOR-popcount, 64 bits, hx8k", "accumulate and threshold, 12 bits, ecp5-25k", "CSD 8x8, digits beforehand, hx8k",
    "CSD 8x8, run-time recoder, ecp5-25k", "exact 8x8, hx8k", "lanes, ternary x uint8, ecp5-25k",
]  # fmt: skip
MISSED = {"accumulate and threshold, 12 bits, ecp5-25k"}
"""Goals that are not met."""


def test_the_table_has_every_row():
    assert list(CELLS) == list(ROWS)


@pytest.mark.parametrize("key", ROWS)
def test_goals_stand(key):
    """In the table, which the rows are held to below."""
    row = ROWS[key]
    if row.goal is not None:
        assert (CELLS[key]["lc"] / row.unit <= row.goal) == (key not in MISSED)


@pytest.mark.parametrize("key", slow_but(QUICK, ROWS))
def test_cells_do_not_rise(key):
    cells = datapaths.entry(datapaths.ours(ROWS[key]))
    assert all(cells[kind] <= CELLS[key][kind] for kind in ("lut", "lc")), cells


def figures(docstring):
    """What stands after ``Cost`` in a docstring."""
    return " ".join(docstring[docstring.index("Cost") :].split("\n\n")[0].split())


def cells(name, device):
    return CELLS[f"{name}, {device}"]["lc"]


def test_docstrings_say_what_is_measured():
    both = [
        [cells(f"CSD 8x8, {said}", device) for device in datapaths.DEVICES]
        for said in ("digits beforehand", "run-time recoder")
    ]
    (ice40, ecp5), (ice40_late, ecp5_late) = both
    assert f"recoded {ice40} on iCE40 and {ecp5} on ECP5, else {ice40_late} and {ecp5_late};" in figures(
        datapaths.CsdMultiplier.__doc__
    )
    serial = [
        [cells(f"CSD 8x8 serial, {said}", device) for device in datapaths.DEVICES]
        for said in ("digits beforehand", "run-time recoder")
    ]
    assert (
        f"recoded {serial[0][0]} on iCE40 and {serial[0][1]} on ECP5, else {serial[1][0]} and {serial[1][1]}."
        in figures(datapaths.CsdMultiplierSerial.__doc__)
    )
    assert f"{cells('exact 8x8', 'ecp5-25k')} on ECP5, {cells('exact 8x8', 'hx8k')} on iCE40." in figures(
        datapaths.Multiplier.__doc__
    )


def test_what_is_printed():
    row = ROWS["XNOR-popcount, 1024 bits, hx8k"]
    one = Measured(lut=2046, carry=639, ff=0, lc=2062, ram=0, dsp=0, fmax=150.0)
    other = Measured(lut=2716, carry=0, ff=0, lc=2718, ram=0, dsp=0, fmax=100.0)
    assert datapaths.line(row, one, other) == (
        "hx8k     XNOR-popcount, 1024 bits            2046    639    0  2062    2.01    2.65   0.76"
        "  2.37 met     2.2 met"
    )
    assert datapaths.verdict(2.38, 2.37) == "2.37 MISSED"
    placed = next(row for row in datapaths.clocked("hx8k") if row.clock)
    each = datapaths.clock_line(placed, one | {"lc": 600}, other)
    assert each.endswith("2.34 @ 150   10.62 @ 100   0.22   1.50  2.52 @ 150 met")
    assert datapaths.clock_line(placed, one | {"lc": 600, "fmax": 149.0}, other).endswith("MISSED")


def test_the_smallest_plain_form_is_taken_and_what_is_common_is_mapped_once(monkeypatch):
    asked = []

    def fake(text, device, *, flow, place, mhz):
        asked.append((text, device, flow))
        cells = {"default": 40, "area": 20, "booth": 30, "abc": 10}[flow]
        return Measured(lut=1, carry=0, ff=0, lc=cells, ram=0, dsp=0, fmax=None)

    monkeypatch.setattr(datapaths, "measure", fake)
    wanted = [ROWS["CSD 8x8, digits beforehand, ecp5-25k"], ROWS["exact 8x8, ecp5-25k"]]
    found = list(datapaths.measured(wanted))
    assert [row for row, _, _ in found] == wanted
    assert [(ours["lc"], plain["lc"]) for _, ours, plain in found] == [(10, 20), (10, 20)]
    assert len(asked) == len(set(asked)) == 2 + 3


def test_the_plain_serial_form_multiplies():
    """A baseline that computes something else is none."""
    rng = random.Random(1)
    pairs = [(-8, -8), (-8, 7), (7, -8), (0, -1), (-1, -1)]
    pairs += [(rng.randrange(-8, 8), rng.randrange(-8, 8)) for _ in range(60)]
    block = datapaths.PlainSerial(4)

    async def drive(ctx):
        for a, b in pairs:
            ctx.set(block.a, a)
            ctx.set(block.b, b)
            ctx.set(block.start, 1)
            await ctx.tick()
            ctx.set(block.start, 0)
            for _ in range(4):
                assert not ctx.get(block.done)
                await ctx.tick()
            assert ctx.get(block.done)
            assert ctx.get(block.product) == a * b % 256

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()


def test_the_plain_decoder_decodes():
    codes, scales = (grid.ravel() for grid in np.meshgrid(np.arange(8), np.arange(256)))
    weight, illegal = decode_weight(codes, scales)
    settled = Mapped(netlist(datapaths.plain_decoder(8), "hx8k"), "top").settle(
        {"code": codes[None], "scale": scales[None]}
    )
    assert np.array_equal(settled.port("weight", signed=True)[0], weight)
    assert np.array_equal(settled.port("illegal")[0], illegal)


@pytest.mark.parametrize("text", [
    "module top(input signed [7:0] a, input b, output wire signed [3:0] c);\nendmodule\n",
    "module top(a, b, c);\n  input signed [7:0] a;\n  wire [7:0] a;\n  input b;\n  output [3:0] c;\nendmodule\n",
])  # fmt: skip
def test_a_block_gets_registers_at_all_its_ports(text):
    made = _wrapper(text, "top")
    assert "top block(.a(feed[7:0]), .b(feed[8:8]), .c(result[3:0]));" in made
    with pytest.raises(FewbitError, match=r"^module top has no input or no output to put registers at$"):
        _wrapper("module top(input a);\nendmodule\n", "top")
