# amaranth: UnusedElaboratable=no
"""Joins of branches: addition and concatenation of streams. The streams of faster branches have buffers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Add, Concat, Join, TensorType
from fewbit.hw.cost import Cost
from fewbit.hw.memory.fifo import Fifo
from fewbit.hw.memory.rom import BLOCK
from fewbit.hw.steps import JoinStep, Register, Step
from fewbit.hw.streams import lane_stream, number, shape_of


class JoinUnit(wiring.Component):
    """Base class of the units that join streams. Each input can have a buffer.

    Parameters
    ----------
    layer : Join
    sources : sequence of TensorType
        Types of the inputs.
    lanes : int
        Elements of each input in a beat.
    depths : sequence of int, optional
        Beats in the buffer of each input; 0 is no buffer. By default there are no buffers: then the design deadlocks if
        one branch has to run ahead of another. :func:`fewbit.hw.buffers.buffer_depths` computes the depths that are
        needed.
    memory : ``"block"``, ``"distributed"`` or ``"logic"``
        Memory of the buffers.

    Members
    -------
    i_0, i_1, ... : In(stream of lanes)
    o : Out(stream of lanes)

    Raises
    ------
    FewbitError
        If the lanes do not divide the run length of each input (:func:`run_length`), or the number of depths differs
        from the number of inputs.
    """

    def __init__(
        self,
        layer: Join,
        sources: Sequence[TensorType],
        *,
        lanes: int = 1,
        depths: Sequence[int] | None = None,
        memory: str = BLOCK,
    ) -> None:
        self.layer, self.sources, self.lanes, self.memory = layer, tuple(sources), lanes, memory
        self.depths = tuple(depths or [0] * len(sources))
        self.result = layer.output_of(sources)
        if len(self.depths) != len(sources):
            raise FewbitError(
                f"layer {layer.name!r}: needs a buffer depth for each of {len(sources)} inputs, not {len(self.depths)}"
            )
        for run in map(run_length, sources):
            if lanes < 1 or run % lanes:
                raise FewbitError(
                    f"layer {layer.name!r}: lanes must divide the {run} consecutive elements of an input, not {lanes}"
                )
        self.cycles_per_frame = self.result.size // lanes
        inputs = {
            f"i_{side}": In(lane_stream(shape_of(source.dtype), lanes)) for side, source in enumerate(self.sources)
        }
        super().__init__(inputs | {"o": Out(lane_stream(shape_of(self.result.dtype), lanes))})

    @property
    def inputs(self) -> list[Any]:
        """The input streams, in order."""
        return [getattr(self, f"i_{side}") for side in range(len(self.sources))]

    @classmethod
    @abstractmethod
    def cost(cls, layer: Join, sources: Sequence[TensorType], lanes: int) -> Cost:
        """Estimated cost without buffers."""

    @property
    @abstractmethod
    def turns(self) -> list[tuple[int, ...]]:
        """For each output beat, the numbers of the inputs from which it takes a beat; repeated cyclically."""

    @property
    def latency(self) -> int:
        """Cycles from the input beats, after their buffers, to the output beat."""
        return 1

    def timing(self) -> list[Step]:
        """New timing models of this component, in the order of the stream."""
        return [JoinStep(self.turns, self.depths), *(Register() for _ in range(self.latency - 1))]

    def _buffered(self, m: Module) -> list[Any]:
        """Add the buffers to ``m``. Returns the input streams after their buffers."""
        streams = []
        for side, (source, depth) in enumerate(zip(self.sources, self.depths)):
            stream = wiring.flipped(self.inputs[side])
            if depth:
                m.submodules[f"buffer_{side}"] = fifo = Fifo(shape_of(source.dtype), self.lanes, depth, self.memory)
                wiring.connect(m, stream, fifo.i)
                stream = fifo.o
            streams.append(stream)
        return streams


def run_length(source: TensorType) -> int:
    """Number of elements of a tensor that are consecutive in the stream of a concatenation: the channels of one pixel
    of a map, or all elements of a vector."""
    return source.shape[0] if len(source.shape) == 3 else source.size


class AddUnit(JoinUnit):
    """Sum of several streams, each multiplied by its gain.

    **Latency**: ``latency`` cycles, one for each level of the adder tree. **Throughput**: one beat a cycle.
    Cost: one adder on each lane less than the gains have signed digits, so a single adder for two gains that are powers
    of two; registers after each level; buffers.

    Parameters, members and errors are those of :class:`JoinUnit`; ``layer`` is an Add.
    """

    layer: Add

    @classmethod
    def cost(cls, layer: Join, sources: Sequence[TensorType], lanes: int) -> Cost:
        assert isinstance(layer, Add)
        adders = max(1, len(layer.terms) - 1)
        bits = lanes * layer.output_of(sources).dtype.bits * adders
        return Cost(cells=bits + 4, ffs=bits + adders.bit_length())

    @property
    def turns(self) -> list[tuple[int, ...]]:
        return [tuple(range(len(self.sources)))]

    @property
    def latency(self) -> int:
        return max(1, (len(self.layer.terms) - 1).bit_length())

    def elaborate(self, platform: object) -> Module:
        # A pipeline with a valid bit for each stage; pairs of terms are added before each stage. A stage moves if it is
        # empty or if its successor takes its sums.
        m = Module()
        sides = self._buffered(m)
        here, terms = Signal(), []
        for lane in range(self.lanes):
            values = [number(side.payload[lane], source.dtype) for side, source in zip(sides, self.sources)]
            scaled = [(values[side] << exponent, sign) for side, exponent, sign in self.layer.terms]
            terms.append([value if sign > 0 else -value for value, sign in scaled])
        takes = Signal()
        for side in sides:
            m.d.comb += side.ready.eq(takes & here)
        all_valid = Const(1, 1)
        for side in sides:
            all_valid = all_valid & side.valid
        m.d.comb += here.eq(all_valid)
        valid: Value = here
        for stage in range(self.latency):
            is_last = stage == self.latency - 1
            moves, following = Signal(name=f"moves_{stage}"), Signal(name=f"valid_{stage}")
            m.d.comb += takes.eq(moves)
            with m.If(moves):
                m.d.sync += following.eq(valid)
            sums = [_pairs(lane_terms) for lane_terms in terms]
            if is_last:
                m.d.comb += [self.o.valid.eq(following), moves.eq(~following | self.o.ready)]
                with m.If(moves & valid):
                    m.d.sync += [element.eq(total) for element, (total,) in zip(self.o.payload, sums)]
                break
            registers = []
            for lane, totals in enumerate(sums):
                registers.append([Signal(total.shape(), name=f"sum_{stage}_{lane}_{place}", reset_less=True)
                                  for place, total in enumerate(totals)])  # fmt: skip
                with m.If(moves & valid):
                    m.d.sync += [register.eq(total) for register, total in zip(registers[-1], totals)]
            takes = Signal(name=f"takes_{stage}")
            m.d.comb += moves.eq(~following | takes)
            terms, valid = registers, following
        return m


def _pairs(terms: list[Value]) -> list[Value]:
    """Sums of pairs of neighbouring terms; a single last term is unchanged."""
    return [sum(terms[place + 1 : place + 2], terms[place]) for place in range(0, len(terms), 2)]


class ConcatUnit(JoinUnit):
    """Concatenation of streams: for each pixel, the channels of the first input, then of the second, and so on; or one
    vector after the other.

    **Latency**: 1 cycle. **Throughput**: one beat a cycle. Cost: a register and a multiplexer for each lane; buffers.

    Parameters, members and errors are those of :class:`JoinUnit`; ``layer`` is a Concat.
    """

    layer: Concat

    @classmethod
    def cost(cls, layer: Join, sources: Sequence[TensorType], lanes: int) -> Cost:
        count = sum(run_length(source) // lanes for source in sources).bit_length()
        bits = lanes * layer.output_of(sources).dtype.bits
        return Cost(cells=bits * (len(sources) - 1) + 3 * count + 4, ffs=bits + count + 1)

    @property
    def turns(self) -> list[tuple[int, ...]]:
        beats = [run_length(source) // self.lanes for source in self.sources]
        return [(side,) for side, count in enumerate(beats) for _ in range(count)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sides, turns = self._buffered(m), self.turns
        turn, takes, moves = Signal(range(len(turns))), Signal(), Signal()
        m.d.comb += moves.eq(~self.o.valid | self.o.ready)
        starts = [turns.index((side,)) for side in range(len(sides))]
        for side, (stream, source) in enumerate(zip(sides, self.sources)):
            last = [*starts, len(turns)][side + 1] - 1
            chosen = Signal(name=f"chosen_{side}")
            m.d.comb += [chosen.eq((turn >= starts[side]) & (turn <= last)), stream.ready.eq(moves & chosen)]
            with m.If(chosen):
                m.d.comb += takes.eq(moves & stream.valid)
                with m.If(takes):
                    m.d.sync += [
                        result.eq(number(element, source.dtype) if source.dtype != self.result.dtype else element)
                        for result, element in zip(self.o.payload, stream.payload)
                    ]
        with m.If(takes):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn == len(turns) - 1):
                m.d.sync += turn.eq(0)
        with m.If(moves):
            m.d.sync += self.o.valid.eq(takes)
        return m
