"""The host's side of the link, against a golden board behind a pseudo-terminal, and the bytes of the protocol."""

import contextlib
import errno
import os
import re
import socket
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import serial
from fake_board import FakeBoard
from serial.tools import list_ports

from fewbit import engines
from fewbit.boards import host, protocol
from fewbit.cli import main as cli
from fewbit.golden import file
from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import ArgMax, Dense, Flatten, Network, TensorType, Threshold


def kind(name, *shape):
    return TensorType(DType.parse(name), shape)


SOURCE, SCORES = kind("uint4", 3, 5), kind("int12", 4)


def golden(frame, quality=None):
    """Scores of the network that the stand-in board runs."""
    flat = frame.reshape(-1).astype(np.int64)
    return np.array([flat.sum(), -flat.sum(), flat @ np.arange(15), 7 if quality is None else quality])


@pytest.fixture
def board():
    boards = []

    def make(**options):
        boards.append(FakeBoard(golden, SOURCE, SCORES, **options))
        return boards[-1]

    yield make
    for one in boards:
        one.close()


def frames(count, seed=1):
    return np.random.default_rng(seed).integers(0, 16, (count, 3, 5))


@pytest.mark.parametrize("has_index", [True, False])
def test_scores_and_classes(board, has_index):
    x = frames(50)
    progress = []
    with host.BoardLink(board(has_index=has_index).port, SOURCE, SCORES, has_index) as link:
        scores, index = link.run(x, progress.append)
    expected = np.array([golden(frame) for frame in x])
    assert scores.dtype == np.int64
    assert np.array_equal(scores, expected)
    assert np.array_equal(index, expected.argmax(1)) if has_index else index is None
    assert progress == list(range(1, 51))


def test_no_frames(board):
    with host.BoardLink(board().port, SOURCE, SCORES, True) as link:
        scores, index = link.run(frames(0))
    assert scores.shape == (0, 4)
    assert index.shape == (0,)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_never_more_than_a_window_under_way_and_as_much(board, window):
    fake = board(delay=0.02)
    with host.BoardLink(fake.port, SOURCE, SCORES, True, window=window) as link:
        link.run(frames(12))
    assert fake.most == window


def test_a_link_serves_many_runs(board):
    with host.BoardLink(board().port, SOURCE, SCORES, True) as link:
        for seed in range(3):
            assert np.array_equal(link.run(frames(4, seed))[0], [golden(frame) for frame in frames(4, seed)])


def test_every_frame_goes_out_with_its_quality(board):
    x, asked = frames(6), [3, 0, 255, 300, 1, 1]
    with host.BoardLink(board(has_quality=True).port, SOURCE, SCORES, True, has_quality=True) as link:
        assert link.run(x, quality=asked)[0][:, 3].tolist() == [3, 0, 255, 255, 1, 1]
        assert link.run(x, quality=2)[0][:, 3].tolist() == [2] * 6
        scores, _ = link.run(x)
        assert np.array_equal(scores, [golden(frame, protocol.ALL_DIGITS) for frame in x])


IMAGE = bytes(range(256)) * 300


@pytest.mark.parametrize("has_quality", [False, True])
def test_a_board_is_loaded_once(board, has_quality):
    fake = board(has_quality=has_quality, image=IMAGE)
    for seed in range(2):
        with host.BoardLink(fake.port, SOURCE, SCORES, True, has_quality=has_quality, image=IMAGE) as link:
            for _ in range(2):
                expected = [golden(frame, protocol.ALL_DIGITS) for frame in frames(4, seed)]
                assert np.array_equal(link.run(frames(4, seed))[0], expected)
    assert fake.loads == 1
    fake.loaded = False  # as after a power cycle
    with host.BoardLink(fake.port, SOURCE, SCORES, True, has_quality=has_quality, image=IMAGE) as link:
        link.run(frames(1))
    assert fake.loads == 2


UNSURE = (
    "the board on {port} does not answer whether its weights are loaded: check that it runs this design at 1000000 "
    "baud (fewbit flash)"
)


