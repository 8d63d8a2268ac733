"""The weights of a layer as a stream of signed powers of two, for hardware that processes one at a time and skips
zeros."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from fewbit.golden.codes import csd_digits
from fewbit.golden.dtype import Ints
from fewbit.golden.linear import Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class TermStream:
    """The terms of every output, one after the other. The terms of a weight are signed powers of two, ``sign *
    2**exponent``, whose sum is ``scale * level``; a zero weight has none.

    Terms are in ascending order of their input; within a weight the most significant digits come first. All arrays are
    (outputs, longest), with zeros behind the last term of an output.

    Parameters
    ----------
    sign : int array
        1 or -1; 0 where there is no term.
    exponent, input : int array
        Exponent of the term, and index of the input that it multiplies.
    order : int array
        The lowest quality at which the term counts; 1 for every term of a layer without signed digits.
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
        """Number of terms of every output.  # () -> (outputs,)"""
        return np.asarray((self.sign != 0).sum(1))

    def factors(self, inputs: int, quality: int | None = None) -> Ints:
        """The inverse: ``scale * level`` of every weight, from the terms that count at ``quality`` (all if None).

        # (outputs, longest) -> (outputs, inputs) int64
        """
        signs = self.sign if quality is None else np.where(self.order <= quality, self.sign, 0)
        result = np.zeros((len(signs), inputs), np.int64)
        np.add.at(result, (np.arange(len(signs))[:, None], self.input), signs << self.exponent)
        return result


@lru_cache(maxsize=64)
def term_counts(layer: Linear) -> Ints:
    """Number of terms of every output of ``layer``, computed without the terms.  # () -> (outputs,) int64"""
    return np.asarray((_digit_counts(layer.matrix) * _digit_counts(_scales(layer))).sum(1))


@lru_cache(maxsize=64)
def term_exponents(layer: Linear) -> tuple[int, ...]:
    """The exponents that occur in the terms of ``layer``, ascending; only 0 if it has no terms."""
    scales = _scales(layer)
    low = int(scales.min())
    pairs = np.unique((layer.matrix.astype(np.int64) << 33) + (scales - low))
    exponents = {
        exponent
        for pair in pairs.tolist()
        for _, exponent, _ in _terms(pair >> 33, (pair & (1 << 33) - 1) + low, layer.code.digit_width is not None)
    }
    return tuple(sorted(exponents)) or (0,)


def _digit_counts(values: Ints) -> Ints:
    """Number of non-zero canonic signed digits: one for each bit in which a number and three times it differ."""
    sizes = np.abs(np.asarray(values, np.int64))
    return np.asarray(np.bitwise_count(sizes ^ 3 * sizes), np.int64)


def _scales(layer: Linear) -> Ints:
    """The scale of each level, 1 where the layer has none.  # () -> (outputs, inputs)"""
    levels = layer.matrix
    if layer.scales is None:
        return np.ones_like(levels)
    scales = layer.each_scale(layer.scales)
    if layer.negative_scales is None:
        return scales
    return np.where(levels < 0, layer.each_scale(layer.negative_scales), scales)


@lru_cache(maxsize=1 << 16)
def _terms(level: int, scale: int, digits: bool) -> list[tuple[int, int, int]]:
    """Sign, exponent and order of the terms of ``level * scale``: each digit of the level times each digit of the
    scale.

    A product of two digits counts from the quality on at which both count. Without ``digits``, those of the level
    always count.
    """
    scale_digits = list(enumerate(reversed(csd_digits(scale)), 1))
    terms = []
    for place, (sign, exponent) in enumerate(reversed(csd_digits(level)), 1):
        for order, (scale_sign, scale_exponent) in scale_digits:
            terms.append((sign * scale_sign, exponent + scale_exponent, max(place if digits else 1, order)))
    return terms
