"""Fork of a stream: several readers get the same beats."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.hw.steps import ForkStep, Step
from fewbit.hw.streams import lane_stream


class Fork(wiring.Component):
    """Offers every input beat to all outputs at once. The input beat is transferred when the last output has taken it.

    **Latency**: 0. **Throughput**: one beat a cycle. Cost: wires, and a flip-flop and a few gates for each output.

    Parameters
    ----------
    shape : Shape
        Shape of one lane.
    lanes : int
    ways : int
        Number of outputs, at least 2.

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
        """The output streams, in order."""
        return [getattr(self, f"o_{way}") for way in range(self.ways)]

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [ForkStep()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        has = Signal(self.ways)  # outputs that already took the present beat, in an earlier cycle
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
