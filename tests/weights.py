"""What hypothesis draws to quantize: weights, codes, and the vectors that they are cut into."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fewbit.golden.codes import Code
from fewbit.golden.quantizers.weight_vectors import WeightVectors

BAND_CODES = ("ternary", "quinary", "shift3", "shift3(2)", "shift3(1)")
"""Those that equation 10 has bands for."""
CODES = ("binary", *BAND_CODES, "csd(1,4)", "csd(2,7)", "csd(3,8)", "int(2)", "int(4)", "int(8)")

codes = st.sampled_from(CODES).map(Code.parse)
band_codes = st.sampled_from(BAND_CODES).map(Code.parse)
vectors = st.one_of(
    st.sampled_from(["tensor", "channel"]).map(WeightVectors),
    st.builds(WeightVectors, st.sampled_from(["inputs", "outputs"]), st.integers(1, 5)),
)
numbers = st.one_of(
    st.just(0.0),
    st.floats(-1, 1, allow_subnormal=False).filter(lambda x: abs(x) > 1e-6),
    st.integers(-8, 8).map(lambda x: x / 8),  # many that are equal
)


def matrices(most_outputs: int = 5, most_inputs: int = 9) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, most_outputs), st.integers(1, most_inputs))
    return arrays.arrays(np.float64, shapes, elements=numbers)