@pytest.mark.parametrize(
    "answer, message",
    [
        (b"", UNSURE),
        (b"\x07", UNSURE),
        (b"\x00", "the board on {port} did not accept its 76,800 bytes of weights: try again"),
    ],
)
def test_a_board_that_cannot_be_loaded(board, answer, message):
    fake = board(image=IMAGE, mangle=lambda number, reply: answer)
    with (
        host.BoardLink(fake.port, SOURCE, SCORES, True, image=IMAGE, timeout_s=0.2) as link,
        pytest.raises(FewbitError, match=f"^{re.escape(message.format(port=fake.port))}$"),
    ):
        link.run(frames(2))
    assert not fake.answered


@pytest.mark.parametrize(
    "has_quality, quality, message",
    [
        (False, 1, "the design on {port} has no quality to set"),
        (True, -1, "the quality must be 0 or more, not -1"),
        (True, [1, 2], "there must be a quality for each of the 3 frames, not 2"),
    ],
)
def test_a_quality_that_does_not_suit(board, has_quality, quality, message):
    fake = board(has_quality=has_quality)
    with (
        host.BoardLink(fake.port, SOURCE, SCORES, True, has_quality=has_quality) as link,
        pytest.raises(FewbitError, match=f"^{re.escape(message.format(port=fake.port))}$"),
    ):
        link.run(frames(3), quality=quality)
    assert not fake.answered


def test_what_an_earlier_host_left_does_no_harm(board):
    fake = board()
    os.write(fake.far, b"\x12\x34")
    with host.BoardLink(fake.port, SOURCE, SCORES, True) as link:
        os.write(fake.near, b"old answer")
        assert np.array_equal(link.run(frames(3))[0], [golden(frame) for frame in frames(3)])


def test_a_short_reply(board):
    fake = board(mangle=lambda number, reply: reply[:3] if number == 2 else reply)
    with host.BoardLink(fake.port, SOURCE, SCORES, True, timeout_s=0.3, window=1) as link:
        message = (
            f"frame 2: 3 of 9 reply bytes arrived from {fake.port} in 0.3 s: "
            "check that the board runs this design at 1000000 baud (fewbit flash)"
        )
        with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
            link.run(frames(5))
        assert np.array_equal(link.run(frames(5))[0], [golden(frame) for frame in frames(5)])


def test_after_an_error_late_replies_are_thrown_away(board):
    fake = board(mangle=lambda number, reply: reply[1:] if number == 7 else reply)
    with host.BoardLink(fake.port, SOURCE, SCORES, True, timeout_s=0.3, window=4) as link:
        link.run(frames(5))
        with pytest.raises(FewbitError, match=r"^frame \d: "):
            link.run(frames(5))
        assert np.array_equal(link.run(frames(5))[0], [golden(frame) for frame in frames(5)])


def surplus(port, count, replies):
    return (
        f"^{count} surplus bytes after {replies} replies from {re.escape(port)}: late replies to an earlier request, "
        "or noise on the line; run the frames again$"
    )


def test_a_byte_too_many_is_an_error_and_does_not_reach_the_next_run(board):
    fake = board(mangle=lambda number, reply: reply + b"x" if number == 0 else reply)
    with host.BoardLink(fake.port, SOURCE, SCORES, True, timeout_s=0.3) as link:
        with pytest.raises(FewbitError, match=surplus(fake.port, 1, 1)):
            link.run(frames(1))
        for seed in range(3):
            assert np.array_equal(link.run(frames(1, seed))[0][0], golden(frames(1, seed)[0]))


@pytest.mark.parametrize("late", [1.5, 1.9])
def test_a_late_reply_is_thrown_away(board, late):
    """The first frame takes longer than a reply may; its answer is not taken for the next run's."""
    fake = board(delay=lambda number: late * 0.4 if number == 0 else 0.0)
    with host.BoardLink(fake.port, SOURCE, SCORES, True, timeout_s=0.4) as link:
        with pytest.raises(FewbitError, match=r"^frame 0: 0 of 9 reply bytes arrived"):
            link.run(frames(3))
        assert np.array_equal(link.run(frames(4, 2))[0], [golden(frame) for frame in frames(4, 2)])


