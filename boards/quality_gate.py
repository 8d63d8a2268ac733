"""Takes the quality off the front of each request, and keeps frames of different qualities apart."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.hw.lanes.base import saturated


class QualityGate(wiring.Component):
    """Requests in, frames out, with the quality that a frame asks for beside it.

    A quality holds for all that is in the design behind the gate. So the first byte of a request is taken only when it
    is the quality of the frames that are under way there, or when there are none. Nor is it while ``most`` are.

    **Latency**: none. **Throughput**: a byte a cycle. **Cost**: about 45 logic cells.

    Parameters
    ----------
    frame_bytes : int
    most : int
        Frames that may be under way behind the gate.
    bits : int
        Of ``quality``; 0 where there is none to turn.

    Members
    -------
    i : In(stream.Signature(8))
        The quality, then ``frame_bytes`` bytes of a frame.
    o : Out(stream.Signature(8))
        Frames.
    done : In(1)
        A frame leaves what is behind the gate in this cycle.
    quality : Out(bits)
        What the last request said, or all ones where that does not fit; all ones after a reset.
    idle : Out(1)
        No frame is under way.
    """

    def __init__(self, frame_bytes: int, most: int, bits: int) -> None:
        self.frame_bytes, self.most, self.bits = frame_bytes, most, bits
        byte = stream.Signature(8)
        quality = Out(bits, init=(1 << bits) - 1)
        super().__init__({"i": In(byte), "o": Out(byte), "done": In(1), "quality": quality, "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        # `place` counts the bytes of a request, `under_way` the frames that came in and have not gone out.
        m = Module()
        place, under_way = Signal(range(self.frame_bytes + 1)), Signal(range(self.most + 1))
        asked, enters = Signal.like(self.quality), Signal()
        m.d.comb += self.idle.eq(under_way == 0)
        m.d.comb += [asked.eq(saturated(self.i.payload, self.bits)), self.o.payload.eq(self.i.payload)]
        with m.If(place == 0):
            same = (asked == self.quality) & (under_way != self.most)
            m.d.comb += [self.i.ready.eq((under_way == 0) | same), enters.eq(self.i.valid & self.i.ready)]
        with m.Else():
            m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
        with m.If(enters):
            m.d.sync += self.quality.eq(asked)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += place.eq(Mux(place == self.frame_bytes, 0, place + 1))
        m.d.sync += under_way.eq(under_way + enters - self.done)
        return m
