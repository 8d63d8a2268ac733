"""What a planner chose for each layer of a network: a typed record a kind of layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from fewbit.golden.errors import FewbitError
from fewbit.golden.network import (
    Flatten,
    Layer,
    Linear,
    Network,
    Threshold,
)
from fewbit.hw.layers.threshold import COMPARATORS

F = TypeVar("F", bound="Fold")

STREAM = "stream"
"""A form of thresholds beside those of :mod:`fewbit.hw.layers.threshold`: held by the fused-sign unit before them."""

PARALLEL, BIT_PLANES, TERMS, FUSED_SIGN = "parallel", "bit planes", "terms", "fused sign"
UNITS = (PARALLEL, BIT_PLANES, TERMS, FUSED_SIGN)
"""Matrix-vector units: :mod:`fewbit.hw.matvec.parallel`, ``bit_serial``, ``term_serial`` and ``fused_sign``."""


class Fold(Protocol):
    """How one layer is folded: what its neighbours see of it."""

    @property
    def lanes_in(self) -> int:
        """Elements that it works on at a time."""

    @property
    def lanes_out(self) -> int:
        """Elements that it gives at a time."""


@dataclass(frozen=True, kw_only=True)
class _SameLanes:
    """A fold that gives as many elements at a time as it takes."""

    lanes: int = 1

    @property
    def lanes_in(self) -> int:
        return self.lanes

    @property
    def lanes_out(self) -> int:
        return self.lanes


@dataclass(frozen=True, kw_only=True)
class WindowFold(_SameLanes):
    """Of windows over a map: a pooling layer, or what is in front of a convolution.

    Parameters
    ----------
    lanes : int
        Channels at a time.
    rows : int, optional
        Rows of the map that are held; the fewest that serve if None.
    memory : str
        Where they lie, ``"block"`` or ``"distributed"``.
    """

    rows: int | None = None
    memory: str = "block"


@dataclass(frozen=True, kw_only=True)
class MatVecFold:
    """Of a layer with weights.

    Parameters
    ----------
    pe, simd : int
        Outputs and inputs at a time.
    unit : str
        One of :data:`UNITS`.
    memory : str
        Where the weights lie: a name in :data:`fewbit.hw.memory.kinds.MEMORIES`.
    buffer : str
        Where the input vectors lie: ``"block"``, ``"distributed"`` or ``"ring"``.
    stages : int
        Pipeline stages of a lane sum.
    dsp : bool
        Whether products of two numbers are made in DSP blocks; of a parallel unit only.
    window : WindowFold
        Of the windows of a convolution.

    Raises
    ------
    FewbitError
        If there is no such unit, or it has no products for DSP blocks.
    """

    pe: int = 1
    simd: int = 1
    unit: str = PARALLEL
    memory: str = "block"
    buffer: str = "block"
    stages: int = 1
    dsp: bool = False
    window: WindowFold = field(default_factory=WindowFold)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise FewbitError(f"a matrix-vector unit is one of {', '.join(UNITS)}, not {self.unit!r}")
        if self.dsp and self.unit != PARALLEL:
            raise FewbitError(f"DSP blocks are for the {PARALLEL} unit, not for {self.unit}")

    @property
    def lanes_in(self) -> int:
        return self.simd

    @property
    def lanes_out(self) -> int:
        return self.pe


@dataclass(frozen=True, kw_only=True)
class ThresholdFold(_SameLanes):
    """Of thresholds.

    Parameters
    ----------
    lanes : int
        Elements at a time.
    form : str
        ``"comparators"``, ``"search"`` or ``"multiply-shift"``; or :data:`STREAM`.
    memory : str
        Where the thresholds of a search or the constants of a multiply-shift lie: ``"block"`` or ``"logic"``.
    stages : int
        Pipeline stages of the sum of a multiply-shift.
    """

    form: str = COMPARATORS
    memory: str = "block"
    stages: int = 1


@dataclass(frozen=True, kw_only=True)
class AffineFold:
    """Of an affine layer, which works on one element at a time; ``dsp``: whether it multiplies in a DSP block."""

    dsp: bool = False

    @property
    def lanes_in(self) -> int:
        return 1

    @property
    def lanes_out(self) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class JoinFold(_SameLanes):
    """Of a layer that joins branches.

    Parameters
    ----------
    lanes : int
        Elements of each input at a time.
    depths : tuple of int, optional
        Words of the buffer of each input; 0: it has none. Left out: the fewest that cost no cycle.
    memory : str
        Where the words of buffers lie: ``"block"``, ``"distributed"`` or ``"logic"``.
    """

    depths: tuple[int, ...] | None = None
    memory: str = "block"


@dataclass(frozen=True, kw_only=True)
class Folding:
    """A network's folding: lanes of the input stream, and the fold of each layer that has one, by the layer's name."""

    input_lanes: int
    folds: dict[str, Fold]

    def of(self, layer: Layer, kind: type[F]) -> F:
        """The fold of ``layer``, which is of this kind; the default one where it has none.

        Raises FewbitError if the fold is of another kind.
        """
        fold = self.folds.get(layer.name, kind())
        if not isinstance(fold, kind):
            raise FewbitError(f"layer {layer.name!r}: a {layer.kind} layer takes a {kind.__name__}, not {fold}")
        return fold


def consumer(network: Network, layer: Layer) -> Layer | None:
    """The layer that alone takes what ``layer`` gives, behind any Flatten; None where several do, or none."""
    readers = network.after(layer)
    while len(readers) == 1 and isinstance(readers[0], Flatten):
        readers = network.after(readers[0])
    return readers[0] if len(readers) == 1 else None


def takes_bias(network: Network, layer: Layer) -> bool:
    """Whether the thresholds behind ``layer`` take its bias at no cost: they are a row an output."""
    after = consumer(network, layer)
    return isinstance(layer, Linear) and isinstance(after, Threshold) and after.channels == layer.outputs
