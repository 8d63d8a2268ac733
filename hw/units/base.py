"""Base classes for the hardware of each kind of layer: building its unit, and listing its possible folds."""

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
from fewbit.hw.steps import Step


class Unit(Protocol):
    """A component of a design: an input stream, an output stream, and a timing model."""

    i: wiring.PureInterface
    o: wiring.PureInterface

    def timing(self) -> list[Step]: ...


@dataclass(frozen=True)
class LeftOut:
    """The part of a sum that a unit leaves to the thresholds after it: the sum is ``step * x + bias``, and the output
    of the unit is ``x``, of number kind ``kind``."""

    step: int
    bias: Ints
    kind: DType


@dataclass(frozen=True)
class Place:
    """Where a unit is used.

    Parameters
    ----------
    network : Network
    layer : Layer
        The layer that the unit computes.
    folding : Folding
    family : str
        Primitives that its datapath is built from: ``"generic"``, ``"ice40"`` or ``"ecp5"``.
    lanes : int
        Elements in a beat of its input.
    left_out : LeftOut or None
        The part of the sums that the unit before it leaves to this one.
    """

    network: Network
    layer: Layer
    folding: Folding
    family: str
    lanes: int
    left_out: LeftOut | None = None

    @property
    def source(self) -> TensorType:
        """Type of the layer's input; of the first one if there are several."""
        return self.network.source(self.layer)


@dataclass(frozen=True)
class PlacedUnit:
    """A unit that was built for a :class:`Place`.

    Parameters
    ----------
    unit : Unit
    lanes_in, lanes_out : int
        Elements in a beat of its input and of its output.
    left_out : LeftOut or None
        The part of the sums that it leaves to the thresholds after it.
    fused : Layer or None
        The layer after it, if the unit computes it, too.
    """

    unit: Unit
    lanes_in: int
    lanes_out: int
    left_out: LeftOut | None = None
    fused: Layer | None = None


FoldOption = tuple[Fold, int, Cost]
"""A possible fold of a layer, the number of cycles in which it is busy for each frame, and its cost."""


class LayerUnit(ABC):
    """Hardware of a kind of layer, registered in :data:`fewbit.hw.units.table.UNITS`.

    Direct subclasses are for layers without hardware. For others see :class:`StageUnit` and :class:`FollowingUnit`.
    """

    @abstractmethod
    def make(self, place: Place) -> PlacedUnit | None:
        """Build the unit of a layer; returns None if it takes no hardware.

        Raises FewbitError if the fold does not match the layer, or there is no hardware for what the layer computes.
        """

    def delay(self, network: Network, layer: Layer) -> float:
        """Estimate of the part of a frame that ``layer`` reads before its first output element."""
        return 0.0


class FoldedUnit(LayerUnit):
    """A kind of layer that has folds."""

    @abstractmethod
    def describe(self, fold: Fold) -> str:
        """Describe the memories or the form of a fold, for reports."""


class StageUnit(FoldedUnit):
    """A kind of layer that starts a stage: its lanes do not depend on the layer before it. The following layers of the
    stage are folded on its lanes."""

    @abstractmethod
    def first_options(
        self, network: Network, stage: Sequence[Layer], target: Target, clock_hz: float, dsp: bool
    ) -> Iterator[tuple[int, tuple[FoldOption, ...]]]:
        """Yield options for the first layers of a stage: the number of elements in a beat of its input, and an option
        for each of one or more layers. The other layers of the stage are folded on the output lanes of the last of
        these.

        With ``dsp``, products with signed digits may use DSP blocks, too.
        """


class FollowingUnit(FoldedUnit):
    """A kind of layer that is folded on the lanes of the layer before it, or on fewer.

    Attributes
    ----------
    most_lanes : int or None
        Largest number of lanes, if there is a limit.
    """

    most_lanes: int | None = None

    def prepare(self, network: Network, layer: Layer, target: Target, clock_hz: float) -> Any:
        """Compute what :meth:`options` needs and what does not depend on the number of lanes."""
        return None

    @abstractmethod
    def options(self, network: Network, layer: Layer, lanes: int, target: Target, prepared: Any) -> list[FoldOption]:
        """Useful folds of a layer on ``lanes`` lanes; ``prepared`` is the result of :meth:`prepare`."""

    def on_input(self, network: Network, layer: Layer, fold: Fold, lanes: int) -> tuple[Fold, int] | None:
        """Change the ``fold`` of a layer before all stages to the ``lanes`` of the design's input. Returns the new fold
        and its cycles, or None if nothing changes."""
        return None
