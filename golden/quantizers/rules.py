"""From floating-point weights to levels of a code and scales, by one of three rules:

- ``paper``: bands of magnitude, and a scale that is the mean magnitude divided by phi
  (:mod:`fewbit.golden.quantizers.bands`).
- ``least-squares``: the same bands, and for each vector the scale of least squared error.
- ``nearest``: the nearest level, alternating with the scale of least squared error
  (:mod:`fewbit.golden.quantizers.nearest`).

The first two are for binary (where both are XNOR-Net's, arXiv 1603.05279), ternary, quinary and shift3. ``nearest`` is
for every code. For ternary, Ternary Weight Networks (arXiv 1605.04711) approximate it; with separate scales for
positive and negative levels, its weights have the form of Trained Ternary Quantization (arXiv 1612.01064) before
training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.bands import (
    Bands,
    Criterion,
    largest_level,
    mean_scales,
    search_bands,
    search_bands_by,
)
from fewbit.golden.quantizers.fixed_point import fixed_point
from fewbit.golden.quantizers.least_squares import least_squares_scales
from fewbit.golden.quantizers.nearest import nearest, nearest_levels
from fewbit.golden.quantizers.weight_vectors import Floats, Groups, WeightVectors

RULES = ("paper", "least-squares", "nearest")

COARSE_GAMMAS = tuple(step / 4 for step in range(9))
COARSE_DELTAS = tuple(1 + step / 2 for step in range(9))
"""A coarser grid of candidates, for a criterion that runs the network on every pair."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Weights as levels and scales: a weight is ``unit * scale * level``.

    Attributes
    ----------
    weights : float array (outputs, inputs)
        The original weights.
    levels : int array (outputs, inputs)
    code : Code
    vectors : WeightVectors
        Which weights share a scale.
    rule : str
    scales : float array
        With the shape that ``vectors`` gives; whole numbers after :meth:`in_fixed_point`.
    negative_scales : float array or None
        Scales of negative levels, if they have their own.
    unit : float
        A power of two; 1 before :meth:`in_fixed_point`.
    bands : Bands or None
        The result of the search, if the rule has bands.
    """

    weights: Floats
    levels: Ints
    code: Code
    vectors: WeightVectors
    rule: str
    scales: Floats
    negative_scales: Floats | None = None
    unit: float = 1.0
    bands: Bands | None = None

    @property
    def reals(self) -> Floats:
        """The weights that the levels and scales represent.  # (outputs, inputs)"""
        return self._each() * self.levels

    @property
    def relative_error(self) -> float:
        """Norm of the error divided by the norm of the weights; 0 if all weights are 0."""
        length = float(np.linalg.norm(self.weights))
        return float(np.linalg.norm(self.weights - self.reals)) / length if length else 0.0

    def memory_bits(self, scale_bits: int) -> int:
        """Equation 12: bits of the code words of all weights, and ``scale_bits`` for every scale."""
        scales = self.scales.size + (0 if self.negative_scales is None else self.negative_scales.size)
        return self.code.bits * self.levels.size + scale_bits * scales

    def in_fixed_point(self, bits: int, fraction: int | None = None) -> Quantized:
        """The same with scales rounded by :func:`~fewbit.golden.quantizers.fixed_point.fixed_point`.

        With the rule ``nearest``, the levels are chosen again, nearest to the weights for the rounded scales.
        """
        both = [self.scales, *([] if self.negative_scales is None else [self.negative_scales])]
        integers, places = fixed_point(np.stack(both), bits, fraction)
        scales = integers.astype(np.float64)
        result = replace(
            self,
            scales=scales[0],
            negative_scales=None if self.negative_scales is None else scales[1],
            unit=float(np.ldexp(1.0, -places)),
        )
        if self.rule != "nearest":
            return result
        each = result._each(self.weights)
        nearer = nearest_levels(self.weights.ravel(), each.ravel(), self.code).reshape(self.levels.shape)
        return replace(result, levels=np.where(each == 0, self.levels, nearer))

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        outputs, inputs = self.levels.shape
        return outputs, inputs

    def _each(self, signed: Ints | Floats | None = None) -> Floats:
        """The scale of every weight. If negative levels have their own, the sign of ``signed`` (by default the levels)
        decides."""
        groups = self.vectors.groups(self.shape)
        each = groups.each(self.unit * self.scales.ravel())
        if self.negative_scales is not None:
            negative = (self.levels if signed is None else signed).ravel() < 0
            each = np.where(negative, groups.each(self.unit * self.negative_scales.ravel()), each)
        return each.reshape(self.levels.shape)