@pytest.mark.parametrize("late", [3.5, 4.0, 5.0])
def test_a_reply_that_comes_in_the_middle_of_the_next_run_is_an_error(board, late):
    """Later than anybody can wait for: it is taken for a reply, and at the end there is one too many."""
    fake = board(delay=lambda number: late * 0.2 if number == 0 else 0.0)
    x = frames(1, 2)
    with host.BoardLink(fake.port, SOURCE, SCORES, True, timeout_s=0.2, window=1) as link:
        with pytest.raises(FewbitError, match=r"^frame 0: 0 of 9 reply bytes arrived"):
            link.run(frames(1))
        for _ in range(5):
            try:
                scores, _ = link.run(x)
            except FewbitError:
                continue
            assert np.array_equal(scores, [golden(frame) for frame in x])
            break
        else:
            pytest.fail("the link does not recover")


def test_replies_to_a_program_that_is_gone(board):
    """It left frames under way; whoever opens the port next does not take their answers."""
    fake = board(delay=0.05)
    os.write(fake.far, b"".join(protocol.encode_request(SOURCE, frame) for frame in frames(2)))
    x = frames(5, 2)
    with host.BoardLink(fake.port, SOURCE, SCORES, True) as link:
        assert np.array_equal(link.run(x)[0], [golden(frame) for frame in x])


def test_replies_to_a_program_that_is_gone_and_a_slow_board(board):
    """The answer comes when the new program has long begun: an error, and then all is well."""
    fake = board(delay=lambda number: 0.25)
    os.write(fake.far, protocol.encode_request(SOURCE, frames(1)[0]))
    x = frames(3, 2)
    with host.BoardLink(fake.port, SOURCE, SCORES, True, window=1) as link:
        with pytest.raises(FewbitError, match=surplus(fake.port, 9, 3)):
            link.run(x)
        assert np.array_equal(link.run(x)[0], [golden(frame) for frame in x])


def test_a_board_that_never_stops(board, monkeypatch):
    """On a busy machine, a pseudo-terminal may hold bytes back for longer than a board's pause: a longer one is set."""
    monkeypatch.setattr(host, "_MOST_DRAIN", 3)
    fake = board()
    stop = threading.Event()

    def babble():
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError):
                os.write(fake.near, b"?")
            stop.wait(0.01)

    thread = threading.Thread(target=babble)
    thread.start()
    try:
        with (
            host.BoardLink(fake.port, SOURCE, SCORES, True, timeout_s=0.1, pause_s=0.5) as link,
            pytest.raises(FewbitError, match=rf"^the board on {fake.port} does not stop sending: flash it again"),
        ):
            link.run(frames(1))
    finally:
        stop.set()
        thread.join()


def test_a_class_that_is_not_that_of_the_greatest_score(board):
    """One flipped bit of the class, or of a score: the reply is a possible one, and does not hold together."""
    x = frames(1)
    right = int(golden(x[0]).argmax())
    fake = board(mangle=lambda number, reply: reply[:-1] + bytes([right ^ 1]))
    message = rf"^frame 0: the reply \w+ says class {right ^ 1}, but its largest score is that of class {right}: a byte"
    with (
        host.BoardLink(fake.port, SOURCE, SCORES, True) as link,
        pytest.raises(FewbitError, match=message + " was damaged on the line, or the board runs another design$"),
    ):
        link.run(x)


def test_the_class_of_equal_scores_is_the_lowest():
    reply = protocol.encode_reply(SCORES, np.array([-3, 5, 5, 5]), 1)
    assert protocol.decode_reply(SCORES, True, reply)[1] == 1
    with pytest.raises(FewbitError, match="says class 2, but its largest score is that of class 1"):
        protocol.decode_reply(SCORES, True, reply[:-1] + b"\x02")


