# amaranth: UnusedElaboratable=no
"""A fixed-point gain and offset for each channel."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType, signed_bits
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Affine, TensorType
from fewbit.hw.fabric.carry import Target
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.steps import Register, Step
from fewbit.hw.streams import lane_stream, number, shape_of


class AffineUnit(wiring.Component):
    """``y[c] = scale[c] * x[c] + bias[c]``, one channel a beat.

    **Latency**: 2 cycles: one for the product, one for the sum. **Throughput**: a beat a cycle. Cost: one multiplier,
    in cells or a DSP block, and an adder; gains and offsets as constants in LUTs.

    Parameters
    ----------
    layer : Affine
    source : TensorType
        A vector or a map.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        What the multiplier is built from.
    dsp : bool
        Whether synthesis may put the multiplication into a DSP block.

    Members
    -------
    i : In(stream of 1 lane)
    o : Out(stream of 1 lane)

    Raises
    ------
    FewbitError
        If the source is neither a vector nor a map.
    """

    latency = 2

    def __init__(self, layer: Affine, source: TensorType, target: Target = "generic", *, dsp: bool = False) -> None:
        if len(source.shape) not in (1, 3):
            raise FewbitError(f"layer {layer.name!r}: a gain for each channel needs a vector or a map, not {source}")
        self.layer, self.source = layer, source
        self.cycles_per_frame = source.size
        self.sum = layer.output(source).dtype
        self.gain = DType.holding(int(layer.scale.min()), int(layer.scale.max()))
        self.multiplier = Multiplier(signed_bits(source.dtype), signed_bits(self.gain), "generic" if dsp else target)
        super().__init__(
            {"i": In(lane_stream(shape_of(source.dtype), 1)), "o": Out(lane_stream(shape_of(self.sum), 1))}
        )

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [Register(), Register()]

    def elaborate(self, platform: object) -> Module:
        # Two pipeline stages with handshake: the product and its offset, then their sum.
        m = Module()
        m.submodules.multiplier = multiplier = self.multiplier
        constants = []
        channel = Signal(range(self.layer.scale.size))
        for name in ("scale", "bias"):
            table = getattr(self.layer, name)
            kind = DType.holding(int(table.min()), int(table.max()))
            memory = Memory(shape=shape_of(kind), depth=table.size, init=table.tolist(), attrs={"ram_style": "logic"})
            m.submodules[name] = memory
            read = memory.read_port(domain="comb")
            m.d.comb += read.addr.eq(channel)
            constants.append(read.data)
        scale, bias = constants
        product, offset = Signal(shape_of(self.sum), reset_less=True), Signal(bias.shape(), reset_less=True)
        m.d.comb += [multiplier.a.eq(number(self.i.payload[0], self.source.dtype)), multiplier.b.eq(scale)]
        multiplied = Signal()
        free = Signal()
        m.d.comb += [free.eq(~self.o.valid | self.o.ready), self.i.ready.eq(~multiplied | free)]
        with m.If(self.i.ready):
            m.d.sync += multiplied.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [
                    product.eq(multiplier.product),
                    offset.eq(bias),
                    channel.eq(channel + 1),
                ]
                with m.If(channel == self.layer.scale.size - 1):
                    m.d.sync += channel.eq(0)
        with m.If(free):
            m.d.sync += self.o.valid.eq(multiplied)
            with m.If(multiplied):
                m.d.sync += self.o.payload[0].eq(product + offset)
        return m