def quantize(
    weights: Floats,
    code: Code,
    vectors: WeightVectors | None = None,
    *,
    rule: str = "nearest",
    two_scales: bool = False,
    criterion: Criterion | None = None,
) -> Quantized:
    """``weights`` (outputs, inputs) as levels of ``code`` and scales.

    Parameters
    ----------
    weights : float array (outputs, inputs)
    code : Code
    vectors : WeightVectors, optional
        Which weights share a scale; by default those of an output.
    rule : ``"paper"``, ``"least-squares"`` or ``"nearest"``
    two_scales : bool
        Separate scales for positive and negative levels. Not with the rule ``paper``.
    criterion : function, optional
        What the search for bands minimizes, on a coarser grid of candidates; by default the squared error.

    Raises
    ------
    FewbitError
        If a weight is not a finite number, or the rule or ``two_scales`` cannot be used with the code or with each
        other.
    """
    vectors = WeightVectors() if vectors is None else vectors
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 2 or not weights.size:
        raise FewbitError(f"weights must have the shape (outputs, inputs), neither of them 0, not {weights.shape}")
    if not np.isfinite(weights).all():
        raise FewbitError("a weight is not a finite number")
    if rule not in RULES:
        raise FewbitError(f"the rule must be one of {', '.join(RULES)}, not {rule!r}")
    if two_scales and rule == "paper":
        raise FewbitError("the rule paper has one scale a vector; for two scales use least-squares or nearest")
    if two_scales and not code.symmetric:
        raise FewbitError(f"two scales need a code whose levels are symmetric about 0, not {code}")
    flat, groups = weights.ravel(), vectors.groups(weights.shape)
    if two_scales:
        groups = groups.by_sign(flat)
    levels, scales, bands = _by_rule(flat, groups, code, rule, criterion, weights.shape)
    shape = vectors.scales_shape(weights.shape)
    return Quantized(
        weights=weights,
        levels=levels.reshape(weights.shape),
        code=code,
        vectors=vectors,
        rule=rule,
        scales=(scales[::2] if two_scales else scales).reshape(shape),
        negative_scales=scales[1::2].reshape(shape) if two_scales else None,
        bands=bands,
    )


def _by_rule(
    weights: Floats, groups: Groups, code: Code, rule: str, criterion: Criterion | None, shape: tuple[int, int]
) -> tuple[Ints, Floats, Bands | None]:
    if code.signs_only:  # without a zero band all rules give the same
        levels = np.where(weights >= 0, 1, -1)
        return levels, least_squares_scales(weights, levels, groups), None
    if rule == "nearest":
        try:
            phi = largest_level(code)
        except FewbitError:
            return *nearest(weights, groups, code), None
        start = search_bands(weights, groups, phi, least_squares=True).levels(weights)
        return *nearest(weights, groups, code, [start]), None
    phi, least_squares = largest_level(code), rule == "least-squares"
    if criterion is None:
        bands = search_bands(weights, groups, phi, least_squares=least_squares)
    else:
        bands = search_bands_by(
            criterion,
            weights,
            groups,
            phi,
            shape,
            least_squares=least_squares,
            gammas=COARSE_GAMMAS,
            deltas=COARSE_DELTAS,
        )
    levels = bands.levels(weights)
    scales = least_squares_scales(weights, levels, groups) if least_squares else mean_scales(weights, groups, phi)
    return levels, scales, bands
