"""A golden board behind a pseudo-terminal."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Callable
from typing import Any

from board_model import BoardModel

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
    """A board at the far end of a pseudo-terminal: a :class:`BoardModel`. ``mangle(number, reply)`` may change what
    goes out; ``number`` counts the replies, and is -1 for answers to other requests. Each frame takes ``delay``
    seconds, or what ``delay(number)`` says.

    ``most`` is the largest number of frames that were ever under way, ``arrived`` counts the bytes that came.
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
        delay: float | Callable[[int], float] = 0.0,
    ) -> None:
        self.near, far = os.openpty()
        tty.setraw(self.near)
        tty.setraw(far)
        self.far, self.port = far, os.ttyname(far)
        self.model = BoardModel(
            answer, source, scores, has_index=has_index, has_quality=has_quality, image_bytes=len(image)
        )
        self.mangle, self.delay = mangle, delay
        self.answered, self.most, self.arrived = 0, 0, 0
        self.stop = threading.Event()
        os.set_blocking(self.near, False)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    @property
    def loaded(self) -> bool:
        return self.model.loaded

    @loaded.setter
    def loaded(self, loaded: bool) -> None:
        self.model.loaded = loaded

    @property
    def loads(self) -> int:
        return self.model.loads

    def work(self) -> None:
        model, last, begun = self.model, time.monotonic(), 0.0
        while not self.stop.is_set():
            try:
                data = os.read(self.near, 1 << 16)
            except BlockingIOError:
                data = b""
            except OSError:
                return
            now = time.monotonic()
            if now - last > protocol.PAUSE_S:
                model.silence()
            if data:
                last = now
                self.arrived += len(data)
            while data:  # at the pace of a line, which a design keeps up with
                part, data = data[: model.length], data[model.length :]
                idle = model.frame is None
                if replies := model.receive(part):
                    os.write(self.near, self.mangle(-1, replies))
                if idle:
                    begun = now
                self.most = max(self.most, model.under_way)
                if not self._delay() and model.frame is not None:
                    self._answer()
            if model.frame is not None and now - begun >= self._delay():
                self._answer()
                begun = now
            elif not data:
                time.sleep(0.001)

    def _delay(self) -> float:
        return self.delay(self.answered) if callable(self.delay) else self.delay

    def _answer(self) -> None:
        os.write(self.near, self.mangle(self.answered, self.model.work()))
        self.answered += 1

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        os.close(self.near)
        os.close(self.far)
