"""Takes what fills a design's memories out of the requests, and answers whether they are full."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.boards import protocol


class LoadGate(wiring.Component):
    """Requests in, those for frames out; images and questions, by their first byte, are the gate's own.

    Both wait until the design is idle. An image goes out as words of 16 bits, the first byte lowest; after the last
    one, and to a question, the gate answers with a byte: 1 if all memories are full, else 0. While they are not,
    requests for frames are dropped whole.

    **Latency**: none. **Throughput**: a byte a cycle. **Cost**: about 70 logic cells.

    Parameters
    ----------
    frame_bytes, image_bytes : int
        What follows the first byte. An image is a whole number of words.

    Members
    -------
    i : In(stream.Signature(8))
        Requests.
    o : Out(stream.Signature(8))
        Requests for frames.
    words : Out(stream.Signature(16))
        The image; whoever takes it is always ready.
    idle : In(1)
        No frame is in the design.
    loaded : In(1)
        The memories are full; from the cycle on after the last word.
    answer : Out(stream.Signature(8))
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
        # `left` counts the bytes that follow the first, `low` is the lower half of a word.
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
