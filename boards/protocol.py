"""The protocol between host and board, byte by byte: the golden model of the shell.

**Frame.** The elements in C order. Each element is stored in a slot of ``DType.slot`` bits, in the slot's lowest bits.
Slots narrower than a byte share a byte, the first in the lowest bits; their number per byte is the largest power of two
that fits a byte *and* divides the number of elements, so that no padding is needed. Wider slots are little-endian.

**Request.** A frame, with a byte in front of it if the design has a quality to set or memories to load.

*Quality.* If the design multiplies by signed digits, the front byte is the number of most significant digits that
count in each multiplication for this frame. Values above the design's number of digits mean all digits, so 255 is
always all of them. The board delays a request until all frames of another quality have left the design. Every request
carries its own quality, so host and board cannot disagree, whatever bytes the line loses.

*Load.* If the design has memories that must be loaded before the first frame, the front byte 254 (load) is followed by
the complete memory image in little-endian 16-bit words, and the front byte 253 (status) by nothing. When no frame is in
the design, the board answers either with one byte: 1 if the memories are loaded, else 0. Until they are loaded it
discards frames without a reply. Discarding a partial frame does not unload the memories; an incomplete image leaves
the board unloaded.

**Reply.** All scores in channel order, each extended to whole bytes (signed types with their sign, others with zeros),
little-endian. Then the class index, if the design gives one, in as many bytes as the largest index needs.

**Errors.** There are no checksums and no acknowledgements. The host rejects a reply whose class index is not that of
the largest score, and a run that ends with surplus bytes. If the line is silent for longer than :data:`PAUSE_S` inside
a frame, the board discards that frame (see :class:`fewbit.boards.shell.Shell`).

**Flow control.** The host may have at most :func:`window` requests without a reply. The board's receive buffer holds
that many.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType
from fewbit.hw.streams import from_stream, to_stream

BAUD = 1_000_000
"""Default bit rate in bits per second, which FTDI bridges and clocks of whole megahertz make exactly."""

PAUSE_S = 0.1
"""Silence inside a frame, in seconds, after which a board discards the frame."""

BUFFER_FRAMES = 2
"""Default for the least number of frames that a board's receive buffer holds."""

ALL_DIGITS = 255
"""Quality at which all signed digits count, in any design."""

LOAD, ASK = 254, 253
"""Front bytes of a load request, which the memory image follows, and of a status request."""

_BLOCK_RAM_BYTES = 512


