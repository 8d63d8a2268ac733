"""The UART on a line driven and read bit by bit."""

import random
import re
from fractions import Fraction

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from fewbit.boards.uart import UARTReceiver, UARTTransmitter, divisor
from fewbit.golden.errors import FewbitError


def simulate(dut, *testbenches):
    """Run to the end of the last test bench that is not a pair (test bench, True), one that runs beside the others."""
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for bench in testbenches:
        background = isinstance(bench, tuple)
        sim.add_testbench(bench[0] if background else bench, background=background)
    sim.run()


def receive(cycles_a_bit, waveform):
    """Bytes, and framing errors, that a receiver sees on a line: ``waveform`` is a list of (level, cycles)."""
    dut = UARTReceiver(cycles_a_bit)
    got, errors = [], 0

    async def line(ctx):
        for level, cycles in [(1, 5), *waveform, (1, 12 * cycles_a_bit)]:
            ctx.set(dut.rx, level)
            if cycles:
                await ctx.tick().repeat(cycles)

    async def watch(ctx):
        nonlocal errors
        async for _, _, valid, payload, error in ctx.tick().sample(dut.o.valid, dut.o.payload, dut.error):
            if valid:
                got.append(payload)
            errors += error

    simulate(dut, line, (watch, True))
    return got, errors


def frame(value, cycles_a_bit, *, stop=1):
    """Levels of one byte; ``cycles_a_bit`` may be a fraction, edges fall on the nearest cycle."""
    edges = [round(number * cycles_a_bit) for number in range(11)]
    levels = [0, *((value >> bit) & 1 for bit in range(8)), stop]
    return [(level, after - before) for level, before, after in zip(levels, edges, edges[1:])]


@pytest.mark.parametrize("cycles", [8, 9, 16, 104])
def test_receives_back_to_back_bytes(cycles):
    values = [0x00, 0xFF, 0x55, 0xAA, 0x80, 0x01, *random.Random(1).randbytes(10)]
    assert receive(cycles, [part for value in values for part in frame(value, cycles)]) == (values, 0)


@pytest.mark.parametrize("percent", [-3, 3])
def test_receives_from_a_sender_off_its_rate(percent):
    values = list(random.Random(2).randbytes(20))
    sent = [part for value in values for part in frame(value, Fraction(50 * (100 + percent), 100))]
    assert receive(50, sent) == (values, 0)


def test_receives_every_byte():
    values = list(range(256))
    assert receive(8, [part for value in values for part in frame(value, 8)]) == (values, 0)


def test_a_glitch_of_one_cycle_is_not_seen():
    idle = [(0, 1), (1, 40)]
    noisy = [piece for level, cycles in frame(0x5A, 16) for piece in ((level, 7), (1 - level, 1), (level, cycles - 8))]
    assert receive(16, idle + noisy) == ([0x5A], 0)


def test_a_start_bit_must_last_half_a_bit():
    assert receive(16, [(0, 6), (1, 30), *frame(0x42, 16)]) == ([0x42], 0)


def test_a_low_stop_bit_is_an_error_and_drops_the_byte():
    bad = frame(0x37, 16, stop=0)
    assert receive(16, [*frame(1, 16), *bad, (1, 16), *frame(2, 16)]) == ([1, 2], 1)


def test_a_break_is_one_error():
    assert receive(16, [(0, 1000), (1, 16), *frame(9, 16)]) == ([9], 1)


def send(values, cycles_a_bit, gaps):
    """Line of a transmitter, a level a cycle, from the cycle in which the first byte is taken."""
    dut = UARTTransmitter(cycles_a_bit)
    levels = []

    async def feed(ctx):
        for value, gap in zip(values, gaps):
            if gap:
                await ctx.tick().repeat(gap)
            ctx.set(dut.i.payload, value)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(11 * cycles_a_bit)

    async def watch(ctx):
        async for _, _, level in ctx.tick().sample(dut.tx):
            levels.append(level)

    simulate(dut, feed, (watch, True))
    return levels


@pytest.mark.parametrize("cycles", [8, 11])
def test_sends_bits_of_exact_length_back_to_back(cycles):
    values = [0x00, 0xFF, 0x4B, *random.Random(3).randbytes(5)]
    expected = [level for value in values for level, length in frame(value, cycles) for _ in range(length)]
    levels = send(values, cycles, [0] * len(values))
    start = levels.index(0)
    assert start == 1
    assert levels[start : start + len(expected)] == expected
    assert set(levels[start + len(expected) :]) == {1}


def test_the_line_is_high_between_bytes():
    levels = send([0, 0], 8, [0, 200])
    assert levels.count(0) == 2 * 9 * 8


@pytest.mark.parametrize("cycles", [8, 13])
def test_a_receiver_understands_a_transmitter(cycles):
    m = Module()
    m.submodules.tx = tx = UARTTransmitter(cycles)
    m.submodules.rx = rx = UARTReceiver(cycles)
    m.d.comb += rx.rx.eq(tx.tx)
    rng = random.Random(4)
    values, got = list(rng.randbytes(30)), []

    async def feed(ctx):
        for value in values:
            await ctx.tick().repeat(rng.choice([1, 1, 1, 150]))
            ctx.set(tx.i.payload, value)
            ctx.set(tx.i.valid, 1)
            await ctx.tick().until(tx.i.ready)
            ctx.set(tx.i.valid, 0)
        await ctx.tick().repeat(12 * cycles)

    async def watch(ctx):
        async for _, _, valid, payload in ctx.tick().sample(rx.o.valid, rx.o.payload):
            if valid:
                got.append(payload)

    simulate(m, feed, (watch, True))
    assert got == values


def test_interfaces_are_streams():
    receiver, transmitter = UARTReceiver(8), UARTTransmitter(8)
    assert receiver.signature.is_compliant(receiver)
    assert transmitter.signature.is_compliant(transmitter)


@pytest.mark.parametrize("clock, baud, cycles", [
    (12_000_000, 1_000_000, 12), (12_000_000, 115_200, 104), (50_000_000, 3_000_000, 17), (25_000_000, 9_600, 2604),
])  # fmt: skip
def test_divisor(clock, baud, cycles):
    assert divisor(clock, baud) == cycles


@pytest.mark.parametrize("clock, baud, message", [
    (12_000_000, 2_000_000, "2000000 baud is too fast for a clock of 12 MHz: ask for at most 1500000 baud"),
    (12_000_000, 960_000,
     "960000 baud is 4.2 % off at a clock of 12 MHz, over 2 %: ask for 1000000 baud or another clock"),
    (12_000_000, 0, "the baud rate must be positive, not 0"),
])  # fmt: skip
def test_divisor_refuses(clock, baud, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        divisor(clock, baud)


@pytest.mark.parametrize("component", [UARTReceiver, UARTTransmitter])
def test_a_bit_has_at_least_8_cycles(component):
    with pytest.raises(FewbitError, match=r"^a UART needs at least 8 clock cycles per bit, not 7$"):
        component(7)
