"""The stand-in boards of the host's tests are no stricter and no laxer than the hardware: the same bytes, with the same
pauses, go through the model and through the simulated shell, and the same bytes come back."""

import pytest
import test_load_gate
import test_quality_gate
import test_shell
from board_model import BoardModel
from serial_rig import BYTE, PAUSE
from test_shell import kind
from tiers import slow_but_at

from fewbit.boards import protocol
from fewbit.golden.run import run

ASK, LOAD = bytes([protocol.ASK]), bytes([protocol.LOAD])
SHORT, LONG = PAUSE // 3, 2 * PAUSE


def play(model, script, *, slow=False):
    """What the model answers to a script of :meth:`serial_rig.SerialBench.run`; a slow design computes nothing before
    the next pause."""
    replies = b""
    for step in script:
        if step == "bad":
            model.broken = True
        elif isinstance(step, int):
            if step > PAUSE:
                model.silence()
        elif isinstance(step, bytes):
            for value in step:
                replies += model.receive(bytes([value]))
                while model.frame is not None and not slow:
                    replies += model.work()
    while model.frame is not None:
        replies += model.work()
    return replies


def scores_of(network):
    return lambda frame, quality: run(network, frame[None], quality).scores[0]


def hash_scores(source, scores):
    def answer(frame, quality):
        return protocol.decode_reply(scores, True, test_shell.hash_reply(source, scores, frame, True))[0]

    return answer


SOURCE, SCORES = kind("uint8", 5), kind("int10", 3)


def plain(seed=1, **options):
    bench = test_shell.Bench(SOURCE, SCORES, **options)
    return bench, BoardModel(hash_scores(SOURCE, SCORES), SOURCE, SCORES), [
        bench.request(frame) for frame in bench.frames(6, seed)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "script",
    [
        lambda r: [*r],
        lambda r: [r[0][:2], SHORT, r[0][2:], r[1]],
        lambda r: [r[0][:2], LONG, r[1]],
        lambda r: [r[0][:2], LONG, r[0][2:], LONG, r[1]],
        lambda r: [r[0] + r[1][:4], SHORT, r[1][4:] + r[2][:1], LONG, r[3]],
        lambda r: [r[0], LONG, r[1], SHORT, r[2]],
        lambda r: [r[0] + b"\x55", LONG, r[1]],
        lambda r: [r[0][1:] + r[1], LONG, r[2]],
        lambda r: [r[0], ("answers", 7), "bad", r[1], r[2], LONG, r[3]],
        lambda r: [r[0][:3], "bad", r[1], LONG, r[2], r[3]],
        lambda r: ["bad", SHORT, r[0], LONG, r[1]],
    ],
)  # fmt: skip
def test_frames_pauses_and_broken_bytes(script):
    bench, model, requests = plain()
    steps = script(requests)
    answered = play(model, steps)
    assert bench.run(*steps, ("answers", len(answered))) == answered
    assert answered


def test_requests_beyond_the_window_are_lost_with_all_the_others():
    source = kind("uint8", 171)
    bench = test_shell.Bench(source, SCORES, think=5 * 171 * BYTE)
    model = BoardModel(hash_scores(source, SCORES), source, SCORES)
    requests = [bench.request(frame) for frame in bench.frames(5)]
    assert bench.shell.window == 2
    steps = [b"".join(requests[:4]), LONG, requests[4]]
    answered = play(model, steps, slow=True)
    assert bench.run(*steps, *[("answers", len(answered))] * 30) == answered == bench.replies(bench.frames(5)[4:])


def test_a_quality_for_each_frame():
    bench = test_quality_gate.Bench()
    model = BoardModel(scores_of(test_quality_gate.NETWORK), bench.source, bench.scores, has_quality=True)
    steps = [*bench.requests()[:6], LONG, bench.requests()[6][:2], LONG, *bench.requests()[7:]]
    answered = play(model, steps)
    assert bench.run(*steps, *[("answers", len(answered))] * 3) == answered


@pytest.mark.parametrize("net", [test_load_gate.TURNED, test_load_gate.PLAIN], ids=["turned", "plain"])
@pytest.mark.parametrize(
    "script",
    slow_but_at((1, 3, 4), [
        lambda r, image: [ASK, r[0], ASK, LOAD + image, ("answers", 3), r[1], ASK, r[2]],
        lambda r, image: [LOAD + image[:5], LONG, ASK, r[0], LOAD + image, ("answers", 2), r[1]],
        lambda r, image: [LOAD + image, ("answers", 1), r[0][:2], LONG, ASK, r[1]],
        lambda r, image: [LOAD + image, ("answers", 1), LOAD + image[:-1], LONG, ASK, r[1], ASK],
        lambda r, image: [LOAD + image[:3], SHORT, image[3:], ("answers", 1), r[0]],
    ]),
)  # fmt: skip
def test_loading(net, script):
    bench = test_load_gate.Bench(net)
    turned = net.digits > 0
    model = BoardModel(scores_of(net), bench.source, bench.scores, has_quality=turned, image_bytes=len(bench.image))
    steps = script([bench.request(frame) for frame in test_load_gate.FRAMES], bench.image)
    answered = play(model, steps)
    assert bench.run(*steps, *[("answers", len(answered))] * 3) == answered
    assert answered


def test_any_image_is_loaded():
    """The board checks nothing: what a whole image of wrong bytes makes of it is not in its answer."""
    bench = test_load_gate.Bench(test_load_gate.PLAIN)
    model = BoardModel(scores_of(bench.net), bench.source, bench.scores, image_bytes=len(bench.image))
    steps = [LOAD + bytes(byte ^ 0x5A for byte in bench.image), ("answers", 1), ASK]
    assert play(model, steps) == b"\x01\x01"
    assert bench.run(*steps, ("answers", 2)) == b"\x01\x01"


def test_a_model_that_checks_the_image_would_be_seen(monkeypatch):
    """The fault that the stand-in board once had."""
    bench = test_load_gate.Bench(test_load_gate.PLAIN)
    model = BoardModel(scores_of(bench.net), bench.source, bench.scores, image_bytes=len(bench.image))
    taken = model._take
    monkeypatch.setattr(model, "_take", lambda: taken().replace(b"\x01", b"\x00"))
    steps = [LOAD + bytes(len(bench.image)), ("answers", 1)]
    assert play(model, steps) != bench.run(*steps)
