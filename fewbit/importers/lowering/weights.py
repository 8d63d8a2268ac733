"""Which integers, code and stored scales the weights of a source graph become, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from fewbit.exact import Reals, exact
from fewbit.golden import csd
from fewbit.golden.codes import BINARY, QUINARY, TERNARY, Code, codebook, integer, shift3
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.importers.lowering.builder import common_unit, one_if_alike
from fewbit.importers.lowering.quantizer import QuantizedConstant
from fewbit.importers.onnx_graph import Refusal

_WIDEST = 16
"""Most bits of an integer weight."""
_LARGEST_ZERO = 1 << 16
"""Largest zero point of weights: with a larger one no weight fits the widest code."""
_MOST_POWERS = 2 * _WIDEST
"""More levels than there are powers of two with either sign."""


@dataclass(frozen=True)
class IntegerWeights:
    """Weights (outputs, inputs, ...): the real is ``scale[output] * factor * level``.

    Attributes
    ----------
    levels : int array
    factors : int array of the same shape, or None
        Integer scale of each weight, where it differs within an output; None for 1.
    scale : Fractions (1,) or (outputs,)
    code : str
        Name of the code that the source graph says the levels are of; empty if it does not.
    """

    levels: Ints
    factors: Ints | None
    scale: Reals
    code: str = ""

    @staticmethod
    def of(weights: QuantizedConstant) -> IntegerWeights:
        """``weights`` with their zero point subtracted, and divided by what divides them all.

        Raises
        ------
        Refusal
            If the zero point is not whole, or the scales within an output are no small integer multiples of one real.
        """
        if (weights.zero != np.floor(weights.zero)).any():
            raise Refusal("the zero point of its weights must be whole")
        if (np.abs(weights.zero) > _LARGEST_ZERO).any():
            raise Refusal(f"the zero point of its weights is beyond {_LARGEST_ZERO}")
        levels = weights.levels - weights.zero.astype(np.int64)
        common = Fraction(1)
        if not weights.code and (divisor := int(np.gcd.reduce(levels, axis=None))) > 1:
            levels, common = levels // divisor, Fraction(divisor)
        scale = weights.scale.reshape(len(weights.scale), -1)
        if (scale == scale[:, :1]).all():
            return IntegerWeights(levels, None, exact(one_if_alike(scale[:, 0])) * common, weights.code)
        known, places = np.unique(weights.scale, return_inverse=True)
        reals = exact(known)
        unit = common_unit([abs(real) for real in reals])
        multiples = [int(real / unit) for real in reals]
        largest = max(map(abs, multiples))
        if largest >= 1 << csd.WIDEST - 1:
            raise Refusal(
                f"the scales of its weights differ between its inputs, by a ratio of integers of "
                f"{largest.bit_length() + 1} bits, {csd.WIDEST} are the most: train with one scale an output, or with "
                "scales of few bits"
            )
        factors = np.array(multiples, np.int64)[places].reshape(levels.shape)
        return IntegerWeights(levels, factors, exact([unit]) * common, weights.code)

    def times(self, multiples: Ints) -> IntegerWeights:
        """Every level times an integer of its own."""
        return replace(self, levels=self.levels * multiples)

    def dilated(self, dilation: tuple[int, int]) -> IntegerWeights:
        """Kernels with ``dilation - 1`` zeros between their weights.  # (O, I, U, V) -> (O, I, U', V')"""
        if dilation == (1, 1):
            return self
        product = self.levels if self.factors is None else self.levels * self.factors
        extents = [(extent - 1) * step + 1 for extent, step in zip(product.shape[2:], dilation)]
        levels = np.zeros((*product.shape[:2], *extents), product.dtype)
        levels[:, :, :: dilation[0], :: dilation[1]] = product
        return replace(self, levels=levels, factors=None)

    def fields(self) -> dict[str, Any]:
        """The fields of the layer that stores these weights in the fewest bits."""
        levels = self.levels
        if self.factors is None:
            return {"weights": levels, "code": _stated_code(self.code, levels) or narrowest_code(levels)}
        choices: list[tuple[int, dict[str, Any]]] = []
        product = levels * self.factors
        if (single := _narrowest(product)) is not None:
            choices.append((product.size * single.bits, {"weights": product, "code": single}))
        code = _stated_code(self.code, levels) or narrowest_code(levels)
        scale_bits = DType.holding(int(self.factors.min()), int(self.factors.max())).bits
        for scales in _vectors(levels, self.factors):
            stored = sum(part.size for part in (scales["scales"], scales["negative_scales"]) if part is not None)
            choices.append((levels.size * code.bits + stored * scale_bits, {"weights": levels, "code": code, **scales}))
        return min(choices, key=lambda choice: choice[0])[1]


