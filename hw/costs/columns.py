"""Which bits of a layer's words of weights a memory really holds.

A bit that is the same in every word takes no memory, and among constants in LUTs equal columns are one: synthesis
leaves both out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fewbit.golden.digits import digit_word, word_bits
from fewbit.golden.dtype import Ints
from fewbit.golden.network import Linear

DEEPEST = 64
"""Words of a memory beyond which hardly any two of its columns are equal."""


class Field(NamedTuple):
    """Bits of a word that stand for one weight or one scale, and those of them that are not the same in every word."""

    bits: int
    varying: int

    @classmethod
    def of(cls, sets: list[Ints], bits: int) -> Field:
        """Of words of ``bits`` bits that lie side by side, one of each set."""
        varying = sum((int(np.bitwise_or.reduce(one)) & ~int(np.bitwise_and.reduce(one))).bit_count() for one in sets)
        return cls(len(sets) * bits, varying)


@lru_cache(maxsize=64)
def weight_field(layer: Linear) -> Field:
    """Of a weight, in the lanes of both signs where negative weights have scales of their own."""
    return Field.of([_encoded(layer, np.unique(part)) for part in _parts(layer)], _stored_bits(layer))


@lru_cache(maxsize=64)
def scale_field(layer: Linear) -> Field:
    """Of a scale, and that of the negative weights beside it."""
    if layer.scale_kind is None or layer.scales is None:
        return Field(0, 0)
    width = layer.scale_kind.bits
    return Field.of([_digit_words(np.unique(one), width) for one in _scale_sets(layer)], word_bits(width))


def weight_columns(layer: Linear, pe: int, simd: int) -> int:
    """Columns that synthesis keeps of constant words of ``pe * simd`` weights: each that varies once, where there are
    few enough words for equal ones."""
    folds, words = layer.outputs // pe, layer.fan_in // simd
    if folds * words > DEEPEST:
        return pe * simd * weight_field(layer).varying
    bits = _stored_bits(layer)
    sets = [_encoded(layer, part).reshape(folds, pe, words, simd).transpose(1, 3, 0, 2) for part in _parts(layer)]
    return _different([one.reshape(pe * simd, folds * words) for one in sets], bits)


def scale_columns(layer: Linear, pe: int, simd: int) -> tuple[int, int]:
    """How many different words of scales there are, and the columns that synthesis keeps of them, as of weights."""
    if layer.scale_kind is None or layer.scales is None:
        return 1, 0
    places = simd if layer.across else pe
    depth = layer.scales.size // places
    if depth > DEEPEST:
        return depth, places * scale_field(layer).varying
    width = layer.scale_kind.bits
    # (places, words): outputs `pe` at a time, or inputs `simd` at a time
    turned = [one.T if layer.across else one for one in _scale_sets(layer)]
    sets = [_digit_words(one.reshape(-1), width).reshape(-1, places, one.shape[1]).transpose(1, 0, 2) for one in turned]
    return depth, _different([one.reshape(places, depth) for one in sets], word_bits(width))


def _different(sets: list[Ints], bits: int) -> int:
    """Columns of words of ``bits`` bits (places, words) that vary, each counted once."""
    kept: set[bytes] = set()
    for words in sets:
        columns = (words[:, None] >> np.arange(bits)[:, None] & 1).astype(bool).reshape(-1, words.shape[1])
        columns = columns[columns.any(1) & ~columns.all(1)]
        kept.update(row.tobytes() for row in np.packbits(columns, axis=1))
    return len(kept)


def _parts(layer: Linear) -> list[Ints]:
    weights = layer.weights.reshape(layer.outputs, layer.fan_in)
    return [weights] if layer.negative_scales is None else [np.maximum(weights, 0), np.minimum(weights, 0)]


def _scale_sets(layer: Linear) -> list[Ints]:
    return [one for one in (layer.scales, layer.negative_scales) if one is not None]


def _stored_bits(layer: Linear) -> int:
    return layer.code.bits if layer.code.digit_width is None else word_bits(layer.code.digit_width)


def _encoded(layer: Linear, weights: Ints) -> Ints:
    """Weights as the lanes take them."""
    if layer.code.digit_width is not None:
        levels, index = np.unique(weights, return_inverse=True)
        return _digit_words(levels, layer.code.digit_width)[index].reshape(weights.shape)
    return layer.code.encode(weights).astype(np.int64)


def _digit_words(values: Ints, width: int) -> Ints:
    return np.array([digit_word(int(value), width) for value in values], np.int64)
