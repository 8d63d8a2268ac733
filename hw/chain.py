# amaranth: UnusedElaboratable=no
"""The components of a folded network, and the connections between them."""

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
from fewbit.hw.schedule import Node, Schedule, schedule_of
from fewbit.hw.steps import TooLate
from fewbit.hw.streams import Gearbox, shape_of
from fewbit.hw.units.base import LeftOut, Place, PlacedUnit, Unit
from fewbit.hw.units.table import unit_of

SOURCE = -1
"""Stands for the input of the design in :attr:`Part.sources`."""


@dataclass(frozen=True)
class Part:
    """One component of a design.

    Parameters
    ----------
    name : str
    unit : Unit
    sources : tuple of (int, int)
        For each input, the index of the part that drives it, or :data:`SOURCE`, and the number of that part's output.
    """

    name: str
    unit: Unit
    sources: tuple[tuple[int, int], ...]

    @property
    def inputs(self) -> list[Any]:
        """The input streams, in order."""
        return getattr(self.unit, "inputs", None) or [self.unit.i]

    @property
    def outputs(self) -> list[Any]:
        """The output streams, in order."""
        return getattr(self.unit, "outputs", None) or [self.unit.o]


def chain(network: Network, folding: Folding, target: str = "generic") -> list[Part]:
    """Return the components of a folded network in topological order. Their datapaths are built for ``target``.

    A join whose fold has no buffer depths gets the smallest buffers that cost no cycle (:func:`with_buffers`).

    Raises
    ------
    FewbitError
        If a fold does not divide its layer, or there is no hardware for a layer.
    """
    if folding.input_lanes < 1 or network.input.size % folding.input_lanes:
        raise FewbitError(f"input lanes must divide the {network.input.size} inputs, not {folding.input_lanes}")
    return _Assembly(network, with_buffers(network, folding), target).parts()


def with_buffers(network: Network, folding: Folding) -> Folding:
    """Return ``folding`` with buffer depths for every join. If a join has none yet, the depths of all joins are
    computed: the fewest words that cost no cycle (:mod:`fewbit.hw.buffers`)."""
    joins = [layer for layer in network.layers if isinstance(layer, Join)]
    if all(folding.of(layer, JoinFold).depths is not None for layer in joins):
        return folding
    plain = {layer.name: replace(folding.of(layer, JoinFold), depths=(0,) * len(layer.inputs)) for layer in joins}
    depths = buffer_depths(*design_nodes(network, replace(folding, folds=folding.folds | plain)))
    found = {layer.name: replace(plain[layer.name], depths=words) for layer, words in zip(joins, depths)}
    return replace(folding, folds=folding.folds | found)


@dataclass
class _Stream:
    """The stream that carries a tensor. The output of a layer without hardware is carried by the stream of its input.

    Attributes
    ----------
    shape : Shape
        Shape of one lane.
    lanes : int
    readers : int
        Number of units that read the stream.
    outputs : list of (int, int)
        For each reader, the index of the part that drives it, and the number of that part's output.
    """

    shape: Shape
    lanes: int
    readers: int = 0
    outputs: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class _Assembly:
    """Builds a design: first a unit for every layer, then the gearboxes and forks between the units."""

    network: Network
    folding: Folding
    target: str

    @cached_property
    def _units(self) -> list[tuple[str, PlacedUnit, list[_Stream], _Stream]]:
        """The units of all layers that have hardware: name, unit, input streams and output stream."""
        network = self.network
        source = _Stream(shape_of(network.input.dtype), self.folding.input_lanes)
        streams = [source]
        left_outs: dict[int, LeftOut | None] = {id(source): None}
        fused: dict[str, _Stream] = {}  # output streams of thresholds that are part of the unit before them
        units = []
        for index, (layer, read) in enumerate(zip(network.layers, network.reads)):
            inputs = [streams[number] for number in read]
            if layer.name in fused:
                streams.append(fused[layer.name])
                continue
            place = Place(network, layer, self.folding, self.target, inputs[0].lanes, left_outs[id(inputs[0])])
            placed = unit_of(layer).make(place)
            if placed is None:
                streams.append(inputs[0])
                continue
            for stream in inputs:
                stream.readers += 1
            kind = network.types[layer.name].dtype
            if placed.left_out is not None:
                kind = placed.left_out.kind
            elif placed.fused is not None:
                kind = network.types[placed.fused.name].dtype
            output = _Stream(shape_of(kind), placed.lanes_out)
            left_outs[id(output)] = placed.left_out
            if placed.fused is not None:
                fused[placed.fused.name] = output
            streams.append(output)
            units.append((f"layer_{index}_{layer.kind}", placed, inputs, output))
        scores = streams[network.scores_tensor]
        scores.readers += 1
        self._scores = scores
        self._source = source
        return units

    def parts(self) -> list[Part]:
        parts: list[Part] = []

        def add(name: str, unit: Unit, *sources: tuple[int, int]) -> tuple[int, int]:
            parts.append(Part(name, unit, sources))
            return len(parts) - 1, 0

        def drive(name: str, stream: _Stream, output: tuple[int, int]) -> None:
            stream.outputs = [output]
            if stream.readers > 1:
                place, _ = add(f"{name}_fork", Fork(stream.shape, stream.lanes, stream.readers), output)
                stream.outputs = [(place, branch) for branch in range(stream.readers)]

        units = self._units
        drive("input", self._source, (SOURCE, 0))
        for name, placed, inputs, output_stream in units:
            sources = []
            for side, stream in enumerate(inputs):
                output = stream.outputs.pop(0)
                if placed.lanes_in != stream.lanes:
                    suffix = f"_{side}" if len(inputs) > 1 else ""
                    gearbox = Gearbox(stream.shape, stream.lanes, placed.lanes_in)
                    output = add(f"{name}_gearbox{suffix}", gearbox, output)
                sources.append(output)
            drive(name, output_stream, add(name, placed.unit, *sources))
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

    Raises FewbitError if the buffers of a join are so small that the design deadlocks.
    """
    try:
        return schedule_of(*design_nodes(network, folding))[0]
    except TooLate:
        raise FewbitError(
            f"network {network.name!r} deadlocks: the buffers of a join are too small; leave out the depths of its "
            "JoinFold, so that they are computed"
        ) from None
