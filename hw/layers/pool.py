# amaranth: UnusedElaboratable=no
"""Pooling: the maximum or the sum of every window, for each channel."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Pool, TensorType
from fewbit.hw.layers.window import Geometry, WindowUnit
from fewbit.hw.steps import PackStep, Step
from fewbit.hw.streams import lane_stream, number, shape_of


class ReduceUnit(wiring.Component):
    """Combines every ``count`` beats into one: the maximum or the sum of each lane.

    **Latency**: a beat leaves 1 cycle after its last part came. **Throughput**: it takes a beat a cycle. Cost: an adder
    or comparator and a register for each lane.

    Parameters
    ----------
    source, result : DType
        Kinds of the input and output elements.
    mode : ``"max"`` or ``"sum"``
    count : int
        Input beats for one output beat, at least 1.
    lanes : int
        At least 1.

    Members
    -------
    i, o : In(stream of lanes), Out(stream of lanes)
    """

    def __init__(self, source: DType, result: DType, *, mode: str, count: int, lanes: int) -> None:
        if count < 1 or lanes < 1:
            raise FewbitError(f"a reduction needs at least 1 beat and 1 lane, not {count} and {lanes}")
        if mode not in ("max", "sum"):
            raise FewbitError(f'a reduction is "max" or "sum", not {mode!r}')
        self.source, self.result, self.mode, self.count, self.lanes = source, result, mode, count, lanes
        super().__init__(
            {"i": In(lane_stream(shape_of(source), lanes)), "o": Out(lane_stream(shape_of(result), lanes))}
        )

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [PackStep(self.count)]

    def elaborate(self, platform: object) -> Module:
        # While a result waits, `come` is `count`; the next part may be taken in the cycle in which the result leaves.
        m = Module()
        come = Signal(range(self.count + 1))
        full, first = Signal(), Signal()
        m.d.comb += [
            full.eq(come == self.count),
            first.eq(full | (come == 0)),
            self.o.valid.eq(full),
            self.i.ready.eq(~full | self.o.ready),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += come.eq(Mux(full, 1, come + 1))
            for element, result in zip(self.i.payload, self.o.payload):
                m.d.sync += result.eq(self._joined(element, result, first))
        with m.Elif(full & self.o.ready):
            m.d.sync += come.eq(0)
        return m

    def _joined(self, element: Value, result: Value, first: Value) -> Value:
        if self.mode == "max":  # stored words compare like the values they encode
            return Mux(first | (element > result), element, result)
        return Mux(first, Const(0, result.shape()), result) + number(element, self.source)


class PoolUnit(wiring.Component):
    """A pooling layer: the windows of each channel, reduced to their maximum or sum.

    **Throughput**: a frame in ``cycles_per_frame = rows * columns * kernel * channels / lanes`` cycles, if the input is
    fast enough. **Latency**: that of :class:`fewbit.hw.layers.window.WindowUnit`, and 1 cycle after the last element of
    a window. Cost: a buffer for the rows of the map that a window spans; an adder or comparator for each lane.

    Parameters
    ----------
    layer : Pool
    source : TensorType
    lanes : int
        Channels that are processed at a time; divides the channels.
    rows : int or None
        Rows of the map that are buffered; see :class:`fewbit.hw.layers.window.WindowUnit`.
    memory : ``"block"`` or ``"distributed"``
        Memory for these rows.

    Members
    -------
    i, o : In(stream of lanes), Out(stream of lanes)

    Raises
    ------
    FewbitError
        If the lanes do not divide the channels, or too few rows are buffered.
    """

    def __init__(
        self, layer: Pool, source: TensorType, *, lanes: int, rows: int | None = None, memory: str = "block"
    ) -> None:
        channels = source.shape[0]
        if lanes < 1 or channels % lanes:
            raise FewbitError(f"layer {layer.name!r}: lanes must divide the {channels} channels, not {lanes}")
        self.layer, self.source, self.lanes = layer, source, lanes
        result = layer.output(source)
        padded_sum = layer.mode == "sum" and any(layer.padding) and source.dtype.kind == "bipolar"
        element = DType("int", 2) if padded_sum else source.dtype
        self.window = WindowUnit(
            Geometry.of(layer, source, groups=channels // lanes),
            source.dtype,
            element=element,
            fill=source.dtype.min if layer.mode == "max" else 0,
            lanes=lanes,
            rows=rows,
            memory=memory,
        )
        self.reduce = ReduceUnit(
            element, result.dtype, mode=layer.mode, count=layer.kernel[0] * layer.kernel[1], lanes=lanes
        )
        self.cycles_per_frame = self.window.cycles_per_frame
        super().__init__(
            {
                "i": In(lane_stream(shape_of(source.dtype), lanes)),
                "o": Out(lane_stream(shape_of(result.dtype), lanes)),
            }
        )

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [*self.window.timing(), *self.reduce.timing()]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.window = self.window
        m.submodules.reduce = self.reduce
        wiring.connect(m, wiring.flipped(self.i), self.window.i)
        wiring.connect(m, self.window.o, self.reduce.i)
        wiring.connect(m, self.reduce.o, wiring.flipped(self.o))
        return m