def test_an_echo_is_no_board():
    """pyserial's loop:// gives back what is sent."""
    with (
        host.BoardLink("loop://", SOURCE, SCORES, True, timeout_s=0.2) as link,
        pytest.raises(FewbitError, match=r"^(frame 0|\d+ bytes more)"),
    ):
        link.run(frames(3))


@pytest.mark.parametrize(
    "port, message",
    [
        ("nosuch://x", "cannot open nosuch://x: "),
        ("socket://127.0.0.1:1", "cannot open socket://127.0.0.1:1: "),
        ("loop://?nosuch=1", "cannot open loop://?nosuch=1: "),
        ("hwgrep://(", "cannot open hwgrep://(: "),
        ("alt://", "there is no serial port alt://; ports here: "),
        ("spy://", "there is no serial port spy://; ports here: "),
    ],
)
def test_urls_that_do_not_open(port, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}") as refused:
        host.BoardLink(port, SOURCE, SCORES, True)
    assert "\n" not in str(refused.value)


def test_a_silent_board(board):
    fake = board(mangle=lambda number, reply: b"")
    with (
        host.BoardLink(fake.port, SOURCE, SCORES, True, timeout_s=0.2) as link,
        pytest.raises(FewbitError, match=r"^frame 0: 0 of 9 reply bytes arrived"),
    ):
        link.run(frames(2))


@pytest.mark.parametrize("damage", [b"\xff\x7f", b"\x00\x08"])
def test_a_score_out_of_range(board, damage):
    fake = board(mangle=lambda number, reply: damage + reply[2:])
    with (
        host.BoardLink(fake.port, SOURCE, SCORES, True) as link,
        pytest.raises(
            FewbitError, match=r"^frame 0: the reply \w+ is not int12\[4\]: does the board run another design\?$"
        ),
    ):
        link.run(frames(1))


def test_an_index_out_of_range(board):
    fake = board(mangle=lambda number, reply: reply[:-1] + b"\x04")
    with (
        host.BoardLink(fake.port, SOURCE, SCORES, True) as link,
        pytest.raises(FewbitError, match=r"does the board run another design"),
    ):
        link.run(frames(1))


@pytest.mark.parametrize("x, message", [
    (np.full((1, 3, 5), 16), "a frame must be uint4[3, 5], but its values go from 16 to 16"),
    (np.zeros((1, 15), int), "a frame must be integers uint4[3, 5], not int64 of shape (15,)"),
    (np.zeros((1, 3, 5)), "a frame must be integers uint4[3, 5], not float64 of shape (3, 5)"),
])  # fmt: skip
def test_frames_that_do_not_suit(board, x, message):
    fake = board()
    with (
        host.BoardLink(fake.port, SOURCE, SCORES, True) as link,
        pytest.raises(FewbitError, match=f"^{re.escape(message)}$"),
    ):
        link.run(x)
    assert not fake.arrived
    assert not fake.answered


def test_a_window_of_none():
    with pytest.raises(FewbitError, match=r"^the window must be at least 1 frame, not 0$"):
        host.BoardLink("loop://", SOURCE, SCORES, True, window=0)


def test_over_a_socket():
    server = socket.create_server(("127.0.0.1", 0))

    def answer():
        peer, _ = server.accept()
        with peer:
            data = peer.recv(100)
            scores = golden(protocol.decode_frame(SOURCE, data))
            peer.sendall(protocol.encode_reply(SCORES, scores, int(scores.argmax())))

    thread = threading.Thread(target=answer)
    thread.start()
    with server, host.BoardLink(f"socket://127.0.0.1:{server.getsockname()[1]}", SOURCE, SCORES, True) as link:
        assert np.array_equal(link.run(frames(1))[0][0], golden(frames(1)[0]))
        thread.join()
        with pytest.raises(FewbitError, match=r"^the board on socket://.* was lost: .*; plug it in again$"):
            link.run(frames(1))
        link._serial._socket.close()  # pyserial leaves a socket open that the other side has closed


