"""What is zero in the weights of a layer, and so need not be computed: zero weights, and signed digits by quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewbit.golden import csd
from fewbit.golden.digits import largest_count
from fewbit.golden.dtype import Ints
from fewbit.golden.linear import Linear


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Zeros of a layer, and the work that they leave at one position of it.

    Attributes
    ----------
    weights, zeros : int
        All weights; those whose level is 0: a product with such a weight is none.
    terms : int
        Signed powers of two that the levels are sums of, in canonic signed digits: a zero weight has none.
    multiplications : int
        By a ``csd`` weight, or by a scale: one a scale, however its vector is folded.
    rows : int
        Partial products that as many multipliers have room for.
    partial_products : tuple of int
        Those that are formed at a quality of 0, 1, ... up to the layer's digits; the other rows are gated.
    """

    weights: int
    zeros: int
    terms: int
    multiplications: int
    rows: int
    partial_products: tuple[int, ...]

    @classmethod
    def of(cls, layer: Linear) -> Sparsity:
        operands: list[tuple[Ints, int]] = []
        if layer.code.digit_width is not None:
            operands.append((_digits(layer.matrix), layer.code.digit_width))
        if layer.scales is not None and layer.scale_kind is not None:
            sets = [layer.scales, *([] if layer.negative_scales is None else [layer.negative_scales])]
            operands += [(_digits(one), layer.scale_kind.bits) for one in sets]
        return cls(
            weights=int(layer.matrix.size),
            zeros=int((layer.matrix == 0).sum()),
            terms=int(_digits(layer.matrix).sum()),
            multiplications=sum(int(digits.size) for digits, _ in operands),
            rows=sum(int(digits.size) * largest_count(width) for digits, width in operands),
            partial_products=tuple(
                sum(int(np.minimum(digits, quality).sum()) for digits, _ in operands)
                for quality in range(layer.digits + 1)
            ),
        )


def _digits(values: Ints) -> Ints:
    """How many canonic signed digits of each number are not zero."""
    return np.asarray((csd.recode(values, csd.WIDEST) != 0).sum(-1))
