"""CSD multipliers of every form, held to the golden model; on every fabric, what comes out of synthesis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faults import mutant
from tiers import slow_but, slow_but_at

from fewbit.golden.errors import FewbitError
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.gating import GateCell
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.csd_serial import CsdMultiplierSerial
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.multiply.recoder import Recoder
from fewbit.sim.cocotb_run import BenchFailure, available, run_bench
from fewbit.sim.csd_cases import cases
from fewbit.sim.netlist import netlist


@pytest.fixture
def held(tmp_path: Path, bench_cache: Path, monkeypatch: pytest.MonkeyPatch):
    """``held(component)``: a component, or Verilog made of it, under its bench with all its cases."""
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(bench_cache))

    def run(component, text=None, *, count=400, simulator=None):
        serial = type(component).__name__.endswith("Serial")
        plain = cases(component.width_a, component.width_b, recoded=component.recoded, count=count)
        file = tmp_path / "cases.json"
        file.write_text(json.dumps(plain | ({} if serial else {"latency": component.latency})))
        return run_bench(
            text or verilog(component, "dut"),
            toplevel="dut",
            module="fewbit.sim.tb_csd_serial" if serial else "fewbit.sim.tb_csd",
            build_dir=tmp_path / "bench",
            env={"FEWBIT_CASES": str(file)},
            simulator=simulator,
            seed=1,
        )

    return run


WIDTHS = [(1, 1), (3, 2), (2, 5), (8, 8)]


@pytest.mark.parametrize(
    "width_a, width_b, recoded",
    slow_but([(3, 2, False)], [(*widths, recoded) for widths in WIDTHS for recoded in (False, True)]),
)
def test_parallel(held, width_a, width_b, recoded):
    held(CsdMultiplier(width_a, width_b, recoded=recoded))


@pytest.mark.parametrize("recoded", [False, True])
def test_text_of_wide_operands_does_not_explode(recoded):
    short, long = (len(verilog(CsdMultiplier(4, width, recoded=recoded), "csd")) for width in (16, 48))
    assert long < 12 * short  # rows times bits


@pytest.mark.slow
@pytest.mark.parametrize("recoded", [False, True])
@pytest.mark.parametrize("width_b", range(1, 7))
@pytest.mark.parametrize("width_a", range(1, 7))
def test_parallel_exhaustively(held, width_a, width_b, recoded, monkeypatch):
    monkeypatch.setattr("fewbit.sim.csd_cases.EXHAUSTIVE", 15)
    held(CsdMultiplier(width_a, width_b, recoded=recoded))


@pytest.mark.parametrize(
    "registers, latency, recoded",
    slow_but(
        [("all", 3, True)],
        [(*form, recoded) for form in (("digits", 1), ("rows", 1), ("all", 3)) for recoded in (False, True)],
    ),
)
def test_registers_and_enable(held, registers, latency, recoded):
    multiplier = CsdMultiplier(6, 7, recoded=recoded, tree="balanced", registers=registers)
    assert multiplier.latency == latency
    held(multiplier)


@pytest.mark.skipif(not available("verilator"), reason="CXXRTL misses edges of clocks that come out of a latch")
@pytest.mark.parametrize("registers", slow_but(["all"], ["digits", "all"]))
def test_gated_clocks(held, registers):
    multiplier = CsdMultiplier(5, 6, target="asic", tree="balanced", registers=registers)
    held(multiplier, f"{verilog(multiplier, 'dut')}\n{multiplier.gate.model()}", simulator="verilator")


def test_one_clock_gate_serves_the_registers_before_the_rows():
    text = verilog(CsdMultiplier(5, 6, target="asic", registers="digits"), "dut")
    assert text.count("fewbit_clock_gate ") == 1


def test_gate_cells_are_of_any_name():
    cell = GateCell(name="dlclkp_1", clock="CLK", enable="GATE", gated="GCLK")
    multiplier = CsdMultiplier(5, 6, target="asic", tree="balanced", registers="all", gate=cell)
    text = verilog(multiplier, "dut")
    assert text.count("dlclkp_1 ") == 3 + 2 + 1  # rows, sums of pairs, the product
    assert text.count(".GATE(") == text.count(".GCLK(") == text.count(".CLK(clk)") == 6
    assert "module dlclkp_1(input CLK, input GATE, output GCLK);" in cell.model()


@pytest.mark.parametrize(
    "recoded, tree, family",
    slow_but(
        [(True, "ripple", "ecp5")],
        [(*form, family) for form in ((True, "ripple"), (False, "balanced")) for family in ("ice40", "ecp5")],
    ),
)
def test_netlists(held, family, recoded, tree):
    """Mapping itself can be wrong, so what is simulated is what comes out; tests/test_csd_netlists.py has more."""
    multiplier = CsdMultiplier(8, 8, recoded=recoded, target=family, tree=tree)
    held(multiplier, netlist(verilog(multiplier, "dut"), top="dut", family=family))


@pytest.mark.parametrize("width_a, width_b, recoded", slow_but_at((1,), [(1, 1, False), (4, 5, True), (8, 8, False)]))
def test_serial(held, width_a, width_b, recoded):
    held(CsdMultiplierSerial(width_a, width_b, recoded=recoded))


FAULTS = {
    "quality off by one": (
        "hw.multiply.csd", "less(above or [ZERO], list(self.quality))",
        "less(list(self.quality), above or [ZERO])",
    ),
    "sign of the lower digit": ("hw.multiply.csd", "(negative[2 * j] & ~upper)", "(negative[2 * j + 1] & ~upper)"),
    "a row not counted": (
        "hw.multiply.csd", "count.eq(Cat(*_increment(above, some, self.rows - j)))",
        "count.eq(0)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_turns_the_bench_red(held, fault):
    faulty = mutant(*FAULTS[fault]).CsdMultiplier(4, 4)
    with pytest.raises(BenchFailure, match=r"got 0x\w+, expected 0x\w+ \(seed \d+\)"):
        held(faulty)


def test_a_clock_that_stops_too_early_turns_the_bench_red(held):
    faulty = mutant("hw.multiply.csd", "self.en & (on | used)", "self.en & on").CsdMultiplier(4, 4, registers="rows")
    with pytest.raises(BenchFailure, match=r"got 0x\w+, expected 0x\w+ \(seed \d+\)"):
        held(faulty)


def test_a_control_that_comes_early_turns_the_bench_red(held):
    faulty = mutant(
        "hw.multiply.csd", "held.append((register[0], register[1],", "held.append((register[0], control[1],"
    )
    with pytest.raises(BenchFailure, match=r"got 0x\w+, expected 0x\w+ \(seed \d+\)"):
        held(faulty.CsdMultiplier(4, 4, registers="digits"))


def test_a_serial_form_that_ends_late_turns_the_bench_red(held):
    faulty = mutant("hw.multiply.csd_serial", "(left == 0) | (budget == 0)", "(left == 0)").CsdMultiplierSerial(4, 4)
    with pytest.raises(BenchFailure, match=r"case \d+, cycle \d: done is 0"):
        held(faulty)


def test_missed_coverage_turns_the_bench_red(held, monkeypatch):
    original = cases

    def poorer(*args, **options):
        found = original(*args, **options)
        keep = [k for k, quality in enumerate(found["inputs"]["quality"]) if quality != 2]
        pick = {name: [found[name][k] for k in keep] for name in ("expected", "cycles", "covers")}
        inputs = {port: [values[k] for k in keep] for port, values in found["inputs"].items()}
        return found | pick | {"inputs": inputs}

    monkeypatch.setitem(globals(), "cases", poorer)
    with pytest.raises(BenchFailure, match="coverage: .* points missed, first quality 2"):
        held(CsdMultiplier(4, 4))


def test_what_is_refused():
    with pytest.raises(FewbitError, match="^a CSD multiplier needs operands of at least 1 bit, not 0 for b$"):
        CsdMultiplier(8, 0)
    with pytest.raises(
        FewbitError, match="^the target of a CSD multiplier must be one of generic, asic, ice40, ecp5, not 'xc7'$"
    ):
        CsdMultiplier(8, 8, target="xc7")
    with pytest.raises(FewbitError, match="^the tree of a CSD multiplier must be one of ripple, balanced, not 'star'$"):
        CsdMultiplier(8, 8, tree="star")
    with pytest.raises(
        FewbitError, match="^the registers of a CSD multiplier must be one of none, digits, rows, all, not 'some'$"
    ):
        CsdMultiplier(8, 8, registers="some")
    with pytest.raises(FewbitError, match="^a serial CSD multiplier needs operands of at least 1 bit, not -1 for a$"):
        CsdMultiplierSerial(-1, 8)
    with pytest.raises(FewbitError, match="^a recoder needs a width of at least 1, not 0$"):
        Recoder(0)
    with pytest.raises(FewbitError, match="^a multiplier needs operands of at least 1 bit, not 0 for a$"):
        Multiplier(0, 4)
    with pytest.raises(FewbitError, match="^a clock gate and its pins are named by Verilog identifiers, not 'a b'$"):
        GateCell(name="a b")
