"""Host driver: sends frames to a board over its serial port and receives scores and classes."""

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
"""Interval at which the line is read while old bytes are discarded."""

_MOST_DRAIN = 10
"""A line that does not fall silent is given up after this many times the silence and the reply timeout together."""


def find_port(board: Board | str) -> str:
    """Return the name of the serial port of ``board``, found by the USB ids of its bridge.

    Raises
    ------
    FewbitError
        If no port has these ids, or ports of several boards do.
    """
    board = catalogue.get(board) if isinstance(board, str) else board
    boards: dict[str, list[Any]] = {}
    for port in list_ports.comports():
        if (port.vid, port.pid) in board.usb_ids:
            # Interfaces of one bridge have the same bus location ("1-2:1.0", "1-2:1.1") or serial number.
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

    Up to ``window`` requests are sent before their replies arrive, so that both the line and the design stay busy.

    Replies are not numbered, so a late reply to an earlier request could be taken for the reply to a later one. Two
    checks prevent this. On a new link and after an error, the link waits for silence and discards what it receives
    before it sends. At the end of such a run it listens again: a surplus byte makes the whole run an error. On a new
    link the two waits take 0.3 s together, with the default pause.

    Parameters
    ----------
    port : str
        Serial port, or a URL that pyserial understands.
    input, scores : TensorType
        Type of a frame, and of its scores.
    has_index : bool
        Whether a reply ends with the class index.
    baud : int
        Bits per second of the line.
    has_quality : bool
        Whether the design's quality can be set.
    image : bytes
        Weights that the board has to be loaded with before the first frame; empty if there are none.
    window : int or None
        Requests that may be without a reply; see the build report. None: as many as the default receive buffer holds.
    frame_s : float
        Time that the design computes on a frame; see the build report.
    timeout_s : float
        Longest time to wait for a reply, in addition to the transmission time.
    pause_s : float
        Silence after which the board discards a partial frame.

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
        # After this silence the board has discarded a partial request, and no further reply is due.
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
        """Close the serial port."""
        self._serial.close()

    def run(
        self,
        frames: Ints | Iterable[Ints],
        on_progress: Callable[[int], object] | None = None,
        *,
        quality: int | Sequence[int] | None = None,
    ) -> tuple[Ints, Ints | None]:
        """Run ``frames`` on the board; return scores (N, \\*scores.shape) and class indices (N,) or None.

        If the board needs weights and has none yet, they are loaded first. After an error the link may be used again.

        Parameters
        ----------
        frames : array or iterable, (N, \\*input.shape)
            Input integers.
        on_progress : callable (replies)
            Called with the number of replies received so far.
        quality : int, sequence of int, or None
            Number of signed digits that count in each multiplication: one number for all frames, or one for each.
            None: all digits.

        Raises
        ------
        FewbitError
            If a frame is not of type ``input``, the design has no quality to set, a reply is late or damaged, surplus
            bytes arrive, or the port is lost.
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
                    f"{surplus} surplus bytes after {len(requests)} replies from {self.port}: late replies to an "
                    "earlier request, or noise on the line; run the frames again"
                )
            self._clean = True
        except (serial.SerialException, OSError) as error:
            raise FewbitError(f"the board on {self.port} was lost: {_reason(error)}; plug it in again") from None
        return scores, (indices if self.has_index else None)

    def _requests(self, frames: list[Ints], quality: int | Sequence[int] | None) -> list[bytes]:
        if quality is not None and not self.has_quality:
            raise FewbitError(f"the design on {self.port} has no quality to set")
        if not isinstance(quality, Sequence):
            return [protocol.encode_request(self.input, frame, self.has_front, quality) for frame in frames]
        if len(quality) != len(frames):
            raise FewbitError(f"there must be a quality for each of the {len(frames)} frames, not {len(quality)}")
        each = zip(frames, quality)
        return [
            protocol.encode_request(self.input, frame, self.has_front, frame_quality) for frame, frame_quality in each
        ]

    def _settle(self) -> float:
        """Wait until the board has discarded a partial request of an earlier host or error; discard old replies.

        Returns how long to listen at the end of the run: 0 if no reply can be outstanding.
        """
        if self._clean and not self._serial.in_waiting:
            return 0.0
        if not self._owed:  # on a new link the number is unknown
            self._drain(self._quiet_s)
            return self._quiet_s
        patience_s = max(self._quiet_s, 2 * self._reply_s)
        all_came = self._drain(patience_s, self._owed) >= self._owed
        self._drain(self._quiet_s)
        return self._quiet_s if all_came else patience_s

    def _surplus(self, listen_s: float) -> int:
        """Number of bytes that arrive within ``listen_s`` after the last reply."""
        try:
            return self._drain(listen_s)
        except (serial.SerialException, OSError):  # all replies have arrived; the next run reports the lost port
            return 0

    def _drain(self, silent_s: float, enough: int | None = None) -> int:
        """Discard bytes until none arrives for ``silent_s``, or ``enough`` have arrived; return their number."""
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
        """Load the weights into the board, unless it has them already."""
        for request in (bytes([protocol.ASK]), bytes([protocol.LOAD]) + self.image):
            self._serial.write(request)
            answer = self._serial.read(1)
            if answer == b"\x01":
                return
            if answer != b"\x00":
                raise FewbitError(
                    f"the board on {self.port} does not answer whether its weights are loaded: check that it runs this "
                    f"design at {self.baud} baud (fewbit flash)"
                )
        raise FewbitError(
            f"the board on {self.port} did not accept its {len(self.image):,} bytes of weights: try again"
        )

    def _reply(self, number: int) -> tuple[Ints, int | None]:
        length = protocol.reply_bytes(self.scores, self.has_index)
        data = self._serial.read(length)
        self._owed = max(0, self._owed - len(data))
        if len(data) < length:
            raise FewbitError(
                f"frame {number}: {len(data)} of {length} reply bytes arrived from {self.port} in "
                f"{self._reply_s:.1f} s: check that the board runs this design at {self.baud} baud (fewbit flash)"
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
        # Otherwise an FTDI bridge delays short replies by 16 ms.
        line.set_low_latency_mode(True)
    return line


def _why_not(port: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EACCES:
        return f"no permission to open {port}: add yourself to its group (dialout on most systems) and log in again"
    if number == errno.EBUSY:
        return f"{port} is in use: close the other program"
    if number == errno.ENOENT or "FileNotFoundError" in str(error):
        there = ", ".join(sorted(port_info.device for port_info in list_ports.comports())) or "none"
        return f"there is no serial port {port}; ports here: {there}"
    return f"cannot open {port}: {_reason(error)}"


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip()
