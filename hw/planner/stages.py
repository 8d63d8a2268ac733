"""Stages: the groups of layers that the planner folds together, and the streams between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fewbit.golden.network import Join, Layer, Network, TensorType
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.memory.fifo import fifo_cost, fifo_memory
from fewbit.hw.memory.rom import LOGIC
from fewbit.hw.units.base import FoldedUnit, StageUnit
from fewbit.hw.units.table import unit_of


@dataclass(frozen=True)
class Stream:
    """The output stream of a stage.

    Attributes
    ----------
    kind : TensorType
        Type of the tensor that it carries.
    readers : int
        Number of stages that read it; the output of the design counts as one.
    """

    kind: TensorType
    readers: int


@dataclass
class Stage:
    """Layers that are folded together: a layer whose lanes are chosen by the planner, and the layers after it, which
    are folded on its lanes. The first stage has the layers that are folded on the input lanes of the design.

    Attributes
    ----------
    layers : list of Layer
    reads : list of int
        Numbers of its input streams.
    gives : int
        Number of its output stream.
    """

    reads: list[int]
    gives: int
    layers: list[Layer] = field(default_factory=list)


def stages_of(network: Network) -> tuple[list[Stage], dict[int, Stream]]:
    """Stages in topological order, and the streams between them. The number of a stream is that of the tensor that it
    carries."""
    stream = {0: 0}  # by tensor; the output of a layer without hardware is in the stream of its input
    readers: dict[int, int] = {}
    folded = []
    for index, layer in enumerate(network.layers):
        if isinstance(unit_of(layer), FoldedUnit):
            stream[index + 1] = index + 1
            folded.append((index, layer, [stream[number] for number in network.reads[index]]))
            for number in folded[-1][2]:
                readers[number] = readers.get(number, 0) + 1
        else:
            stream[index + 1] = stream[network.reads[index][0]]
    end = stream[network.scores_tensor]
    readers[end] = readers.get(end, 0) + 1

    stages = [Stage(reads=[], gives=0)]
    stage_giving = {0: stages[0]}
    for index, layer, reads in folded:
        stage = stage_giving[reads[0]]
        follows = not isinstance(unit_of(layer), StageUnit) and readers[reads[0]] == 1
        if not follows:
            stage = Stage(reads=reads, gives=0)
            stages.append(stage)
        stage.layers.append(layer)
        stage.gives = index + 1
        stage_giving[index + 1] = stage
    kinds = network.tensor_types
    return stages, {
        stage.gives: Stream(kinds[stage.gives], readers[stage.gives]) for stage in stages if stage.gives in readers
    }


def early_elements(network: Network, layer: Join) -> list[int]:
    """Estimate of how many elements of each input of a join wait in its buffer: as many as arrive before the first
    element of the slowest branch."""
    delays: dict[int, float] = {0: 0.0}
    for index, earlier in enumerate(network.layers):
        slowest = max(delays[number] for number in network.reads[index])
        delays[index + 1] = slowest + unit_of(earlier).delay(network, earlier)
    read = network.reads[network.index(layer)]
    last = max(delays[number] for number in read)
    return [int((last - delays[number]) * network.tensor_types[number].size) for number in read]


def waiting_cost(network: Network, layer: Join, lanes: int, target: Target, waiting: Sequence[int]) -> Cost:
    """Cost of the buffers of a join in which so many elements of each input wait."""
    return buffers_cost(network, layer, lanes, tuple(-(-elements // lanes) for elements in waiting), target)


def buffers_cost(network: Network, layer: Join, lanes: int, depths: tuple[int, ...], target: Target) -> Cost:
    """Cost of the buffers of a join with the given depths."""
    costs = [
        fifo_cost(words, lanes * source.dtype.bits, target)
        for words, source in zip(depths, network.sources(layer))
        if words
    ]
    return sum(costs, Cost())


def buffers_memory(network: Network, layer: Join, lanes: int, depths: tuple[int, ...], target: Target) -> str:
    """The best memory for the largest buffer of a join."""
    sizes = [(words, lanes * source.dtype.bits) for words, source in zip(depths, network.sources(layer)) if words]
    return fifo_memory(*max(sizes, key=lambda size: size[0] * size[1]), target) if sizes else LOGIC


def fork_cost(readers: int) -> Cost:
    """Cost of the fork of a stream with ``readers`` readers; nothing for a single one."""
    return Cost(cells=2 * readers, ffs=readers) if readers > 1 else Cost()
