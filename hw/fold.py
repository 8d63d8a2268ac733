"""Folds: how much of each layer is computed in parallel, and where its memories are. There is a class for each kind of
layer."""

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

FUSED = "fused"
"""Form of thresholds, in addition to those of :mod:`fewbit.hw.layers.threshold`: they are part of the weight stream of
the fused-sign unit before them."""

PARALLEL, BIT_PLANES, TERMS, FUSED_SIGN = "parallel", "bit planes", "terms", "fused sign"
DEPTHWISE = "depthwise"
UNITS = (PARALLEL, BIT_PLANES, TERMS, FUSED_SIGN, DEPTHWISE)
"""Names of the matrix-vector units: :mod:`fewbit.hw.matvec.parallel`, ``bit_serial``, ``term_serial``, ``fused_sign``
and ``depthwise``."""

_WITH_DSP = (PARALLEL, DEPTHWISE)


class Fold(Protocol):
    """How one layer is folded, as far as its neighbours depend on it."""

    @property
    def lanes_in(self) -> int:
        """Number of input elements in a beat."""

    @property
    def lanes_out(self) -> int:
        """Number of output elements in a beat."""


@dataclass(frozen=True, kw_only=True)
class _SameLanes:
    """A fold with as many output lanes as input lanes."""

    lanes: int = 1

    @property
    def lanes_in(self) -> int:
        return self.lanes

    @property
    def lanes_out(self) -> int:
        return self.lanes


@dataclass(frozen=True, kw_only=True)
class WindowFold(_SameLanes):
    """Fold of a sliding window over a map: of a pooling layer, or of the window unit of a convolution.

    Parameters
    ----------
    lanes : int
        Channels in a beat.
    rows : int, optional
        Rows of the map in the line buffer; by default the minimum.
    memory : str
        Memory of the line buffer: ``"block"`` or ``"distributed"``.
    """

    rows: int | None = None
    memory: str = "block"


@dataclass(frozen=True, kw_only=True)
class MatVecFold:
    """Fold of a layer with weights.

    Parameters
    ----------
    pe, simd : int
        Outputs that are processed in parallel, and inputs of each; in a depthwise unit, every output has an input of
        its own.
    unit : str
        One of :data:`UNITS`.
    memory : str
        Memory of the weights: a name in :data:`fewbit.hw.memory.kinds.MEMORIES`.
    buffer : str
        Memory of the input vectors: ``"block"``, ``"distributed"`` or ``"ring"``.
    stages : int
        Pipeline stages of the adder tree of a lane.
    dsp : bool
        Whether products are computed in DSP blocks; only for the parallel and the depthwise unit.
    window : WindowFold
        Fold of the window unit of a convolution.

    Raises
    ------
    FewbitError
        If there is no such unit, ``dsp`` is set for a unit without multipliers, or SIMD is not 1 for a depthwise unit.
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
        if self.dsp and self.unit not in _WITH_DSP:
            raise FewbitError(f"DSP blocks are for the units {' and '.join(_WITH_DSP)}, not for {self.unit}")
        if self.unit == DEPTHWISE and self.simd != 1:
            raise FewbitError(f"a {DEPTHWISE} unit has a SIMD of 1, not {self.simd}")

    @property
    def lanes_in(self) -> int:
        return self.pe if self.unit == DEPTHWISE else self.simd

    @property
    def lanes_out(self) -> int:
        return self.pe


@dataclass(frozen=True, kw_only=True)
class ThresholdFold(_SameLanes):
    """Fold of thresholds.

    Parameters
    ----------
    lanes : int
        Elements in a beat.
    form : str
        ``"comparators"``, ``"search"``, ``"multiply-shift"`` or :data:`FUSED`.
    memory : str
        Memory for the thresholds of a search or the constants of a multiply-shift: ``"block"`` or ``"logic"``.
    stages : int
        Pipeline stages of a multiply-shift; cycles for each comparison of a search.
    """

    form: str = COMPARATORS
    memory: str = "block"
    stages: int = 1


@dataclass(frozen=True, kw_only=True)
class AffineFold:
    """Fold of an affine layer, which processes one element at a time. ``dsp`` is whether it multiplies in a DSP
    block."""

    dsp: bool = False

    @property
    def lanes_in(self) -> int:
        return 1

    @property
    def lanes_out(self) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class JoinFold(_SameLanes):
    """Fold of a layer that joins branches.

    Parameters
    ----------
    lanes : int
        Elements of each input in a beat.
    depths : tuple of int, optional
        Words of the buffer of each input; 0 is no buffer. By default the fewest words that cost no cycle.
    memory : str
        Memory of the buffers: ``"block"``, ``"distributed"`` or ``"logic"``.
    """

    depths: tuple[int, ...] | None = None
    memory: str = "block"


@dataclass(frozen=True, kw_only=True)
class Folding:
    """The folds of a network by the names of its layers, and the number of lanes of its input stream."""

    input_lanes: int
    folds: dict[str, Fold]

    def of(self, layer: Layer, kind: type[F]) -> F:
        """Return the fold of ``layer``, or a default ``kind()`` if it has none.

        Raises FewbitError if the fold is not a ``kind``.
        """
        fold = self.folds.get(layer.name, kind())
        if not isinstance(fold, kind):
            raise FewbitError(f"layer {layer.name!r}: a {layer.kind} layer takes a {kind.__name__}, not {fold}")
        return fold


def consumer(network: Network, layer: Layer) -> Layer | None:
    """The only layer that reads the output of ``layer``, directly or through Flatten layers; None if there is no such
    layer, or if there are several."""
    readers = network.after(layer)
    while len(readers) == 1 and isinstance(readers[0], Flatten):
        readers = network.after(readers[0])
    return readers[0] if len(readers) == 1 else None


def takes_bias(network: Network, layer: Layer) -> bool:
    """Whether the bias of ``layer`` can be moved into the thresholds that follow, at no cost: they must have one row
    for each output."""
    after = consumer(network, layer)
    return isinstance(layer, Linear) and isinstance(after, Threshold) and after.channels == layer.outputs
