# amaranth: UnusedElaboratable=no
"""Where branches meet: the sum of several streams, and streams side by side, each behind a buffer if it is early."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Add, Concat, Join, TensorType
from fewbit.hw.memory.fifo import Fifo
from fewbit.hw.memory.rom import BLOCK
from fewbit.hw.schedule import JoinStep, Register, Step
from fewbit.hw.streams import lane_stream, number, shape_of


class JoinUnit(wiring.Component):
    """Base of the units that join streams, each side behind a buffer of its own where it has one.

    Parameters
    ----------
    layer : Join
    sources : sequence of TensorType
        Of its inputs.
    lanes : int
        Elements of each input at a time.
    depths : sequence of int, optional
        Beats that the buffer of each input holds; 0: no buffer. By default no input has one, which stands still for
        ever where one input has to wait for another: :func:`fewbit.hw.buffers.buffer_depths` says what is needed.
    memory : ``"block"``, ``"distributed"`` or ``"logic"``
        Where the beats of buffers lie.

    Members
    -------
    i_0, i_1, ... : In(stream of lanes)
    o : Out(stream of lanes)

    Raises
    ------
    FewbitError
        If the lanes do not divide the inputs, or the number of depths is not that of the inputs.
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
            raise FewbitError(f"layer {layer.name!r}: has {len(sources)} inputs and depths for {len(self.depths)}")
        for run in map(run_length, sources):
            if lanes < 1 or run % lanes:
                raise FewbitError(
                    f"layer {layer.name!r}: lanes must divide the {run} elements that an input gives in a row, "
                    f"not {lanes}"
                )
        self.cycles_per_frame = self.result.size // lanes
        inputs = {
            f"i_{side}": In(lane_stream(shape_of(source.dtype), lanes)) for side, source in enumerate(self.sources)
        }
        super().__init__(inputs | {"o": Out(lane_stream(shape_of(self.result.dtype), lanes))})

    @property
    def inputs(self) -> list[Any]:
        """The streams that it takes, in order."""
        return [getattr(self, f"i_{side}") for side in range(len(self.sources))]

    @property
    @abstractmethod
    def turns(self) -> list[tuple[int, ...]]:
        """The inputs that each beat of the output takes a beat from, over and over."""

    @property
    def latency(self) -> int:
        """Cycles from the beats of the inputs, or of their buffers, to that of the output."""
        return 1

    def timing(self) -> list[Step]:
        """Fresh timing models of this component, in stream order."""
        return [JoinStep(self.turns, self.depths), *(Register() for _ in range(self.latency - 1))]

    def _buffered(self, m: Module) -> list[Any]:
        """The inputs behind their buffers."""
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
    """Elements of a tensor that stream without one of a neighbour in between: the channels of a pixel, or all."""
    return source.shape[0] if len(source.shape) == 3 else source.size


class AddUnit(JoinUnit):
    """Sum of several streams, each times its gain: one adder a lane for two inputs with gains that are powers of two.

    **Latency**: ``latency`` cycles, one a level of the tree of adders. **Throughput**: a beat a cycle.
    Cost: an adder a lane for each signed digit of a gain beyond the first; buffers.

    Parameters, members and errors are those of :class:`JoinUnit`; ``layer`` is an Add.
    """

    layer: Add

    @property
    def turns(self) -> list[tuple[int, ...]]:
        return [tuple(range(len(self.sources)))]

    @property
    def latency(self) -> int:
        return max(1, (len(self.layer.terms) - 1).bit_length())

    def elaborate(self, platform: object) -> Module:
        # Elastic registers in a row: pairs of terms are added in front of each.
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
            sums = [_pairs(each) for each in terms]
            if is_last:
                m.d.comb += [self.o.valid.eq(following), moves.eq(~following | self.o.ready)]
                with m.If(moves & valid):
                    m.d.sync += [kept.eq(total) for kept, (total,) in zip(self.o.payload, sums)]
                break
            held = []
            for lane, each in enumerate(sums):
                held.append([Signal(total.shape(), name=f"sum_{stage}_{lane}_{place}", reset_less=True)
                             for place, total in enumerate(each)])  # fmt: skip
                with m.If(moves & valid):
                    m.d.sync += [register.eq(total) for register, total in zip(held[-1], each)]
            takes = Signal(name=f"takes_{stage}")
            m.d.comb += moves.eq(~following | takes)
            terms, valid = held, following
        return m


def _pairs(terms: list[Value]) -> list[Value]:
    """Sums of neighbours."""
    return [sum(terms[place + 1 : place + 2], terms[place]) for place in range(0, len(terms), 2)]


class ConcatUnit(JoinUnit):
    """Streams side by side: of each pixel the channels of every input in turn, or one vector behind the other.

    **Latency**: 1 cycle. **Throughput**: a beat a cycle. Cost: a register and a multiplexer a lane; buffers.

    Parameters, members and errors are those of :class:`JoinUnit`; ``layer`` is a Concat.
    """

    layer: Concat

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
                        kept.eq(number(element, source.dtype) if source.dtype != self.result.dtype else element)
                        for kept, element in zip(self.o.payload, stream.payload)
                    ]
        with m.If(takes):
            m.d.sync += turn.eq(turn + 1)
            with m.If(turn == len(turns) - 1):
                m.d.sync += turn.eq(0)
        with m.If(moves):
            m.d.sync += self.o.valid.eq(takes)
        return m
