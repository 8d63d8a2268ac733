"""Weight codes held to the papers' tables, worked by hand, and to round trips."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.golden.codes import BINARY, QUINARY, TERNARY, Code, CsdCode, codebook, csd_digits, integer, shift3
from fewbit.golden.errors import FewbitError

CODES = [
    BINARY,
    TERNARY,
    QUINARY,
    shift3(),
    shift3(2),
    shift3(1),
    CsdCode(1, 3),
    CsdCode(2, 4),
    CsdCode(3, 8),
]
CODES += [codebook(-9, -4, -1, 0, 1, 4, 9), codebook(2, 5)]
CODES += [integer(1), integer(2), integer(4), integer(8)]
by_name = pytest.mark.parametrize("code", CODES, ids=str)


def test_table_2_of_the_quality_scalable_paper():
    # Word, level; shifts are to the left, as the level set of equation 6 demands.
    table = {0b000: 0, 0b001: 1, 0b010: 2, 0b011: 4, 0b100: -1, 0b101: -2, 0b110: -4}
    for word, level in table.items():
        assert shift3().encode(np.array([level])).tolist() == [word]
        assert shift3().decode(np.array([word], np.uint64)).tolist() == [level]
    with pytest.raises(FewbitError, match=r"^shift3 has no code word 111$"):
        shift3().decode(np.array([0b111], np.uint64))


@pytest.mark.parametrize("phi, levels", [(1, [-1, 0, 1]), (2, [-2, -1, 0, 1, 2]), (4, [-4, -2, -1, 0, 1, 2, 4])])
def test_phi_gives_the_levels(phi, levels):
    assert shift3(phi).levels.tolist() == levels
    assert shift3(phi).bits == 3


def test_small_codes_by_hand():
    assert dict(zip(BINARY.levels.tolist(), BINARY.encode(BINARY.levels).tolist())) == {-1: 0, 1: 1}
    assert dict(zip(TERNARY.levels.tolist(), TERNARY.encode(TERNARY.levels).tolist())) == {
        -1: 0b11,
        0: 0b00,
        1: 0b01,
    }
    assert QUINARY.levels.tolist() == [-2, -1, 0, 1, 2]
    assert integer(3).encode(np.array([-4, -1, 3])).tolist() == [0b100, 0b111, 0b011]
    assert [code.bits for code in (BINARY, TERNARY, QUINARY, integer(5))] == [1, 2, 3, 5]


@pytest.mark.parametrize(
    "value, digits",
    [
        (0, []), (1, [(1, 0)]), (2, [(1, 1)]), (3, [(-1, 0), (1, 2)]), (5, [(1, 0), (1, 2)]), (6, [(-1, 1), (1, 3)]),
        (7, [(-1, 0), (1, 3)]), (11, [(-1, 0), (-1, 2), (1, 4)]), (-3, [(1, 0), (-1, 2)]), (-5, [(-1, 0), (-1, 2)]),
        (23, [(-1, 0), (-1, 3), (1, 5)]), (119, [(-1, 0), (-1, 3), (1, 7)]),
    ],
)  # fmt: skip
def test_canonic_signed_digits_by_hand(value, digits):
    assert csd_digits(value) == digits


@given(st.integers(-(1 << 40), 1 << 40))
def test_canonic_signed_digits_are_canonic(value):
    digits = csd_digits(value)
    exponents = [exponent for _, exponent in digits]
    assert sum(sign << exponent for sign, exponent in digits) == value
    assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(exponents))


def test_no_signed_digit_form_has_fewer_digits():
    fewest = {0: 0}
    for count in range(1, 5):
        for value in [value for value, digits in fewest.items() if digits == count - 1]:
            for step in (sign << exponent for sign in (1, -1) for exponent in range(9)):
                fewest.setdefault(value + step, count)
    assert all(len(csd_digits(value)) == fewest[value] for value in range(-128, 129))


def test_a_csd_word_by_hand():
    # 7 = 8 - 1: the most significant digit in the lowest field; a field is exponent + 1, then the sign.
    code = CsdCode(2, 4)
    assert code.bits == 8
    assert code.encode(np.array([7, 8, 0, -6])).tolist() == [0b1001_0100, 0b0000_0100, 0, 0b0010_1100]
    assert 11 not in code.levels.tolist()
    assert max(CsdCode(1, 3).levels) == 4


@by_name
def test_every_level_and_every_word(code):
    assert code.levels.tolist() == sorted(set(code.levels.tolist()))
    words = code.encode(code.levels)
    assert len(set(words.tolist())) == len(words)
    assert code.decode(words).tolist() == code.levels.tolist()
    for word in set(range(1 << min(code.bits, 8))) - set(words.tolist()):
        with pytest.raises(FewbitError, match=f"^{re.escape(code.name)} has no code word {word:0{code.bits}b}$"):
            code.decode(np.array([word], np.uint64))
    for level in range(int(code.levels[0]) - 2, int(code.levels[-1]) + 3):
        if level not in code.levels:
            assert not code.contains(np.array([level]))
            with pytest.raises(FewbitError, match=f"^{re.escape(code.name)} has no level {level}"):
                code.encode(np.array([level]))


@by_name
def test_terms_sum_to_the_weight(code):
    for level in code.levels.tolist():
        assert sum(sign << exponent for sign, exponent in code.terms(level)) == level


@given(st.sampled_from(CODES), st.lists(st.integers(1, 7), max_size=3), st.integers(0, 1 << 32))
def test_unpack_is_the_inverse_of_pack(code, shape, seed):
    weights = np.random.default_rng(seed).choice(code.levels, shape)
    packed = code.pack(weights)
    assert packed.dtype == np.uint8
    assert packed.size == -(-weights.size * code.bits // 8)
    assert code.unpack(packed, tuple(shape)).tolist() == weights.tolist()


def test_packing_by_hand():
    # +1 -1 -1 +1, +1 +1 +1 -1, +1: least significant bit first, filled with zeros.
    assert BINARY.pack(np.array([1, -1, -1, 1, 1, 1, 1, -1, 1])).tolist() == [0b0111_1001, 1]
    assert TERNARY.pack(np.array([[0, 1], [-1, 0]])).tolist() == [0b00_11_01_00]


def test_too_few_bytes_are_refused():
    with pytest.raises(FewbitError, match=r"^\(3, 3\) binary weights take 2 bytes, not 1$"):
        BINARY.unpack(np.array([1], np.uint8), (3, 3))


def test_which_codes_are_symmetric():
    assert [code.name for code in CODES if not code.symmetric] == [
        "codebook(2,5)",
        "int(1)",
        "int(2)",
        "int(4)",
        "int(8)",
    ]


@by_name
def test_a_name_gives_its_code(code):
    assert Code.parse(code.name) == code
    assert hash(Code.parse(code.name)) == hash(code)
    assert Code.parse(code.name).levels.tolist() == code.levels.tolist()


def test_names_may_hold_spaces():
    assert Code.parse("csd(2, 4)") == CsdCode(2, 4)


@pytest.mark.parametrize("name", ["", "float", "shift3(1,2)", "csd(2)", "int", "binary(1)", "ternary()"])
def test_what_is_no_code_is_refused(name):
    message = (
        "weight code must be binary, ternary, quinary, shift3(PHI), csd(TERMS,EXPONENTS), int(BITS) or "
        "codebook(LEVEL,LEVEL,...), "
        f"not {name!r}"
    )
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        Code.parse(name)


@pytest.mark.parametrize(
    "name, message",
    [
        ("shift3(3)", "shift3 takes PHI 1, 2 or 4, not 3"),
        ("csd(0,4)", "csd takes 1 to 8 terms and 1 to 16 exponents, not 0 and 4"),
        ("csd(2,17)", "csd takes 1 to 8 terms and 1 to 16 exponents, not 2 and 17"),
        ("int(-3)", "int takes 1 to 16 bits, not -3"),
        ("codebook(3)", "codebook takes 2 to 256 different levels from -32768 to 32767, not 3"),
        ("codebook(0,32768)", "codebook takes 2 to 256 different levels from -32768 to 32767, not 0, 32768"),
        ("codebook(1,0,1)", "codebook takes every level once, not 0, 1, 1"),
        ("int(17)", "int takes 1 to 16 bits, not 17"),
    ],
)
def test_parameters_out_of_range_are_refused(name, message):
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        Code.parse(name)


@pytest.mark.parametrize(
    "code, levels, flipped",
    [
        ("binary", [-1, 1], [1, -1]),
        ("ternary", [-1, 0, 1], [1, 1, -1]),
        ("shift3", [-4, -1, 0, 2], [4, 1, 4, -2]),
        ("csd(2,3)", [-5, 0, 3], [5, 5, -3]),
        ("int(4)", [-8, -1, 0, 5], [0, 7, -8, -3]),
    ],
)
def test_sign_flipped(code, levels, flipped):
    assert Code.parse(code).sign_flipped(np.array([levels])).tolist() == [flipped]


@pytest.mark.parametrize("code", ["binary", "ternary", "quinary", "shift3", "csd(2,3)", "int(4)", "int(1)"])
def test_every_level_becomes_another(code):
    code = Code.parse(code)
    assert (code.sign_flipped(code.levels) != code.levels).all()
    assert code.contains(code.sign_flipped(code.levels))
