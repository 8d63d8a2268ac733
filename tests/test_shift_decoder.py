import numpy as np
import pytest
from amaranth.sim import Simulator

from fewbit.golden.errors import FewbitError
from fewbit.golden.shift import decode_weight
from fewbit.hw.emit import verilog
from fewbit.hw.lanes.shift_decoder import ShiftDecoder
from fewbit.sim.compile import run_yosys

TABLE_II = {0b000: 0, 0b001: 1, 0b010: 2, 0b011: 4, 0b100: -1, 0b101: -2, 0b110: -4}


def test_golden_is_table_ii_by_hand():
    for code, level in TABLE_II.items():
        weight, illegal = decode_weight(np.array([code]), np.array([13]))
        assert (weight.tolist(), illegal.tolist()) == ([13 * level], [False])
    weight, illegal = decode_weight(np.array([0b111]), np.array([13]))
    assert (weight.tolist(), illegal.tolist()) == ([0], [True])


def simulate(decoder, codes, scales):
    got = []

    async def drive(ctx):
        for code, scale in zip(codes, scales):
            ctx.set(decoder.code, int(code))
            ctx.set(decoder.scale, int(scale))
            await ctx.delay(1e-9)
            got.append((ctx.get(decoder.weight), bool(ctx.get(decoder.illegal))))

    simulator = Simulator(decoder)
    simulator.add_testbench(drive)
    simulator.run()
    return got


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
def test_every_code_with_every_scale(width):
    codes, scales = (grid.ravel() for grid in np.meshgrid(np.arange(8), np.arange(1 << width)))
    weight, illegal = decode_weight(codes, scales)
    assert simulate(ShiftDecoder(width), codes, scales) == list(zip(weight.tolist(), illegal.tolist()))


@pytest.mark.parametrize("width", [16, 31])
def test_wide_scales(width):
    rng = np.random.default_rng(width)
    codes = np.repeat(np.arange(8), 40)
    scales = rng.integers(0, 1 << width, codes.size)
    scales[:16] = np.tile([0, (1 << width) - 1], 8)
    weight, illegal = decode_weight(codes, scales)
    assert simulate(ShiftDecoder(width), codes, scales) == list(zip(weight.tolist(), illegal.tolist()))


SPECIFICATION = """
module spec(input [2:0] code, input [{top}:0] scale, input signed [{weight}:0] weight, input illegal, output ok);
  wire signed [{weight}:0] s = {{3'b000, scale}};
  wire signed [{weight}:0] right =
    code == 1 ? s : code == 2 ? 2 * s : code == 3 ? 4 * s :
    code == 4 ? -s : code == 5 ? -2 * s : code == 6 ? -4 * s : 0;
  assign ok = weight === right && illegal == (code == 7);
endmodule
module miter(input [2:0] code, input [{top}:0] scale, output ok);
  wire signed [{weight}:0] weight; wire illegal;
  shift_decoder dut(.code(code), .scale(scale), .weight(weight), .illegal(illegal));
  spec spec(.code(code), .scale(scale), .weight(weight), .illegal(illegal), .ok(ok));
endmodule
"""


def prove(folder, text, width):
    (folder / "all.v").write_text(text + SPECIFICATION.format(top=width - 1, weight=width + 2))
    run_yosys(
        folder,
        "read_verilog -sv all.v; prep -top miter -flatten; opt -full; sat -verify -prove ok 1 -set-def-inputs miter",
    )


@pytest.mark.parametrize("width", [1, 8, 16])
def test_proved_for_every_input(tmp_path, width):
    prove(tmp_path, verilog(ShiftDecoder(width), "shift_decoder"), width)


def test_the_proof_sees_a_fault(tmp_path):
    text = verilog(ShiftDecoder(8), "shift_decoder")
    wrong = text.replace("illegal = & code", "illegal = & code[1:0]")
    assert wrong != text
    with pytest.raises(FewbitError):
        prove(tmp_path, wrong, 8)


@pytest.mark.parametrize("width", [0, -3])
def test_no_scale(width):
    with pytest.raises(FewbitError) as error:
        ShiftDecoder(width)
    assert str(error.value) == f"the scale must have at least 1 bit, not {width}"
