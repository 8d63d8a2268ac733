# amaranth: UnusedElaboratable=no
"""The logic around a design on a board: serial port, receive buffer, replies, and error recovery of the link."""

from fractions import Fraction
from typing import Any

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Module,
    Mux,
    ResetInserter,
    ResetSignal,
    Shape,
    Signal,
    Value,
    unsigned,
)
from amaranth.lib import io, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from fewbit.boards import protocol
from fewbit.boards.catalogue import Board
from fewbit.boards.load_gate import LoadGate
from fewbit.boards.pll import ClockReset
from fewbit.boards.quality_gate import QualityGate
from fewbit.boards.uart import UARTReceiver, UARTTransmitter, divisor
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType
from fewbit.hw.streams import Gearbox, Pack


def check_pause(pause_s: float, baud: int) -> None:
    """Raises FewbitError if ``pause_s`` is too short to be told from the gap between two bytes at ``baud``."""
    if pause_s * baud < 20:
        raise FewbitError(f"a pause must last longer than 20 bits, not {pause_s:g} s at {baud} baud")


class Shell(wiring.Component):
    """Connects a design to a serial port. The meaning of the bytes is defined in :mod:`fewbit.boards.protocol`.

    The receive buffer holds ``window`` requests. A host that has at most that many requests without a reply never
    overflows it, however long the design takes. Scores wait in the design until the line can send them.

    *Quality.* If the design has a quality, each request sets it for its frame. A request with another quality than the
    frames in the design waits in the buffer until they have left. A flush sets the full quality, as a reset does.

    *Loading.* If the design has memories to load, it receives no frame before they are loaded. A flush does not unload
    them.

    **Recovery.** A silence of ``pause_s`` inside a frame causes a flush: the frame is discarded and the design is
    reset, which also discards all frames that have not been answered. After a framing error or a buffer overflow, all
    bytes are dropped until such a silence. So after an error the host waits, discards what it receives, and starts
    again.

    **Latency**: a byte reaches the design 4 cycles after it was received, plus the lane conversion; a score leaves in
    the cycle after it is valid. **Throughput**: that of the line, 10 bit times per byte in each direction. **Cost**:
    about 260 logic cells on iCE40 and a block RAM for every 512 bytes of buffer; 160 without a buffer; 45 more for a
    quality, 115 more for loading.

    Parameters
    ----------
    design : wiring.Component
        In the domain ``sync``. Has ``i``: In(stream of ArrayLayout(b bits, lanes)) for encoded elements, and ``o``:
        Out(stream of StructLayout(score, index, last)) with one score per beat, where ``index`` is the class when
        ``last`` is set. May have ``quality``: In(bits), which the host sets; and ``load``: In(stream of 16 bits) with
        ``loaded``: Out(1), through which the host loads the design's ``image``.
    input : TensorType
        Type of a frame.
    scores : TensorType
        Type of the scores of a frame.
    has_index : bool
        Whether a reply ends with the class index.
    clock_hz : int or Fraction
        Frequency of ``sync``.
    baud : int
        Bits per second of the line.
    buffer_frames : int
        Least number of frames that the receive buffer holds; ``window`` is the actual number. With 0 it holds one byte.
        Then the host may have only one frame without a reply, and the design must take a frame as fast as the line
        delivers it; every design does whose first layer with weights is dense, since that layer holds a vector.
    pause_s : float
        Silence inside a frame, in seconds, after which the frame is discarded.

    Attributes
    ----------
    has_quality : bool
        Whether the host sets a quality.
    image_bytes : int
        Bytes of the memory image that the host loads; 0 if there is none.
    has_front : bool
        Whether a request begins with a front byte.

    Members
    -------
    rx : In(1)
        Serial line from the host, asynchronous.
    tx : Out(1)
        Serial line to the host.
    busy : Out(1)
        High from the first byte of a frame to the end of a reply.
    error : Out(1)
        The link lost bytes. Cleared when the next reply is complete.

    Raises
    ------
    FewbitError
        If the design's streams do not have the given types, or the clock cannot make the baud rate.
    """

    def __init__(
        self,
        design: Any,
        *,
        input: TensorType,
        scores: TensorType,
        has_index: bool,
        clock_hz: int | Fraction,
        baud: int = protocol.BAUD,
        buffer_frames: int = protocol.BUFFER_FRAMES,
        pause_s: float = protocol.PAUSE_S,
    ) -> None:
        if buffer_frames < 0:
            raise FewbitError(f"the receive buffer must hold 0 or more frames, not {buffer_frames}")
        check_pause(pause_s, baud)
        self.design, self.input, self.scores, self.has_index = design, input, scores, has_index
        self.clock_hz, self.baud, self.buffer_frames, self.pause_s = Fraction(clock_hz), baud, buffer_frames, pause_s
        self.divisor = divisor(clock_hz, baud)
        self.has_quality = "quality" in design.signature.members
        self.image_bytes = 2 * len(design.image) if "load" in design.signature.members else 0
        self.has_front = self.has_quality or self.image_bytes > 0
        self.window = protocol.window(input, buffer_frames, self.has_front)
        self.lanes = self._check_design()
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1), "error": Out(1)})

    def _check_design(self) -> int:
        lanes, o = self.design.i.payload.shape(), self.design.o.payload.shape()
        element, score = Shape.cast(lanes.elem_shape), Shape.cast(o["score"].shape)
        bits = self.input.dtype.bits
        if element.width != bits:
            raise FewbitError(f"the design takes elements of {element.width} bits, the input {self.input} has {bits}")
        if self.input.size % lanes.length:
            raise FewbitError(
                f"the lanes of the design must divide the {self.input.size} elements of a frame, not {lanes.length}"
            )
        if (score.width, score.signed) != (self.scores.dtype.bits, self.scores.dtype.signed):
            kind = f"{'int' if score.signed else 'uint'}{score.width}"
            raise FewbitError(f"the design gives scores of type {kind}, not {self.scores.dtype}")
        return int(lanes.length)

    def elaborate(self, platform: object) -> Module:
        # This module counts the bytes of a request, and decides which bytes pass and when to flush. `core` is the part
        # that a flush resets: buffer, lane conversion, design and reply.
        m = Module()
        m.submodules.receiver = receiver = UARTReceiver(self.divisor)
        m.submodules.transmitter = transmitter = UARTTransmitter(self.divisor)
        core = _Core(self)
        flush = Signal()
        m.submodules.core = ResetInserter(flush)(core)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        wiring.connect(m, core.o, transmitter.i)

        # A byte passes one cycle after its arrival, so that it never coincides with a flush.
        arrived, broken = Signal(), Signal()
        length = protocol.request_bytes(self.input, self.has_front)
        place = Signal(range(max(length, 1 + self.image_bytes)))
        ends: Value = place == length - 1
        if self.image_bytes:
            front, image = place == 0, Signal()
            with m.If(core.i.valid & front):
                m.d.sync += image.eq(core.i.payload == protocol.LOAD)
            ends = Mux(front, core.i.payload == protocol.ASK, Mux(image, place == self.image_bytes, ends))
        m.d.sync += arrived.eq(receiver.o.valid)
        m.d.comb += [core.i.payload.eq(receiver.o.payload), core.i.valid.eq(arrived & ~broken)]
        with m.If(arrived & ~broken):
            m.d.sync += place.eq(Mux(ends, 0, place + 1))

        longest = int(self.pause_s * self.clock_hz)
        silence = Signal(range(longest + 1), init=longest)
        active = Signal()
        m.d.comb += active.eq(receiver.o.valid | receiver.error | arrived)
        with m.If(active | ((place == 0) & ~broken)):
            m.d.sync += silence.eq(longest)
        with m.Else():
            m.d.sync += silence.eq(silence - 1)
        m.d.sync += flush.eq((silence == 0) & ~active)
        with m.If(flush):
            m.d.sync += [place.eq(0), broken.eq(receiver.error)]
        with m.Elif(receiver.error | (core.i.valid & ~core.i.ready)):
            m.d.sync += broken.eq(1)

        with m.If(arrived):
            m.d.sync += self.busy.eq(1)
        with m.Elif(flush | core.done):
            m.d.sync += self.busy.eq(0)
        with m.If(flush | broken):
            m.d.sync += self.error.eq(1)
        with m.Elif(core.done):
            m.d.sync += self.error.eq(0)
        return m


