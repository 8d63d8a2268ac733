"""Our block RAM map gives the cells that Yosys' own gives, port by port and bit by bit."""

import json
import random

import pytest

from fewbit.hw.fabric.families import synthesis
from fewbit.hw.fabric.family import AFTER_READ
from fewbit.sim.compile import run_yosys


def memories(rng):
    """A memory of each width a block RAM can have, with contents; reads and writes of different widths among them."""
    text = ["module top(input clk, input [10:0] ra, wa, input we, input [15:0] wd, mask,"]
    shapes = [(16, 256), (8, 512), (4, 1024), (2, 2048)]
    text.append(", ".join(f"output reg [{width - 1}:0] q{width}" for width, _ in shapes) + ", output reg [15:0] n, m);")
    for width, depth in shapes:
        text.append(f'(* ram_style = "block" *) reg [{width - 1}:0] m{width} [0:{depth - 1}]; initial begin')
        text += [f"m{width}[{word}] = {rng.getrandbits(width)};" for word in range(depth)]
        text.append(f"end always @(posedge clk) begin q{width} <= m{width}[ra]; if (we) m{width}[wa] <= wd; end")
    text.append('(* ram_style = "block" *) reg [15:0] masked [0:255]; integer b;')
    text.append("always @(posedge clk) begin m <= masked[ra]; for (b = 0; b < 16; b = b + 1)")
    text.append("if (we & mask[b]) masked[wa][b] <= wd[b]; end")
    text.append('(* ram_style = "block" *) reg [15:0] falling [0:255];')
    text.append("always @(negedge clk) n <= falling[ra]; always @(posedge clk) if (we) falling[wa] <= wd;")
    return "\n".join([*text, "endmodule"])


def cells(folder, ram_map):
    """Parameters and connections of the block RAMs, in order of their names."""
    begin, _, braminit, _ = synthesis("ice40").afterwards(dsp=False)
    script = [
        "read_verilog -sv top.v",
        *AFTER_READ,
        "synth_ice40 -top top -run begin:map_ram",
        begin,
        f"techmap -map {ram_map} -map +/ice40/spram_map.v",
        braminit,
        "opt_clean",
        "select top",
        "write_json -selected out.json",
    ]
    run_yosys(folder, "; ".join(script))
    found = json.loads((folder / "out.json").read_text())["modules"]["top"]["cells"]
    return {name: cell for name, cell in sorted(found.items()) if cell["type"].startswith("SB_RAM")}


def canonical(found):
    """Cells with their nets numbered in order of appearance, since the two maps make nets in different order."""
    rows = []
    for cell in found.values():
        constants = {port: [bit for bit in bits if isinstance(bit, str)] for port, bits in cell["connections"].items()}
        lines = {port: len(bits) for port, bits in cell["connections"].items()}
        rows.append((cell["type"], cell["parameters"], constants, lines))
    return rows


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    (folder / "top.v").write_text(memories(random.Random(1)))
    for name, text in synthesis("ice40").support().items():
        (folder / name).write_text(text)
    return cells(folder, "ice40_brams.v"), cells(folder, "+/ice40/brams_map.v")


def test_every_shape_and_clock_edge_is_there(both):
    ours, _ = both
    assert len(ours) == 6
    assert {cell["parameters"]["READ_MODE"][-2:] for cell in ours.values()} == {"00", "01", "10", "11"}
    assert {cell["type"] for cell in ours.values()} == {"SB_RAM40_4K", "SB_RAM40_4KNR"}


def test_same_cells_and_contents(both):
    ours, theirs = both
    assert canonical(ours) == canonical(theirs)


def test_same_wiring(both):
    """Ports at the module's edge (addresses, data, masks) reach the same pins of the same cells."""
    ours, theirs = both
    pins = ("RADDR", "WADDR", "WDATA", "RCLK", "WCLK", "RCLKN", "RCLKE", "WCLKE")
    for one, other in zip(ours.values(), theirs.values()):
        for pin in pins:
            assert one["connections"].get(pin) == other["connections"].get(pin), pin
