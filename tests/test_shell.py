"""A shell around a stand-in design, its serial lines driven and read bit by bit."""

import random
import re
from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from serial_rig import BYTE, PAUSE, SerialBench
from tiers import slow_but

from fewbit.boards import protocol
from fewbit.boards.shell import Shell
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType


class Hash(wiring.Component):
    """Stand-in for a network: scores that depend on the value and the place of every element of a frame.

    ``h = 5 * h + x + 1`` over the stored elements in order, from 0; score ``c`` is ``(h >> c) * (2 * c + 1)``, all
    modulo ``2**bits``. After a frame it works for ``think`` cycles before the first score; after a reset it takes
    nothing for ``sleep`` cycles.
    """

    def __init__(self, source, scores, lanes, think=3, sleep=0):
        self.source, self.scores, self.lanes, self.think, self.sleep = source, scores, lanes, think, sleep
        bits = scores.dtype.bits
        shape = signed(bits) if scores.dtype.signed else unsigned(bits)
        index = max(1, (scores.size - 1).bit_length())
        super().__init__({
            "i": In(stream.Signature(data.ArrayLayout(unsigned(source.dtype.bits), lanes))),
            "o": Out(stream.Signature(data.StructLayout({"score": shape, "index": index, "last": 1}))),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        bits, beats, outputs = self.scores.dtype.bits, self.source.size // self.lanes, self.scores.size
        total, beat, channel = Signal(bits), Signal(range(beats)), Signal(range(outputs + 1))
        wait = Signal(range(max(self.think, self.sleep) + 1), init=self.sleep)
        best, index = Signal.like(self.o.payload.score), Signal.like(self.o.payload.index)
        score = Signal.like(self.o.payload.score)
        following = total
        for lane in range(self.lanes):
            partial = Signal(bits, name=f"total{lane}")
            m.d.comb += partial.eq(following * 5 + self.i.payload[lane] + 1)
            following = partial
        with m.FSM():
            with m.State("Sleep"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "Take"
            with m.State("Take"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [total.eq(following), beat.eq(beat + 1)]
                    with m.If(beat == beats - 1):
                        m.d.sync += [beat.eq(0), wait.eq(self.think), channel.eq(0)]
                        m.next = "Think"
            with m.State("Think"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "Give"
            with m.State("Give"):
                m.d.comb += [
                    score.eq((total >> channel) * (2 * channel + 1)),
                    self.o.valid.eq(1),
                    self.o.payload.score.eq(score),
                    self.o.payload.last.eq(channel == outputs - 1),
                    self.o.payload.index.eq(index),
                ]
                with m.If((channel == 0) | (score > best)):
                    m.d.comb += self.o.payload.index.eq(channel)
                with m.If(self.o.ready):
                    m.d.sync += [channel.eq(channel + 1), index.eq(self.o.payload.index)]
                    with m.If((channel == 0) | (score > best)):
                        m.d.sync += best.eq(score)
                    with m.If(channel == outputs - 1):
                        m.d.sync += total.eq(0)
                        m.next = "Take"
        return m


def hash_reply(source, scores, frame, has_index):
    """The bytes that a board with :class:`Hash` answers, from the equation in its docstring."""
    mask, total = (1 << scores.dtype.bits) - 1, 0
    for stored in source.dtype.encode(frame.reshape(-1)).tolist():
        total = (5 * total + stored + 1) & mask
    raw = np.array([((total >> c) * (2 * c + 1)) & mask for c in range(scores.size)], np.uint64)
    values = scores.dtype.decode(raw)
    return protocol.encode_reply(scores, values, int(np.argmax(values)) if has_index else None)


class Bench(SerialBench):
    """A shell around :class:`Hash`."""

    def __init__(self, source, scores, *, lanes=1, has_index=True, think=3, sleep=0, buffer_frames=2):
        design = Hash(source, scores, lanes, think, sleep)
        super().__init__(design, source, scores, has_index=has_index, buffer_frames=buffer_frames)

    def request(self, frame):
        return protocol.encode_frame(self.source, frame)

    def replies(self, frames):
        return b"".join(hash_reply(self.source, self.scores, frame, self.has_index) for frame in frames)


def kind(name, *shape):
    return TensorType(DType.parse(name), shape)


SCORES = kind("int10", 3)


@pytest.mark.parametrize(
    "name, lanes",
    slow_but(
        [("uint8", 1), ("bipolar", 7), ("bipolar", 49), ("uint2", 8), ("uint8", 49), ("int4", 7), ("int12", 1)],
        product(["uint8", "bipolar", "uint2", "int4", "int12"], [1, 7, 8, 49]),
    ),
)
def test_frames_in_any_kind_and_lanes(name, lanes):
    sizes = {49: {"bipolar": 392, "uint2": 98}.get(name, 49)}
    bench = Bench(kind(name, sizes.get(lanes, 56)), SCORES, lanes=lanes)
    frames = bench.frames(2)
    expected = bench.replies(frames)
    assert bench.run(*(bench.request(frame) for frame in frames), ("answers", len(expected))) == expected
    assert bench.errors == [0]


@pytest.mark.parametrize("name", ["int10", "int3", "uint8", "int8", "int17", "bipolar", "int33", "uint1"])
@pytest.mark.parametrize("outputs, has_index", [(1, True), (2, False), (5, True)])
def test_replies_of_any_kind(name, outputs, has_index):
    bench = Bench(kind("uint8", 4), kind(name, outputs), has_index=has_index)
    frames = bench.frames(1)
    expected = bench.replies(frames)
    assert bench.run(bench.request(frames[0]), *[("answers", len(expected))] * 20) == expected


def test_an_index_of_two_bytes():
    bench = Bench(kind("uint8", 4), kind("int4", 257))
    frames = bench.frames(1)
    expected = bench.replies(frames)
    assert len(expected) == 259
    assert bench.run(bench.request(frames[0]), *[("answers", len(expected))] * 8) == expected


def test_a_frame_of_one_element():
    bench = Bench(kind("bipolar", 1), kind("int4", 1))
    frames = bench.frames(4)
    expected = bench.replies(frames)
    assert bench.run(*map(bench.request, frames), ("answers", len(expected))) == expected


@pytest.mark.parametrize("seed", range(3))
def test_random_gaps(seed):
    bench = Bench(kind("uint8", 6), SCORES, lanes=3)
    frames, rng = bench.frames(4, seed), random.Random(seed)
    script = []
    for value in b"".join(map(bench.request, frames)):
        script += [bytes([value]), rng.choice([1, 2, 3, 50, PAUSE - BYTE - 20])]
    expected = bench.replies(frames)
    assert bench.run(*script, ("answers", len(expected))) == expected
    assert bench.errors == [0]


@pytest.fixture
def small_block_ram(monkeypatch):
    """A block RAM of 64 bytes, so that a full buffer is simulated in a reasonable time."""
    monkeypatch.setattr(protocol, "_BLOCK_RAM_BYTES", 64)


@pytest.mark.parametrize("elements, buffer_frames, window", [(33, 1, 1), (33, 2, 2), (20, 1, 3), (1, 1, 64)])
def test_a_full_window_fits_while_the_design_takes_nothing(small_block_ram, elements, buffer_frames, window):
    source = kind("uint8", elements)
    bench = Bench(source, kind("int10", 1), sleep=(elements * window + 4) * BYTE, buffer_frames=buffer_frames)
    assert bench.shell.window == window
    frames = bench.frames(window)
    expected = bench.replies(frames)
    assert bench.run(*map(bench.request, frames), 8 * BYTE, *[("answers", len(expected))] * 7) == expected
    assert bench.errors == [0]


@pytest.mark.parametrize("name, lanes", [("uint8", 1), ("uint8", 7), ("bipolar", 8), ("int12", 56)])
def test_no_buffer_for_a_design_that_takes_a_frame_at_once(name, lanes):
    bench = Bench(kind(name, 56), SCORES, lanes=lanes, buffer_frames=0)
    assert bench.shell.window == 1
    frames = bench.frames(2)
    expected = bench.replies(frames)
    half = len(expected) // 2
    got = bench.run(bench.request(frames[0]), ("answers", half), bench.request(frames[1]), ("answers", 2 * half))
    assert got == expected
    assert bench.errors == [0]


def test_no_buffer_and_a_design_too_slow_is_an_error_not_a_wrong_answer():
    bench = Bench(kind("uint8", 8), SCORES, sleep=20 * BYTE, buffer_frames=0)
    frames = bench.frames(1)
    assert bench.run(bench.request(frames[0]), 2 * PAUSE) == b""
    assert bench.errors == [0, 1]


def test_a_byte_too_many_is_an_error_and_the_link_recovers(small_block_ram):
    bench = Bench(kind("uint8", 33), SCORES, sleep=60 * BYTE, buffer_frames=1)
    frames = bench.frames(2)
    expected = bench.replies(frames[1:])
    request = bench.request(frames[0])
    got = bench.run(request + request[:3], PAUSE + BYTE, bench.request(frames[1]), *[("answers", 7)] * 3)
    assert got == expected
    assert bench.errors == [0, 1, 0]


@pytest.mark.parametrize("lost", [0, 5, 55])
def test_a_lost_byte_costs_one_frame(lost):
    bench = Bench(kind("uint8", 56), SCORES, lanes=7)
    frames = bench.frames(3)
    request = bench.request(frames[1])
    expected = bench.replies(frames[[0, 2]])
    got = bench.run(
        bench.request(frames[0]), ("answers", len(expected) // 2),
        request[:lost] + request[lost + 1 :], PAUSE + 2 * BYTE,
        bench.request(frames[2]), ("answers", len(expected)),
    )  # fmt: skip
    assert got == expected
    assert bench.errors == [0, 1, 0]


def test_a_pause_just_short_of_the_limit_is_none():
    bench = Bench(kind("uint8", 4), SCORES)
    frames = bench.frames(1)
    request = bench.request(frames[0])
    # The shell counts from the middle of one stop bit to the middle of the next.
    got = bench.run(request[:2], PAUSE - BYTE - 10, request[2:], ("answers", 7))
    assert got == bench.replies(frames)


def test_a_pause_just_over_the_limit_discards():
    bench = Bench(kind("uint8", 4), SCORES)
    frames = bench.frames(2)
    got = bench.run(bench.request(frames[0])[:2], PAUSE - BYTE + 10, bench.request(frames[1]), ("answers", 7))
    assert got == bench.replies(frames[1:])


def test_silence_between_frames_does_no_harm():
    bench = Bench(kind("uint8", 4), SCORES, think=3 * PAUSE)
    frames = bench.frames(2)
    expected = bench.replies(frames)
    got = bench.run(bench.request(frames[0]), 2 * PAUSE, bench.request(frames[1]), *[("answers", len(expected))] * 3)
    assert got == expected
    assert bench.errors == [0]


@pytest.mark.parametrize("place", [0, 3])
def test_a_framing_error_drops_bytes_up_to_a_pause(place):
    bench = Bench(kind("uint8", 4), SCORES)
    frames = bench.frames(4)
    requests = [bench.request(frame) for frame in frames]
    expected = bench.replies(frames[[0, 3]])
    got = bench.run(
        requests[0], ("answers", 7), requests[1][:place], "bad", 20, requests[1][place + 1 :], requests[2],
        PAUSE + BYTE, requests[3], ("answers", len(expected)),
    )  # fmt: skip
    assert got == expected
    assert bench.errors == [0, 1, 0]


@pytest.mark.parametrize("name", ["uint8", "int12", "bipolar"])
def test_reset_in_mid_frame(name):
    bench = Bench(kind(name, 56), SCORES, lanes=8)
    frames = bench.frames(2)
    request = bench.request(frames[0])
    expected = bench.replies(frames[1:])
    got = bench.run(request[: len(request) // 2], "reset", bench.request(frames[1]), ("answers", len(expected)))
    assert got == expected


def test_reset_in_mid_reply():
    bench = Bench(kind("uint8", 4), kind("int10", 8))
    frames = bench.frames(2)
    expected = bench.replies(frames[1:])
    got = bench.run(
        bench.request(frames[0]),
        ("answers", 3),
        2 * BYTE,
        "reset",
        12 * BYTE,
        bench.request(frames[1]),
        ("answers", 25),
    )
    assert got.endswith(expected)
    assert len(got) < 2 * len(expected)


def shell(source, scores, design, **options):
    return Shell(design, **{"input": source, "scores": scores, "has_index": True, "clock_hz": 12_000_000, **options})


@pytest.mark.parametrize("change, message", [
    ({"source": kind("uint4", 56)}, "the design takes elements of 8 bits, the input uint4[56] has 4"),
    ({"source": kind("uint8", 57)}, "the lanes of the design must divide the 57 elements of a frame, not 7"),
    ({"scores": kind("int11", 3)}, "the design gives scores of type int10, not int11"),
    ({"scores": kind("uint10", 3)}, "the design gives scores of type int10, not uint10"),
    ({"buffer_frames": -1}, "the receive buffer must hold 0 or more frames, not -1"),
    ({"pause_s": 1e-6}, "a pause must last longer than 20 bits, not 1e-06 s at 1000000 baud"),
    ({"baud": 5_000_000}, "5000000 baud is too fast for a clock of 12 MHz: ask for at most 1500000 baud"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(change, message):
    design = Hash(kind("uint8", 56), SCORES, 7)
    options = {"source": design.source, "scores": SCORES, **change}
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        shell(options.pop("source"), options.pop("scores"), design, **options)
