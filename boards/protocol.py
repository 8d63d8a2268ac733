"""The bytes on the link between a host and a board: the golden model of what the shell takes and gives.

**Request.** A frame is its elements in C order. Each stands in a slot of ``DType.slot`` bits, stored bits lowest. Slots
narrower than a byte go several to a byte, the first in the lowest bits: as many as the largest power of two that fits a
byte *and* divides the elements of a frame, so a frame needs no padding elements. Wider slots are little-endian bytes.

**The byte in front.** Where a design can be turned, or has to be loaded, a request has a byte in front; where neither,
it has none.

Where it can be turned, its multiplications being by signed digits, the byte says how many of the most significant
digits count in each of them, for this frame. At and above the most that the design has all count, so that 255 is always
all. A board holds a request back while frames of another quality are in the design. Every request says its own, so host
and board cannot come to disagree, whatever the line loses.

Where memories of it have to be loaded before the first frame, 254 is followed by their whole image instead of a frame,
16 bits at a time, little-endian. 253 is followed by nothing. To both the board replies with one byte, once no frame is
under way: 1 if all is loaded, else 0. It drops frames until then, without a reply. What is loaded outlasts a discarded
frame; an image that is begun and not completed leaves the board unloaded.

**Reply.** Every score in channel order, extended to whole bytes, little-endian: signed kinds with their sign, others
with zeros. Then the class index, in as many bytes as the largest index needs, where the design gives one.

Nothing else goes over the link: no check sum, no acknowledgement. A host refuses a reply whose class is not that of its
greatest score, and a run after which more bytes come than replies have. A pause inside a frame longer than
:data:`PAUSE_S` discards it (see :class:`fewbit.boards.shell.Shell`).

A host may have at most :func:`window` frames under way; that many fit in the board's receive buffer, whatever the
design does meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType
from fewbit.hw.streams import from_stream, to_stream

BAUD = 1_000_000
"""Bits a second unless asked otherwise: FTDI bridges and clocks of whole megahertz both reach it exactly."""

PAUSE_S = 0.1
"""Seconds of silence inside a frame after which a board discards it."""

BUFFER_FRAMES = 2
"""Frames that a board's receive buffer holds at least, unless asked otherwise."""

ALL_DIGITS = 255
"""The quality at which all digits count, whatever the design."""

LOAD, ASK = 254, 253
"""First bytes of requests to a design that has to be loaded: the image follows; whether it is loaded."""

_BLOCK_RAM_BYTES = 512


