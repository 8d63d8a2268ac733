"""The weights of a layer as a stream of signed powers of two: for hardware that takes one at a time, and no zeros."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from fewbit.golden.codes import csd_digits
from fewbit.golden.dtype import Ints
from fewbit.golden.linear import Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class TermStream:
    """The non-zero terms of every output, one after the other: ``scale * level`` of a weight is the sum of its terms,
    ``sign * 2**exponent`` each, and a zero weight has none.

    Terms go by ascending input, the most significant digits of a weight first. All arrays are (outputs, longest), with
    zeros behind the last term of an output.

    Parameters
    ----------
    sign : int array
        1 or -1; 0 where there is no term.
    exponent, input : int array
    order : int array
        The least quality that keeps the term; 1 for every term of a layer without signed digits.
    """

    sign: Ints
    exponent: Ints
    input: Ints
    order: Ints

    @classmethod
    def of(cls, layer: Linear) -> TermStream:
        digits = layer.code.digit_width is not None
        rows = [
            [
                (*term, place)
                for place, (level, scale) in enumerate(zip(levels.tolist(), scales.tolist()))
                for term in _terms(level, scale, digits)
            ]
            for levels, scales in zip(layer.matrix, _scales(layer))
        ]
        table = np.zeros((4, len(rows), max(1, *map(len, rows))), np.int64)
        for output, row in enumerate(rows):
            if row:
                table[:, output, : len(row)] = np.array(row).T
        sign, exponent, order, place = table
        return cls(sign=sign, exponent=exponent, input=place, order=order)

    @cached_property
    def counts(self) -> Ints:
        """Terms of every output.  # () -> (outputs,)"""
        return np.asarray((self.sign != 0).sum(1))

    def factors(self, inputs: int, quality: int | None = None) -> Ints:
        """The inverse: ``scale * level`` of every weight, of the terms that ``quality`` keeps.

        # (outputs, longest) -> (outputs, inputs) int64
        """
        kept = self.sign if quality is None else np.where(self.order <= quality, self.sign, 0)
        result = np.zeros((len(kept), inputs), np.int64)
        np.add.at(result, (np.arange(len(kept))[:, None], self.input), kept << self.exponent)
        return result


@lru_cache(maxsize=64)
def term_counts(layer: Linear) -> Ints:
    """Terms of every output of ``layer``, without the terms themselves.  # () -> (outputs,) int64"""
    return np.asarray((_digit_counts(layer.matrix) * _digit_counts(_scales(layer))).sum(1))


@lru_cache(maxsize=64)
def term_exponents(layer: Linear) -> tuple[int, ...]:
    """The exponents that the terms of ``layer`` have, ascending; 0 alone if it has no terms."""
    scales = _scales(layer)
    low = int(scales.min())
    pairs = np.unique((layer.matrix.astype(np.int64) << 33) + (scales - low))
    found = {
        exponent
        for pair in pairs.tolist()
        for _, exponent, _ in _terms(pair >> 33, (pair & (1 << 33) - 1) + low, layer.code.digit_width is not None)
    }
    return tuple(sorted(found)) or (0,)


def _digit_counts(values: Ints) -> Ints:
    """Non-zero canonic signed digits: where a number and its threefold differ there is one."""
    sizes = np.abs(np.asarray(values, np.int64))
    return np.asarray(np.bitwise_count(sizes ^ 3 * sizes), np.int64)


def _scales(layer: Linear) -> Ints:
    """What each level is multiplied by: its scale, or 1.  # () -> (outputs, inputs)"""
    levels = layer.matrix
    if layer.scales is None:
        return np.ones_like(levels)
    scales = layer.each_scale(layer.scales)
    if layer.negative_scales is None:
        return scales
    return np.where(levels < 0, layer.each_scale(layer.negative_scales), scales)


@lru_cache(maxsize=1 << 16)
def _terms(level: int, scale: int, digits: bool) -> list[tuple[int, int, int]]:
    """Sign, exponent and order of the terms of ``level * scale``: digits of the one by those of the other.

    A product of two digits takes the quality that both take; without ``digits`` the level's always count.
    """
    others = list(enumerate(reversed(csd_digits(scale)), 1))
    found = []
    for place, (sign, exponent) in enumerate(reversed(csd_digits(level)), 1):
        for order, (other_sign, other_exponent) in others:
            found.append((sign * other_sign, exponent + other_exponent, max(place if digits else 1, order)))
    return found
