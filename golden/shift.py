"""The shift-and-invert weight decoder: from a 3-bit code and a scale to a weight."""

from __future__ import annotations

import numpy as np

from fewbit.golden.codes import shift3
from fewbit.golden.dtype import Ints

ILLEGAL = 0b111
"""The only illegal code: hardware treats it as 0 and raises ``illegal``."""


def decode_weight(code: Ints, scale: Ints) -> tuple[Ints, Ints]:
    """``weight = level(code) * scale`` with the levels of Table II; code 111 gives 0 and ``illegal``.

    # (...), (...) -> (...) int64, (...) bool

    Source: the quality-scalable multiplier paper, Table II, with shifts to the left (docs/decisions/0001).
    """
    illegal = np.asarray(code) == ILLEGAL
    level = shift3().decode(np.where(illegal, 0, code))
    return level * np.asarray(scale, np.int64), illegal
