"""Weights over the serial line: a board without them drops frames and says so, and with them gives golden's replies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dial_networks import small_dial
from faults import mutant
from networks import random_frames
from serial_rig import BYTE, PAUSE, SerialBench
from tiers import slow_but_at

from fewbit.boards import protocol, shell
from fewbit.golden.codes import BINARY, Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import ArgMax, Dense, Network, TensorType
from fewbit.golden.run import classify, run
from fewbit.hw.fold import Folding, MatVecFold
from fewbit.hw.top import Top


def network(code: Code) -> Network:
    weights = np.random.default_rng(2).choice(code.levels, (3, 4))
    layers = (Dense(name="one", weights=weights, code=code), ArgMax(name="class"))
    return Network(name="loaded", input=TensorType(DType.parse("uint4"), (4,)), layers=layers)


TURNED, PLAIN = network(Code.parse("csd(3,4)")), network(BINARY)
FRAMES = random_frames(np.random.default_rng(2), PLAIN.input.dtype, (6, 4))
ASK, LOAD = bytes([protocol.ASK]), bytes([protocol.LOAD])


class Bench(SerialBench):
    """A shell around a network whose weights have to be loaded."""

    def __init__(self, net=TURNED, **options):
        self.net = net
        fold = MatVecFold(pe=1, simd=2, memory="spram")
        self.top = Top(net, Folding(input_lanes=2, folds={"one": fold}))
        super().__init__(self.top, net.input, net.scores, **options)

    @property
    def image(self):
        return b"".join(word.to_bytes(2, "little") for word in self.top.image)

    def request(self, frame, quality=None):
        return protocol.encode_request(self.source, frame, True, quality)

    def replies(self, frames, quality=None):
        """What golden gives."""
        scores = run(self.net, np.stack(frames), quality).scores
        each = zip(scores, classify(self.net, scores))
        return b"".join(protocol.encode_reply(self.scores, one, int(index)) for one, index in each)


def loads(bench):
    """Frames before and after loading, with questions in between; whether all is as it should be."""
    after = bench.replies(FRAMES[1:3], 1) + bench.replies(FRAMES[3:4])
    got = bench.run(
        ASK, bench.request(FRAMES[0], 1), ASK, 2 * BYTE,
        LOAD + bench.image, ("answers", 3),
        bench.request(FRAMES[1], 1), bench.request(FRAMES[2], 1), ASK, bench.request(FRAMES[3]),
        *[("answers", 4 + len(after))] * 3,
    )  # fmt: skip
    two = 2 * len(after) // 3
    return got == b"\x00\x00\x01" + after[:two] + b"\x01" + after[two:] and bench.errors == [0]


@pytest.mark.parametrize("buffer_frames", [2, 0])
def test_frames_before_and_after_loading(buffer_frames):
    if buffer_frames:
        assert loads(Bench())
        return
    bench = Bench(PLAIN, buffer_frames=0)
    assert not bench.shell.has_quality
    got = bench.run(bench.request(FRAMES[0]), LOAD + bench.image, 2 * BYTE, bench.request(FRAMES[1]), ("answers", 99))
    assert got == b"\x01" + bench.replies(FRAMES[1:2])
    assert bench.errors == [0]


def test_weights_outlast_a_flush():
    bench = Bench()
    expected = b"\x01" + bench.replies(FRAMES[:1], 2) + b"\x01" + bench.replies(FRAMES[2:3], 1)
    got = bench.run(
        LOAD + bench.image, bench.request(FRAMES[0], 2), ("answers", 1 + len(expected) // 2),
        bench.request(FRAMES[1], 1)[:-1], PAUSE + 2 * BYTE, ASK, bench.request(FRAMES[2], 1),
        *[("answers", len(expected))] * 2,
    )  # fmt: skip
    assert got == expected
    assert bench.errors == [0, 1, 0]


def test_an_image_that_breaks_off_leaves_the_board_unloaded():
    bench = Bench()
    half = len(bench.image) // 2
    got = bench.run(
        LOAD + bench.image, ("answers", 1),
        LOAD + bench.image[:half], PAUSE + 2 * BYTE,
        ASK, bench.request(FRAMES[0]), ("answers", 2),
        LOAD + bench.image[:half], "bad", bench.image[half:], PAUSE + 2 * BYTE, ASK, ("answers", 3),
        LOAD + bench.image, ("answers", 4), bench.request(FRAMES[1]), ("answers", 99),
    )  # fmt: skip
    assert got == b"\x01\x00\x00\x01" + bench.replies(FRAMES[1:2])
    assert bench.errors[-1] == 0


@pytest.mark.parametrize(
    "old, new",
    slow_but_at(
        [0, 1],
        [
            ("with m.Elif(self.loaded):", "with m.Elif(1):"),
            ("Cat(low, i.payload)", "Cat(i.payload, low)"),
            ("~left[0]", "left[0]"),
            ("eq(self.image_bytes - 1)", "eq(self.image_bytes - 3)"),
            ("answer.payload.eq(self.loaded)", "answer.payload.eq(1)"),
        ],
    ),
)
def test_planted_faults_are_seen(old, new, monkeypatch):
    monkeypatch.setattr(shell, "LoadGate", mutant("boards.load_gate", old, new).LoadGate)
    assert not loads(Bench())


@pytest.mark.slow
def test_several_memories():
    net, folding = small_dial()
    folds = {name: replace(fold, memory="spram") for name, fold in folding.folds.items()}
    bench = Bench()
    bench.net, bench.top = net, Top(net, replace(folding, folds=folds))
    SerialBench.__init__(bench, bench.top, net.input, net.scores)
    frames = random_frames(np.random.default_rng(1), net.input.dtype, (5, *net.input.shape))
    expected = b"\x01" + bench.replies(frames, 2)
    script = [bench.request(frame, 2) for frame in frames]
    assert bench.run(LOAD + bench.image, ("answers", 1), *script, *[("answers", len(expected))] * 3) == expected
