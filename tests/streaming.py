"""Stream and pipeline components in amaranth.sim, which needs no build: quick, for many small configurations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from fewbit.golden.dtype import DType
from fewbit.hw.steps import Register, Step
from fewbit.hw.streams import lane_stream, shape_of
from fewbit.sim.bench import PATTERNS, Pattern

PAIRS = [(valid, ready) for valid in PATTERNS for ready in PATTERNS]
"""Every pattern of valid with every pattern of ready."""


@dataclass
class Trace:
    """What a run gave: output words, and the cycles of the transfers on both sides."""

    words: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)

    def latency(self, beats_out: int) -> int:
        """Cycles from the first input transfer to the last output transfer of the first frame, both counted."""
        return self.given[beats_out - 1] - self.taken[0] + 1

    def intervals(self, beats_out: int) -> list[int]:
        return [later - earlier for earlier, later in pairwise(self.given[beats_out - 1 :: beats_out])]


def simulate(
    component: Any,
    words: Sequence[int],
    outputs: int,
    *,
    valid: str = "always",
    ready: str = "always",
    seed: int = 1,
    patience: int = 1000,
) -> Trace:
    """Streams ``words`` through ``component`` until ``outputs`` words came, and 20 cycles on, under the transfer rules;
    it has stalled when nothing moves for ``patience`` cycles.

    A word once valid must stay, and neither it nor valid may depend on ready, which is turned over in 1 of 4 cycles.
    """
    trace, rng = Trace(), random.Random(f"{seed} probe")
    offer, take = (Pattern(kind, random.Random(f"{seed} {side}")) for side, kind in (("i", valid), ("o", ready)))
    i_payload, o_payload = component.i.payload.as_value(), component.o.payload
    o_payload = getattr(o_payload, "as_value", lambda: o_payload)()

    async def testbench(ctx: Any) -> None:
        cycle = quiet = after = 0
        offering, waiting = False, None
        while after < 20:
            offering = offering or (len(trace.taken) < len(words) and offer.next())
            willing = take.next()
            ctx.set(component.i.valid, offering)
            ctx.set(i_payload, words[len(trace.taken)] if offering else rng.getrandbits(len(i_payload)))
            ctx.set(component.o.ready, willing)
            given = ctx.get(o_payload) if ctx.get(component.o.valid) else None
            if rng.random() < 1 / 4:
                ctx.set(component.o.ready, not willing)
                turned = ctx.get(o_payload) if ctx.get(component.o.valid) else None
                assert turned == given, f"cycle {cycle}: valid or the payload depends on ready"
                ctx.set(component.o.ready, willing)
            assert waiting is None or given == waiting, f"cycle {cycle}: a word not yet taken changed"
            waiting = None if willing else given
            quiet += 1
            if willing and given is not None:
                trace.words.append(given)
                trace.given.append(cycle)
                quiet = 0
            if offering and ctx.get(component.i.ready):
                trace.taken.append(cycle)
                offering, quiet = False, 0
            after += len(trace.words) >= outputs
            assert quiet < patience, f"stalled: {len(trace.words)} of {outputs} words came (seed {seed})"
            await ctx.tick()
            cycle += 1

    _run(component, testbench)
    assert len(trace.words) == outputs, f"{len(trace.words)} words came, not {outputs} (seed {seed})"
    return trace


def pipeline(component: Any, inputs: dict[str, Sequence[int]], *, latency: int, enable: str = "random") -> list[int]:
    """Results of a component with ``en``: ``o`` for each case, ``latency`` enabled cycles after its inputs."""
    pattern, results = Pattern(enable, random.Random(1)), []
    cases = len(next(iter(inputs.values())))

    async def testbench(ctx: Any) -> None:
        position = 0
        while position < cases + latency:
            enabled = not latency or pattern.next()
            ctx.set(component.en, enabled)
            for port, values in inputs.items():
                ctx.set(getattr(component, port), values[min(position, cases - 1)] if enabled else 0)
            if enabled and position >= latency:
                results.append(ctx.get(component.o))
            await ctx.tick()
            position += enabled

    _run(component, testbench)
    return results


def pass_through(m: Module, component: Any, stages: int) -> Signal:
    """Takes valid from stream ``i`` to stream ``o`` past ``stages`` pipeline stages; these advance while it says."""
    move, valid = Signal(), component.i.valid
    for stage in range(stages):
        here = Signal(name=f"valid_{stage}")
        with m.If(move):
            m.d.sync += here.eq(valid)
        valid = here
    m.d.comb += [move.eq(component.o.ready | ~valid), component.i.ready.eq(move), component.o.valid.eq(valid)]
    return move


def _run(component: Any, testbench: Any) -> None:
    m = Module()
    m.domains.sync = ClockDomain()  # wires alone have none
    m.submodules.component = component
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


class Chain(wiring.Component):
    """Units one behind the other."""

    def __init__(self, *units: Any) -> None:
        self.units = units
        super().__init__({"i": units[0].signature.members["i"], "o": units[-1].signature.members["o"]})

    def timing(self) -> list[Step]:
        return [step for unit in self.units for step in unit.timing()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        source = wiring.flipped(self.i)
        for index, unit in enumerate(self.units):
            m.submodules[f"unit_{index}"] = unit
            wiring.connect(m, source, unit.i)
            source = unit.o
        wiring.connect(m, source, wiring.flipped(self.o))
        return m


class Slow(wiring.Component):
    """Hands each element on ``cycles`` later, and takes the next when it has gone."""

    def __init__(self, dtype: DType, cycles: int) -> None:
        self.cycles = cycles
        super().__init__({side: flow(lane_stream(shape_of(dtype), 1)) for side, flow in (("i", In), ("o", Out))})

    def timing(self) -> list[Step]:
        return [Register(self.cycles)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(range(self.cycles + 1))
        m.d.comb += [self.i.ready.eq((left == 0) | ((left == 1) & self.o.ready)), self.o.valid.eq(left == 1)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [left.eq(self.cycles), self.o.payload.eq(self.i.payload)]
        with m.Elif((left > 1) | (self.o.valid & self.o.ready)):
            m.d.sync += left.eq(left - 1)
        return m
