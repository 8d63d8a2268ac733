"""What a board does with the bytes of the link, as its hardware does it: the model behind the stand-in boards of the
host's tests, held to the simulated shell in ``test_board_model.py``."""

from __future__ import annotations

from collections.abc import Callable

from fewbit.boards import protocol
from fewbit.golden.dtype import Ints
from fewbit.golden.network import TensorType


class BoardModel:
    """A board of a network of these types; ``answer(frame, quality)`` gives its scores.

    It computes one frame at a time, when :meth:`work` is called; what comes meanwhile waits in its buffer. Like the
    hardware it checks nothing: any bytes are a frame, and any image is loaded once it is whole.

    ``loaded``, ``loads`` and ``under_way`` are for tests: whether and how often it was loaded, and how many whole
    requests it has not answered.
    """

    def __init__(
        self,
        answer: Callable[[Ints, int | None], Ints],
        source: TensorType,
        scores: TensorType,
        *,
        has_index: bool = True,
        has_quality: bool = False,
        image_bytes: int = 0,
        buffer_frames: int = protocol.BUFFER_FRAMES,
    ) -> None:
        self.answer, self.source, self.scores = answer, source, scores
        self.has_index, self.has_quality, self.image_bytes = has_index, has_quality, image_bytes
        self.has_front = has_quality or image_bytes > 0
        self.length = protocol.request_bytes(source, self.has_front)
        self.depth = protocol.buffer_bytes(source, buffer_frames, self.has_front)
        self.loaded, self.loads = image_bytes == 0, 0
        self.under_way = 0
        self.frame: bytes | None = None  # what it computes
        self.broken = False
        self._forget()

    def _forget(self) -> None:
        self.buffer = bytearray()
        self.part = bytearray()  # of the request that is being taken from the buffer
        self.left = 0  # bytes of an image to come
        self.dropped = False
        self.place, self.ends = 0, 0  # of the request on the line: bytes so far, and in all

    def receive(self, data: bytes) -> bytes:
        """Takes bytes from the line, without a pause between them; what it answers at once."""
        replies = b""
        for value in data:
            if self.broken:
                continue
            if len(self.buffer) >= self.depth:
                self.broken = True  # and all that follows is lost, until a pause
                continue
            if self.place == 0:
                special = {protocol.ASK: 1, protocol.LOAD: 1 + self.image_bytes} if self.image_bytes else {}
                self.ends = special.get(value, self.length)
                self.under_way += value not in special
            self.place = (self.place + 1) % self.ends
            self.buffer.append(value)
            replies += self._take()
        return replies

    def silence(self) -> None:
        """The line was silent for longer than a pause: inside a request, or after a loss, all is thrown away."""
        if self.place or self.broken:
            self._forget()
            self.broken, self.frame, self.under_way = False, None, 0

    def work(self) -> bytes:
        """Computes the frame that it has; its reply, and what it answers next at once."""
        assert self.frame is not None
        frame, quality = protocol.decode_request(self.source, self.has_front, self.frame)
        scores = self.answer(frame, quality)
        self.frame = None
        self.under_way -= 1
        reply = protocol.encode_reply(self.scores, scores, int(scores.argmax()) if self.has_index else None)
        return reply + self._take()

    def _take(self) -> bytes:
        """Takes requests from the buffer as long as there is no frame to compute."""
        replies = b""
        while self.buffer and self.frame is None:
            if self.left:
                del self.buffer[0]
                self.left -= 1
                if not self.left:
                    self.loaded = True
                    self.loads += 1
                    replies += b"\x01"
            elif self.image_bytes and not self.part and self.buffer[0] == protocol.LOAD:
                del self.buffer[0]
                self.loaded, self.left = False, self.image_bytes
            elif self.image_bytes and not self.part and self.buffer[0] == protocol.ASK:
                del self.buffer[0]
                replies += bytes([self.loaded])
            else:
                if not self.part:
                    self.dropped = not self.loaded
                self.part.append(self.buffer.pop(0))
                if len(self.part) == self.length:
                    if self.dropped:
                        self.under_way -= 1
                    else:
                        self.frame = bytes(self.part)
                    self.part.clear()
        return replies
