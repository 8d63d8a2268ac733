"""Arg-max of a stream of scores."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.steps import Register, Step
from fewbit.hw.streams import lane_stream


def score_stream(score: Shape, classes: int) -> stream.Signature:
    """The output stream of a design: a score a beat in the order of the channels, the arg-max so far, and ``last``."""
    index = max(1, (classes - 1).bit_length())
    return stream.Signature(data.StructLayout({"score": score, "index": index, "last": 1}))


class ArgMaxUnit(wiring.Component):
    """Passes scores through and adds the index of the largest one so far: on the beat with ``last``, ``index`` is the
    arg-max of the frame.

    Of equal scores, the one with the lowest index wins.

    **Latency**: 1 cycle. **Throughput**: a score a cycle. Cost: a register and a comparator as wide as a score.

    Parameters
    ----------
    score : Shape
        Shape of a score.
    classes : int
        Scores in a frame, at least 1.

    Members
    -------
    i : In(stream of 1 lane)
    o : Out(stream of score, index, last)
    """

    latency = 1

    def __init__(self, score: Shape, classes: int) -> None:
        if classes < 1:
            raise FewbitError(f"arg-max needs at least 1 score, not {classes}")
        self.score, self.classes = Shape.cast(score), classes
        self.cycles_per_frame = classes
        super().__init__({"i": In(lane_stream(score, 1)), "o": Out(score_stream(score, classes))})

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [Register()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        index = Signal(range(self.classes))
        best = Signal(self.score)
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
        with m.If(self.i.ready & self.i.valid):
            score = self.i.payload[0]
            m.d.sync += [
                self.o.payload.score.eq(score),
                self.o.payload.last.eq(index == self.classes - 1),
                index.eq(index + 1),
            ]
            with m.If(index == self.classes - 1):
                m.d.sync += index.eq(0)
            with m.If((index == 0) | (score > best)):
                m.d.sync += [best.eq(score), self.o.payload.index.eq(index)]
        return m