def test_wrong_port_name(monkeypatch):
    monkeypatch.setattr(list_ports, "comports", lambda: [port("/dev/ttyUSB1"), port("/dev/ttyUSB0")])
    message = "there is no serial port /dev/no-such-port; ports here: /dev/ttyUSB0, /dev/ttyUSB1"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        host.BoardLink("/dev/no-such-port", SOURCE, SCORES, True)


@pytest.mark.parametrize("number, message", [
    (errno.EACCES, "no permission to open P: add yourself to its group (dialout on most systems) and log in again"),
    (errno.EBUSY, "P is in use: close the other program"),
    (errno.EIO, "cannot open P: could not open port"),
])  # fmt: skip
def test_ports_that_do_not_open(monkeypatch, number, message):
    def refuse(*arguments, **options):
        raise serial.SerialException(number, "could not open port")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        host.BoardLink("P", SOURCE, SCORES, True)


def test_no_serial_port_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(FewbitError, match=f"^cannot open {re.escape(str(path))}: "):
        host.BoardLink(str(path), SOURCE, SCORES, True)


def port(device, vid=None, pid=None, location=None, serial_number=None):
    return SimpleNamespace(device=device, vid=vid, pid=pid, location=location, serial_number=serial_number)


def ft2232(device, location):
    return port(device, 0x0403, 0x6010, location)


@pytest.mark.parametrize("name, ports, found", [
    ("icebreaker", [ft2232("/dev/ttyUSB0", "1-2:1.0"), ft2232("/dev/ttyUSB1", "1-2:1.1")], "/dev/ttyUSB1"),
    ("icebreaker", [ft2232("/dev/ttyUSB0", "1-2:1.1"), port("/dev/ttyS0")], "/dev/ttyUSB0"),
    ("hx8k", [ft2232("/dev/cu.serial-1", "20-1"), ft2232("/dev/cu.serial-0", "20-1")], "/dev/cu.serial-1"),
    ("icebreaker", [ft2232("COM4", "1-2"), ft2232("COM3", "1-2")], "COM4"),
    ("ulx3s-85f", [port("/dev/ttyUSB7", 0x0403, 0x6015, "1-3:1.0"), ft2232("/dev/ttyUSB0", "1-4:1.0")], "/dev/ttyUSB7"),
])  # fmt: skip
def test_find_port(monkeypatch, name, ports, found):
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    assert host.find_port(name) == found


def test_find_port_without_the_board(monkeypatch):
    monkeypatch.setattr(list_ports, "comports", lambda: [port("/dev/ttyS0")])
    message = "no serial port of icebreaker (USB 0403:6010) was found: plug it in, or name one with --port"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        host.find_port("icebreaker")


def test_find_port_with_two_boards(monkeypatch):
    ports = [port(f"/dev/ttyUSB{n}", 0x0403, 0x6015, f"1-{n}:1.0") for n in (1, 2)]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    message = "several serial ports could be ulx3s-25f: name one with --port: /dev/ttyUSB1, /dev/ttyUSB2"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        host.find_port("ulx3s-25f")


@pytest.mark.parametrize("name, shape, sent", [
    ("bipolar", (8,), "b1"), ("bipolar", (7,), "01000000010101"), ("uint2", (6,), "010302"), ("uint2", (4,), "7b"),
    ("int4", (2,), "f7"), ("uint3", (2,), "35"), ("int12", (2,), "ff0f0008"), ("uint8", (3,), "0001ff"),
    ("uint24", (1,), "03020100"), ("int64", (1,), "feffffffffffffff"),
])  # fmt: skip
def test_requests_worked_out_by_hand(name, shape, sent):
    values = {
        "b1": [1, -1, -1, -1, 1, 1, -1, 1], "01000000010101": [1, -1, -1, -1, 1, 1, 1], "010302": [1, 0, 3, 0, 2, 0],
        "7b": [3, 2, 3, 1], "f7": [7, -1], "35": [5, 3], "ff0f0008": [-1, -2048], "0001ff": [0, 1, 255],
        "03020100": [0x010203], "feffffffffffffff": [-2],
    }[sent]  # fmt: skip
    tensor = kind(name, *shape)
    assert protocol.encode_frame(tensor, np.array(values)).hex() == sent
    assert protocol.decode_frame(tensor, bytes.fromhex(sent)).tolist() == values
    assert protocol.frame_bytes(tensor) == len(sent) // 2
    assert protocol.encode_request(tensor, np.array(values)).hex() == sent


