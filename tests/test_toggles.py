"""Toggles of mapped netlists: tiny ones worked out by hand, and settled values against what was synthesized."""

from __future__ import annotations

import numpy as np
import pytest
from faults import mutant

from fewbit.golden.errors import FewbitError
from fewbit.sim.toggles import Activity, Mapped, pack, unpack

STREAMS = 64
BUFFER, INVERTER, AND, XOR = 0xAAAA, 0x5555, 0x8888, 0x6666


def lut(table, inputs, output):
    pins = {f"I{k}": [bit] for k, bit in enumerate([*inputs, *"0000"][:4])}
    return {"type": "SB_LUT4", "parameters": {"LUT_INIT": f"{table:016b}"}, "connections": pins | {"O": [output]}}


def carry(a, b, c, output):
    return {"type": "SB_CARRY", "parameters": {}, "connections": {"I0": [a], "I1": [b], "CI": [c], "CO": [output]}}


def flop(kind, data, output, **pins):
    connections = {"C": [99], "D": [data], "Q": [output]} | {pin: [bit] for pin, bit in pins.items()}
    return {"type": kind, "parameters": {}, "connections": connections}


def slots(pins, inits):
    parameters = {f"INIT{k}": f"{init:016b}" for k, init in enumerate(inits)} | {"INJECT1_0": "NO", "INJECT1_1": "NO"}
    return {"type": "CCU2C", "parameters": parameters, "connections": {pin: [bit] for pin, bit in pins.items()}}


def netlist(cells, **ports):
    """Ports by name: ``i`` or ``o``, then their bits."""
    described = {
        name: {"direction": "input" if way == "i" else "output", "bits": bits} for name, (way, *bits) in ports.items()
    }
    design = {"modules": {"top": {"ports": described, "cells": {str(k): cell for k, cell in enumerate(cells)}}}}
    return Mapped(design, "top")


def everywhere(*values):
    """The same values in every stream: (cycles, streams)."""
    return np.repeat(np.array(values)[:, None], STREAMS, 1)


def total(luts=0, carries=0, flip_flops=0):
    return Activity(luts=luts * STREAMS, carries=carries * STREAMS, flip_flops=flip_flops * STREAMS)


def test_words_are_streams():
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 128))
    assert np.array_equal(unpack(pack(bits)), bits)
    assert pack(bits).shape == (3, 5, 2)


def hazard():
    """``i & ~i``: always 0, but for a pulse of one LUT's delay when ``i`` rises."""
    return netlist([lut(INVERTER, [2], 3), lut(AND, [2, 3], 4)], i=("i", 2), o=("o", 4))


def test_a_hazard_is_a_pulse_when_the_input_rises():
    settled = hazard().settle({"i": everywhere(0, 1)})
    assert not settled.port("o").any()
    assert settled.zero_delay() == total(luts=1)  # the inverter
    assert settled.glitches() == total(luts=3)  # the inverter, and the AND up and down


def test_a_hazard_is_none_when_the_input_falls():
    settled = hazard().settle({"i": everywhere(1, 0)})
    assert settled.zero_delay() == settled.glitches() == total(luts=1)


def test_a_chain_of_inverters_delays_a_parity():
    """XOR of an input with itself once, twice and thrice inverted arrives at 0, 3, 6, 9: it turns at 3, 6, 9, 12."""
    cells = [lut(INVERTER, [2], 3), lut(INVERTER, [3], 4), lut(INVERTER, [4], 5), lut(0x6996, [2, 3, 4, 5], 6)]
    settled = netlist(cells, i=("i", 2), o=("o", 6)).settle({"i": everywhere(0, 1)})
    assert settled.zero_delay() == total(luts=3)
    assert settled.glitches() == total(luts=3 + 4)


def adder(first=XOR):
    """Two bits of ``a + b`` on iCE40: sums at 7 and 9, carries at 6 and 8."""
    cells = [
        lut(first, [2, 4], 7), carry(2, 4, "0", 6), lut(0x9696, [3, 5, 6], 9), carry(3, 5, 6, 8), lut(BUFFER, [8], 10),
    ]  # fmt: skip
    return netlist(cells, a=("i", 2, 3), b=("i", 4, 5), o=("o", 7, 9, 10))


