# amaranth: UnusedElaboratable=no
"""Convolution: sliding windows over a map, and a matrix-vector unit that processes them."""

from __future__ import annotations

from math import gcd

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType
from fewbit.golden.network import Conv, TensorType
from fewbit.hw.layers.window import Geometry, WindowUnit
from fewbit.hw.matvec.base import FoldedMatVec
from fewbit.hw.matvec.fused_sign import SignMatVec
from fewbit.hw.memory.kinds import Stored
from fewbit.hw.steps import Step
from fewbit.hw.streams import Gearbox, in_a_row, lane_stream, shape_of


def needs_windows(layer: Conv, source: TensorType) -> bool:
    """Whether the map has to be divided into windows: not if each window is one pixel, or a single one is the
    whole map."""
    pixels = layer.kernel == (1, 1) and layer.stride == (1, 1)
    whole = layer.kernel == source.shape[1:]
    return any(layer.padding) or layer.groups > 1 or not (pixels or whole)


class ConvUnit(wiring.Component):
    """A convolution: a window for every position of the map, and a matrix-vector unit that takes the windows as its
    vectors.

    **Throughput**: a frame in ``cycles_per_frame`` cycles, if the input is fast enough: the most of what the
    matrix-vector unit takes for all positions, what the windows take, and what the gearbox between them takes.
    **Latency** and cost: the sums of those of the parts.

    Parameters
    ----------
    layer : Conv
    source : TensorType
        The map. Its elements, converted to ``layer.lane_kind``, are the activations of ``unit``.
    unit : FoldedMatVec or SignMatVec
        The matrix-vector unit for ``layer.position()``, with the groups of ``layer``; or a depthwise unit.
    lanes : int
        Channels of a window that are processed at a time; they divide the channels of a group, or of a block of the
        depthwise unit. Without windows, those of a beat of ``unit`` are used instead.
    rows : int or None
        Rows of the map that are buffered; see :class:`fewbit.hw.layers.window.WindowUnit`.
    memory : ``"block"`` or ``"distributed"``
        Memory for these rows.
    result : DType or None
        Kind of the output, if it can be narrower than that of ``unit``, which allows for all values of its activations.

    Members
    -------
    i : In(stream of lanes)
    o : Out(stream of the lanes of ``unit``)
    quality, fill : In
        The ports of ``unit``, if it has them.

    Raises
    ------
    FewbitError
        If the lanes do not divide the channels of a group, or too few rows are buffered.
    """

    def __init__(
        self,
        layer: Conv,
        source: TensorType,
        unit: FoldedMatVec | SignMatVec,
        *,
        lanes: int = 1,
        rows: int | None = None,
        memory: str = "block",
        result: DType | None = None,
    ) -> None:
        self.layer, self.source, self.unit = layer, source, unit
        geometry = Geometry.of(layer, source, unit.groups)
        self.cycles_per_frame = geometry.rows * geometry.columns * unit.cycles_per_frame
        self.parts: list[WindowUnit | Gearbox] = []
        self.lanes = unit.lanes_in
        if needs_windows(layer, source):
            self.lanes = lanes
            kind = layer.lane_kind(source.dtype)
            window = WindowUnit(geometry, source.dtype, element=kind, lanes=lanes, rows=rows, memory=memory)
            self.parts.append(window)
            between = geometry.elements // gcd(lanes, unit.lanes_in)
            self.cycles_per_frame = max(self.cycles_per_frame, between)
            if lanes != unit.lanes_in:
                self.parts.append(Gearbox(shape_of(kind), lanes, unit.lanes_in))
        results = unit.signature.members["o"].signature if result is None else lane_stream(shape_of(result), unit.pe)
        dial = {name: member for name, member in unit.signature.members.items() if name in ("quality", "fill")}
        super().__init__({"i": In(lane_stream(shape_of(source.dtype), self.lanes)), "o": Out(results)} | dial)

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [step for part in (*self.parts, self.unit) for step in part.timing()]

    def stored(self) -> Stored:
        """Bits of a word of the weight memory, and its words."""
        return self.unit.stored()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        source = in_a_row(m, wiring.flipped(self.i), self.parts)
        m.submodules.unit = unit = self.unit
        wiring.connect(m, source, unit.i)
        if "quality" in unit.signature.members:
            m.d.comb += unit.quality.eq(self.quality)
        if "fill" in unit.signature.members:
            wiring.connect(m, wiring.flipped(self.fill), unit.fill)
        m.d.comb += [self.o.valid.eq(unit.o.valid), unit.o.ready.eq(self.o.ready)]
        m.d.comb += [lane.eq(result) for lane, result in zip(self.o.payload, unit.o.payload)]
        return m
