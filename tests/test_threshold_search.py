"""The search changes frames so that more sums are at their thresholds than before."""

import numpy as np
import pytest
from networks import random_frames

from fewbit.golden.codes import Code
from fewbit.golden.dtype import DType
from fewbit.golden.network import Conv, Dense, Flatten, Network, TensorType, Threshold
from fewbit.golden.run import run
from fewbit.threshold_search import ThresholdSearch


def network(kind="uint4", code="binary", *, quantize=False, channels_last=False, signs=(-1, 1)):
    rng = np.random.default_rng(1)
    levels = Code.parse(code).levels
    first = Dense(name="first", weights=rng.choice(levels, (40, 120)), code=Code.parse(code))
    low, high = np.array([-60, 60]) * (DType.parse(kind).max if not quantize else 3) // 2
    act = Threshold(
        name="act", thresholds=np.sort(rng.integers(low, high, (40, 3)), 1), sign=rng.choice(signs, 40),
        dtype=DType("uint", 2), base=0,
    )  # fmt: skip
    layers = [first, act]
    if quantize:
        levels = np.arange(1, 4)[None] * 4
        layers.insert(0, Threshold(name="q", thresholds=levels, sign=[1], dtype=DType("uint", 2), base=0))
    layers.insert(int(quantize), Flatten(name="flatten", channels_last=channels_last))
    return Network(name="n", input=TensorType(DType.parse(kind), (2, 6, 10)), layers=tuple(layers))


def at_thresholds(made, frame):
    """How many sums are at a threshold, or one below it."""
    place = [layer.name for layer in made.layers].index("first") + 1
    sums, act = run(made, frame[None]).tensors[place][0], made.layers[place]
    away = (sums * act.sign)[:, None] - act.thresholds
    return int(((away == 0) | (away == -1)).any(1).sum())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"code": "ternary"},
        {"kind": "int3"},
        {"kind": "bipolar"},
        {"quantize": True},
        {"channels_last": True, "quantize": True},
        {"signs": (1,)},
    ],
)
def test_sums_come_to_thresholds(options):
    made, rng = network(**options), np.random.default_rng(2)
    search = ThresholdSearch(made, rng)
    assert search.rows == 40
    frames = random_frames(rng, made.input.dtype, (6, *made.input.shape))
    changed = [search.search(frame, np.arange(40), 12) for frame in frames]
    for frame in changed:
        assert frame.shape == made.input.shape
        assert made.input.dtype.contains(frame)
    before, after = (sum(at_thresholds(made, frame) for frame in some) for some in (frames, changed))
    assert after >= 2 * max(before, 6)


@pytest.mark.parametrize("kind", ["conv", "rows", "no thresholds"])
def test_networks_without_a_search(kind):
    flatten, first, act = network().layers
    each = Threshold(
        name="each", thresholds=np.zeros((120, 1), int), sign=np.ones(120, int), dtype=DType("uint", 1), base=0
    )
    conv = Conv(name="conv", weights=np.ones((2, 2, 1, 1), int), code=Code.parse("binary"))
    layers = {
        "conv": (conv, flatten, first, act),
        "rows": (flatten, each, first, act),
        "no thresholds": (flatten, first),
    }
    made = Network(name="n", input=TensorType(DType("uint", 4), (2, 6, 10)), layers=layers[kind])
    search = ThresholdSearch(made, np.random.default_rng(1))
    assert (search.index, search.rows) == (None, 0)
