"""What every cocotb bench of a stream design is made of: reset, driver, monitor, protocol checker, scoreboard.

The usual bench is a few lines, and all checks run in it at all times::

    @cocotb.test()
    async def frames(dut):
        bench = Bench(dut, valid="random", ready="slow")
        await bench.start()
        got = await bench.run(words, outputs=len(expected))
        compare(got, expected, lanes=4, bits=8, signed=True, beats=10)

A clock cycle lasts 10 ns. Everything is driven on the falling edge and read 1 ns later, when it has settled and long
before the rising edge, so there are no races on RTL or on any zero-delay netlist. Words are Python integers.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer

from fewbit.golden.errors import FewbitError

PATTERNS = ("always", "random", "slow", "burst")
"""When a side of a stream is willing: every cycle, 1 in 2, 1 in 8 (both at random), or in runs of 1 to 16 cycles."""


class ProtocolError(AssertionError):
    """A stream broke the transfer rules."""


class StallError(AssertionError):
    """The words that were waited for did not come."""


class Pattern:
    """An endless sequence of willing and unwilling cycles.

    Parameters
    ----------
    kind : str
        One of :data:`PATTERNS`.
    rng : random.Random
        Where the randomness comes from.
    """

    def __init__(self, kind: str, rng: random.Random) -> None:
        if kind not in PATTERNS:
            raise FewbitError(f"a pattern must be one of {', '.join(PATTERNS)}, not {kind!r}")
        self.kind = kind
        self.rng = rng
        self._left = 0
        self._on = False

    def next(self) -> bool:
        """Whether the coming cycle is a willing one."""
        if self.kind == "always":
            return True
        if self.kind == "burst":
            if self._left == 0:
                self._on, self._left = not self._on, self.rng.randint(1, 16)
            self._left -= 1
            return self._on
        return self.rng.random() < (1 / 2 if self.kind == "random" else 1 / 8)


async def start_clock(dut: Any, *, cycles: int = 2) -> None:
    """Start the clock of a design without streams and hold its reset for the first ``cycles`` cycles."""
    dut.rst.value = 1
    dut.clk.value = 0
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


class StreamDriver:
    """Offers words on a stream into the design. A word once offered stays until taken; between words the payload is
    random, since nothing may depend on it.

    Parameters
    ----------
    dut : cocotb handle
        The design, with ``clk`` and perhaps ``rst``.
    name : str
        The stream: its ports are ``<name>__payload``, ``<name>__valid`` and ``<name>__ready``.
    pattern : str
        One of :data:`PATTERNS`: when a next word is offered.
    rng : random.Random
        Of the pattern and of the payload between words.

    Members
    -------
    queue : deque of int
        Words not yet taken; append to it at any time.
    accepted : int
        Words taken so far.
    """

    def __init__(self, dut: Any, name: str, pattern: str, rng: random.Random) -> None:
        self.dut = dut
        self.name = name
        self.pattern = Pattern(pattern, rng)
        self.rng = rng
        self.queue: deque[int] = deque()
        self.accepted = 0
        self._offering = False
        self._payload, self._valid, self._ready = _ports(dut, name)

    def clear(self) -> None:
        """Forget the words not yet taken and take back the one on offer. Only right under reset."""
        self.queue.clear()
        self._offering = False

    async def run(self) -> None:
        """Drive forever; to be started with ``cocotb.start_soon``."""
        width = len(self._payload)
        while True:
            await FallingEdge(self.dut.clk)
            free = not in_reset(self.dut)
            if not self._offering:
                self._offering = self.pattern.next() and free and bool(self.queue)
                self._payload.value = self.queue[0] if self._offering else self.rng.getrandbits(width)
                self._valid.value = int(self._offering)
            await Timer(1, unit="ns")
            if self._offering and free and _read(self._ready, f"{self.name}__ready"):
                self.queue.popleft()
                self.accepted += 1
                self._offering = False


class StreamMonitor:
    """Takes words from a stream out of the design, on its own and knowing nothing of the driver.

    Parameters
    ----------
    dut, name, rng
        As for :class:`StreamDriver`.
    pattern : str
        One of :data:`PATTERNS`: in which cycles it is ready.

    Members
    -------
    words : list of int
        What came, in order.
    cycles : list of int
        The cycle, counted from the start, in which each came.
    """

    def __init__(self, dut: Any, name: str, pattern: str, rng: random.Random) -> None:
        self.dut = dut
        self.name = name
        self.pattern = Pattern(pattern, rng)
        self.words: list[int] = []
        self.cycles: list[int] = []
        self.cycle = 0
        self._payload, self._valid, self._ready = _ports(dut, name)

    def clear(self) -> None:
        """Forget what came so far."""
        self.words.clear()
        self.cycles.clear()

    async def run(self) -> None:
        """Take words forever; to be started with ``cocotb.start_soon``."""
        while True:
            await FallingEdge(self.dut.clk)
            ready = self.pattern.next()
            self._ready.value = int(ready)
            await Timer(1, unit="ns")
            if ready and not in_reset(self.dut) and _read(self._valid, f"{self.name}__valid"):
                self.words.append(_read(self._payload, f"{self.name}__payload"))
                self.cycles.append(self.cycle)
            self.cycle += 1


class StreamChecker:
    """Holds a stream out of the design to the transfer rules, in every cycle.

    A word once valid stays, with its payload, until it is taken; and neither ``valid`` nor the payload of a valid word
    depends on ``ready`` within a cycle, which is tried in 1 of 4 cycles by turning ``ready`` over and back between the
    edges. Every value that matters is 0 or 1, never X.

    Raises
    ------
    ProtocolError
        From :meth:`run`, which fails the test.
    """

    def __init__(self, dut: Any, name: str, rng: random.Random) -> None:
        self.dut = dut
        self.name = name
        self.rng = rng
        self.cycle = 0
        self._payload, self._valid, self._ready = _ports(dut, name)

    async def run(self) -> None:
        """Check forever; to be started with ``cocotb.start_soon``."""
        waiting: int | None = None
        while True:
            await FallingEdge(self.dut.clk)
            await Timer(1, unit="ns")
            self.cycle += 1
            if in_reset(self.dut):
                waiting = None
                continue
            valid, payload = self._sample()
            ready = _read(self._ready, f"{self.name}__ready")
            if waiting is not None and not valid:
                self._broken("valid fell before the word was taken")
            if waiting is not None and payload != waiting:
                self._broken(f"the payload of a word not yet taken changed from {waiting:#x} to {payload:#x}")
            waiting = payload if valid and not ready else None
            if self.rng.random() < 1 / 4:
                await self._probe(valid, payload, ready)

    async def _probe(self, valid: int, payload: int, ready: int) -> None:
        await Timer(1, unit="ns")
        self._ready.value = 1 - ready
        await Timer(1, unit="ns")
        turned = self._sample()
        self._ready.value = ready
        if turned[0] != valid:
            self._broken(f"valid depends on ready: {valid} with ready {ready}, {turned[0]} with ready {1 - ready}")
        if turned[1] != payload:
            self._broken(f"the payload depends on ready: {payload:#x} with ready {ready}, "
                         f"{turned[1]:#x} with ready {1 - ready}")  # fmt: skip

    def _sample(self) -> tuple[int, int]:
        valid = _read(self._valid, f"{self.name}__valid")
        return valid, _read(self._payload, f"{self.name}__payload") if valid else 0

    def _broken(self, rule: str) -> None:
        raise ProtocolError(f"stream {self.name}, cycle {self.cycle}: {rule}")


class Bench:
    """A design with streams ``i`` and ``o`` between a driver and a monitor, under the checker.

    Parameters
    ----------
    dut : cocotb handle
        The design.
    valid, ready : str
        Patterns of the driver and of the monitor, from :data:`PATTERNS`.
    seed : int
        By default ``$FEWBIT_SEED``, or else cocotb's own; written to the log in any case.
    """

    def __init__(self, dut: Any, *, valid: str = "always", ready: str = "always", seed: int | None = None) -> None:
        if seed is None:
            seed = int(os.environ.get("FEWBIT_SEED") or random.getrandbits(31))
        self.dut = dut
        self.seed = seed
        dut._log.info("fewbit bench: seed %d, valid %s, ready %s", seed, valid, ready)
        # Generators of their own, so that what one side does never shifts the other's gaps.
        self.driver = StreamDriver(dut, "i", valid, random.Random(f"{seed} driver"))
        self.monitor = StreamMonitor(dut, "o", ready, random.Random(f"{seed} monitor"))
        self.checker = StreamChecker(dut, "o", random.Random(f"{seed} checker"))

    async def start(self, image: Sequence[int] = ()) -> None:
        """Start the clock, reset, let driver, monitor and checker loose, and load ``image``, 16 bits at a time, into a
        design that wants it."""
        dut = self.dut
        dut.i__valid.value = 0
        dut.i__payload.value = 0
        dut.o__ready.value = 0
        if hasattr(dut, "rst"):
            dut.rst.value = 1
        if hasattr(dut, "quality"):
            dut.quality.value = (1 << len(dut.quality)) - 1
        if image:
            dut.load__valid.value = 0
        dut.clk.value = 0
        Clock(dut.clk, 10, unit="ns").start(start_high=False)
        for agent in (self.driver, self.monitor, self.checker):
            cocotb.start_soon(agent.run())
        await self.reset()
        for word in image:
            dut.load__payload.value = word
            dut.load__valid.value = 1
            await FallingEdge(dut.clk)
        if image:
            dut.load__valid.value = 0

    async def reset(self, cycles: int = 2) -> None:
        """Hold ``rst`` for some cycles, at any time, mid-frame too. Words queued or received so far are forgotten."""
        await FallingEdge(self.dut.clk)
        if hasattr(self.dut, "rst"):
            self.dut.rst.value = 1
        self.driver.clear()
        for _ in range(cycles):
            await FallingEdge(self.dut.clk)
        self.driver.clear()
        self.monitor.clear()
        if hasattr(self.dut, "rst"):
            self.dut.rst.value = 0

    async def idle(self, cycles: int) -> None:
        """Let some cycles pass."""
        for _ in range(cycles):
            await FallingEdge(self.dut.clk)

    async def run(self, words: Iterable[int], outputs: int, *, patience: int = 2000, after: int = 20) -> list[int]:
        """Send ``words`` and return the ``outputs`` words that come of them, and no others.

        Parameters
        ----------
        words : iterable of int
            Input words.
        outputs : int
            Output words to wait for.
        patience : int
            Cycles without a transfer on either stream after which the design is taken to have stalled.
        after : int
            Cycles to go on listening, so that a word too many is seen.

        Raises
        ------
        StallError
            If words are missing, with the counts.
        AssertionError
            If a word too many came.
        """
        self.driver.queue.extend(words)
        sent, offered = self.driver.accepted, len(self.driver.queue)
        seen, quiet = (0, 0), 0
        while len(self.monitor.words) < outputs:
            await FallingEdge(self.dut.clk)
            now = (len(self.monitor.words), self.driver.accepted)
            quiet = 0 if now != seen else quiet + 1
            seen = now
            if quiet > patience:
                raise StallError(
                    f"stalled: {now[0]} of {outputs} output words came and {now[1] - sent} of {offered} input words "
                    f"were taken, then nothing for {patience} cycles (seed {self.seed})"
                )
        await self.idle(after)
        got = list(self.monitor.words)
        if len(got) > outputs:
            raise AssertionError(f"{len(got) - outputs} output words too many, first {got[outputs]:#x}")
        self.monitor.clear()
        return got


def compare(
    got: Sequence[int],
    expected: Sequence[int],
    *,
    lanes: int,
    bits: int,
    signed: bool = False,
    beats: int = 1,
) -> None:
    """Scoreboard: compare words and name the first difference by frame, beat and lane.

    Parameters
    ----------
    got, expected : sequence of int
        Words as streamed, lane 0 in the lowest bits.
    lanes, bits, signed
        How a word divides: ``lanes`` values of ``bits`` bits.
    beats : int
        Words a frame.

    Raises
    ------
    AssertionError
        At the first difference, or if one sequence is longer.
    """
    for index, (word, right) in enumerate(zip(got, expected, strict=False)):
        if word == right:
            continue
        where = f"frame {index // beats}, beat {index % beats}"
        for lane in range(lanes):
            one, other = (_lane(value, lane, bits, signed) for value in (word, right))
            if one != other:
                raise AssertionError(f"{where}, lane {lane}: got {one}, expected {other}")
        raise AssertionError(f"{where}, above the lanes: got {word:#x}, expected {right:#x}")
    if len(got) != len(expected):
        raise AssertionError(f"got {len(got)} words, expected {len(expected)}; the first ones are equal")


def in_reset(dut: Any) -> bool:
    """Whether ``rst`` is high; a design without registers has none."""
    return hasattr(dut, "rst") and bool(_read(dut.rst, "rst"))


def _lane(word: int, lane: int, bits: int, signed: bool) -> int:
    value = word >> lane * bits & (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


def _ports(dut: Any, name: str) -> tuple[Any, Any, Any]:
    return getattr(dut, f"{name}__payload"), getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")


def _read(handle: Any, name: str) -> int:
    value = handle.value
    try:
        return int(value)
    except ValueError:
        raise ProtocolError(f"{name} is {value}, neither 0 nor 1") from None
