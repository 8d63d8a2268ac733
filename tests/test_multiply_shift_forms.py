"""Multiplication, addition and shift for thresholds: equal on the whole input range, found wherever there is one."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import requantization

from fewbit.golden.codes import csd_digits
from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.network import Threshold
from fewbit.golden.threshold import threshold_level
from fewbit.hw.layers.multiply_shift_forms import MOST_DIGITS, MultiplyShift, fewest_digits, fits


def layer_of(thresholds, sign=None) -> Threshold:
    thresholds = np.array(thresholds)
    top = thresholds.shape[1]
    signs = np.ones(len(thresholds)) if sign is None else sign
    return Threshold(name="t", thresholds=thresholds, sign=signs, dtype=DType("uint", top.bit_length()), base=0)


def equal_everywhere(form: MultiplyShift, layer: Threshold, low, high) -> bool:
    """On every x of every channel, one by one, by the definition of both."""
    for channel, (least, most) in enumerate(zip(low, high, strict=True)):
        m, b = int(form.multiplier[channel]), int(form.addend[channel])
        for x in range(int(least), int(most) + 1):
            count = sum(int(layer.sign[channel]) * x >= int(t) for t in layer.thresholds[channel])
            if min(max((m * x + b) // 2**form.shift, 0), layer.thresholds.shape[1]) != count:
                return False
    return True


def possible(layer: Threshold, low: int, high: int) -> bool:
    """Whether any line ``slope * x + offset`` has these levels as its floors, by every pair of conditions."""
    thresholds = np.clip(layer.thresholds[0], low, high + 1).tolist()
    least, most = Fraction(0), None
    for (k, t), (other, u) in product(enumerate(thresholds, 1), repeat=2):
        if t > high or u <= low:
            continue
        # k <= slope * t + offset and slope * (u - 1) + offset < other
        run, rise = u - 1 - t, other - k
        if run > 0:
            most = Fraction(rise, run) if most is None else min(most, Fraction(rise, run))
        elif run < 0:
            least = max(least, Fraction(rise, run))
        elif rise <= 0:
            return False
    return most is None or least < most


@given(st.integers(0, 1 << 32), st.sampled_from([1, 2, 3, 5, 7, 15]), st.sampled_from([1, 3]), st.booleans())
def test_what_is_found_is_equal_on_the_whole_reach(seed, count, channels, alike):
    layer, low, high = requantization(np.random.default_rng(seed), channels, count, 7, alike=alike)
    found = list(fits(layer, low, high))
    assert found
    for form in found:
        assert equal_everywhere(form, layer, low, high)
        x = np.clip(np.arange(-64, 64)[:, None], low, high)
        assert (form.level(x) == threshold_level(x, layer.thresholds, layer.sign)).all()


@given(st.lists(st.integers(-12, 12), min_size=1, max_size=5), st.integers(-12, 0), st.integers(1, 12), st.booleans())
def test_there_is_one_just_where_a_line_has_these_floors(thresholds, low, high, turned):
    layer = layer_of([sorted(thresholds)], [-1 if turned else 1])
    ends = (-high, -low) if turned else (low, high)
    found = list(fits(layer, *(np.array([end]) for end in ends)))
    assert all(equal_everywhere(form, layer, [ends[0]], [ends[1]]) for form in found)
    assert bool(found) == possible(layer, low, high)


def test_by_hand():
    # Two levels on from 5 to 25, not yet from 5 to 24, and already from 4 to 25: the slope is above 2 / 21 and below
    # 2 / 19, which is 1.52 to 1.68 sixteenths. Two digits give 1.5 and 1.75, three 1.625: 13 / 128. The addend is at
    # least 128 - 13 * 5, 256 - 13 * 15, 384 - 13 * 25 and below 128 - 13 * 4, 256 - 13 * 14, 384 - 13 * 24: 63 to 71.
    (form,) = fits(layer_of([[5, 15, 25]]), np.array([0]), np.array([40]))
    assert (form.multiplier.tolist(), form.addend.tolist(), form.shift) == ([13], [64], 7)


def test_a_power_of_two_is_a_shift():
    (form,) = fits(layer_of([[16 * k for k in range(1, 16)]]), np.array([0]), np.array([255]))
    assert (form.multiplier.tolist(), form.addend.tolist(), form.shift) == ([1], [0], 4)


def test_one_threshold_wants_no_multiplier_and_leaves_nothing_to_clip():
    (form,) = fits(layer_of([[3]]), np.array([-8]), np.array([7]))
    assert form.multiplier.tolist() == [1]
    assert {(x + int(form.addend[0])) >> form.shift for x in range(-8, 8)} == {0, 1}


def test_a_falling_channel_has_a_falling_multiplier():
    (form,) = fits(layer_of([[-3, 1]], [-1]), np.array([-8]), np.array([7]))
    assert form.multiplier[0] < 0
    assert equal_everywhere(form, layer_of([[-3, 1]], [-1]), [-8], [7])


def test_equal_thresholds_are_a_steep_step():
    layer = layer_of([[2, 2, 2]])
    (form,) = fits(layer, np.array([-4]), np.array([4]))
    assert equal_everywhere(form, layer, [-4], [4])


def test_uneven_thresholds_have_none():
    layer = layer_of([[0, 10, 20, 90, 91]])
    assert not list(fits(layer, np.array([-100]), np.array([100])))
    # What lies beyond the reach does not count, but for that it is not reached.
    assert list(fits(layer, np.array([-100]), np.array([25])))
    assert not list(fits(layer, np.array([-100]), np.array([40])))


@pytest.mark.parametrize("thresholds", [[-90, -80], [80, 90], [-90, 90], [-90, 0, 90]])
def test_thresholds_outside_the_reach(thresholds):
    layer = layer_of([thresholds])
    (form,) = fits(layer, np.array([-8]), np.array([7]))
    assert equal_everywhere(form, layer, [-8], [7])


def test_channels_that_share_a_slope_share_the_multiplier():
    layer = layer_of([[5, 15, 25], [0, 10, 20], [-31, -21, -11]])
    form = next(fits(layer, np.full(3, -64), np.full(3, 63)))
    assert len(set(form.multiplier.tolist())) == 1
    assert equal_everywhere(form, layer, [-64] * 3, [63] * 3)


def test_each_channel_has_a_reach_of_its_own():
    layer = layer_of([[0, 10, 20, 90], [0, 10, 20, 30]])
    low, high = np.array([-5, -50]), np.array([25, 50])
    assert not list(fits(layer, np.full(2, -50), np.full(2, 50)))
    assert all(equal_everywhere(form, layer, low, high) for form in fits(layer, low, high))
    assert list(fits(layer, low, high))


def test_one_off_is_not_equal():
    layer = layer_of([[5, 15, 25]])
    low, high = np.array([-64]), np.array([63])
    form = next(fits(layer, low, high))
    assert form.equals(layer, low, high)
    for change in ("multiplier", "addend"):
        for more in (-16, 16):
            fields = {"multiplier": form.multiplier, "addend": form.addend}
            fields[change] = fields[change] + more
            assert not MultiplyShift(**fields, shift=form.shift, levels=3).equals(layer, low, high)


@given(st.integers(0, 1 << 32))
def test_equality_at_the_edges_is_equality(seed):
    rng = np.random.default_rng(seed)
    layer, low, high = requantization(rng, 2, 3, 6)
    form = next(fits(layer, low, high))
    changed = MultiplyShift(
        multiplier=form.multiplier + rng.integers(-1, 2, 2) * rng.integers(0, 2),
        addend=form.addend + rng.integers(-3, 4, 2),
        shift=form.shift,
        levels=3,
    )
    wrong_way = (changed.multiplier * layer.sign < 0).any()
    assert wrong_way or changed.equals(layer, low, high) == equal_everywhere(changed, layer, low, high)


def test_fewest_digits_are_the_fewest():
    for least in range(-40, 200):
        for most in range(least, min(least + 30, 200)):
            best = min(len(csd_digits(number)) for number in range(least, most + 1))
            found = fewest_digits(least, most, MOST_DIGITS)
            assert found is not None
            assert least <= found <= most
            assert len(csd_digits(found)) == best
            assert best == 0 or fewest_digits(least, most, best - 1) is None


def test_wide_accumulators_do_not_overflow():
    for bits in (30, 40, 56, 62):
        low, high = np.array([-(1 << bits)]), np.array([(1 << bits) - 1])
        for thresholds in ([[0]], [[-(1 << bits - 1), 0, 1 << bits - 1]]):
            layer = layer_of(thresholds)
            assert all(form.equals(layer, low, high) for form in fits(layer, low, high))


def test_a_sign_is_a_shift_of_the_sum():
    layer = Threshold(name="t", thresholds=[[-2], [5]], sign=[1, 1], dtype=BIPOLAR, base=-1)
    form = next(fits(layer, np.full(2, -16), np.full(2, 15)))
    assert form.multiplier.tolist() == [1, 1]
    assert equal_everywhere(form, layer, [-16] * 2, [15] * 2)
