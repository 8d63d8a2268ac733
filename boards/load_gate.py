"""Separates load requests from frame requests: loads the memories of a design and reports whether they are loaded."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.boards import protocol


class LoadGate(wiring.Component):
    """Passes frame requests on, and handles load and status requests itself, by the first byte of a request.

    A load request (:data:`~fewbit.boards.protocol.LOAD`) carries the memory image, which leaves as 16-bit words, first
    byte lowest. A status request (:data:`~fewbit.boards.protocol.ASK`) has one byte. Both wait until the design is
    idle, and are answered with a byte: 1 if all memories are loaded, else 0. Until they are loaded, frame requests are
    discarded.

    **Latency**: none. **Throughput**: a byte per cycle. **Cost**: about 70 logic cells.

    Parameters
    ----------
    frame_bytes, image_bytes : int
        Bytes after the first one, of a frame request and of a load request. ``image_bytes`` is even.

    Members
    -------
    i : In(stream.Signature(8))
        Requests of all kinds.
    o : Out(stream.Signature(8))
        Frame requests.
    words : Out(stream.Signature(16))
        The memory image. Its receiver must always be ready.
    idle : In(1)
        No frame is in the design.
    loaded : In(1)
        All memories are loaded; must be valid from the cycle after the last word on.
    answer : Out(stream.Signature(8))
        Answers to load and status requests.
    """

    def __init__(self, frame_bytes: int, image_bytes: int) -> None:
        self.frame_bytes, self.image_bytes = frame_bytes, image_bytes
        byte = stream.Signature(8)
        super().__init__(
            {
                "i": In(byte),
                "o": Out(byte),
                "words": Out(stream.Signature(16)),
                "idle": In(1),
                "loaded": In(1),
                "answer": Out(byte),
            }
        )

    def elaborate(self, platform: object) -> Module:
        # `left` counts down the bytes after the first one; `low` is the lower half of an image word.
        m = Module()
        i, o = self.i, self.o
        left, low = Signal(range(max(self.frame_bytes, self.image_bytes))), Signal(8)
        moves, last = Signal(), Signal()
        m.d.comb += [
            moves.eq(i.valid & i.ready),
            last.eq(left == 0),
            o.payload.eq(i.payload),
            self.words.payload.eq(Cat(low, i.payload)),
            self.answer.payload.eq(self.loaded),
        ]
        with m.If(moves):
            m.d.sync += [left.eq(left - 1), low.eq(i.payload)]
        with m.FSM():
            with m.State("First"):
                m.d.sync += left.eq(self.frame_bytes - 1)
                with m.If(i.payload == protocol.LOAD):
                    m.d.comb += i.ready.eq(self.idle)
                    m.d.sync += left.eq(self.image_bytes - 1)
                    with m.If(moves):
                        m.next = "Image"
                with m.Elif(i.payload == protocol.ASK):
                    m.d.comb += i.ready.eq(self.idle)
                    with m.If(moves):
                        m.next = "Answer"
                with m.Elif(self.loaded):
                    m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready)]
                    with m.If(moves):
                        m.next = "Frame"
                with m.Else():
                    m.d.comb += i.ready.eq(1)
                    with m.If(moves):
                        m.next = "Dropped"
            with m.State("Frame"):
                m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready)]
                with m.If(moves & last):
                    m.next = "First"
            with m.State("Dropped"):
                m.d.comb += i.ready.eq(1)
                with m.If(moves & last):
                    m.next = "First"
            with m.State("Image"):
                m.d.comb += [i.ready.eq(1), self.words.valid.eq(i.valid & ~left[0])]
                with m.If(moves & last):
                    m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += self.answer.valid.eq(1)
                with m.If(self.answer.ready):
                    m.next = "First"
        return m
