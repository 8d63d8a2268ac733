"""What hardware knows of a kind of layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
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
    """Where a unit stands: layer ``index`` of a network, made for ``family``, behind ``lanes`` elements at a time."""

    network: Network
    index: int
    folding: Folding
    family: str
    lanes: int
    left_out: LeftOut | None = None

    @property
    def layer(self) -> Layer:
        return self.network.layers[self.index]

    @property
    def source(self) -> TensorType:
        """Type of the input."""
        return self.network.types[self.index]


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

    Attributes
    ----------
    free : bool
        Whether it takes no hardware of its own.
    starts_stage : bool
        Whether the planner folds it by itself, and what follows it on its lanes.
    most_lanes : int or None
        Elements that it works on at a time, at most.
    """

    free: bool = False
    starts_stage: bool = False
    most_lanes: int | None = None

    @abstractmethod
    def make(self, place: Place) -> Made | None:
        """The unit of a layer; None if it is free.

        Raises FewbitError if the fold does not suit the layer, or hardware cannot do what it does.
        """

    def prepare(self, network: Network, index: int, target: Target, clock_hz: float) -> Any:
        """What :meth:`ways` needs to know of a layer on any number of lanes."""
        return None

    def ways(self, network: Network, index: int, lanes: int, target: Target, prepared: Any) -> list[Way]:
        """Folds worth building of a layer that works on ``lanes`` elements at a time."""
        raise NotImplementedError

    def stage_ways(
        self, network: Network, stage: list[int], target: Target, clock_hz: float, dsp: bool
    ) -> Iterator[tuple[int, tuple[Way, ...]]]:
        """Where the kind starts a stage: the elements that it takes at a time, and ways of its first layers. Layers of
        the stage that are left follow on the lanes of the last of these."""
        raise NotImplementedError

    def on_input(self, network: Network, index: int, fold: Fold, lanes: int) -> tuple[Fold, int] | None:
        """The fold and the cycles of a layer in front of all stages where ``lanes`` elements come in at a time; None
        where they stay as they are."""
        return None

    def describe(self, fold: Fold) -> str:
        """Where a layer has its memories, or what form it takes."""
        return ""
