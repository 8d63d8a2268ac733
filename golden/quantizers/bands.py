"""The quantizer of the quality-scalable multiplier paper, equations 8 to 10: the level of a weight is given by the band
that its magnitude is in.

The thresholds between bands depend on the standard deviation of a layer's weights, separately for positive and negative
ones. Two parameters, gamma and delta, are found by a search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.quantizers.least_squares import least_squares_scales
from fewbit.golden.quantizers.weight_vectors import Floats, Groups

GAMMAS = tuple(step / 16 for step in range(33))
"""Candidates of gamma, relative to the smaller of the two standard deviations; those above 1 are only tried where no +2
band begins there."""
DELTAS = tuple(1 + step / 8 for step in range(33))
"""Candidates of delta."""

Criterion = Callable[[Floats], float]
"""Cost of quantized weights (outputs, inputs): the search minimizes it."""


def largest_level(code: Code) -> int:
    """The largest level of ``code``, phi in the paper. Raises FewbitError unless equation 10 gives the levels of
    ``code``."""
    phi = int(code.levels[-1])
    if phi not in (1, 2, 4) or not np.array_equal(code.levels, _levels_up_to(phi)):
        raise FewbitError(
            f"the rules paper and least-squares are for binary, ternary, quinary and shift3, not {code}: use nearest"
        )
    return phi


def _levels_up_to(phi: int) -> Ints:
    """Equation 6: the levels for a given phi.

    >>> _levels_up_to(4)
    array([-4, -2, -1,  0,  1,  2,  4])
    """
    powers = 1 << np.arange(phi.bit_length())
    return np.concatenate([-powers[::-1], [0], powers])


def code_bits(phi: int) -> int:
    """Equation 8: ``ceil(log2(2 * (1 + log2(phi)) + 1))`` bits for zero and the levels up to ``phi``, a power of two.

    >>> [code_bits(phi) for phi in (1, 2, 4)]
    [2, 3, 3]
    """
    return (2 * phi.bit_length()).bit_length()


def mean_scales(weights: Floats, groups: Groups, phi: int) -> Floats:
    """Equation 9: ``sum |weight| / (phi * N)`` for every group of N weights.  # (W,) -> (groups,)"""
    sizes = groups.sum(np.ones(len(weights)))
    return np.asarray(groups.sum(np.abs(weights)) / (phi * np.maximum(sizes, 1)))


def deviations(weights: Floats) -> tuple[float, float]:
    """Standard deviation of the positive weights, and of the negative ones; 0 where there are none."""
    positive, negative = weights[weights > 0], weights[weights < 0]
    return (float(positive.std()) if positive.size else 0.0, float(negative.std()) if negative.size else 0.0)


def _each_deviation(weights: Floats) -> Floats:
    return np.where(weights > 0, *deviations(weights))


@dataclass(frozen=True)
class Bands:
    """Equation 10: the band of a weight's magnitude gives the magnitude of its level.

    Up to ``gamma`` the level is 0, above it 1, above sigma 2, above ``delta * sigma`` 4, limited by phi. Sigma is the
    standard deviation of the weights of the same sign. The paper prints delta for the lower end of the +1 band
    (docs/decisions/0001).

    Parameters
    ----------
    gamma : float
        In the unit of the weights.
    delta : float
    sigma : (positive, negative)
        Standard deviations, in the unit of the weights.
    phi : int
        1, 2 or 4.
    """

    gamma: float
    delta: float
    sigma: tuple[float, float]
    phi: int

    def levels(self, weights: Floats) -> Ints:
        """The level of each weight.  # (W,) -> (W,) int64"""
        magnitude, sigma = np.abs(weights), np.where(weights > 0, *self.sigma)
        level = (magnitude > self.gamma).astype(np.int64)
        if self.phi >= 2:
            level += magnitude > np.maximum(sigma, self.gamma)
        if self.phi >= 4:
            level += 2 * (magnitude > np.maximum(self.delta * sigma, self.gamma))
        return np.asarray(np.sign(weights).astype(np.int64) * level)


def search_bands(
    weights: Floats,
    groups: Groups,
    phi: int,
    *,
    least_squares: bool = False,
    gammas: Sequence[float] = GAMMAS,
    deltas: Sequence[float] = DELTAS,
) -> Bands:
    """The bands with the least squared error, among all pairs of a gamma and a delta.

    Scales follow equation 9, or least squares. The error of every pair is computed from sums over the weights above
    each threshold: a level is a sum of steps, 1 above gamma, 1 above sigma, 2 above delta * sigma.
    """
    magnitude, sigma = np.abs(weights), deviations(weights)
    each_sigma = _each_deviation(weights)
    mean = mean_scales(weights, groups, phi)

    def above(threshold: Floats | float) -> tuple[Floats, Floats]:
        is_above = magnitude > threshold
        return groups.sum(magnitude * is_above), groups.sum(is_above)

    no_weights = (np.zeros(groups.count), np.zeros(groups.count))
    twos = above(each_sigma) if phi >= 2 else no_weights
    fours = {delta: above(delta * each_sigma) if phi >= 4 else no_weights for delta in _deltas(deltas, phi)}
    best, least = None, np.inf
    for gamma in _gammas(gammas, weights, phi):
        ones = above(gamma)
        for delta, four in fours.items():
            products = ones[0] + twos[0] + 2 * four[0]
            squares = ones[1] + 3 * twos[1] + 12 * four[1]
            scales = np.divide(products, squares, out=0 * mean, where=squares > 0) if least_squares else mean
            error = float(np.sum(scales * (scales * squares - 2 * products)))
            if error < least:
                best, least = Bands(gamma, delta, sigma, phi), error
    assert best is not None
    return best


def search_bands_by(
    criterion: Criterion,
    weights: Floats,
    groups: Groups,
    phi: int,
    shape: tuple[int, int],
    *,
    least_squares: bool = False,
    gammas: Sequence[float] = GAMMAS,
    deltas: Sequence[float] = DELTAS,
) -> Bands:
    """The bands with the least ``criterion``, among all pairs of a gamma and a delta; each pair is evaluated."""
    sigma = deviations(weights)
    mean = mean_scales(weights, groups, phi)
    best, least = None, np.inf
    for gamma, delta in product(_gammas(gammas, weights, phi), _deltas(deltas, phi)):
        bands = Bands(gamma, delta, sigma, phi)
        levels = bands.levels(weights)
        scales = least_squares_scales(weights, levels, groups) if least_squares else mean
        cost = criterion((groups.each(scales) * levels).reshape(shape))
        if best is None or cost < least:
            best, least = bands, cost
    assert best is not None
    return best


def _gammas(gammas: Sequence[float], weights: Floats, phi: int) -> list[float]:
    """Candidates in the unit of the weights; at most sigma where a +2 band begins there."""
    unit = min(_each_deviation(weights[weights != 0]), default=0.0)
    return sorted({gamma * unit for gamma in gammas if phi == 1 or gamma <= 1})


def _deltas(deltas: Sequence[float], phi: int) -> Sequence[float]:
    return deltas if phi >= 4 else deltas[:1]
