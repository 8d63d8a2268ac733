"""Quantizers of activations, and quantized weights, as a source graph defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fewbit.exact import Boundary, Reals, exact
from fewbit.golden.dtype import DType, Ints
from fewbit.importers.lowering.float_steps import Floats
from fewbit.importers.onnx_graph import Array


@dataclass(frozen=True)
class Quantizer:
    """A quantizer of reals to levels 0 to ``count``, each of which begins at its boundary.

    Attributes
    ----------
    scale, zero : float32 arrays (1,) or (channels,)
        The real is divided by ``scale``, and ``zero`` added, before it is compared.
    boundaries : list of lists
        One list for all channels, or one for each.
    level : function
        From float32 (K, channels), after scale and zero point, to levels, as the source graph executes it.
    dtype, base
        Type of the integers, and the integer of level 0.
    out_scale, out_shift : Fractions
        An integer represents the real ``out_scale * integer + out_shift``.
    """

    boundaries: list[list[Boundary]]
    level: Callable[[Floats], Array]
    dtype: DType
    base: int
    out_scale: Reals
    out_shift: Reals = field(default_factory=lambda: exact([0]))
    scale: Floats = field(default_factory=lambda: np.ones(1, np.float32))
    zero: Floats = field(default_factory=lambda: np.zeros(1, np.float32))

    @property
    def count(self) -> int:
        return len(self.boundaries[0])


@dataclass(frozen=True)
class QuantizedConstant:
    """Weights as integers: the real is ``scale * (levels - zero)``.

    ``scale`` and ``zero`` have the shape of ``levels`` (as broadcast views). ``code`` is the name of the weight code of
    which the source graph says that the levels are; empty if it says nothing.
    """

    levels: Ints
    scale: Floats
    zero: Floats
    code: str = ""

    @property
    def value(self) -> Array:
        with np.errstate(over="ignore"):
            return ((self.levels.astype(np.float32) - self.zero) * self.scale).astype(np.float32)

    def map(self, reshape: Callable[[Array], Array]) -> QuantizedConstant:
        """Levels, scale and zero point under ``reshape``, which only moves elements."""
        return QuantizedConstant(reshape(self.levels), reshape(self.scale), reshape(self.zero), self.code)
