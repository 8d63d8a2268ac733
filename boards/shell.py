# amaranth: UnusedElaboratable=no
"""What stands around a design on a board: serial port, receive buffer, replies, and recovery of the link."""

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
    """Raises FewbitError if a pause of ``pause_s`` could be one between two bytes of a line at ``baud``."""
    if pause_s * baud < 20:
        raise FewbitError(f"a pause must last longer than 20 bits, not {pause_s:g} s at {baud} baud")


class Shell(wiring.Component):
    """A design behind a serial port. Bytes in, bytes out: see :mod:`fewbit.boards.protocol` for what they mean.

    A receive buffer holds ``window`` whole requests, so that a host that has no more than those under way never loses a
    byte, however long the design takes. Replies wait in the design until the line has taken them.

    A design whose quality can be turned gets that of each frame from its request. A request of another quality than the
    frames in the design waits in the buffer until they have left; a flush sets the full quality, as a reset does. A
    design with memories to be loaded gets no frame before they are; what is loaded outlasts a flush.

    **Recovery.** A silence of ``pause_s`` inside a frame discards it, and resets the design with all that is still in
    it: frames whose reply has not left by then are lost as well. A framing error, or a byte that the buffer has no room
    for, drops every byte up to such a silence. So after an error a host waits, throws away what comes, and begins anew.

    **Latency**: a byte reaches the design 4 cycles after it was received, plus the lane conversion; a score leaves in
    the cycle after it is valid. **Throughput**: the line's: a byte in 10 bits each way. **Cost**: about 260 logic
    cells on iCE40 and a block RAM for every 512 bytes of buffer; 160 without a buffer; 45 more for a quality,
    115 more for loading.

    Parameters
    ----------
    design : wiring.Component
        With ``i``: In(stream of ArrayLayout(b bits, lanes)), elements already encoded, and ``o``: Out(stream of
        StructLayout(score, index, last)), a beat a score, ``index`` the class once ``last`` is set. In ``sync``. Where
        it has ``quality``: In(bits), that is turned by the host; where it has ``load``: In(stream of 16 bits) and
        ``loaded``: Out(1), it is loaded with its ``image``.
    input : TensorType
        One frame.
    scores : TensorType
        The scores of one frame.
    has_index : bool
        Whether a reply ends with the class index.
    clock_hz : int or Fraction
    baud : int
    buffer_frames : int
        Frames that the receive buffer holds at least; ``window`` is how many it does hold. With 0 there is room for a
        byte only: the design must take a whole frame as fast as the line brings it, as any design does whose first
        dense layer holds a vector, and a host has one frame under way.
    pause_s : float
        Silence inside a frame after which it is discarded, in seconds.

    Attributes
    ----------
    has_quality : bool
        Whether the host turns a quality.
    image_bytes : int
        What the design is loaded with at the start.
    has_front : bool
        Whether a request has a byte in front.

    Members
    -------
    rx : In(1)
        Serial line from the host, asynchronous.
    tx : Out(1)
        Serial line to the host.
    busy : Out(1)
        Between the first byte of a frame and the end of a reply.
    error : Out(1)
        The link lost bytes; until the next reply is complete.

    Raises
    ------
    FewbitError
        If design and types do not fit each other, or the clock cannot give the baud rate.
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
            raise FewbitError(f"the design gives scores of kind {kind}, not {self.scores.dtype}")
        return int(lanes.length)

    def elaborate(self, platform: object) -> Module:
        # The `link` watches the receiver: it counts the bytes of a request and decides what is let through and when all
        # is thrown away. `core`, the part that can be thrown away, is buffer, lane conversion, design and reply.
        m = Module()
        m.submodules.receiver = receiver = UARTReceiver(self.divisor)
        m.submodules.transmitter = transmitter = UARTTransmitter(self.divisor)
        core = _Core(self)
        flush = Signal()
        m.submodules.core = ResetInserter(flush)(core)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        wiring.connect(m, core.o, transmitter.i)

        # A byte is let through a cycle after it came, so that it can never fall into the cycle of a flush.
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
    """The part of a :class:`Shell` that a flush resets: bytes to lanes, the design, scores to bytes.

    Members
    -------
    i : In(stream.Signature(8))
    o : Out(stream.Signature(8))
    done : Out(1)
        The last byte of a reply goes out in this cycle.
    """

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "done": Out(1)})

    def elaborate(self, platform: object) -> Module:
        # `buffer` holds bytes until the design takes their elements; `place` counts the bytes of the score on the line.
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
        score = Signal(8 * score_bytes)  # `eq` extends the sign of what it is given
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
        if answer is not None:  # the design is idle then, and gives nothing
            m.d.comb += answer.ready.eq(self.o.ready)
            with m.If(answer.valid):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(answer.payload), self.done.eq(self.o.ready)]
        return m


class BoardTop(Elaboratable):
    """A :class:`Shell` with its pins, clock and LEDs on ``board``: what a bitstream is made of."""

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
        """The ports of a resource, without buffers: pins that get none are left alone, instead of being driven low."""
        parts = platform.lookup(name, number).ios
        grouped = hasattr(parts[0], "ios")
        return platform.request(name, number, dir={part.name: "-" for part in parts} if grouped else "-")
