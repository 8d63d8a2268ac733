"""Talks to a board that runs a design: frames in, scores and classes out, over its serial port."""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import serial
from serial.tools import list_ports

from fewbit.boards import catalogue, protocol
from fewbit.boards.catalogue import Board
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType

_POLL_S = 0.002
"""How often the line is looked at while it is drained."""

_MOST_DRAIN = 10
"""Times the longest wait for a reply after which a line that never falls silent is given up."""


def find_port(board: Board | str) -> str:
    """Name of the serial port of ``board``, by the USB ids of its bridge.

    Raises
    ------
    FewbitError
        If no port, or ports of more than one board, have them.
    """
    board = catalogue.get(board) if isinstance(board, str) else board
    boards: dict[str, list[Any]] = {}
    for port in list_ports.comports():
        if (port.vid, port.pid) in board.usb_ids:
            # Both interfaces of one bridge share a place on the bus, "1-2:1.0" and "1-2:1.1", or a serial number.
            place = (port.location or port.serial_number or port.device).split(":")[0]
            boards.setdefault(place, []).append(port)
    chosen = [_interface(ports, board.usb_interface).device for ports in boards.values()]
    if not chosen:
        ids = ", ".join(f"{vendor:04x}:{product:04x}" for vendor, product in board.usb_ids)
        raise FewbitError(f"no serial port of {board.name} (USB {ids}) was found: plug it in, or name one with --port")
    if len(chosen) > 1:
        raise FewbitError(f"several serial ports could be {board.name}: name one with --port: {', '.join(chosen)}")
    return str(chosen[0])


def _interface(ports: list[Any], interface: int) -> Any:
    for port in ports:
        if (port.location or "").endswith(f".{interface}") and ":" in port.location:
            return port
    ordered = sorted(ports, key=lambda port: str(port.device))
    return ordered[min(interface, len(ordered) - 1)]


