"""Reads the quality in front of each request, and keeps frames of different qualities apart."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.hw.lanes.base import saturated


class QualityGate(wiring.Component):
    """Removes the quality byte in front of each frame and drives it as a signal to the design.

    All frames in the design share this signal. So the gate takes the quality byte of a request only if no frame is in
    the design, or if the frames there have the same quality and are fewer than ``most``.

    **Latency**: none. **Throughput**: a byte per cycle. **Cost**: about 45 logic cells.

    Parameters
    ----------
    frame_bytes : int
        Bytes of a frame.
    most : int
        Largest number of frames that may be in the design.
    bits : int
        Width of ``quality``; 0 if the design has no quality.

    Members
    -------
    i : In(stream.Signature(8))
        Requests: a quality byte, then the ``frame_bytes`` bytes of a frame.
    o : Out(stream.Signature(8))
        Frames.
    done : In(1)
        A frame leaves the design in this cycle.
    quality : Out(bits)
        Quality of the last request, saturated to all ones; all ones after a reset.
    idle : Out(1)
        No frame is in the design.
    """

    def __init__(self, frame_bytes: int, most: int, bits: int) -> None:
        self.frame_bytes, self.most, self.bits = frame_bytes, most, bits
        byte = stream.Signature(8)
        quality = Out(bits, init=(1 << bits) - 1)
        super().__init__({"i": In(byte), "o": Out(byte), "done": In(1), "quality": quality, "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        # `place` counts the bytes of a request, `under_way` the frames in the design.
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
