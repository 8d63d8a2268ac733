"""Vector buffers give every vector as often as it is read, in every style, while the next one comes in."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import unsigned
from amaranth.sim import Simulator
from faults import mutant
from tiers import slow_but_at

from fewbit.golden.errors import FewbitError
from fewbit.hw.memory.vector_buffer import BLOCK, DISTRIBUTED, RING, VectorBuffer
from fewbit.sim.bench import PATTERNS, Pattern
from fewbit.sim.cocotb_run import BenchFailure

STYLES = (BLOCK, DISTRIBUTED, RING)


def cases(words: int, width: int, vectors: int = 6, seed: int = 1) -> tuple[list[list[int]], list[int]]:
    rng = random.Random(seed)
    return [[rng.getrandbits(width) for _ in range(words)] for _ in range(vectors)], [
        rng.randint(1, 3) for _ in range(vectors)
    ]


def play(buffer, vectors, reads, fill="always", take="always", places=()) -> tuple[list[int], int, int]:
    """What a reader sees, the cycle in which the first vector was whole, and the first in which it was available.

    It reads every vector so often from end to end; with ``places`` so many words, at these addresses.
    """
    source = [word for vector in vectors for word in vector]
    size = 1 if places else buffer.words
    ends = [read == times * size - 1 for times in reads for read in range(times * size)]
    got: list[int] = []
    filling, taking = Pattern(fill, random.Random("fill")), Pattern(take, random.Random("take"))
    first = {}

    async def testbench(ctx):
        position = asked = cycle = 0
        offering = standing = False
        while len(got) < len(ends):
            offering = offering or (position < len(source) and filling.next())
            ctx.set(buffer.i.valid, offering)
            ctx.set(buffer.i.payload.as_value(), source[position] if offering else 0)
            available = ctx.get(buffer.available)
            if available:
                first.setdefault("available", cycle)
            if standing:
                got.append(ctx.get(buffer.word))
            asks = bool(available) and asked < len(ends) and taking.next()
            ctx.set(buffer.next, asks)
            ctx.set(buffer.last, asked < len(ends) and ends[asked])
            if places and asked < len(ends):
                ctx.set(buffer.address, places[asked])
            asked, standing = asked + asks, asks
            if offering and ctx.get(buffer.i.ready):
                position, offering = position + 1, False
                if position == buffer.words:
                    first["whole"] = cycle
            await ctx.tick()
            cycle += 1
            assert cycle < 5000, f"stalled after {len(got)} words"
        await ctx.tick()
        assert not ctx.get(buffer.available), "a vector too many"

    simulator = Simulator(buffer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return got, first["whole"], first["available"]


def expected(vectors, reads) -> list[int]:
    return [word for vector, times in zip(vectors, reads) for _ in range(times) for word in vector]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("words", [1, 2, 3, 4, 5, 7, 8, 9])
def test_every_length(style, words):
    vectors, reads = cases(words, 6)
    buffer = VectorBuffer(unsigned(3), 2, words, style)
    got, whole, available = play(buffer, vectors, reads, take="random")
    assert got == expected(vectors, reads)
    assert available - whole == buffer.latency


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fill", PATTERNS)
@pytest.mark.parametrize("take", PATTERNS)
def test_every_pattern(style, fill, take):
    vectors, reads = cases(3, 4)
    assert play(VectorBuffer(unsigned(4), 1, 3, style), vectors, reads, fill, take)[0] == expected(vectors, reads)


@pytest.mark.parametrize("style, words", slow_but_at((0, 1), [(BLOCK, 5), (RING, 3), (RING, 1)]))
def test_bench_on_the_verilog(bench, style, words):
    vectors, reads = cases(words, 6)
    bench(VectorBuffer(unsigned(3), 2, words, style), "tb_buffer", as_json(vectors, reads))


def as_json(vectors, reads) -> dict:
    return {"vectors": [[f"{word:x}" for word in vector] for vector in vectors], "reads": reads}


@pytest.mark.parametrize("fill, take", [("always", "always"), ("burst", "random"), ("always", "slow")])
@pytest.mark.parametrize("words", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("style", [BLOCK, DISTRIBUTED])
def test_readers_at_addresses_of_their_own(style, words, fill, take):
    buffer, rng = VectorBuffer(unsigned(5), 1, words, style, readers=3), random.Random(words)
    vectors, _ = cases(words, 5)
    reads = [rng.randint(1, 6) for _ in vectors]
    looked = [[rng.randrange(words) for _ in range(3)] for _ in range(sum(reads))]
    bits = (words - 1).bit_length()
    places = [sum(place << reader * bits for reader, place in enumerate(one)) for one in looked]
    of = [vector for vector, times in zip(vectors, reads) for _ in range(times)]
    expected = [sum(vector[place] << 5 * k for k, place in enumerate(one)) for vector, one in zip(of, looked)]
    assert play(buffer, vectors, reads, fill, take, places)[0] == expected


def test_a_ring_is_not_read_at_addresses():
    message = 'a vector buffer with readers must be "block" or "distributed", not "ring"'
    with pytest.raises(FewbitError, match=f"^{message}$"):
        VectorBuffer(unsigned(1), 1, 4, RING, readers=1)


FAULTS = {
    "a full bank is overwritten": (
        BLOCK,
        "self.i.ready.eq(~Mux(writing, full[1], full[0]))",
        "self.i.ready.eq(1)",
    ),
    "banks overlap": (BLOCK, "Mux(writing, written + bank, written)", "written"),
    "reading stays in its bank": (BLOCK, "reading.eq(~reading)", "reading.eq(reading)"),
    "a ring shifts without a read": (
        RING,
        "        with m.If(self.next):\n            m.d.sync += self.word",
        "        with m.If(self.available):\n            m.d.sync += self.word",
    ),
    "a ring moves too early": (RING, "whole & (~self.available | (self.next & self.last))", "whole"),
    "a ring is never given back": (RING, "m.d.sync += self.available.eq(0)", "pass"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault):
    style, old, new = FAULTS[fault]
    vectors, reads = cases(3, 6)
    try:
        got, *_ = play(
            mutant("hw.memory.vector_buffer", old, new).VectorBuffer(unsigned(6), 1, 3, style),
            vectors,
            reads,
            take="random",
        )
    except AssertionError:
        return
    assert got != expected(vectors, reads)


def test_a_planted_fault_turns_the_bench_red(bench):
    _, old, new = FAULTS["a ring moves too early"]
    faulty = mutant("hw.memory.vector_buffer", old, new).VectorBuffer(unsigned(6), 1, 3, RING)
    with pytest.raises(BenchFailure, match=r"read \d+: got 0x\w+, expected 0x\w+"):
        bench(faulty, "tb_buffer", as_json(*cases(3, 6)))


def test_a_buffer_needs_lanes_words_and_a_style():
    with pytest.raises(FewbitError, match=r"^a vector buffer needs at least 1 lane and 1 word, not 1 and 0$"):
        VectorBuffer(unsigned(1), 1, 0, RING)
    with pytest.raises(FewbitError, match=r'^a vector buffer must be "block", "distributed" or "ring", not \'disk\'$'):
        VectorBuffer(unsigned(1), 1, 1, "disk")
