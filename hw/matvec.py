# amaranth: UnusedElaboratable=no
"""The folded matrix-vector unit: PE outputs by SIMD inputs a cycle, weights from one memory word a cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Dense, TensorType
from fewbit.hw.buffer import RING, VectorBuffer
from fewbit.hw.lanes import lane_kind
from fewbit.hw.schedule import FoldStep, Step
from fewbit.hw.streams import lane_stream, shape_of
from fewbit.hw.weights import BLOCK, LOGIC, weight_words


class MatVec(wiring.Component):
    """``y[o] = sum_i w[o, i] * x[i]`` for a dense layer, exact.

    A frame's vector waits in a buffer; for each group of PE outputs the unit walks through its words, SIMD inputs a
    cycle, and gives the PE sums as one beat.

    **Throughput**: a frame in ``cycles_per_frame = (outputs / PE) * (inputs / SIMD)`` cycles, if the input keeps up.
    **Latency**: ``latency`` cycles from reading the last word of a group to its beat; the first word is read
    ``buffer.latency`` cycles after the vector is whole. A beat that waits for ``o.ready`` stops the unit.
    Cost: PE lanes units and accumulators, the buffer, and ``outputs * inputs * code.bits`` bits of weights.

    Parameters
    ----------
    layer : Dense
    activation : DType
        Kind of the inputs.
    pe : int
        Outputs at a time; divides ``layer.outputs``.
    simd : int
        Inputs at a time; divides ``layer.inputs``.
    memory : ``"block"`` or ``"logic"``
        Where the weights lie.
    buffer : ``"block"``, ``"distributed"`` or ``"ring"``
        Where the vectors lie.
    stages : int
        Ranks of registers in the sum of a group of lanes, at least 1.
    target : ``"generic"``, ``"ice40"`` or ``"ecp5"``
        What the lanes are made of: plain RTL, or where they have such a form the cells of a family.

    Members
    -------
    i : In(stream of SIMD lanes)
    o : Out(stream of PE sums)

    Raises
    ------
    FewbitError
        If the folding does not divide the layer, a memory is unknown, or no lane serves the code.
    """

    def __init__(
        self,
        layer: Dense,
        activation: DType,
        *,
        pe: int,
        simd: int,
        memory: str = "block",
        buffer: str = "block",
        stages: int = 1,
        target: str = "generic",
    ) -> None:
        if pe < 1 or layer.outputs % pe:
            raise FewbitError(f"layer {layer.name!r}: PE must divide the {layer.outputs} outputs, not {pe}")
        if simd < 1 or layer.inputs % simd:
            raise FewbitError(f"layer {layer.name!r}: SIMD must divide the {layer.inputs} inputs, not {simd}")
        if stages < 1:
            raise FewbitError(f"layer {layer.name!r}: the sum needs at least 1 stage, not {stages}")
        if memory not in (BLOCK, LOGIC):
            raise FewbitError(f'layer {layer.name!r}: weights lie in "block" or "logic", not {memory!r}')
        self.layer, self.activation = layer, activation
        self.pe, self.simd, self.memory, self.stages = pe, simd, memory, stages
        self.words, self.folds = layer.inputs // simd, layer.outputs // pe
        self.cycles_per_frame = self.words * self.folds
        self.buffer = VectorBuffer(shape_of(activation), simd, self.words, buffer)
        self.target = target
        lanes = lane_kind(activation, layer.code, target)
        self.lanes = [lanes(simd, activation, layer.code, stages) for _ in range(pe)]
        self.latency = 1 + self.lanes[0].latency + 1
        self.sum = layer.output(TensorType(activation, (layer.inputs,))).dtype
        super().__init__(
            {"i": In(lane_stream(shape_of(activation), simd)), "o": Out(lane_stream(shape_of(self.sum), pe))}
        )

    def timing(self) -> list[Step]:
        """Fresh timing models of this component, in stream order."""
        return [FoldStep(self.words, self.folds, self.latency, rings=self.buffer.style == RING)]

    def elaborate(self, platform: object) -> Module:
        # `issue` reads one word of vector and weights; `first` and `last` travel beside it through the lanes to the
        # accumulators. Everything advances together, unless a finished beat waits for its receiver.
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        m.submodules.weights = weights = Memory(
            shape=self.pe * self.simd * self.layer.code.bits,
            depth=self.cycles_per_frame,
            init=weight_words(self.layer.weights, self.layer.code, self.pe, self.simd),
            attrs={"ram_style": self.memory},
        )
        read = weights.read_port()
        wiring.connect(m, wiring.flipped(self.i), buffer.i)

        advance, issue = Signal(), Signal()
        address, word = Signal(range(self.cycles_per_frame)), Signal(range(self.words))
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            issue.eq(advance & buffer.available),
            buffer.next.eq(issue),
            buffer.last.eq(address == self.cycles_per_frame - 1),
            read.addr.eq(address),
            read.en.eq(issue),
        ]
        with m.If(issue):
            m.d.sync += [address.eq(address + 1), word.eq(word + 1)]
            with m.If(word == self.words - 1):
                m.d.sync += word.eq(0)
            with m.If(buffer.last):
                m.d.sync += address.eq(0)

        valid, first, last = issue, word == 0, word == self.words - 1
        for stage in range(1 + self.lanes[0].latency):
            travelling = Signal(3, name=f"travelling_{stage}")
            with m.If(advance):
                m.d.sync += travelling.eq(Cat(valid, first, last))
            valid, first, last = travelling[0], travelling[1], travelling[2]

        for index, lanes in enumerate(self.lanes):
            m.submodules[f"lanes_{index}"] = lanes
            m.d.comb += [
                lanes.x.eq(buffer.word),
                lanes.w.eq(read.data.word_select(index, self.simd * self.layer.code.bits)),
                lanes.en.eq(advance),
            ]
            # The sum is counted in units of `step`: 2 popcount - n is the count, started at -n / 2, with a bit below.
            start, rest = divmod(self.words * lanes.offset, lanes.step)
            bits = DType.holding(self.sum.min // lanes.step, self.sum.max // lanes.step).bits
            accumulator = Signal(bits, name=f"sum_{index}", reset_less=True)
            with m.If(advance & valid):
                m.d.sync += accumulator.eq(Mux(first, start, accumulator) + lanes.o)
            m.d.comb += self.o.payload[index].eq(Cat(Const(rest, lanes.step.bit_length() - 1), accumulator).as_signed())
        with m.If(advance):
            m.d.sync += self.o.valid.eq(valid & last)
        return m
