"""A golden board behind a pseudo-terminal."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Callable
from typing import Any

from fewbit.boards import protocol
from fewbit.boards.report import Link, Report
from fewbit.golden.dtype import Ints
from fewbit.golden.network import Network, TensorType


def report_of(network: Network, **link: Any) -> Report:
    """A report of a build of ``network``, its link as usual but for ``link``."""
    return Report(
        board="ulx3s-25f",
        target="ecp5-25k",
        bitstream="ulx3s-25f.bit",
        clock_asked_hz=50_000_000,
        clock_hz=50e6,
        timing=(),
        usage=(),
        seed=1,
        seeds_tried=1,
        tools={},
        link=Link(
            input=network.input,
            scores=network.scores,
            has_index=network.classifies,
            baud=1_000_000,
            window=2,
            **link,
        ),
        cycles_per_frame=1,
    )


class FakeBoard:
    """A board at the far end of a pseudo-terminal, of a network of these types. It gives the scores that
    ``answer(frame, quality)`` says; ``mangle(number, reply)`` may change what goes out.

    With an ``image`` it has to be loaded, with that. ``most`` is the largest number of frames that were ever under way,
    ``loads`` how often it was loaded.
    """

    def __init__(
        self,
        answer: Callable[[Ints, int | None], Ints],
        source: TensorType,
        scores: TensorType,
        *,
        mangle: Callable[[int, bytes], bytes] = lambda number, reply: reply,
        has_index: bool = True,
        has_quality: bool = False,
        image: bytes = b"",
        delay: float = 0.0,
    ) -> None:
        self.near, far = os.openpty()
        tty.setraw(self.near)
        tty.setraw(far)
        self.far, self.port = far, os.ttyname(far)
        self.answer, self.source, self.scores = answer, source, scores
        self.mangle, self.has_index, self.has_quality, self.delay = mangle, has_index, has_quality, delay
        self.image, self.loaded, self.loads = image, False, 0
        self.answered, self.most = 0, 0
        self.arrived = bytearray()
        self.lock = threading.Lock()
        self.stop = threading.Event()
        os.set_blocking(self.near, False)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        has_front = self.has_quality or bool(self.image)
        length = protocol.request_bytes(self.source, has_front)
        last = time.monotonic()
        while not self.stop.is_set():
            try:
                data = os.read(self.near, 1 << 16)
                self.arrived += data
                last = time.monotonic()
            except BlockingIOError:
                data = b""
            except OSError:
                return
            if self.image and self.arrived[:1] in (bytes([protocol.ASK]), bytes([protocol.LOAD])):
                self.answer_front()
                continue
            self.most = max(self.most, len(self.arrived) // length)
            if len(self.arrived) % length and time.monotonic() - last > protocol.PAUSE_S:
                self.arrived.clear()
            if len(self.arrived) >= length and not (self.delay and data):
                time.sleep(self.delay)
                request = protocol.decode_request(self.source, has_front, bytes(self.arrived[:length]))
                del self.arrived[:length]
                if self.image and not self.loaded:
                    continue
                scores = self.answer(*request)
                index = int(scores.argmax()) if self.has_index else None
                os.write(self.near, self.mangle(self.answered, protocol.encode_reply(self.scores, scores, index)))
                self.answered += 1
            elif not data:
                time.sleep(0.001)

    def answer_front(self) -> None:
        """Load, once the whole image is there, and say whether the board is loaded."""
        size = 1 + (len(self.image) if self.arrived[0] == protocol.LOAD else 0)
        if len(self.arrived) < size:
            return
        if size > 1:
            self.loaded = bytes(self.arrived[1:size]) == self.image
            self.loads += 1
        del self.arrived[:size]
        os.write(self.near, self.mangle(-1, bytes([self.loaded])))

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        os.close(self.near)
        os.close(self.far)
