"""A small network whose quality can be turned, and a folding slow enough for several frames to be in it at a time."""

from __future__ import annotations

import numpy as np
from networks import random_threshold

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import ArgMax, Dense, Network, TensorType
from fewbit.hw.fold import Folding, MatVecFold


def small_dial(source: str = "bipolar", inputs: int = 8) -> tuple[Network, Folding]:
    """Two layers of ``csd`` weights, one of scales along the inputs, and an arg-max."""
    rng = np.random.default_rng(8)
    digits, shift = Code.parse("csd(4,5)"), Code.parse("shift3")
    kind, between = DType.parse(source), DType.parse("uint3")
    first = Dense(name="one", weights=rng.choice(digits.levels, (8, inputs)), code=digits)
    second = Dense(
        name="two",
        weights=rng.choice(shift.levels, (6, 8)),
        code=shift,
        scales=rng.integers(1, 60, (6, 2)),
        vector=4,
    )
    last = Dense(name="three", weights=rng.choice(digits.levels, (3, 6)), code=digits)
    ends = [(int(a.min()), int(b.max())) for a, b in (first.bounds(kind), second.bounds(between))]
    network = Network(
        name="dial",
        input=TensorType(kind, (inputs,)),
        layers=(
            first,
            random_threshold(rng, "t1", between, 8, *ends[0]),
            second,
            random_threshold(rng, "t2", between, 6, *ends[1]),
            last,
            ArgMax(name="class"),
        ),
    )
    folds = {name: MatVecFold(pe=1, simd=1, memory="block", buffer="block") for name in ("one", "two", "three")}
    return network, Folding(input_lanes=1, folds=folds)
