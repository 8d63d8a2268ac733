"""The multiplier of digits in a DSP block: the integers of the one of rows, at every quality."""

from __future__ import annotations

import json
import re

import pytest
from faults import mutant
from formal import prove_equal
from tiers import slow_but

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.emit import verilog
from fewbit.hw.lanes.product import ProductLanes
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.dsp import DspMultiplier
from fewbit.sim.cocotb_run import BenchFailure, run_bench
from fewbit.sim.csd_cases import cases
from fewbit.sim.netlist import netlist


@pytest.fixture
def held(tmp_path):
    """``held(component)``: a component, or Verilog made of it, under the bench of the CSD multiplier."""

    def run(component, text=None):
        file = tmp_path / "cases.json"
        plain = cases(component.width_a, component.width_b, recoded=True, count=400)
        file.write_text(json.dumps(plain | {"latency": component.latency}))
        return run_bench(
            text or verilog(component, "dut"),
            toplevel="dut",
            module="fewbit.sim.tb_csd",
            build_dir=tmp_path / "bench",
            env={"FEWBIT_CASES": str(file)},
            seed=1,
        )

    return run


def blocks(text: str, cell: str) -> int:
    """Cells of a kind in a netlist."""
    return len(re.findall(rf"^\s+{cell} ", text, re.MULTILINE))


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("width_a, width_b", slow_but([(3, 5)], [(1, 1), (3, 5), (2, 2), (8, 8), (14, 8)]))
def test_product_at_every_quality(held, width_a, width_b, registered):
    held(DspMultiplier(width_a, width_b, registered=registered))


@pytest.mark.parametrize("width_a, width_b", slow_but([(3, 3)], [(1, 1), (2, 4), (3, 3), (4, 5), (5, 6)]))
def test_the_integers_are_those_of_rows_for_all_inputs(width_a, width_b):
    ours = verilog(DspMultiplier(width_a, width_b), "ours")
    theirs = verilog(CsdMultiplier(width_a, width_b, recoded=True), "theirs")
    prove_equal(ours, theirs, "ours", "theirs", seconds=300)


@pytest.mark.slow
@pytest.mark.parametrize("family, cell", [("ice40", "SB_MAC16"), ("ecp5", "MULT18X18D")])
def test_in_a_block(held, family, cell):
    component = DspMultiplier(10, 8, registered=True)
    text = netlist(verilog(component, "dut"), top="dut", family=family, dsp=True)
    assert blocks(text, cell) == 1
    held(DspMultiplier(10, 8, registered=True), text)


def test_a_digit_with_the_wrong_sign_is_seen(held):
    copy = mutant("hw.multiply.dsp", "minus.append(here & negative)", "minus.append(here & negative & (here ^ here))")
    with pytest.raises(BenchFailure):
        held(copy.DspMultiplier(4, 5))


@pytest.mark.slow
@pytest.mark.parametrize("family, cell", [("ice40", "SB_MAC16"), ("ecp5", "MULT18X18D")])
@pytest.mark.parametrize("dsp", [False, True])
def test_lanes_of_plain_integers_take_blocks_if_told(family, cell, dsp):
    lanes = ProductLanes(3, DType.parse("uint8"), Code.parse("int(6)"), 1, family, dsp=dsp)
    text = netlist(verilog(lanes, "dut"), top="dut", family=family, dsp=dsp)
    assert blocks(text, cell) == 3 * dsp


def test_widths_are_checked():
    with pytest.raises(FewbitError, match=r"^a CSD multiplier needs operands of at least 1 bit, not 0 for b$"):
        DspMultiplier(3, 0)
