"""Qualities over the serial line: each frame is computed at its own, however many are under way."""

from __future__ import annotations

import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from dial_networks import small_dial
from faults import mutant
from networks import random_frames
from serial_rig import BYTE, PAUSE, SerialBench
from tiers import slow_but, slow_but_at

from fewbit.boards import protocol, shell
from fewbit.boards.quality_gate import QualityGate
from fewbit.golden.run import classify, run
from fewbit.hw.top import Top


def through(gate, requests, rng, takes=0.5, leaves=0.05):
    """Plays ``requests`` into ``gate``. Frames leave behind it in order, at random: for each its bytes, and the set of
    qualities that were there from its first byte until it left. Last, the most that were under way."""
    frames, most = [], 0

    async def testbench(ctx):
        nonlocal most
        script, entered, left, place = [value for request in requests for value in request], 0, 0, 0
        while left < len(requests):
            whole = entered - (place > 0)
            done = left < whole and rng.random() < leaves
            ctx.set(gate.i.valid, bool(script) and rng.random() < 0.9)
            ctx.set(gate.i.payload, script[0] if script else 0)
            ctx.set(gate.o.ready, rng.random() < takes)
            ctx.set(gate.done, done)
            assert not (place == 0 and ctx.get(gate.o.valid))
            for frame in frames[left:]:
                frame[1].add(ctx.get(gate.quality))
            came = ctx.get(gate.o.valid) and ctx.get(gate.o.ready)
            taken = ctx.get(gate.i.valid) and ctx.get(gate.i.ready)
            value = ctx.get(gate.o.payload)
            await ctx.tick()
            if taken:
                script.pop(0)
                if place == 0:
                    frames.append(([], set()))
                    entered += 1
                else:
                    assert came
                    frames[-1][0].append(value)
                place = (place + 1) % (gate.frame_bytes + 1)
            left += done
            most = max(most, entered - left)

    sim = Simulator(gate)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    return frames, most


@pytest.mark.parametrize("frame_bytes, most, bits", [(1, 1, 1), (1, 3, 2), (5, 4, 3), (4, 2, 8)])
def test_a_quality_stays_as_long_as_its_frames(frame_bytes, most, bits):
    rng = random.Random(most)
    asked = [rng.choice([0, 1, 1, 1, 2, (1 << bits) - 1, 1 << bits, 200, 255]) for _ in range(150)]
    requests = [bytes([one & 255, *rng.randbytes(frame_bytes)]) for one in asked]
    frames, reached = through(QualityGate(frame_bytes, most, bits), requests, rng)
    assert [bytes(got) for got, _ in frames] == [request[1:] for request in requests]
    assert [seen for _, seen in frames] == [{min(request[0], (1 << bits) - 1)} for request in requests]
    assert reached == most


NETWORK, FOLDING = small_dial()
FRAMES = random_frames(np.random.default_rng(2), NETWORK.input.dtype, (12, *NETWORK.input.shape))
QUALITIES = [1, 1, 1, 255, 0, 2, 2, 255, 3, 1, 4, 200]


class Bench(SerialBench):
    """A shell around a network whose quality can be turned."""

    def __init__(self, **options):
        super().__init__(Top(NETWORK, FOLDING), NETWORK.input, NETWORK.scores, **options)

    def request(self, frame, quality):
        return protocol.encode_request(self.source, frame, True, quality)

    def requests(self):
        return [self.request(frame, quality) for frame, quality in zip(FRAMES, QUALITIES)]


def replies(frames, qualities):
    """What golden gives for each frame at its quality."""
    each = []
    for frame, quality in zip(frames, qualities):
        scores = run(NETWORK, frame[None], quality).scores
        each.append(protocol.encode_reply(NETWORK.scores, scores[0], int(classify(NETWORK, scores)[0])))
    return each


def test_the_network_is_worth_turning():
    assert NETWORK.digits == 4
    assert len({b"".join(replies(FRAMES, [quality] * len(FRAMES))) for quality in range(5)}) == 5