def slots_per_byte(network_input: TensorType) -> int:
    """Number of elements that share a byte of a frame; 1 for elements of a byte or more.

    >>> slots_per_byte(TensorType(DType("bipolar", 1), (28, 28))), slots_per_byte(TensorType(DType("uint", 2), (3,)))
    (8, 1)
    """
    slots = max(1, 8 // network_input.dtype.slot)
    while network_input.size % slots:
        slots //= 2
    return slots


def frame_bytes(network_input: TensorType) -> int:
    """Number of bytes of a frame.

    >>> frame_bytes(TensorType(DType("bipolar", 1), (784,))), frame_bytes(TensorType(DType("int", 12), (10,)))
    (98, 20)
    """
    return network_input.size // slots_per_byte(network_input) * _slot_bytes(network_input.dtype)


def request_bytes(network_input: TensorType, has_front: bool = False) -> int:
    """Number of bytes of a request: those of the frame, and the front byte if ``has_front``.

    >>> request_bytes(TensorType(DType("uint", 8), (784,))), request_bytes(TensorType(DType("uint", 8), (784,)), True)
    (784, 785)
    """
    return has_front + frame_bytes(network_input)


def score_bytes(scores: TensorType) -> int:
    """Number of bytes of one score in a reply."""
    return -(-scores.dtype.bits // 8)


def index_bytes(scores: TensorType) -> int:
    """Number of bytes of the class index in a reply."""
    return -(-max(1, (scores.size - 1).bit_length()) // 8)


def reply_bytes(scores: TensorType, has_index: bool) -> int:
    """Number of bytes of a reply.

    >>> reply_bytes(TensorType(DType("int", 10), (10,)), True)
    21
    """
    return scores.size * score_bytes(scores) + has_index * index_bytes(scores)


def window(network_input: TensorType, buffer_frames: int = BUFFER_FRAMES, has_front: bool = False) -> int:
    """Number of requests that may be without a reply: as many as the receive buffer holds, or 1 without a buffer.

    The buffer holds ``buffer_frames`` requests, or more if one block RAM (512 bytes) has room for more.

    >>> window(TensorType(DType("bipolar", 1), (784,))), window(TensorType(DType("uint", 8), (784,)))
    (5, 2)
    """
    if buffer_frames == 0:
        return 1
    return max(buffer_frames, _BLOCK_RAM_BYTES // request_bytes(network_input, has_front))


def buffer_bytes(network_input: TensorType, buffer_frames: int = BUFFER_FRAMES, has_front: bool = False) -> int:
    """Size of the receive buffer in bytes: :func:`window` requests, or a single byte if ``buffer_frames`` is 0."""
    if buffer_frames == 0:
        return 1
    return window(network_input, buffer_frames, has_front) * request_bytes(network_input, has_front)


def encode_frame(network_input: TensorType, frame: Ints) -> bytes:
    """Encode ``frame``, integers of the shape of ``network_input``, as the bytes of a request.

    >>> encode_frame(TensorType(DType("uint", 2), (4,)), np.array([1, 2, 3, 0])).hex()
    '39'

    Raises
    ------
    FewbitError
        If ``frame`` has another shape, or a value outside the range of its type.
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
    """Decode the bytes of a frame, as a board does. The inverse of :func:`encode_frame`."""
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
    """Encode the request for ``frame``. With ``has_front``, the front byte is ``quality``; None is all digits.

    >>> encode_request(TensorType(DType("uint", 8), (2,)), np.array([1, 2]), True, 3).hex()
    '030102'

    Raises
    ------
    FewbitError
        If ``frame`` has another shape or a value outside the range of its type, or ``quality`` is negative.
    """
    if quality is not None and quality < 0:
        raise FewbitError(f"the quality must be 0 or more, not {quality}")
    # The largest values have other meanings; no design has that many digits, so such a quality is sent as "all".
    front = bytes([ALL_DIGITS if quality is None or quality >= ASK else quality]) if has_front else b""
    return front + encode_frame(network_input, frame)


def decode_request(network_input: TensorType, has_front: bool, sent: bytes) -> tuple[Ints, int | None]:
    """Decode a request into frame and quality, as a board does. The inverse of :func:`encode_request`."""
    if not has_front:
        return decode_frame(network_input, sent), None
    return decode_frame(network_input, sent[1:]), sent[0]


def encode_reply(scores: TensorType, values: Ints, index: int | None) -> bytes:
    """Encode a board's reply: ``values`` in the shape of ``scores``, and the class ``index`` unless it is None."""
    width = score_bytes(scores)
    flat = to_stream(np.asarray(values)[None], scores.shape)[0]
    raw = flat if scores.dtype.signed else scores.dtype.encode(flat)
    sent = b"".join(int(value).to_bytes(width, "little", signed=scores.dtype.signed) for value in raw)
    return sent if index is None else sent + int(index).to_bytes(index_bytes(scores), "little")


def decode_reply(scores: TensorType, has_index: bool, data: bytes) -> tuple[Ints, int | None]:
    """Decode a reply into scores (int64, the shape of ``scores``) and class index or None.

    >>> decode_reply(TensorType(DType("int", 10), (2,)), True, bytes.fromhex("fefff40101"))
    (array([ -2, 500]), 1)

    Raises
    ------
    FewbitError
        If ``data`` has another length, a score is out of range, or the class index is not that of the largest score
        (the first one if several are equal). Then the link lost or damaged bytes.
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
        raise FewbitError(f"the reply {data[:16].hex()} is not {scores}: does the board run another design?")
    if index is not None and index != (best := int(np.argmax(values))):
        raise FewbitError(
            f"the reply {data[:16].hex()} says class {index}, but its largest score is that of class {best}: "
            "a byte was damaged on the line, or the board runs another design"
        )
    return from_stream(values, scores.shape)[0], index


def _slot_bytes(dtype: DType) -> int:
    return max(1, dtype.slot // 8)