class _Core(wiring.Component):
    """The part of a :class:`Shell` that a flush resets: buffer, conversion of bytes to lanes, design, replies.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes of requests.
    o : Out(stream.Signature(8))
        Bytes of replies.
    done : Out(1)
        The last byte of a reply leaves in this cycle.
    """

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "done": Out(1)})

    def elaborate(self, platform: object) -> Module:
        # `buffer` holds bytes until the design takes their elements; `place` counts the bytes of the score being sent.
        m = Module()
        shell = self.shell
        m.submodules.design = design = shell.design
        scored = Signal()
        answer = None
        depth = protocol.buffer_bytes(shell.input, shell.buffer_frames, shell.has_front)
        m.submodules.buffer = buffer = SyncFIFOBuffered(width=8, depth=depth)
        m.d.comb += [buffer.w_data.eq(self.i.payload), buffer.w_en.eq(self.i.valid), self.i.ready.eq(buffer.w_rdy)]
        taken = buffer.r_stream
        if shell.has_front:
            frame, bits = protocol.frame_bytes(shell.input), len(design.quality) if shell.has_quality else 0
            m.submodules.gate = gate = QualityGate(frame, shell.window, bits)
            m.d.comb += gate.done.eq(scored)
            if shell.has_quality:
                m.d.comb += design.quality.eq(gate.quality)
            if shell.image_bytes:
                m.submodules.loading = loading = LoadGate(frame, shell.image_bytes)
                wiring.connect(m, taken, loading.i)
                wiring.connect(m, loading.words, design.load)
                m.d.comb += [loading.idle.eq(gate.idle), loading.loaded.eq(design.loaded)]
                taken, answer = loading.o, loading.answer
            wiring.connect(m, taken, gate.i)
            taken = gate.o

        shape = design.i.payload.shape().elem_shape
        slots, slot = protocol.slots_per_byte(shell.input), shell.input.dtype.slot
        m.submodules.gearbox = gearbox = Gearbox(shape, slots, shell.lanes)
        if slot > 8:
            m.submodules.pack = pack = Pack(unsigned(8), 1, slot // 8)
            m.d.comb += [pack.i.payload.eq(taken.payload), pack.i.valid.eq(taken.valid), taken.ready.eq(pack.i.ready)]
            word = pack.o.payload.as_value()
            m.d.comb += [gearbox.i.valid.eq(pack.o.valid), pack.o.ready.eq(gearbox.i.ready)]
        else:
            word = taken.payload
            m.d.comb += [gearbox.i.valid.eq(taken.valid), taken.ready.eq(gearbox.i.ready)]
        for lane in range(slots):
            m.d.comb += gearbox.i.payload[lane].eq(word[lane * slot : lane * slot + shell.input.dtype.bits])
        wiring.connect(m, gearbox.o, design.i)

        score_bytes = protocol.score_bytes(shell.scores)
        index_bytes = protocol.index_bytes(shell.scores) if shell.has_index else 0
        score = Signal(8 * score_bytes)  # `eq` sign-extends the design's score
        place, length = Signal(range(score_bytes + index_bytes)), Signal(range(score_bytes + index_bytes))
        beat = design.o.payload
        m.d.comb += [
            score.eq(beat.score),
            length.eq(Mux(beat.last, score_bytes + index_bytes - 1, score_bytes - 1)),
            self.o.valid.eq(design.o.valid),
            self.o.payload.eq(Cat(score, beat.index).word_select(place, 8)),
            design.o.ready.eq(self.o.ready & (place == length)),
            scored.eq(design.o.valid & design.o.ready & beat.last),
            self.done.eq(scored),
        ]
        with m.If(design.o.valid & self.o.ready):
            m.d.sync += place.eq(Mux(place == length, 0, place + 1))
        if answer is not None:  # while there is an answer, the design is idle and has no scores
            m.d.comb += answer.ready.eq(self.o.ready)
            with m.If(answer.valid):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(answer.payload), self.done.eq(self.o.ready)]
        return m