def narrowest_code(levels: Ints) -> Code:
    """The code of fewest bits that contains all ``levels``; of equal ones, the one with the simplest lanes.

    Weights that are powers of two are stored as ``quinary`` or ``shift3``, or else as indices of their levels. A
    ``csd`` code is never chosen: the memory holds its digits one by one, which takes more than the integers.
    """
    code = _narrowest(levels)
    if code is None:
        low, high = int(levels.min()), int(levels.max())
        bits = DType.holding(low, high).bits
        raise Refusal(f"its weights, {low} to {high}, need {bits} bits, {_WIDEST} are the most")
    return code


def _narrowest(levels: Ints) -> Code | None:
    known = np.unique(levels)
    if np.abs(known).max() <= 1:
        return TERNARY if 0 in known else BINARY
    bits = DType.holding(int(known.min()), int(known.max())).bits
    candidates = [code for code in (QUINARY, shift3()) if code.contains(known)]  # the simpler lanes first
    powers = 2 <= len(known) <= _MOST_POWERS and not (np.abs(known) & np.abs(known) - 1).any()
    if bits <= _WIDEST:
        candidates += [integer(bits), *([codebook(*known.tolist())] if powers and not candidates else [])]
    return min(candidates, key=lambda code: code.bits, default=None)


def _stated_code(name: str, levels: Ints) -> Code | None:
    """The code called ``name``, if there is one and it contains all ``levels``."""
    if not name:
        return None
    try:
        code = Code.parse(name)
    except FewbitError:
        return None
    return code if code.contains(levels) else None


def _vectors(levels: Ints, factors: Ints) -> Iterator[dict[str, Any]]:
    """The ways to store ``factors`` (outputs, inputs, ...): one scale, or one for each sign, for each vector of
    weights along the inputs, or across the outputs."""
    rows, signs = (np.moveaxis(part, 1, -1).reshape(len(part), -1) for part in (factors, levels))
    for across in (False, True):
        lines, sides = (rows.T, signs.T) if across else (rows, signs)
        for parts in ([np.ones(lines.shape, bool)], [sides >= 0, sides < 0]):
            vector = _longest_vector(lines, parts)
            stored = [_scales(lines, part, vector) for part in parts]
            scales = [part.T if across else part for part in stored]
            yield {
                "scales": scales[0],
                "negative_scales": scales[1] if len(scales) > 1 else None,
                "vector": vector,
                "across": across,
            }


def _longest_vector(lines: Ints, parts: list[Any]) -> int:
    """The largest number of neighbours in all ``lines`` that share a value; each of ``parts`` masks values that must
    only agree among themselves."""
    places = np.arange(lines.shape[1])
    pairs = []
    for part in parts:
        last = np.maximum.accumulate(np.where(part, places, -1), axis=1)  # the last place of this part
        before = np.concatenate([np.full((len(lines), 1), -1), last[:, :-1]], axis=1)
        row, place = np.nonzero(part & (before >= 0))
        earlier = before[row, place]
        changed = lines[row, place] != lines[row, earlier]
        pairs.append(np.stack([earlier[changed], place[changed]]))
    ends = np.unique(np.concatenate(pairs, axis=1), axis=1)
    return next((n for n in range(lines.shape[1], 1, -1) if (ends[0] // n != ends[1] // n).all()), 1)


def _scales(lines: Ints, part: Any, vector: int) -> Ints:
    """The value of each vector of ``lines`` where ``part`` is true; 1 for a vector where it is nowhere true.

    # (rows, n), (rows, n) -> (rows, ceil(n / vector))
    """
    starts = np.arange(0, lines.shape[1], vector)
    scales = np.ones((len(lines), len(starts)), np.int64)
    for place, start in enumerate(starts):
        share = part[:, start : start + vector]
        row, first = np.flatnonzero(share.any(1)), share.argmax(1)
        scales[row, place] = lines[row, start + first[row]]
    return scales