def slots_per_byte(network_input: TensorType) -> int:
    """Elements that share a byte; 1 for slots of a byte and wider.

    >>> slots_per_byte(TensorType(DType("bipolar", 1), (28, 28))), slots_per_byte(TensorType(DType("uint", 2), (3,)))
    (8, 1)
    """
    slots = max(1, 8 // network_input.dtype.slot)
    while network_input.size % slots:
        slots //= 2
    return slots


def frame_bytes(network_input: TensorType) -> int:
    """Bytes of one frame in a request.

    >>> frame_bytes(TensorType(DType("bipolar", 1), (784,))), frame_bytes(TensorType(DType("int", 12), (10,)))
    (98, 20)
    """
    return network_input.size // slots_per_byte(network_input) * _slot_bytes(network_input.dtype)


def request_bytes(network_input: TensorType, has_front: bool = False) -> int:
    """Bytes of one request.

    >>> request_bytes(TensorType(DType("uint", 8), (784,))), request_bytes(TensorType(DType("uint", 8), (784,)), True)
    (784, 785)
    """
    return has_front + frame_bytes(network_input)


def score_bytes(scores: TensorType) -> int:
    """Bytes of one score in a reply."""
    return -(-scores.dtype.bits // 8)


def index_bytes(scores: TensorType) -> int:
    """Bytes of the class index in a reply."""
    return -(-max(1, (scores.size - 1).bit_length()) // 8)


def reply_bytes(scores: TensorType, has_index: bool) -> int:
    """Bytes of one reply.

    >>> reply_bytes(TensorType(DType("int", 10), (10,)), True)
    21
    """
    return scores.size * score_bytes(scores) + has_index * index_bytes(scores)


def window(network_input: TensorType, buffer_frames: int = BUFFER_FRAMES, has_front: bool = False) -> int:
    """Frames that may be under way: ``buffer_frames``, or more where a block RAM holds more; 1 without a buffer.

    >>> window(TensorType(DType("bipolar", 1), (784,))), window(TensorType(DType("uint", 8), (784,)))
    (5, 2)
    """
    if buffer_frames == 0:
        return 1
    return max(buffer_frames, _BLOCK_RAM_BYTES // request_bytes(network_input, has_front))


def buffer_bytes(network_input: TensorType, buffer_frames: int = BUFFER_FRAMES, has_front: bool = False) -> int:
    """Bytes that the receive buffer holds: a window of requests, or the one on its way into the design."""
    if buffer_frames == 0:
        return 1
    return window(network_input, buffer_frames, has_front) * request_bytes(network_input, has_front)


def encode_frame(network_input: TensorType, frame: Ints) -> bytes:
    """``frame``, integers of the shape of ``network_input``, as a request carries it.

    >>> encode_frame(TensorType(DType("uint", 2), (4,)), np.array([1, 2, 3, 0])).hex()
    '39'

    Raises
    ------
    FewbitError
        If ``frame`` has another shape, or a value that the kind does not have.
    """
    values = np.asarray(frame)
    if values.shape != network_input.shape or values.dtype.kind not in "iub":
        raise FewbitError(f"a frame must be integers {network_input}, not {values.dtype} of shape {values.shape}")
    if not network_input.dtype.contains(values):
        raise FewbitError(f"a frame must be {network_input}, but its values go from {values.min()} to {values.max()}")
    stored = network_input.dtype.encode(to_stream(values[None], network_input.shape)[0])
    slots, slot = slots_per_byte(network_input), network_input.dtype.slot
    if slot >= 8:
        words = stored.astype(f"<u{slot // 8}")
    else:
        shifts = np.arange(slots, dtype=np.uint64) * np.uint64(slot)
        words = (stored.reshape(-1, slots) << shifts).sum(1).astype(np.uint8)
    sent: bytes = words.tobytes()
    return sent


def decode_frame(network_input: TensorType, sent: bytes) -> Ints:
    """The frame that a request carries, as a board reads it. The inverse of :func:`encode_frame`."""
    slots, slot = slots_per_byte(network_input), network_input.dtype.slot
    if slot >= 8:
        slotted = np.frombuffer(sent, f"<u{slot // 8}").astype(np.uint64)
    else:
        shifts = np.arange(slots, dtype=np.uint64) * np.uint64(slot)
        slotted = (np.frombuffer(sent, np.uint8).astype(np.uint64)[:, None] >> shifts).reshape(-1)
    mask = np.uint64((1 << network_input.dtype.bits) - 1)
    frame: Ints = from_stream(network_input.dtype.decode(slotted & mask), network_input.shape)[0]
    return frame


def encode_request(
    network_input: TensorType, frame: Ints, has_front: bool = False, quality: int | None = None
) -> bytes:
    """The request for ``frame``, at ``quality`` where there is a byte in front; None for all digits.

    >>> encode_request(TensorType(DType("uint", 8), (2,)), np.array([1, 2]), True, 3).hex()
    '030102'

    Raises
    ------
    FewbitError
        If ``frame`` has another shape, or a value that the kind does not have, or there is no such quality.
    """
    if quality is not None and quality < 0:
        raise FewbitError(f"the quality must be 0 or more, not {quality}")
    # From the first of its other meanings on, the byte would be more digits than any design has.
    front = bytes([ALL_DIGITS if quality is None or quality >= ASK else quality]) if has_front else b""
    return front + encode_frame(network_input, frame)


def decode_request(network_input: TensorType, has_front: bool, sent: bytes) -> tuple[Ints, int | None]:
    """Frame and quality of a request, as a board reads it. The inverse of :func:`encode_request`."""
    if not has_front:
        return decode_frame(network_input, sent), None
    return decode_frame(network_input, sent[1:]), sent[0]


def encode_reply(scores: TensorType, values: Ints, index: int | None) -> bytes:
    """The reply that a board gives for ``values`` (the shape of ``scores``), with ``index`` if that is not None."""
    width = score_bytes(scores)
    flat = to_stream(np.asarray(values)[None], scores.shape)[0]
    raw = flat if scores.dtype.signed else scores.dtype.encode(flat)
    sent = b"".join(int(value).to_bytes(width, "little", signed=scores.dtype.signed) for value in raw)
    return sent if index is None else sent + int(index).to_bytes(index_bytes(scores), "little")


def decode_reply(scores: TensorType, has_index: bool, data: bytes) -> tuple[Ints, int | None]:
    """Scores (int64, the shape of ``scores``) and class index or None of a reply. The inverse of :func:`encode_reply`.

    >>> decode_reply(TensorType(DType("int", 10), (2,)), True, bytes.fromhex("fefff40101"))
    (array([ -2, 500]), 1)

    Raises
    ------
    FewbitError
        If ``data`` has another length, or holds what no board gives: the link lost or broke bytes. A class index
        must be that of the greatest score, the lowest of several: the one check of its scores that a reply carries.
    """
    if len(data) != reply_bytes(scores, has_index):
        raise FewbitError(f"a reply has {reply_bytes(scores, has_index)} bytes, not {len(data)}")
    width = score_bytes(scores)
    table = np.zeros((scores.size, 8), np.uint8)  # each score in 8 bytes, whatever its own width
    table[:, :width] = np.frombuffer(data[: scores.size * width], np.uint8).reshape(-1, width)
    if scores.dtype.signed and width < 8:
        table[:, width:] = np.where(table[:, width - 1 : width] & 0x80, 0xFF, 0)
    wide = table.reshape(-1).view("<u8").astype(np.uint64)
    values = wide.view(np.int64) if scores.dtype.signed else scores.dtype.decode(wide)
    index = int.from_bytes(data[scores.size * width :], "little") if has_index else None
    fits: Any = scores.dtype.contains(values) and (index is None or index < scores.size)
    if not fits or (not scores.dtype.signed and (wide >> np.uint64(scores.dtype.bits - 1) > 1).any()):
        raise FewbitError(f"the reply {data[:16].hex()} is no {scores}: does the board run another design?")
    if index is not None and index != (best := int(np.argmax(values))):
        raise FewbitError(
            f"the reply {data[:16].hex()} says class {index} and its greatest score is that of class {best}: "
            "a byte was damaged on the line, or the board runs another design"
        )
    return from_stream(values, scores.shape)[0], index


def _slot_bytes(dtype: DType) -> int:
    return max(1, dtype.slot // 8)
