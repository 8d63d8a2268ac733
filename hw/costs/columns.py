"""How many bits of a layer's weight words a memory actually stores.

Synthesis removes a bit that is the same in every word and, from constants in LUTs, all but one of several equal columns
of bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fewbit.golden.digits import digit_word, word_bits
from fewbit.golden.dtype import Ints
from fewbit.golden.network import Linear

DEEPEST = 64
"""Words of a memory above which equal columns are so rare that they are not searched."""


class Field(NamedTuple):
    """The bits of a word that belong to one weight or scale, and how many of them are not the same in every word."""

    bits: int
    varying: int

    @classmethod
    def of(cls, sets: list[Ints], bits: int) -> Field:
        """The field that consists of one word of ``bits`` bits from each set, side by side."""
        varying = sum(
            (int(np.bitwise_or.reduce(words)) & ~int(np.bitwise_and.reduce(words))).bit_count() for words in sets
        )
        return cls(len(sets) * bits, varying)


@lru_cache(maxsize=64)
def weight_field(layer: Linear) -> Field:
    """The field of a weight; if negative weights have their own scales, it is in the lanes of both signs."""
    return Field.of([_encoded(layer, np.unique(part)) for part in _parts(layer)], _stored_bits(layer))


@lru_cache(maxsize=64)
def scale_field(layer: Linear) -> Field:
    """The field of a scale and, if negative weights have their own, of the second scale."""
    if layer.scale_kind is None or layer.scales is None:
        return Field(0, 0)
    width = layer.scale_kind.bits
    return Field.of([_digit_words(np.unique(scales), width) for scales in _scale_sets(layer)], word_bits(width))


def weight_columns(layer: Linear, pe: int, simd: int) -> int:
    """Columns that synthesis keeps from constant words of ``pe * simd`` weights.

    These are the columns that vary; of equal ones only one is counted, unless there are so many words that equal
    columns are not to be expected.
    """
    folds, words = layer.outputs // pe, layer.fan_in // simd
    if folds * words > DEEPEST:
        return pe * simd * weight_field(layer).varying
    bits = _stored_bits(layer)
    sets = [_encoded(layer, part).reshape(folds, pe, words, simd).transpose(1, 3, 0, 2) for part in _parts(layer)]
    return _different([encoded.reshape(pe * simd, folds * words) for encoded in sets], bits)


def scale_columns(layer: Linear, pe: int, simd: int) -> tuple[int, int]:
    """Number of words of scales, and the columns that synthesis keeps from them as constants."""
    if layer.scale_kind is None or layer.scales is None:
        return 1, 0
    places = simd if layer.across else pe
    depth = layer.scales.size // places
    if depth > DEEPEST:
        return depth, places * scale_field(layer).varying
    width = layer.scale_kind.bits
    # (places, words): outputs `pe` at a time, or inputs `simd` at a time
    by_place = [scales.T if layer.across else scales for scales in _scale_sets(layer)]
    sets = [
        _digit_words(scales.reshape(-1), width).reshape(-1, places, scales.shape[1]).transpose(1, 0, 2)
        for scales in by_place
    ]
    return depth, _different([encoded.reshape(places, depth) for encoded in sets], word_bits(width))


def _different(sets: list[Ints], bits: int) -> int:
    """Number of different columns that vary, in words of ``bits`` bits (places, words)."""
    different: set[bytes] = set()
    for words in sets:
        columns = (words[:, None] >> np.arange(bits)[:, None] & 1).astype(bool).reshape(-1, words.shape[1])
        columns = columns[columns.any(1) & ~columns.all(1)]
        different.update(row.tobytes() for row in np.packbits(columns, axis=1))
    return len(different)


def _parts(layer: Linear) -> list[Ints]:
    weights = layer.weights.reshape(layer.outputs, layer.fan_in)
    return [weights] if layer.negative_scales is None else [np.maximum(weights, 0), np.minimum(weights, 0)]


def _scale_sets(layer: Linear) -> list[Ints]:
    return [scales for scales in (layer.scales, layer.negative_scales) if scales is not None]


def _stored_bits(layer: Linear) -> int:
    return layer.code.bits if layer.code.digit_width is None else word_bits(layer.code.digit_width)


def _encoded(layer: Linear, weights: Ints) -> Ints:
    """Weights as the words that lanes take."""
    if layer.code.digit_width is not None:
        levels, index = np.unique(weights, return_inverse=True)
        return _digit_words(levels, layer.code.digit_width)[index].reshape(weights.shape)
    return layer.code.encode(weights).astype(np.int64)


def _digit_words(values: Ints, width: int) -> Ints:
    return np.array([digit_word(int(value), width) for value in values], np.int64)
