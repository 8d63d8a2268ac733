"""Vectors worked by hand, and their file."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from fewbit.golden.dtype import BIPOLAR, DType
from fewbit.golden.errors import FewbitError
from fewbit.sim.vectors import Field, Vectors, fields_of, lane_words, score_fields, score_words


def test_lanes_lie_lowest_first():
    assert lane_words(np.array([[1, -1, 0, -4]]), DType("int", 3), 2) == [0b111_001, 0b100_000]
    assert lane_words(np.array([[-1, 1, 1]]), BIPOLAR, 3) == [0b110]


def test_scores_carry_the_arg_max_so_far_and_last():
    # Scores of 3 bits, an index of 2 bits above them, then last.
    words = score_words(np.array([[1, 3, 3]]), DType("int", 3))
    assert words == [0b0_00_001, 0b0_01_011, 0b1_01_011]
    assert fields_of(words[2], score_fields(DType("int", 3), 3)) == [3, 1, 1, 0]


def test_one_class_has_an_index_of_one_bit():
    assert score_words(np.array([[-1]]), DType("int", 2)) == [0b1_0_11]


def test_a_file_gives_the_vectors_back(tmp_path):
    vectors = Vectors(
        words=[1 << 100, 2, 3, 4],
        expected=[5, 6],
        fields=(Field(name="a", bits=3, signed=True, lanes=2),),
        beats_in=2,
        beats_out=1,
        interval=7,
    )
    vectors.save(tmp_path / "v.json")
    assert Vectors.load(tmp_path / "v.json") == vectors
    assert vectors.frames == 2
    assert vectors.frame(1) == ([3, 4], [6])


def test_a_file_of_another_version_is_refused(tmp_path):
    (tmp_path / "v.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(
        FewbitError,
        match=f"^{re.escape(str(tmp_path / 'v.json'))}: the vectors are from another version of fewbit$",
    ):
        Vectors.load(tmp_path / "v.json")


def test_vectors_are_whole_frames():
    message = "vectors must be whole frames of 2 words in and 1 out, not 3 and 1"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        Vectors(words=[1, 2, 3], expected=[1], fields=(), beats_in=2, beats_out=1)
