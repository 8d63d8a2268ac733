"""Zeros in the weights of a layer, which need no computation: zero weights, and zero or dropped signed digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewbit.golden import csd
from fewbit.golden.digits import largest_count
from fewbit.golden.dtype import Ints
from fewbit.golden.linear import Linear


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Zeros in the weights of a layer, and the operations that remain, for one output position.

    Attributes
    ----------
    weights, zeros : int
        Number of weights, and of those that are 0.
    terms : int
        Non-zero canonic signed digits of all weights: signed powers of two to add or subtract.
    multiplications : int
        Multiplications by ``csd`` weights and by scales. Each scale counts once, however the layer is folded.
    rows : int
        Partial-product rows of these multiplications.
    partial_products : tuple of int
        Rows that are not gated, at a quality of 0, 1, ... up to the number of digits of the layer.
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
            operands += [(_digits(scales), layer.scale_kind.bits) for scales in sets]
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
    """Number of non-zero canonic signed digits of each number."""
    return np.asarray((csd.recode(values, csd.WIDEST) != 0).sum(-1))
