# amaranth: UnusedElaboratable=no
"""The chain of components that a folded network becomes."""

from __future__ import annotations

from collections.abc import Iterator

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Layer,
    Network,
)
from fewbit.hw.fold import (
    Folding,
)
from fewbit.hw.layers.argmax import ArgMaxUnit
from fewbit.hw.schedule import Schedule, schedule
from fewbit.hw.streams import Gearbox, shape_of
from fewbit.hw.units.base import LeftOut, Place, Unit
from fewbit.hw.units.table import unit_of


def chain(network: Network, folding: Folding, target: str = "generic") -> list[tuple[str, Unit]]:
    """Named components in stream order; each takes what the one before it gives. Datapaths are made for ``target``.

    Raises
    ------
    FewbitError
        If a fold does not divide its layer, or a layer has no hardware.
    """
    if folding.input_lanes < 1 or network.input.size % folding.input_lanes:
        raise FewbitError(f"input lanes must divide the {network.input.size} inputs, not {folding.input_lanes}")
    return list(_chain(network, folding, target))


def _chain(network: Network, folding: Folding, target: str) -> Iterator[tuple[str, Unit]]:
    lanes = folding.input_lanes
    left_out: LeftOut | None = None
    held: Layer | None = None  # a layer that the unit before holds already
    for index, layer in enumerate(network.layers):
        if layer is held:
            continue
        made = unit_of(layer).make(Place(network, index, folding, target, lanes, left_out))
        if made is None:
            continue
        name = f"layer_{index}_{layer.kind}"
        if made.lanes_in != lanes:
            kind = network.types[index].dtype if left_out is None else left_out.kind
            yield f"{name}_gearbox", Gearbox(shape_of(kind), lanes, made.lanes_in)
        left_out, held = made.left_out, made.holds
        yield name, made.unit
        lanes = made.lanes_out
    scores = network.scores
    if lanes != 1:
        yield "scores_gearbox", Gearbox(shape_of(scores.dtype), lanes, 1)
    yield "argmax", ArgMaxUnit(shape_of(scores.dtype), scores.size)


def timing(network: Network, folding: Folding) -> Schedule:
    """Exact latency and interval of the folded network, in cycles."""
    units = [unit for _, unit in chain(network, folding)]
    beats_in, beats_out = network.input.size // folding.input_lanes, network.scores.size
    fastest = max(beats_in, *(getattr(unit, "cycles_per_frame", 0) for unit in units))
    return schedule([step for unit in units for step in unit.timing()], beats_in, beats_out, fastest)
