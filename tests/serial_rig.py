"""A shell in simulation, its serial lines driven and read bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from fewbit.boards.shell import Shell
from fewbit.golden.dtype import Ints
from fewbit.golden.network import TensorType

CYCLES_A_BIT = 8
BYTE = 10 * CYCLES_A_BIT
PAUSE = 600
"""Cycles of silence that discard a frame."""

CLOCK_HZ = 8_000_000


class SerialBench:
    """A shell around a design: what is played to it, and what came back."""

    def __init__(
        self, design: Any, source: TensorType, scores: TensorType, *, has_index: bool = True, buffer_frames: int = 2
    ) -> None:
        self.source, self.scores, self.has_index = source, scores, has_index
        self.shell = Shell(
            design,
            input=source,
            scores=scores,
            has_index=has_index,
            clock_hz=CLOCK_HZ,
            baud=CLOCK_HZ // CYCLES_A_BIT,
            buffer_frames=buffer_frames,
            pause_s=PAUSE / CLOCK_HZ,
        )
        self.received: list[int] = []
        self.errors: list[int] = []

    def frames(self, count: int, seed: int = 1) -> Ints:
        rng, kind = np.random.default_rng(seed), self.source.dtype
        raw = rng.integers(0, 1 << kind.bits, (count, *self.source.shape), np.uint64)
        return kind.decode(raw)

    def run(self, *script: Any) -> bytes:
        """Play ``script``: bytes to send; an int, that many cycles of silence; ``"bad"``, a byte with a low stop bit;
        ``"reset"``; ``"answers", n``: silence until n bytes came in all. Everything that came back."""
        shell, reset = self.shell, Signal()
        dut = ResetInserter(reset)(shell)

        async def level(ctx: Any, value: int, cycles: int) -> None:
            ctx.set(shell.rx, value)
            await ctx.tick().repeat(cycles)

        async def send(ctx: Any, value: int, stop: int = 1) -> None:
            for bit in (0, *((value >> place) & 1 for place in range(8)), stop):
                await level(ctx, bit, CYCLES_A_BIT)
            ctx.set(shell.rx, 1)

        async def drive(ctx: Any) -> None:
            await level(ctx, 1, 10)
            for step in script:
                if isinstance(step, bytes):
                    for value in step:
                        await send(ctx, value)
                elif isinstance(step, int):
                    await level(ctx, 1, step)
                elif step == "bad":
                    await send(ctx, 0x55, stop=0)
                elif step == "reset":
                    ctx.set(reset, 1)
                    await ctx.tick()
                    ctx.set(reset, 0)
                else:
                    waited = 0
                    while len(self.received) < step[1] and waited < 40 * BYTE:
                        await ctx.tick().repeat(BYTE)
                        waited = waited + BYTE
            await level(ctx, 1, 4 * BYTE)

        async def listen(ctx: Any) -> None:
            bits: list[int] = []
            age: int | None = None
            async for *_, tx in ctx.tick().sample(shell.tx):
                if age is None and not tx:
                    bits, age = [], 0
                if age is not None:
                    if age % CYCLES_A_BIT == CYCLES_A_BIT // 2:
                        bits.append(tx)
                    age += 1
                if len(bits) == 10:
                    assert (bits[0], bits[9]) == (0, 1), f"no byte on tx: {bits}"
                    self.received.append(sum(bit << place for place, bit in enumerate(bits[1:9])))
                    bits, age = [], None

        async def watch(ctx: Any) -> None:
            async for *_, error in ctx.tick().sample(shell.error):
                if not self.errors or self.errors[-1] != error:
                    self.errors.append(error)

        sim = Simulator(dut)
        sim.add_clock(125e-9)
        sim.add_testbench(drive)
        sim.add_testbench(listen, background=True)
        sim.add_testbench(watch, background=True)
        sim.run()
        return bytes(self.received)
