"""A golden board behind a pseudo-terminal."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Callable

from fewbit.boards import protocol
from fewbit.golden.dtype import Ints
from fewbit.golden.network import TensorType


class FakeBoard:
    """A board at the far end of a pseudo-terminal, of a network of these types. It gives the scores that
    ``answer(frame, quality)`` says; ``mangle(number, reply)`` may change what goes out.

    ``most`` is the largest number of frames that were ever under way.
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
        delay: float = 0.0,
    ) -> None:
        self.near, far = os.openpty()
        tty.setraw(self.near)
        tty.setraw(far)
        self.far, self.port = far, os.ttyname(far)
        self.answer, self.source, self.scores = answer, source, scores
        self.mangle, self.has_index, self.has_quality, self.delay = mangle, has_index, has_quality, delay
        self.answered, self.most = 0, 0
        self.arrived = bytearray()
        self.lock = threading.Lock()
        self.stop = threading.Event()
        os.set_blocking(self.near, False)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        length = protocol.request_bytes(self.source, self.has_quality)
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
            self.most = max(self.most, len(self.arrived) // length)
            if len(self.arrived) % length and time.monotonic() - last > protocol.PAUSE_S:
                self.arrived.clear()
            if len(self.arrived) >= length and not (self.delay and data):
                time.sleep(self.delay)
                request = protocol.decode_request(self.source, self.has_quality, bytes(self.arrived[:length]))
                del self.arrived[:length]
                scores = self.answer(*request)
                index = int(scores.argmax()) if self.has_index else None
                os.write(self.near, self.mangle(self.answered, protocol.encode_reply(self.scores, scores, index)))
                self.answered += 1
            elif not data:
                time.sleep(0.001)

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        os.close(self.near)
        os.close(self.far)