@pytest.mark.parametrize("quality, front", [(None, "ff"), (0, "00"), (3, "03"), (255, "ff"), (1000, "ff")])
def test_requests_with_a_quality_worked_out_by_hand(quality, front):
    tensor = kind("uint8", 2)
    sent = protocol.encode_request(tensor, np.array([1, 2]), True, quality)
    assert sent.hex() == front + "0102"
    frame, back = protocol.decode_request(tensor, True, sent)
    assert (frame.tolist(), back) == ([1, 2], int(front, 16))
    assert protocol.request_bytes(tensor, True) == len(sent)
    # 512 bytes hold 170 such requests, and 256 without a quality.
    assert (protocol.window(tensor, 2, True), protocol.window(tensor)) == (170, 256)
    assert (protocol.buffer_bytes(tensor, 2, True), protocol.buffer_bytes(tensor, 0, True)) == (510, 1)


@pytest.mark.parametrize(
    "name", ["bipolar", "uint1", "uint3", "uint8", "int2", "int8", "int9", "uint16", "int33", "int64"]
)
def test_replies_there_and_back(name):
    tensor = kind(name, 3)
    ends = np.array([tensor.dtype.min, tensor.dtype.max, tensor.dtype.max])
    sent = protocol.encode_reply(tensor, ends, 1)
    assert len(sent) == protocol.reply_bytes(tensor, True)
    scores, index = protocol.decode_reply(tensor, True, sent)
    assert scores.tolist() == ends.tolist()
    assert index == 1
    with pytest.raises(FewbitError, match=r"^a reply has"):
        protocol.decode_reply(tensor, False, sent)


MANGLES = {
    "another class": (lambda reply: reply[:-1] + bytes([reply[-1] ^ 1]), "frame 0: the reply "),
    "a byte lost": (lambda reply: reply[1:], "frame 0: 8 of 9 reply bytes arrived from "),
    "a byte added": (lambda reply: reply[:4] + b"\x00" + reply[4:], ""),
    "nothing": (lambda reply: b"", "frame 0: 0 of 9 reply bytes arrived from "),
    "a byte behind": (lambda reply: reply + b"\x00", "1 surplus bytes after 1 replies from "),
}


@pytest.mark.parametrize("mangle", MANGLES)
def test_the_command_tells_of_a_damaged_reply(board, tmp_path, capsys, monkeypatch, mangle):
    """One line each, and never an answer."""
    network = Network(
        name="n",
        input=SOURCE,
        layers=(
            Flatten(name="flatten"),
            Dense(name="fc", weights=np.arange(60).reshape(4, 15) % 15 - 7, code=Code.parse("int(4)")),
            Threshold(name="t", thresholds=np.arange(-2047, 2048)[None], sign=[1], dtype=DType("int", 12), base=-2048),
            ArgMax(name="class"),
        ),
    )
    file.save(network, tmp_path / "n.safetensors")
    np.save(tmp_path / "x.npy", frames(1).astype(np.uint8))
    change, said = MANGLES[mangle]
    fake = board(mangle=lambda number, reply: change(reply))
    monkeypatch.setattr(engines, "BoardLink", partial(host.BoardLink, timeout_s=0.3))
    with pytest.raises(SystemExit) as done:
        cli.main(["run", str(tmp_path / "n.safetensors"), "--inputs", str(tmp_path / "x.npy"), "--engine", "board",
                  "--board", "icebreaker", "--port", fake.port, "-q"])  # fmt: skip
    printed = capsys.readouterr()
    assert (done.value.code, printed.out) == (2, "")
    assert printed.err.startswith(f"fewbit: {said}")
    assert printed.err.count("\n") == 1
