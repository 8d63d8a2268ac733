"""Canonic signed digits held to examples worked by hand, to Python integers, and to what defines them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fewbit.golden import csd
from fewbit.golden.codes import csd_digits
from fewbit.golden.digits import largest_count, quality_bits, row_fields, word_bits
from fewbit.golden.errors import FewbitError

# value, width: digits, most significant first; "-" is -1
BY_HAND = {
    (0, 4): "0000",
    (1, 4): "0001",
    (3, 4): "010-",
    (-3, 4): "0-01",
    (5, 4): "0101",
    (7, 4): "100-",
    (-8, 4): "-000",
    (-1, 1): "-",
    (11, 5): "10-0-",
    (-11, 5): "-0101",
    (85, 8): "01010101",
    (-86, 8): "-0101010",
    (115, 8): "100-010-",
    (-128, 8): "-0000000",
    (127, 8): "1000000-",
}


def everything(width):
    return np.arange(-(1 << width - 1), 1 << width - 1)


@pytest.mark.parametrize("number, width", BY_HAND)
def test_worked_by_hand(number, width):
    digits = csd.recode(np.array(number), width)
    assert "".join("01-"[digit] for digit in digits[::-1]) == BY_HAND[number, width]


@pytest.mark.parametrize("width", range(1, 13))
def test_digits_are_canonic_and_sum_back(width):
    values = everything(width)
    digits = csd.recode(values, width)
    assert digits.shape == (1 << width, width)
    assert set(np.unique(digits)) <= {-1, 0, 1}
    assert not (digits[:, 1:] * digits[:, :-1]).any()
    assert [sum(int(digit) << place for place, digit in enumerate(row)) for row in digits] == values.tolist()
    assert (digits != 0).sum(1).max() == largest_count(width)
    assert quality_bits(width) == largest_count(width).bit_length()


def test_the_same_digits_as_the_weight_codes():
    for number in everything(10).tolist():
        placed = {exponent: sign for sign, exponent in csd_digits(number)}
        assert csd.recode(np.array(number), 10).tolist() == [placed.get(place, 0) for place in range(10)]


@pytest.mark.parametrize("width", range(1, 9))
def test_no_sum_of_signed_powers_is_shorter(width):
    fewest: dict[int, int] = {}
    for digits in itertools.product((-1, 0, 1), repeat=width):
        number = sum(digit << place for place, digit in enumerate(digits))
        fewest[number] = min(fewest.get(number, width), sum(map(abs, digits)))
    values = everything(width)
    assert (csd.recode(values, width) != 0).sum(1).tolist() == [fewest[number] for number in values.tolist()]


@pytest.mark.parametrize("quality, product", list(enumerate([0, 640, 560, 580, 575, 575])))
def test_115_times_5_by_hand(quality, product):
    """115 is 128 - 16 + 4 - 1."""
    assert int(csd.multiply(np.array(5), np.array(115), quality, width=8)) == product


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8])
def test_products_are_those_of_python(width):
    for a in (-128, -1, 0, 3, 127):
        for b in everything(width).tolist():
            exact = csd.multiply(np.array(a), np.array(b), largest_count(width), width=width)
            assert int(exact) == a * b
            assert int(csd.multiply(np.array(a), np.array(b), 0, width=width)) == 0
            terms = csd_digits(b)[::-1]
            for quality in range(largest_count(width) + 1):
                right = a * sum(sign << exponent for sign, exponent in terms[:quality])
                assert int(csd.multiply(np.array(a), np.array(b), quality, width=width)) == right


@pytest.mark.parametrize("width", range(1, 13))
def test_the_bound_holds_and_is_met(width):
    values = everything(width)
    for quality in range(largest_count(width) + 1):
        errors = np.abs(values - csd.value(csd.keep(csd.recode(values, width), quality)))
        # With nothing kept only the most negative number weighs most, and it is a single digit.
        assert errors.max() == (csd.bound(width, quality) if quality else 1 << width - 1)
    assert csd.bound(width, largest_count(width)) == 0


@pytest.mark.parametrize("width", range(1, 10))
def test_nearest_is_the_nearest(width):
    values = everything(width)
    numbers = np.arange(-(1 << width - 1), (1 << width - 1) + 1)
    counts = np.array([len(csd_digits(number)) for number in numbers.tolist()])
    for quality in range(largest_count(width) + 1):
        digits = csd.nearest(values, width, quality)
        rounded = csd.value(digits)
        candidates = numbers[counts <= quality]
        distance = np.abs(values[:, None] - candidates[None, :])
        assert np.abs(values - rounded).tolist() == distance.min(1).tolist()
        assert not (digits[:, 1:] * digits[:, :-1]).any()
        assert (csd.keep(digits, quality) == digits).all()
        smallest = [min(abs(int(c)) for c in candidates[row == row.min()]) for row in distance]
        assert np.abs(rounded).tolist() == smallest


def test_a_word_by_hand():
    """115 is 128 - 16 + 4 - 1: digits 7, 4, 2, 0, the first to fourth; rows 3, 2, 1, 0."""
    fields = [  # upper, negative, order
        "0" "1" "100",  # row 0: -1, fourth
        "0" "0" "11",  # row 1: +4, third
        "0" "1" "10",  # row 2: -16, second
        "1" "0" "1",  # row 3: +128, the upper of its two, first
    ]  # fmt: skip
    word = int("".join(reversed(fields)), 2)
    assert int(csd.encode(csd.recode(np.array(115), 8))) == word
    assert word_bits(8) == 16


@pytest.mark.parametrize("width", range(1, 13))
def test_words_and_back(width):
    digits = csd.recode(everything(width), width)
    words = csd.encode(digits)
    assert max(words).bit_length() <= word_bits(width)
    assert (csd.decode(words, width) == digits).all()
    fields = row_fields(width)
    assert [field.offset for field in fields[1:]] == [field.upper + field.upper_bits for field in fields[:-1]]


def test_what_is_refused():
    with pytest.raises(FewbitError, match="^8 is not a signed number of 4 bits$"):
        csd.recode(np.array([1, 8]), 4)
    with pytest.raises(FewbitError, match="^signed digits take a width of 1 to 32, not 33$"):
        csd.recode(np.array(1), 33)
    with pytest.raises(FewbitError, match="^0x7 is no word of 4 canonic signed digits$"):
        csd.decode(np.array(7), 4)