class BoardTop(Elaboratable):
    """Top level of a bitstream: a :class:`Shell` with the clock, serial pins and LEDs of ``board``."""

    def __init__(self, board: Board, shell: Shell, clock: ClockReset) -> None:
        self.board, self.shell, self.clock = board, shell, clock

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.clock = clock = self.clock
        m.domains.sync = ClockDomain("sync")
        m.d.comb += [ClockSignal("sync").eq(clock.clk), ResetSignal("sync").eq(clock.rst)]
        m.submodules.shell = shell = self.shell
        uart = self._request(platform, *self.board.uart)
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [shell.rx.eq(rx.i), tx.o.eq(shell.tx)]
        for number, state in enumerate((shell.busy, shell.error)[: self.board.leds]):
            m.submodules[f"led{number}"] = led = io.Buffer("o", self._request(platform, "led", number))
            m.d.comb += led.o.eq(state)
        for name, number, subsignal in self.board.hold_high:
            pins = self._request(platform, name, number)
            m.submodules[f"{name}_{subsignal}"] = high = io.Buffer("o", getattr(pins, subsignal))
            m.d.comb += high.o.eq(1)
        return m

    @staticmethod
    def _request(platform: Any, name: str, number: int) -> Any:
        """The ports of a resource, without buffers. Pins that get no buffer stay undriven instead of driven low."""
        parts = platform.lookup(name, number).ios
        grouped = hasattr(parts[0], "ios")
        return platform.request(name, number, dir={part.name: "-" for part in parts} if grouped else "-")
