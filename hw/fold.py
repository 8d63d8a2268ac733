"""What a planner chose for each layer of a network."""

from __future__ import annotations

from dataclasses import dataclass

from fewbit.golden.network import (
    Flatten,
    Layer,
    Linear,
    Network,
    Threshold,
)
from fewbit.hw.layers.threshold import COMPARATORS

STREAM = "stream"
"""A form of thresholds beside those of :mod:`fewbit.hw.layers.threshold`."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """How one layer is folded.

    Attributes
    ----------
    pe, simd : int
        Outputs and inputs at a time; of a threshold unit, its lanes.
    memory : str
        Where weights lie, ``"block"`` or ``"logic"``; for thresholds in a search, where those lie; of a multiply-shift,
        its constants.
    buffer : str
        Where the input vectors lie: ``"block"``, ``"distributed"`` or ``"ring"``.
    stages : int
        Ranks of registers in a lane sum, or in the sum of a multiply-shift.
    serial : bool
        Whether a layer with weights takes its activations as bit planes, one a cycle.
    dsp : bool
        Whether products of two numbers are made in DSP blocks: of a layer with weights, or of an affine one.
    terms : bool
        Whether it takes its weights as non-zero terms, one a cycle and output.
    window, rows, lines : int, int or None, str
        Of windows: channels at a time, rows of the map held, and where these lie, ``"block"`` or ``"distributed"``.
    form : str
        Of a threshold unit: ``"comparators"``, ``"search"`` or ``"multiply-shift"``, or ``"stream"``, with the weights
        of the layer before.
    """

    pe: int = 1
    simd: int = 1
    memory: str = "block"
    buffer: str = "block"
    stages: int = 1
    serial: bool = False
    dsp: bool = False
    terms: bool = False
    window: int = 1
    rows: int | None = None
    lines: str = "block"
    form: str = COMPARATORS


@dataclass(frozen=True, kw_only=True)
class Folding:
    """A network's folding: lanes of the input stream, and a :class:`Fold` for each layer, by the layer's name."""

    input_lanes: int
    folds: dict[str, Fold]


def consumer(network: Network, index: int) -> Layer | None:
    """The layer that takes what layer ``index`` gives."""
    return next((one for one in network.layers[index + 1 :] if not isinstance(one, Flatten)), None)


def takes_bias(network: Network, index: int) -> bool:
    """Whether the thresholds behind layer ``index`` take its bias at no cost: they are a row an output."""
    layer, after = network.layers[index], consumer(network, index)
    return isinstance(layer, Linear) and isinstance(after, Threshold) and after.channels == layer.outputs