def turned(bench):
    """Frames of qualities that change, in one go: as many under way as there is room for."""
    expected = b"".join(replies(FRAMES, QUALITIES))
    return bench.run(*bench.requests(), *[("answers", len(expected))] * 3) == expected and bench.errors == [0]


def test_each_reply_is_golden_at_its_own_quality():
    assert turned(Bench())


@pytest.mark.slow
def test_a_window_of_two(monkeypatch):
    monkeypatch.setattr(protocol, "_BLOCK_RAM_BYTES", 1)
    bench = Bench()
    assert bench.shell.window == 2
    expected, script = replies(FRAMES, QUALITIES), []
    for number, request in enumerate(bench.requests()):
        script += [("answers", max(0, number - 1) * len(expected[0])), request]
    assert bench.run(*script, *[("answers", len(b"".join(expected)))] * 2) == b"".join(expected)
    assert bench.errors == [0]


def test_without_a_buffer():
    bench = Bench(buffer_frames=0)
    assert bench.shell.window == 1
    expected, script = replies(FRAMES[:5], QUALITIES[2:7]), []
    for number, (frame, quality) in enumerate(zip(FRAMES, QUALITIES[2:7])):
        script += [bench.request(frame, quality), ("answers", (number + 1) * len(expected[0]))]
    assert bench.run(*script) == b"".join(expected)
    assert bench.errors == [0]


@pytest.mark.parametrize("lost", slow_but([1], [0, 1]))
def test_a_flush_between_qualities(lost):
    """A request without its quality, or without its frame, is forgotten; what follows is at its own quality."""
    bench = Bench()
    request = bench.request(FRAMES[1], 1)
    expected = replies(FRAMES[[0, 2, 3]], [2, 1, 255])
    length = len(expected[0])
    got = bench.run(
        bench.request(FRAMES[0], 2), *[("answers", length)] * 2,
        request[:lost] + request[lost + 1 :], PAUSE + 2 * BYTE,
        bench.request(FRAMES[2], 1), bench.request(FRAMES[3], None), *[("answers", 3 * length)] * 2,
    )  # fmt: skip
    assert got == b"".join(expected)
    assert bench.errors == [0, 1, 0]


@pytest.mark.slow
def test_a_framing_error_between_qualities():
    bench = Bench()
    expected = replies(FRAMES[[0, 3]], [1, 0])
    length = len(expected[0])
    got = bench.run(
        bench.request(FRAMES[0], 1), *[("answers", length)] * 2, "bad", 20, bench.request(FRAMES[1], 3),
        PAUSE + BYTE, bench.request(FRAMES[3], 0), *[("answers", 2 * length)] * 2,
    )  # fmt: skip
    assert got == b"".join(expected)
    assert bench.errors == [0, 1, 0]


@pytest.mark.slow
def test_a_flush_forgets_what_was_under_way():
    """Frames that a flush threw away are not waited for."""
    bench = Bench()
    expected = replies(FRAMES[[4]], [1])
    got = bench.run(
        bench.request(FRAMES[0], 2), bench.request(FRAMES[1], 2), "bad", PAUSE + 3 * BYTE,
        bench.request(FRAMES[4], 1), *[("answers", 50)] * 2,
    )  # fmt: skip
    assert got.endswith(expected[0])


@pytest.mark.parametrize(
    "old, new",
    slow_but_at(
        [0],
        [
            ("(under_way == 0) | same", "1"),
            ("(under_way == 0) | same", "same"),
            ("+ enters - self.done", "+ enters"),
            ("quality.eq(asked)", "quality.eq(self.i.payload)"),
        ],
    ),
)
def test_planted_faults_are_seen(old, new, monkeypatch):
    monkeypatch.setattr(shell, "QualityGate", mutant("boards.quality_gate", old, new).QualityGate)
    assert not turned(Bench())