class BoardLink:
    """A serial link to a board. Use it in a ``with`` statement, or :meth:`close` it.

    Up to ``window`` frames are under way at a time, so that the line and the design both stay busy.

    Replies carry no number, so that a late reply to an earlier request looks like one to the next. After an error, and
    on a line that an earlier program may have left, what is still to come is thrown away before anything is sent; and
    the run listens once more at its end: a reply too many means that replies were taken for others', and the whole run
    is an error. On a fresh link both together take 0.3 s at the usual pause.

    Parameters
    ----------
    port : str
        Serial port, or a URL that pyserial knows.
    input, scores : TensorType
    has_index : bool
    baud : int
    has_quality : bool
        Whether the design's quality can be turned.
    image : bytes
        What the design is loaded with at the start, where it is.
    window : int or None
        Frames under way at a time; None for as many as a shell with the usual buffer takes. The build report has it.
    frame_s : float
        How long the design works on a frame. The build report has it.
    timeout_s : float
        How long a reply may take, over what the line itself needs.
    pause_s : float
        Silence after which the board forgets a partial frame.

    Raises
    ------
    FewbitError
        If the port cannot be opened.
    """

    def __init__(
        self,
        port: str,
        input: TensorType,
        scores: TensorType,
        has_index: bool,
        baud: int = protocol.BAUD,
        *,
        has_quality: bool = False,
        image: bytes = b"",
        window: int | None = None,
        frame_s: float = 0.0,
        timeout_s: float = 2.0,
        pause_s: float = protocol.PAUSE_S,
    ) -> None:
        self.port, self.input, self.scores, self.has_index, self.baud = port, input, scores, has_index, baud
        self.has_quality, self.image, self.has_front = has_quality, image, has_quality or bool(image)
        self.window = protocol.window(input, has_front=self.has_front) if window is None else window
        if self.window < 1:
            raise FewbitError(f"the window must be at least 1 frame, not {self.window}")
        self.timeout_s, self.pause_s = timeout_s, pause_s
        exchange = protocol.request_bytes(input, self.has_front) + protocol.reply_bytes(scores, has_index)
        self._reply_s = timeout_s + 10 / baud * max(self.window * exchange, len(image))
        # A partial request is forgotten by then, and the next of several replies would have come.
        self._quiet_s = 1.5 * pause_s + 2 * frame_s + 10 / baud * exchange
        self._serial = _open(port, baud, self._reply_s)
        self._clean = False
        self._owed = 0

    def __enter__(self) -> BoardLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._serial.close()

    def run(
        self,
        frames: Ints | Iterable[Ints],
        on_progress: Callable[[int], object] | None = None,
        *,
        quality: int | Sequence[int] | None = None,
    ) -> tuple[Ints, Ints | None]:
        """Scores (N, \\*scores.shape) and class indices (N,), or None, of ``frames`` (N, \\*input.shape).

        A board that has to be loaded, and is not, is loaded first. ``on_progress`` is called with the number of
        replies so far; ``quality`` is how many signed digits count, in every frame or one number a frame; None is
        all. After an error the link may be used again.

        Raises
        ------
        FewbitError
            If a frame does not suit the network, the quality cannot be turned, a reply fails to come or is damaged,
            more bytes come than replies have, or the port is lost.
        """
        requests = self._requests(list(frames), quality)
        scores = np.zeros((len(requests), *self.scores.shape), np.int64)
        indices = np.zeros(len(requests), np.int64)
        reply_bytes = protocol.reply_bytes(self.scores, self.has_index)
        try:
            listen_s = self._settle()
            self._clean, self._owed = False, 0
            if self.image:
                self._load()
            sent, longest_s = 0, 0.0
            for received in range(len(requests)):
                ahead = min(received + self.window, len(requests))
                if ahead > sent:
                    self._serial.write(b"".join(requests[sent:ahead]))
                    self._owed += (ahead - sent) * reply_bytes
                    sent = ahead
                began = time.monotonic()
                scores[received], index = self._reply(received)
                longest_s = max(longest_s, time.monotonic() - began)
                indices[received] = -1 if index is None else index
                if on_progress is not None:
                    on_progress(received + 1)
            if surplus := self._surplus(listen_s and max(listen_s, 2 * longest_s)):
                raise FewbitError(
                    f"{surplus} bytes more than {len(requests)} replies came from {self.port}: replies of an earlier "
                    "request, or a byte that the line added; run the frames again"
                )
            self._clean = True
        except (serial.SerialException, OSError) as error:
            raise FewbitError(f"the board on {self.port} was lost: {_reason(error)}; plug it in again") from None
        return scores, (indices if self.has_index else None)

    def _requests(self, frames: list[Ints], quality: int | Sequence[int] | None) -> list[bytes]:
        if quality is not None and not self.has_quality:
            raise FewbitError(f"the design on {self.port} has no quality to turn")
        if not isinstance(quality, Sequence):
            return [protocol.encode_request(self.input, frame, self.has_front, quality) for frame in frames]
        if len(quality) != len(frames):
            raise FewbitError(f"there must be a quality for each of the {len(frames)} frames, not {len(quality)}")
        each = zip(frames, quality)
        return [protocol.encode_request(self.input, frame, self.has_front, one) for frame, one in each]

    def _settle(self) -> float:
        """Let the board forget what an earlier host or an error left half sent, and throw its answers away.

        Returns how long to listen at the end of the run: 0 where no answer can be outstanding.
        """
        if self._clean and not self._serial.in_waiting:
            return 0.0
        if not self._owed:  # or nobody knows, on a fresh link
            self._drain(self._quiet_s)
            return self._quiet_s
        patience_s = max(self._quiet_s, 2 * self._reply_s)
        all_came = self._drain(patience_s, self._owed) >= self._owed
        self._drain(self._quiet_s)
        return self._quiet_s if all_came else patience_s

    def _surplus(self, listen_s: float) -> int:
        """Bytes that come in ``listen_s`` after the last reply."""
        try:
            return self._drain(listen_s)
        except (serial.SerialException, OSError):  # the replies are here; the next run will tell
            return 0

    def _drain(self, silent_s: float, enough: int | None = None) -> int:
        """Throw away what comes until nothing has for ``silent_s``, or until ``enough`` bytes have; how many came."""
        count, quiet_since = 0, time.monotonic()
        until = quiet_since + _MOST_DRAIN * (silent_s + self._reply_s)
        while True:
            if waiting := self._serial.in_waiting:
                count += len(self._serial.read(waiting))
                quiet_since = time.monotonic()
                if quiet_since > until:
                    raise FewbitError(f"the board on {self.port} does not stop sending: flash it again (fewbit flash)")
            if (enough is not None and 0 < enough <= count) or time.monotonic() - quiet_since >= silent_s:
                return count
            time.sleep(min(_POLL_S, silent_s))

    def _load(self) -> None:
        """Load the board, unless it is."""
        for request in (bytes([protocol.ASK]), bytes([protocol.LOAD]) + self.image):
            self._serial.write(request)
            answer = self._serial.read(1)
            if answer == b"\x01":
                return
            if answer != b"\x00":
                raise FewbitError(
                    f"the board on {self.port} does not say whether it is loaded: check that it runs this design at "
                    f"{self.baud} baud (fewbit flash)"
                )
        raise FewbitError(f"the board on {self.port} did not take its {len(self.image):,} bytes of weights: try again")

    def _reply(self, number: int) -> tuple[Ints, int | None]:
        length = protocol.reply_bytes(self.scores, self.has_index)
        data = self._serial.read(length)
        self._owed = max(0, self._owed - len(data))
        if len(data) < length:
            raise FewbitError(
                f"frame {number}: {len(data)} of {length} reply bytes came from {self.port} in {self._reply_s:.1f} s: "
                f"check that the board runs this design at {self.baud} baud (fewbit flash)"
            )
        try:
            return protocol.decode_reply(self.scores, self.has_index, data)
        except FewbitError as error:
            raise FewbitError(f"frame {number}: {error}") from None


def _open(port: str, baud: int, timeout_s: float) -> Any:
    try:
        line = serial.serial_for_url(port, baudrate=baud, timeout=timeout_s, write_timeout=timeout_s)
    except (serial.SerialException, OSError, ValueError, LookupError, re.error) as error:  # the last two from URLs
        raise FewbitError(_why_not(port, error)) from None
    with contextlib.suppress(AttributeError, NotImplementedError, ValueError, OSError):
        # An FTDI bridge otherwise keeps short replies back for 16 ms.
        line.set_low_latency_mode(True)
    return line


def _why_not(port: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EACCES:
        return f"no permission to open {port}: add yourself to its group (dialout on most systems) and log in again"
    if number == errno.EBUSY:
        return f"{port} is in use: close the other program"
    if number == errno.ENOENT or "FileNotFoundError" in str(error):
        there = ", ".join(sorted(found.device for found in list_ports.comports())) or "none"
        return f"there is no serial port {port}; ports here: {there}"
    return f"cannot open {port}: {_reason(error)}"


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip()
