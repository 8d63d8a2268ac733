"""Building blocks of a cocotb bench for stream designs: reset, driver, monitor, protocol checker, scoreboard.

A typical bench has a few lines; the protocol checker is always active::

    @cocotb.test()
    async def frames(dut):
        bench = Bench(dut, valid="random", ready="slow")
        await bench.start()
        got = await bench.run(words, outputs=len(expected))
        compare(got, expected, lanes=4, bits=8, signed=True, beats=10)

A clock cycle lasts 10 ns. Signals are driven at the falling edge and sampled 1 ns later, when they have settled. The
rising edge comes 4 ns after that, so there are no races on RTL or on a zero-delay netlist. Words are Python integers.
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
"""In which cycles an end of a stream is active: all, 1 in 2 or 1 in 8 at random, or in bursts of 1 to 16 cycles."""


class ProtocolError(AssertionError):
    """A stream violated the transfer rules."""


class StallError(AssertionError):
    """The expected output words did not arrive in time."""


class Pattern:
    """An endless sequence of active and inactive cycles.

    Parameters
    ----------
    kind : str
        One of :data:`PATTERNS`.
    rng : random.Random
        Source of the random cycles.
    """

    def __init__(self, kind: str, rng: random.Random) -> None:
        if kind not in PATTERNS:
            raise FewbitError(f"a pattern must be one of {', '.join(PATTERNS)}, not {kind!r}")
        self.kind = kind
        self.rng = rng
        self._left = 0
        self._on = False

    def next(self) -> bool:
        """Whether the next cycle is active."""
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
    """Sends words into an input stream of the design.

    An offered word stays until it is taken. Between words the payload is random, since nothing may depend on it.

    Parameters
    ----------
    dut : cocotb handle
        The design, with ``clk`` and possibly ``rst``.
    name : str
        Name of the stream. Its ports are ``<name>__payload``, ``<name>__valid`` and ``<name>__ready``.
    pattern : str
        One of :data:`PATTERNS`: the cycles in which a new word may be offered.
    rng : random.Random
        Random source of the pattern and of the payload between words.

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
        """Discard all words not yet taken, the offered one too. Allowed only during reset."""
        self.queue.clear()
        self._offering = False

    async def run(self) -> None:
        """Drive the stream forever. Start it with ``cocotb.start_soon``."""
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
    """Receives words from an output stream of the design, independently of the driver.

    Parameters
    ----------
    dut : cocotb handle
        The design, with ``clk`` and possibly ``rst``.
    name : str
        Name of the stream. Its ports are ``<name>__payload``, ``<name>__valid`` and ``<name>__ready``.
    pattern : str
        One of :data:`PATTERNS`: the cycles in which the monitor is ready.
    rng : random.Random
        Random source of the pattern.

    Members
    -------
    words : list of int
        Received words, in order.
    cycles : list of int
        For each word, the cycle in which it was received, counted from the start.
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
        """Discard the words received so far."""
        self.words.clear()
        self.cycles.clear()

    async def run(self) -> None:
        """Receive words forever. Start it with ``cocotb.start_soon``."""
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
    """Checks an output stream of the design against the transfer rules, in every cycle.

    A valid word and its payload stay unchanged until the word is taken. Neither ``valid`` nor the payload of a valid
    word depends on ``ready`` within a cycle; this is tested in 1 of 4 cycles by inverting ``ready`` for a moment
    between the clock edges. ``valid``, ``ready`` and the payload of a valid word are never X.

    :meth:`run` raises ProtocolError on a violation, which fails the test.
    """

    def __init__(self, dut: Any, name: str, rng: random.Random) -> None:
        self.dut = dut
        self.name = name
        self.rng = rng
        self.cycle = 0
        self._payload, self._valid, self._ready = _ports(dut, name)

    async def run(self) -> None:
        """Check the stream forever. Start it with ``cocotb.start_soon``."""
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
    """Bench of a design with an input stream ``i`` and an output stream ``o``: driver, monitor and checker.

    Parameters
    ----------
    dut : cocotb handle
        The design.
    valid, ready : str
        Patterns of the driver and of the monitor, from :data:`PATTERNS`.
    seed : int
        Random seed; by default ``$FEWBIT_SEED`` or, if that is not set, one from cocotb. It is always logged.
    """

    def __init__(self, dut: Any, *, valid: str = "always", ready: str = "always", seed: int | None = None) -> None:
        if seed is None:
            seed = int(os.environ.get("FEWBIT_SEED") or random.getrandbits(31))
        self.dut = dut
        self.seed = seed
        dut._log.info("fewbit bench: seed %d, valid %s, ready %s", seed, valid, ready)
        # Separate random generators, so that one end of the design does not change the gaps at the other.
        self.driver = StreamDriver(dut, "i", valid, random.Random(f"{seed} driver"))
        self.monitor = StreamMonitor(dut, "o", ready, random.Random(f"{seed} monitor"))
        self.checker = StreamChecker(dut, "o", random.Random(f"{seed} checker"))

    async def start(self, image: Sequence[int] = ()) -> None:
        """Start the clock, the driver, the monitor and the checker, and reset the design.

        Then load ``image``, a sequence of 16-bit words, if the design has memories to load.
        """
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
        """Hold ``rst`` for some cycles and discard all words queued or received so far. Allowed in mid-frame, too."""
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
        """Wait for some cycles."""
        for _ in range(cycles):
            await FallingEdge(self.dut.clk)

    async def run(self, words: Iterable[int], outputs: int, *, patience: int = 2000, after: int = 20) -> list[int]:
        """Send ``words`` and return the resulting output words, which must be exactly ``outputs``.

        Parameters
        ----------
        words : iterable of int
            Input words.
        outputs : int
            Number of output words to wait for.
        patience : int
            Number of cycles without a transfer on either stream after which the design counts as stalled.
        after : int
            Cycles to wait after the last expected word, to detect surplus words.

        Raises
        ------
        StallError
            If output words are missing. The message has the counts.
        AssertionError
            If there are surplus output words.
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
            raise AssertionError(f"{len(got) - outputs} surplus output words, first {got[outputs]:#x}")
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
    """Scoreboard: compare words and report the first difference by frame, beat and lane.

    Parameters
    ----------
    got, expected : sequence of int
        Words as streamed, lane 0 in the lowest bits.
    lanes, bits, signed
        Layout of a word: ``lanes`` values of ``bits`` bits each.
    beats : int
        Words per frame.

    Raises
    ------
    AssertionError
        At the first difference, or if the sequences have different lengths.
    """
    for index, (word, expected_word) in enumerate(zip(got, expected, strict=False)):
        if word == expected_word:
            continue
        where = f"frame {index // beats}, beat {index % beats}"
        for lane in range(lanes):
            got_value, expected_value = (_lane(value, lane, bits, signed) for value in (word, expected_word))
            if got_value != expected_value:
                raise AssertionError(f"{where}, lane {lane}: got {got_value}, expected {expected_value}")
        raise AssertionError(f"{where}, above the lanes: got {word:#x}, expected {expected_word:#x}")
    if len(got) != len(expected):
        raise AssertionError(f"got {len(got)} words, expected {len(expected)}; the first ones are equal")


def in_reset(dut: Any) -> bool:
    """Whether ``rst`` is high. A design without registers has no ``rst`` and is never in reset."""
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
