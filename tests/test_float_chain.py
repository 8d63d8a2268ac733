"""The float32 steps before the first quantizer: thresholds right on every float32 number that is near one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.importers.lowering.float_steps import FloatChain, input_thresholds, level_table, table_thresholds

finite = st.floats(-64, 64, width=32).map(np.float32)


def constant(value: float) -> Any:
    return np.array([value], np.float32)


def nearest_four_bits(y: Any) -> Any:
    return np.nan_to_num(np.clip(np.round(y), -8, 7)).astype(np.int64) + 8


def level_of(thresholds: Any, sign: int, lowest: int, x: Any) -> Any:
    return lowest + np.searchsorted(thresholds, sign * x, side="right")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_thresholds_equal_the_chain_around_each_of_them(data: st.DataObject) -> None:
    chain = FloatChain()
    for _ in range(data.draw(st.integers(0, 4), "steps")):
        step = data.draw(st.sampled_from(["add", "sub", "rsub", "mul", "div", "clip", "batch_normalization"]))
        values = [constant(data.draw(finite)) for _ in range({"clip": 2, "batch_normalization": 3}.get(step, 1))]
        if step == "clip":
            values.sort(key=lambda value: value[0])
        if step == "div" and values[0] == 0:
            values = [constant(3)]
        if step == "batch_normalization":
            values += [constant(0.7), constant(1e-5)]
        chain = chain.then(step, *values)
    found = input_thresholds(chain, nearest_four_bits, 15)
    bits = np.random.default_rng(1).integers(0, 1 << 32, 2000, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([bits.view(np.float32), np.float32([0, -0.0, np.inf, -np.inf, 1e-45, 3e38])])
    if found is not None:
        with np.errstate(over="ignore", under="ignore"):
            beside = [np.nextafter(found[0], np.float32(end)) for end in (-np.inf, np.inf)]
        x = np.concatenate([x, *(found[1] * values for values in (found[0], *beside))])
    x = x[~np.isnan(chain.run(x)[:, 0]) & ~np.isnan(x)]
    wanted = level_table(chain, nearest_four_bits, x)[:, 0]
    if found is None:
        assert (wanted == wanted[:1]).all()
    else:
        assert np.array_equal(level_of(*found, x), wanted)


def test_thresholds_of_a_falling_chain_are_those_of_the_negative() -> None:
    found = input_thresholds(FloatChain().then("mul", constant(-2)), lambda y: (y > 1).astype(int) + (y >= 3), 2)
    assert found is not None
    thresholds, sign, lowest = found
    assert (thresholds.tolist(), sign, lowest) == ([np.nextafter(np.float32(0.5), np.float32(1)), 1.5], -1, 0)


def test_levels_that_nothing_reaches_have_no_threshold() -> None:
    found = input_thresholds(FloatChain().then("clip", constant(0), constant(3)), nearest_four_bits, 15)
    assert found is not None
    assert (found[0].tolist(), found[2]) == (
        [np.nextafter(np.float32(0.5), np.float32(1)), 1.5, 2.5000002384185791],
        8,
    )


def test_an_input_without_influence_has_no_thresholds() -> None:
    assert input_thresholds(FloatChain().then("mul", constant(0)), nearest_four_bits, 15) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_table(sign: int) -> None:
    values = np.arange(-4, 4)
    table = np.array([[0, 0, 1, 1, 1, 3, 3, 3][::sign], [2] * 8]).T
    thresholds, signs = table_thresholds(table, values, 4)
    for channel in range(2):
        levels = (signs[channel] * values[:, None] >= thresholds[channel]).sum(1)
        assert levels.tolist() == table[:, channel].tolist()
    assert (signs[0], thresholds[1].tolist()) == (sign, [-4, -4, 4, 4])


def test_a_table_that_rises_and_falls_has_no_thresholds() -> None:
    assert table_thresholds(np.array([[0], [2], [1]]), np.arange(3), 2) is None


def test_channels_repeat_when_a_frame_is_flattened() -> None:
    chain = FloatChain().then("mul", np.array([1, 2], np.float32)).then("add", constant(1))
    chain = chain.of_channels(np.array([0, 0, 1, 1]))
    assert chain.channels == 4
    assert chain.run(np.float32([1])).tolist() == [[2, 2, 3, 3]]
