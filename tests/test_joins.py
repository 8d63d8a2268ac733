"""Forks, joins and buffers as components: order, values, cycles, and how many beats a buffer holds."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from faults import mutant
from streaming import PAIRS, Slow, simulate

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Add, Concat, TensorType
from fewbit.hw.fabric.devices import target
from fewbit.hw.layers.fork import Fork
from fewbit.hw.layers.join import AddUnit, ConcatUnit
from fewbit.hw.memory.fifo import Fifo, fifo_cost, fifo_memory
from fewbit.hw.schedule import Node, schedule_of
from fewbit.hw.steps import TooLate
from fewbit.hw.streams import lane_stream, shape_of
from fewbit.sim.vectors import lane_words

UINT4 = DType("uint", 4)


class Diamond(wiring.Component):
    """A fork, a slow way and a direct one, and a join."""

    def __init__(self, join, cycles: int, fork=Fork) -> None:
        self.join, self.slow, self.fork = join, Slow(UINT4, cycles), fork(shape_of(UINT4), 1, 2)
        super().__init__({"i": In(lane_stream(shape_of(UINT4), 1)), "o": Out(join.signature.members["o"].signature)})

    def nodes(self) -> list[Node]:
        return [Node(self.fork.timing(), (-1,)), Node(self.slow.timing(), (0,)), Node(self.join.timing(), (1, 0))]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fork, m.submodules.slow, m.submodules.join = self.fork, self.slow, self.join
        wiring.connect(m, wiring.flipped(self.i), self.fork.i)
        wiring.connect(m, self.fork.o_0, self.slow.i)
        wiring.connect(m, self.slow.o, self.join.i_0)
        wiring.connect(m, self.fork.o_1, self.join.i_1)
        wiring.connect(m, self.join.o, wiring.flipped(self.o))
        return m


def add(gains, depths, kinds=(UINT4, UINT4), unit=AddUnit):
    layer = Add(name="add", gains=gains, inputs=tuple(f"x{side}" for side in range(len(gains))))
    return unit(layer, [TensorType(kind, (1,)) for kind in kinds], depths=depths)


def values(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 16, (count, 1))


@pytest.mark.parametrize("memory", ["block", "distributed", "logic"])
@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8])
def test_a_buffer_keeps_its_order_and_delays_by_two_cycles(depth, memory):
    words = lane_words(values(20), UINT4, 1)
    trace = simulate(Fifo(unsigned(4), 1, depth, memory), words, 20)
    assert trace.words == words
    assert trace.given[0] - trace.taken[0] == Fifo.latency
    if depth >= 3:
        assert trace.taken == list(range(20))


@pytest.mark.parametrize("valid, ready", PAIRS)
@pytest.mark.parametrize("depth", [1, 4])
def test_a_buffer_keeps_its_order_under_every_pattern(depth, valid, ready):
    words = lane_words(values(24), UINT4, 1)
    assert simulate(Fifo(unsigned(4), 1, depth), words, 24, valid=valid, ready=ready).words == words


@pytest.mark.parametrize("depth", [1, 2, 3, 7])
def test_a_buffer_holds_as_many_beats_as_it_says(depth):
    trace = simulate_shut(Fifo(unsigned(4), 1, depth))
    assert len(trace) == depth


def simulate_shut(fifo: Fifo) -> list[int]:
    """Cycles in which beats are taken while none is given."""
    taken: list[int] = []

    async def bench(context):
        context.set(fifo.i.valid, 1)
        for cycle in range(30):
            if context.get(fifo.i.ready):
                taken.append(cycle)
            await context.tick()

    simulator = Simulator(fifo)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return taken


@pytest.mark.parametrize("valid, ready", PAIRS)
@pytest.mark.parametrize("gains", [[1, 1], [-3, 4], [11, -7]])
def test_sums_of_branches_under_every_pattern(gains, valid, ready):
    x = values(16)
    unit = add(gains, (0, 4))
    expected = lane_words((gains[0] + gains[1]) * x, unit.result.dtype, 1)
    trace = simulate(Diamond(unit, 5), lane_words(x, UINT4, 1), 16, valid=valid, ready=ready)
    assert trace.words == expected


@pytest.mark.parametrize("valid, ready", PAIRS)
def test_branches_side_by_side_under_every_pattern(valid, ready):
    x = values(16)
    sources = [TensorType(UINT4, (2,)), TensorType(UINT4, (2,))]
    unit = ConcatUnit(Concat(name="c", inputs=("a", "b")), sources, depths=(0, 5))
    expected = lane_words(np.tile(x.reshape(-1, 2), 2).reshape(-1, 1), UINT4, 1)
    trace = simulate(Diamond(unit, 3), lane_words(x, UINT4, 1), 32, valid=valid, ready=ready)
    assert trace.words == expected


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("cycles", [1, 2, 5])
def test_the_schedule_of_a_diamond_is_exact(cycles, depth):
    design = Diamond(add([2, 1], (0, depth)), cycles)
    promised, _ = schedule_of(design.nodes, 8, 8, 0, most_frames=4)
    trace = simulate(design, lane_words(values(32), UINT4, 1), 32)
    assert trace.given == [time + trace.taken[0] for time in promised.times]


def test_a_diamond_whose_buffers_are_too_small_has_no_schedule():
    """Four beats of one way come before the first of the other, of which three wait: two in a buffer, one at the fork.
    With a place less the fork stands still before the fourth."""
    sources = [TensorType(UINT4, (4,)), TensorType(UINT4, (4,))]
    unit = ConcatUnit(Concat(name="c", inputs=("a", "b")), sources, depths=(0, 2))
    with pytest.raises(TooLate):
        schedule_of(Diamond(unit, 1).nodes, 8, 16, 0, most_frames=4)
    with pytest.raises(AssertionError, match=r"^stalled"):
        simulate(Diamond(unit, 1), lane_words(values(16), UINT4, 1), 32)


def a_buffer_is_full(fifo) -> None:
    assert len(simulate_shut(fifo(unsigned(4), 1, 3))) == 3


def a_diamond_doubles(fork=Fork, unit=AddUnit) -> None:
    x, join = values(12), add([1, 1], (0, 4), unit=unit)
    trace = simulate(Diamond(join, 3, fork), lane_words(x, UINT4, 1), 12)
    assert trace.words == lane_words(2 * x, join.result.dtype, 1)


@pytest.mark.parametrize(
    "module, name, old, new, bench",
    [
        ("hw.memory.fifo", "Fifo", "held != self.depth", "held != self.depth + 1", a_buffer_is_full),
        ("hw.layers.fork", "Fork", "m.d.sync += has.eq(0)", "m.d.sync += has.eq(has)", a_diamond_doubles),
        ("hw.layers.join", "AddUnit", "<< exponent", "<< (exponent + 1)", lambda unit: a_diamond_doubles(unit=unit)),
    ],
)
def test_a_planted_fault_turns_the_bench_red(module, name, old, new, bench):
    a_buffer_is_full(Fifo)
    a_diamond_doubles()
    faulty = getattr(mutant(module, old, new), name)
    with pytest.raises(AssertionError):
        bench(faulty)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Fifo(unsigned(4), 1, 0), "a buffer holds at least 1 beat, not 0"),
        (
            lambda: Fifo(unsigned(4), 1, 1, "ring"),
            'the memory of a buffer must be "block", "distributed" or "logic", not',
        ),
        (lambda: Fork(unsigned(4), 1, 1), "a fork has at least 2 outputs, not 1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(FewbitError, match=f"^{message}"):
        make()


def test_shallow_buffers_lie_in_flip_flops_and_deep_ones_in_memory():
    up5k, ecp5 = target("up5k"), target("ecp5-25k")
    assert fifo_memory(3, 8, up5k) == "logic"
    assert (fifo_memory(30, 8, up5k), fifo_memory(30, 8, ecp5), fifo_memory(300, 8, ecp5)) == (
        "block", "distributed", "block",
    )  # fmt: skip
    assert fifo_cost(600, 8, up5k).rams == 2
