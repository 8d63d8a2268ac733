"""Exact matrix-vector products: of one-bit inputs in packed words, by AND or XNOR and popcount; of wider ones as
integers."""

from __future__ import annotations

import numpy as np

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType, Ints

_BLOCK = 1 << 21
"""64-bit words that one step of a product handles, so that temporaries stay in the cache."""


def pack_bits(bits: Ints) -> Ints:
    """Packs bits along the last axis into ``uint64`` words, with zeros at the end.  # (..., n) -> (..., ceil(n/64))"""
    packed = np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little")
    spare = -packed.shape[-1] % 8
    padded = np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, spare)])
    return np.ascontiguousarray(padded).view("<u8")


def xnor_popcount(x: Ints, w: Ints, width: int) -> Ints:
    """For each row of ``x`` and each row of ``w``, the number of equal bits. Both are packed rows of ``width`` bits.

    # (N, words), (O, words) -> (N, O)
    """
    return width - _count(np.bitwise_xor, x, w)


def _count(combine: np.ufunc, x: Ints, w: Ints) -> Ints:
    counts = np.zeros((len(x), len(w)), np.int64)
    rows = max(1, _BLOCK // max(1, len(w)))
    for start in range(0, len(x), rows):
        block = counts[start : start + rows]
        for word in range(x.shape[1]):
            block += np.bitwise_count(combine(x[start : start + rows, word, None], w[None, :, word]))
    return counts


def matvec(x: Ints, weights: Ints, code: Code, source: DType) -> Ints:
    """``y[n, o] = sum_i weights[o, i] * x[n, i]``, exactly.  # (N, I), (O, I) -> (N, O) int64

    Parameters
    ----------
    x : int array (N, I)
        Values of kind ``source``.
    weights : int array (O, I)
        Levels of ``code``.
    code : Code
    source : DType
    """
    inputs = weights.shape[1]
    if source.kind == "bipolar" and code.signs_only:
        signed: Ints = 2 * xnor_popcount(pack_bits(x > 0), pack_bits(weights > 0), inputs) - inputs
        return signed
    if source.kind == "bipolar":  # x = 2b - 1 with bits b
        bits = matvec((x > 0).astype(np.int64), weights, code, DType("uint", 1))
        shifted: Ints = 2 * bits - weights.sum(1, dtype=np.int64)
        return shifted
    if source.bits > 1:
        return product(x, weights, source)
    result = np.zeros((len(x), len(weights)), np.int64)
    bits, magnitude = pack_bits(x != 0), np.abs(weights)
    sign_of_one = -1 if source.signed else 1
    for exponent in range(int(magnitude.max()).bit_length()):
        part = magnitude >> exponent & 1
        for sign in (1, -1):
            chosen = (part == 1) & (np.sign(weights) == sign)
            if chosen.any():
                result += sign * sign_of_one * _count(np.bitwise_and, bits, pack_bits(chosen)) << exponent
    return result


def product(x: Ints, factors: Ints, source: DType) -> Ints:
    """``y[n, o] = sum_i factors[o, i] * x[n, i]`` for any integers, exactly.  # (N, I), (O, I) -> (N, O) int64

    If no partial sum can reach 2**53, it is computed in float64, which is exact in any order then, and many times as
    fast as integers.
    """
    largest = max(abs(source.min), abs(source.max)) * int(np.abs(factors).sum(1, dtype=np.int64).max(initial=0))
    if largest < 1 << 53:
        return np.asarray((x.astype(np.float64) @ factors.T.astype(np.float64)).astype(np.int64))
    return np.asarray(x.astype(np.int64) @ factors.T.astype(np.int64))