def test_a_carry_is_a_shorter_hop_than_a_lut():
    """1 + 0 to 1 + 3. The second sum rises at 3 for its operand, and falls at 4, since its carry came at 1; the first
    falls; both carries rise, and the buffer behind the last."""
    settled = adder().settle({"a": everywhere(1, 1), "b": everywhere(0, 3)})
    assert settled.port("o")[:, 0].tolist() == [1, 4]
    assert settled.zero_delay() == total(luts=2, carries=2)
    assert settled.glitches() == total(luts=4, carries=2)
    assert settled.glitches(carry=3) == total(luts=4, carries=2)


def test_settled_values_are_the_sum():
    a, b = (values.repeat(STREAMS // 16, 0) for values in np.divmod(np.arange(16), 4))
    settled = adder().settle({"a": a[None], "b": b[None]})
    assert np.array_equal(settled.port("o")[0], a + b)
    faulty = adder(first=AND).settle({"a": a[None], "b": b[None]})
    assert not np.array_equal(faulty.port("o")[0], a + b)
    assert np.array_equal(settled.port("o", signed=True)[0], (a + b + 4) % 8 - 4)


def test_slots_of_ecp5_are_luts_and_carries():
    """The same adder in a CCU2C: ``a ^ b`` where D is 1, else ``a``, which is the carry where that is 0. The carry
    between the halves counts, one that leads nowhere does not."""
    pins = {"A0": 2, "B0": 4, "C0": "0", "D0": "1", "A1": 3, "B1": 5, "C1": "0", "D1": "1", "CIN": "0"}
    cell = slots(pins | {"S0": 7, "S1": 9, "COUT": "x"}, [0x66AA, 0x66AA])
    mapped = netlist([cell], a=("i", 2, 3), b=("i", 4, 5), o=("o", 7, 9))
    settled = mapped.settle({"a": everywhere(1, 1), "b": everywhere(0, 3)})
    assert settled.port("o")[:, 0].tolist() == [1, 0]
    assert settled.zero_delay() == total(luts=1, carries=1)
    assert settled.glitches() == total(luts=3, carries=1)


def test_the_carry_of_a_slot_is_its_lut_of_two_inputs():
    """Where C or D holds the LUT at 0, the carry is the LUT's value at A and B with both at 0."""
    pins = {"A0": 2, "B0": "0", "C0": "0", "D0": "1", "A1": "0", "B1": "0", "C1": "0", "D1": "0", "CIN": "0"}
    cell = slots(pins | {"S0": 5, "S1": 6, "COUT": "x"}, [0x00AA, 0])
    settled = netlist([cell], i=("i", 2), o=("o", 6)).settle({"i": everywhere(0, 1)})
    assert settled.port("o")[:, 0].tolist() == [0, 1]


def test_flip_flops_toggle_with_the_clock_and_are_clocked_where_enabled():
    cells = [flop("SB_DFFE", 2, 4, E=3), lut(INVERTER, [4], 5)]
    mapped = netlist(cells, clk=("i", 99), i=("i", 2), en=("i", 3), o=("o", 5))
    settled = mapped.settle({"i": everywhere(1, 1, 0, 0), "en": everywhere(0, 1, 0, 1)})
    assert settled.port("o")[:, 0].tolist() == [1, 1, 0, 0]
    assert settled.zero_delay() == settled.glitches() == total(luts=1, flip_flops=1)
    assert settled.clocked() == STREAMS
    assert settled.clocked(where=np.zeros((4, STREAMS), bool)) == 0


@pytest.mark.parametrize(
    "kind, pin, after",
    [("SB_DFFSR", "R", [0, 1, 0, 0]), ("SB_DFFSS", "S", [0, 1, 1, 1]), ("SB_DFFESR", "R", [0, 1, 0, 0])],
)
def test_synchronous_resets(kind, pin, after):
    pins = {pin: 3} | ({"E": "1"} if "E" in kind[6:] else {})
    mapped = netlist([flop(kind, 2, 4, **pins)], i=("i", 2), reset=("i", 3), o=("o", 4))
    settled = mapped.settle({"i": everywhere(1, 1, 0, 0), "reset": everywhere(0, 1, 1, 0)})
    assert settled.port("o")[:, 0].tolist() == after


@pytest.mark.parametrize("over, after", [("LSR_OVER_CE", [0, 1, 0]), ("CE_OVER_LSR", [0, 1, 1])])
def test_an_ecp5_reset_may_need_the_enable(over, after):
    cell = {
        "type": "TRELLIS_FF",
        "parameters": {"CEMUX": "CE", "LSRMUX": "LSR", "SRMODE": over, "REGSET": "RESET"},
        "connections": {"CLK": [99], "DI": [2], "CE": [3], "LSR": [4], "Q": [5]},
    }
    mapped = netlist([cell], i=("i", 2), en=("i", 3), reset=("i", 4), o=("o", 5))
    settled = mapped.settle({"i": everywhere(1, 1, 1), "en": everywhere(1, 0, 0), "reset": everywhere(0, 1, 0)})
    assert settled.port("o")[:, 0].tolist() == after


def test_counting_starts_at_the_first_cycle_asked_for():
    settled = hazard().settle({"i": everywhere(0, 1, 0, 1)})
    assert settled.glitches() == total(luts=3 + 1 + 3)
    assert settled.glitches(first=2) == total(luts=1 + 3)


def race():
    """A LUT against three carries, and the XOR of both ends."""
    cells = [
        lut(BUFFER, [2], 3),
        carry(2, "1", "0", 4),
        carry(4, "1", "0", 5),
        carry(5, "1", "0", 6),
        lut(XOR, [3, 6], 7),
    ]
    return netlist(cells, i=("i", 2), o=("o", 7))


def test_three_hops_of_a_carry_take_as_long_as_a_lut():
    settled = race().settle({"i": everywhere(0, 1)})
    assert settled.zero_delay() == settled.glitches() == total(luts=1, carries=3)
    assert settled.glitches(carry=2) == total(luts=3, carries=3)


FAULTS = {
    "a LUT as fast as a carry": ('{"luts": lut, "carries": carry}', '{"luts": carry, "carries": carry}'),
    "a carry as slow as a LUT": ('{"luts": lut, "carries": carry}', '{"luts": lut, "carries": lut}'),
    "one change a net at most": ("changes[nets] += counts", "changes[nets] |= counts"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_changes_the_count(fault):
    faulty = mutant("sim.toggles", *FAULTS[fault])
    mapped = hazard() if "at most" in fault else race()
    settled = mapped.settle({"i": everywhere(0, 1)})
    wrong = faulty.Settled(mapped, settled.states, settled.enabled).glitches()
    assert (wrong.luts, wrong.carries) != (settled.glitches().luts, settled.glitches().carries)


def test_a_planted_fault_in_a_cell_changes_the_sum(monkeypatch):
    faulty = mutant("sim.toggles", "0b11101000", "0b11111000")
    monkeypatch.setitem(globals(), "Mapped", faulty.Mapped)
    ones = everywhere(0, 1)
    assert adder().settle({"a": ones, "b": ones}).port("o")[:, 0].tolist() != [0, 2]


def test_what_is_refused():
    with pytest.raises(FewbitError, match="^there is no module top in the netlist$"):
        Mapped({"modules": {}}, "top")
    with pytest.raises(FewbitError, match=r"^activity is not modelled for SB_RAM40_4K \(0\)$"):
        netlist([{"type": "SB_RAM40_4K", "parameters": {}, "connections": {}}])
    with pytest.raises(FewbitError, match=r"^activity is not modelled for asynchronous resets \(0\)$"):
        netlist([flop("SB_DFFR", 2, 3, R=4)])
    with pytest.raises(FewbitError, match="^the netlist has a loop without a flip-flop in it$"):
        netlist([lut(INVERTER, [2], 2)])
    with pytest.raises(FewbitError, match="^the netlist has no input x$"):
        hazard().settle({"x": everywhere(0)})
    with pytest.raises(FewbitError, match="streams a multiple of 64$"):
        hazard().settle({"i": np.zeros((2, 3), int)})
