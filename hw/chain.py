# amaranth: UnusedElaboratable=no
"""The connected components that a folded network becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from amaranth.hdl import Shape

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Join,
    Network,
)
from fewbit.hw.buffers import buffer_depths
from fewbit.hw.fold import (
    Folding,
    JoinFold,
)
from fewbit.hw.layers.argmax import ArgMaxUnit
from fewbit.hw.layers.fork import Fork
from fewbit.hw.schedule import Node, Schedule, TooLate, schedule_of
from fewbit.hw.streams import Gearbox, shape_of
from fewbit.hw.units.base import LeftOut, Made, Place, Unit
from fewbit.hw.units.table import unit_of

SOURCE = -1
"""The place, in :attr:`Part.sources`, of the input of the design."""


@dataclass(frozen=True)
class Part:
    """One component of a design.

    Parameters
    ----------
    name : str
    unit : Unit
    sources : tuple of (int, int)
        For each of its inputs, the place of the part that it comes from, or :data:`SOURCE`, and which of its outputs.
    """

    name: str
    unit: Unit
    sources: tuple[tuple[int, int], ...]

    @property
    def inputs(self) -> list[Any]:
        """The streams that it takes."""
        return getattr(self.unit, "inputs", None) or [self.unit.i]

    @property
    def outputs(self) -> list[Any]:
        """The streams that it gives."""
        return getattr(self.unit, "outputs", None) or [self.unit.o]


def chain(network: Network, folding: Folding, target: str = "generic") -> list[Part]:
    """Components in topological order, each behind those that it reads. Datapaths are made for ``target``. Joins whose
    fold says nothing of their buffers get the fewest words that cost no cycle (:func:`with_buffers`).

    Raises
    ------
    FewbitError
        If a fold does not divide its layer, or a layer has no hardware.
    """
    if folding.input_lanes < 1 or network.input.size % folding.input_lanes:
        raise FewbitError(f"input lanes must divide the {network.input.size} inputs, not {folding.input_lanes}")
    return _Assembly(network, with_buffers(network, folding), target).parts()


def with_buffers(network: Network, folding: Folding) -> Folding:
    """``folding`` with the depths of the buffers of every join: where it has none, the fewest words that cost no cycle,
    exactly (:mod:`fewbit.hw.buffers`)."""
    joins = [layer for layer in network.layers if isinstance(layer, Join)]
    if all(folding.of(layer, JoinFold).depths is not None for layer in joins):
        return folding
    plain = {layer.name: replace(folding.of(layer, JoinFold), depths=(0,) * len(layer.inputs)) for layer in joins}
    depths = buffer_depths(*design_nodes(network, replace(folding, folds=folding.folds | plain)))
    found = {layer.name: replace(plain[layer.name], depths=words) for layer, words in zip(joins, depths)}
    return replace(folding, folds=folding.folds | found)


@dataclass
class _Stream:
    """What flows behind a layer: the tensors of a network that need no hardware of their own are the same stream."""

    shape: Shape
    lanes: int
    takers: int = 0
    outputs: list[tuple[int, int]] = field(default_factory=list)  # of the parts that give it, one for each taker


@dataclass
class _Assembly:
    """A design in the making: first what every layer becomes, then the parts between them."""

    network: Network
    folding: Folding
    target: str

    @cached_property
    def _units(self) -> list[tuple[str, Made, list[_Stream], _Stream]]:
        """Of every layer that is a unit its name, the unit, the streams that it takes, and the one that it gives."""
        network = self.network
        source = _Stream(shape_of(network.input.dtype), self.folding.input_lanes)
        streams = [source]
        left_outs: dict[int, LeftOut | None] = {id(source): None}
        held: dict[str, _Stream] = {}  # layers that the unit before holds already
        units = []
        for index, (layer, read) in enumerate(zip(network.layers, network.reads)):
            taken = [streams[number] for number in read]
            if layer.name in held:
                streams.append(held[layer.name])
                continue
            place = Place(network, layer, self.folding, self.target, taken[0].lanes, left_outs[id(taken[0])])
            made = unit_of(layer).make(place)
            if made is None:
                streams.append(taken[0])
                continue
            for stream in taken:
                stream.takers += 1
            kind = network.types[layer.name].dtype
            if made.left_out is not None:
                kind = made.left_out.kind
            elif made.holds is not None:
                kind = network.types[made.holds.name].dtype
            given = _Stream(shape_of(kind), made.lanes_out)
            left_outs[id(given)] = made.left_out
            if made.holds is not None:
                held[made.holds.name] = given
            streams.append(given)
            units.append((f"layer_{index}_{layer.kind}", made, taken, given))
        last = streams[network.scores_tensor]
        last.takers += 1
        self._scores = last
        self._source = source
        return units

    def parts(self) -> list[Part]:
        parts: list[Part] = []

        def add(name: str, unit: Unit, *sources: tuple[int, int]) -> tuple[int, int]:
            parts.append(Part(name, unit, sources))
            return len(parts) - 1, 0

        def give(name: str, stream: _Stream, output: tuple[int, int]) -> None:
            stream.outputs = [output]
            if stream.takers > 1:
                place, _ = add(f"{name}_fork", Fork(stream.shape, stream.lanes, stream.takers), output)
                stream.outputs = [(place, way) for way in range(stream.takers)]

        units = self._units
        give("input", self._source, (SOURCE, 0))
        for name, made, taken, given in units:
            sources = []
            for side, stream in enumerate(taken):
                output = stream.outputs.pop(0)
                if made.lanes_in != stream.lanes:
                    suffix = f"_{side}" if len(taken) > 1 else ""
                    gearbox = Gearbox(stream.shape, stream.lanes, made.lanes_in)
                    output = add(f"{name}_gearbox{suffix}", gearbox, output)
                sources.append(output)
            give(name, given, add(name, made.unit, *sources))
        scores, kind = self.network.scores, shape_of(self.network.scores.dtype)
        output = self._scores.outputs.pop(0)
        if self._scores.lanes != 1:
            output = add("scores_gearbox", Gearbox(kind, self._scores.lanes, 1), output)
        add("argmax", ArgMaxUnit(kind, scores.size), output)
        return parts


def design_nodes(network: Network, folding: Folding) -> tuple[Callable[[], list[Node]], int, int, int]:
    """What :func:`fewbit.hw.schedule.schedule_of` takes of a design: fresh timing of its components, the beats of a
    frame at the input and at the output, and the cycles of the busiest component."""
    parts = chain(network, folding)
    beats_in = network.input.size // folding.input_lanes
    fastest = max(beats_in, *(getattr(part.unit, "cycles_per_frame", 0) for part in parts))

    def nodes() -> list[Node]:
        return [Node(part.unit.timing(), tuple(source for source, _ in part.sources)) for part in parts]

    return nodes, beats_in, network.scores.size, fastest


def timing(network: Network, folding: Folding) -> Schedule:
    """Exact latency and interval of the folded network, in cycles.

    Raises FewbitError if a join has so small buffers that the design stands still.
    """
    try:
        return schedule_of(*design_nodes(network, folding))[0]
    except TooLate:
        raise FewbitError(
            f"a join of network {network.name!r} waits for ever: its buffers hold too few words; leave their depths out"
        ) from None
