"""One stream to several."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.schedule import ForkStep, Step
from fewbit.hw.streams import lane_stream


class Fork(wiring.Component):
    """Gives every beat to each of its outputs, as soon as that one takes it; the beat has gone when all have it.

    **Latency**: none, wires and a flip-flop an output. **Throughput**: a beat a cycle.

    Parameters
    ----------
    shape : Shape
        Of one lane.
    lanes : int
    ways : int
        Outputs, at least 2.

    Members
    -------
    i : In(stream of lanes)
    o_0, o_1, ... : Out(stream of lanes)

    Raises
    ------
    FewbitError
        If there are fewer than 2 outputs.
    """

    def __init__(self, shape: Shape, lanes: int, ways: int) -> None:
        if ways < 2:
            raise FewbitError(f"a fork has at least 2 outputs, not {ways}")
        self.shape, self.lanes, self.ways = Shape.cast(shape), lanes, ways
        kind = lane_stream(shape, lanes)
        super().__init__({"i": In(kind)} | {f"o_{way}": Out(kind) for way in range(ways)})

    @property
    def outputs(self) -> list[Any]:
        """The streams that it gives, in order."""
        return [getattr(self, f"o_{way}") for way in range(self.ways)]

    def timing(self) -> list[Step]:
        """Fresh timing models of this component, in stream order."""
        return [ForkStep()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        has = Signal(self.ways)  # outputs that took the beat before others did
        takes = Signal(self.ways)
        m.d.comb += [
            takes.eq(has | Cat(output.ready for output in self.outputs)),
            self.i.ready.eq(takes.all()),
        ]
        for way, output in enumerate(self.outputs):
            m.d.comb += [output.payload.eq(self.i.payload), output.valid.eq(self.i.valid & ~has[way])]
        with m.If(self.i.valid):
            m.d.sync += has.eq(takes)
            with m.If(self.i.ready):
                m.d.sync += has.eq(0)
        return m
