"""What a planner folds as one: stages of a network, and what flows between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from fewbit.golden.network import Conv, Dense, Join, Layer, Network, Pool, TensorType
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.memory.fifo import fifo_cost, fifo_memory
from fewbit.hw.memory.rom import LOGIC
from fewbit.hw.units.base import FoldedUnit, StageUnit
from fewbit.hw.units.table import unit_of


@dataclass(frozen=True)
class Stream:
    """What one stage gives to others.

    Attributes
    ----------
    kind : TensorType
    takers : int
        Stages that take it, the end of the design among them.
    """

    kind: TensorType
    takers: int


@dataclass
class Stage:
    """Layers that are folded together: one that the planner folds by itself, with those that follow on its lanes. The
    first stage holds what comes on the lanes of the input.

    Attributes
    ----------
    layers : list of Layer
    reads : list of int
        Streams that it takes.
    gives : int
        The stream that it gives.
    """

    reads: list[int]
    gives: int
    layers: list[Layer] = field(default_factory=list)


def stages_of(network: Network) -> tuple[list[Stage], dict[int, Stream]]:
    """Stages in topological order, and the streams between them, by the number of the tensor that flows."""
    stream = {0: 0}  # of each tensor: that of what it is read from, where a layer takes no hardware
    takers: dict[int, int] = {}
    folded = []
    for index, layer in enumerate(network.layers):
        if isinstance(unit_of(layer), FoldedUnit):
            stream[index + 1] = index + 1
            folded.append((index, layer, [stream[number] for number in network.reads[index]]))
            for number in folded[-1][2]:
                takers[number] = takers.get(number, 0) + 1
        else:
            stream[index + 1] = stream[network.reads[index][0]]
    end = stream[network.scores_tensor]
    takers[end] = takers.get(end, 0) + 1

    stages = [Stage(reads=[], gives=0)]
    giving = {0: stages[0]}
    for index, layer, reads in folded:
        stage = giving[reads[0]]
        follows = not isinstance(unit_of(layer), StageUnit) and takers[reads[0]] == 1
        if not follows:
            stage = Stage(reads=reads, gives=0)
            stages.append(stage)
        stage.layers.append(layer)
        stage.gives = index + 1
        giving[index + 1] = stage
    kinds = network.tensor_types
    return stages, {
        stage.gives: Stream(kinds[stage.gives], takers[stage.gives]) for stage in stages if stage.gives in takers
    }


def early_elements(network: Network, layer: Join) -> list[int]:
    """About how many elements of each input wait for the last one: what the layers of the other branches hold before
    they give their first."""
    delays: dict[int, float] = {0: 0.0}
    for index, earlier in enumerate(network.layers):
        delays[index + 1] = _delay(network, earlier) + max(delays[number] for number in network.reads[index])
    read = network.reads[network.index(layer)]
    last = max(delays[number] for number in read)
    return [int((last - delays[number]) * network.tensor_types[number].size) for number in read]


def _delay(network: Network, layer: Layer) -> float:
    """Part of a frame that comes in before the first of it goes out."""
    if isinstance(layer, (Conv, Pool)):
        rows = layer.kernel[0] + layer.stride[0] if layer.kernel != (1, 1) else 0
        return min(1.0, rows / network.source(layer).shape[1])
    return 1.5 if isinstance(layer, Dense) else 0.0


def waiting_cost(network: Network, layer: Join, lanes: int, target: Target, times: float) -> Cost:
    """Of the buffers of a join, predicted, if they hold so many ``times`` what :func:`early_elements` says."""
    total = Cost()
    for elements, source in zip(early_elements(network, layer), network.sources(layer)):
        words = int(times * elements) // lanes
        if words:
            total += fifo_cost(words, lanes * source.dtype.bits, target)
    return total


def buffers_cost(network: Network, layer: Join, lanes: int, depths: tuple[int, ...], target: Target) -> Cost:
    """Of the buffers of a join with these depths."""
    costs = [
        fifo_cost(words, lanes * source.dtype.bits, target)
        for words, source in zip(depths, network.sources(layer))
        if words
    ]
    return sum(costs, Cost())


def buffers_memory(network: Network, layer: Join, lanes: int, depths: tuple[int, ...], target: Target) -> str:
    """The best place for the largest of the buffers of a join."""
    sizes = [(words, lanes * source.dtype.bits) for words, source in zip(depths, network.sources(layer)) if words]
    return fifo_memory(*max(sizes, key=lambda size: size[0] * size[1]), target) if sizes else LOGIC


def fork_cost(takers: int) -> Cost:
    """Of a stream that so many stages take."""
    return Cost(cells=2 * takers, ffs=takers) if takers > 1 else Cost()
