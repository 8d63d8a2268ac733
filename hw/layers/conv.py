# amaranth: UnusedElaboratable=no
"""Convolution: windows of a map in front of a matrix-vector unit."""

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
from fewbit.hw.schedule import Step
from fewbit.hw.streams import Gearbox, in_a_row, lane_stream, shape_of


def needs_windows(layer: Conv, source: TensorType) -> bool:
    """Whether a map has to be cut into windows: not where each is a pixel, or the one is the whole map."""
    pixels = layer.kernel == (1, 1) and layer.stride == (1, 1)
    whole = layer.kernel == source.shape[1:]
    return any(layer.padding) or layer.groups > 1 or not (pixels or whole)


class ConvUnit(wiring.Component):
    """A convolution: a window at every position, and the matrix-vector unit that takes them for its vectors.

    **Throughput**: a frame in ``cycles_per_frame``, those of the unit at every position, of the windows, or of the
    gearbox between them, whichever are most, if the map keeps up. **Latency**: that of all. Cost: that of all.

    Parameters
    ----------
    layer : Conv
    source : TensorType
        The map; its elements, as ``layer.lane_kind`` gives them, are the activations of ``unit``.
    unit : FoldedMatVec or SignMatVec
        Of ``layer.position()``, with its groups.
    lanes : int
        Channels of a window at a time; they divide those of a group. Without windows to cut, the inputs of ``unit``.
    rows : int or None
        Rows of the map that are held.
    memory : ``"block"`` or ``"distributed"``
        Where they lie.
    result : DType or None
        Kind of the results, where that of ``unit``, which allows for every value of its activations, is wider.

    Members
    -------
    i : In(stream of lanes)
    o : Out(stream of ``unit``)
    quality, fill : In
        Those of ``unit``, if it has them.

    Raises
    ------
    FewbitError
        If the lanes do not divide the channels of a group, or too few rows are held.
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
        geometry = Geometry.of(layer, source, layer.groups)
        self.cycles_per_frame = geometry.rows * geometry.columns * unit.cycles_per_frame
        self.parts: list[WindowUnit | Gearbox] = []
        self.lanes = unit.simd
        if needs_windows(layer, source):
            self.lanes = lanes
            kind = layer.lane_kind(source.dtype)
            window = WindowUnit(geometry, source.dtype, element=kind, lanes=lanes, rows=rows, memory=memory)
            self.parts.append(window)
            between = geometry.elements // gcd(lanes, unit.simd)
            self.cycles_per_frame = max(self.cycles_per_frame, between)
            if lanes != unit.simd:
                self.parts.append(Gearbox(shape_of(kind), lanes, unit.simd))
        kept = unit.signature.members["o"].signature if result is None else lane_stream(shape_of(result), unit.pe)
        dial = {name: member for name, member in unit.signature.members.items() if name in ("quality", "fill")}
        super().__init__({"i": In(lane_stream(shape_of(source.dtype), self.lanes)), "o": Out(kept)} | dial)

    def timing(self) -> list[Step]:
        """Fresh timing models of this component, in stream order."""
        return [step for part in (*self.parts, self.unit) for step in part.timing()]

    def stored(self) -> Stored:
        """What the memory of weights holds."""
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
        m.d.comb += [kept.eq(given) for kept, given in zip(self.o.payload, unit.o.payload)]
        return m
