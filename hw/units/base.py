"""What hardware knows of a kind of layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from amaranth.lib import wiring

from fewbit.golden.dtype import DType, Ints
from fewbit.golden.network import Layer, Network, TensorType
from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fold import Fold, Folding
from fewbit.hw.schedule import Step


class Unit(Protocol):
    """A component of the chain: a stream in, a stream out, and its timing."""

    i: wiring.PureInterface
    o: wiring.PureInterface

    def timing(self) -> list[Step]: ...


@dataclass(frozen=True)
class LeftOut:
    """What a unit leaves to the thresholds behind it: a sum is ``step * x + bias``, and x of that kind comes."""

    step: int
    bias: Ints
    kind: DType


@dataclass(frozen=True)
class Place:
    """What the unit of a ``layer`` is made for: a network, a ``family``, and ``lanes`` elements that come at a time."""

    network: Network
    layer: Layer
    folding: Folding
    family: str
    lanes: int
    left_out: LeftOut | None = None

    @property
    def source(self) -> TensorType:
        """Type of the input, of the first where there are several."""
        return self.network.source(self.layer)


@dataclass(frozen=True)
class Made:
    """A unit, the elements that it takes and gives at a time, what it leaves out, and a layer behind it that it holds
    as well."""

    unit: Unit
    lanes_in: int
    lanes_out: int
    left_out: LeftOut | None = None
    holds: Layer | None = None


Way = tuple[Fold, int, Cost]
"""A fold, the cycles a frame that it is busy, and its cost."""


class LayerUnit(ABC):
    """A kind of layer in hardware; it is registered in :data:`fewbit.hw.units.table.UNITS`.

    By itself one that takes no hardware of its own; else a :class:`StageUnit` or a :class:`FollowingUnit`.
    """

    @abstractmethod
    def make(self, place: Place) -> Made | None:
        """The unit of a layer; None if it takes no hardware.

        Raises FewbitError if the fold does not suit the layer, or hardware cannot do what it does.
        """


class FoldedUnit(LayerUnit):
    """A kind with folds."""

    @abstractmethod
    def describe(self, fold: Fold) -> str:
        """Where a layer has its memories, or what form it takes."""


class StageUnit(FoldedUnit):
    """A kind that the planner folds by itself; what follows it is folded on its lanes."""

    @abstractmethod
    def stage_ways(
        self, network: Network, stage: Sequence[Layer], target: Target, clock_hz: float, dsp: bool
    ) -> Iterator[tuple[int, tuple[Way, ...]]]:
        """The elements that a stage takes at a time, and ways of its first layers. Layers of the stage that are left
        follow on the lanes of the last of these."""


class FollowingUnit(FoldedUnit):
    """A kind that is folded on the lanes of what is before it.

    Attributes
    ----------
    most_lanes : int or None
        Elements that it works on at a time, at most.
    """

    most_lanes: int | None = None

    def prepare(self, network: Network, layer: Layer, target: Target, clock_hz: float) -> Any:
        """What :meth:`ways` needs to know of a layer on any number of lanes."""
        return None

    @abstractmethod
    def ways(self, network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> list[Way]:
        """Folds worth building of a layer that works on ``lanes`` elements at a time."""

    def on_input(self, network: Network, layer: Layer, fold: Fold, lanes: int) -> tuple[Fold, int] | None:
        """The fold and the cycles of a layer in front of all stages where ``lanes`` elements come in at a time; None
        where they stay as they are."""
        return None
