"""The fuzzer of the readers: mutants that were wrong once, some of each kind, and, in the slow tier, 28,000."""

from __future__ import annotations

import json
from pathlib import Path

import fuzz
import pytest

CORPUS = json.loads((Path(__file__).parent / "fuzz_corpus.json").read_text(encoding="utf-8"))
"""Numbers of mutants by kind: each was a finding, of this code or of what it was before, or takes another way."""

THOUSANDS = {"onnx": 10, "qdq": 4, "tflite": 4, "safetensors": 6, "npy": 1, "idx": 1, "gz": 2}


def test_corpus_and_the_rest_name_every_kind():
    assert sorted(CORPUS) == sorted(THOUSANDS) == sorted(fuzz.KINDS)
    assert sum(THOUSANDS.values()) == 28


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_corpus(kind):
    findings = fuzz.fuzz(kind, CORPUS[kind])
    assert findings.wrong == {}
    assert sum(findings.counts.values()) == len(CORPUS[kind])
    assert {"equal", "refused"} <= set(findings.counts)


@pytest.mark.slow
@pytest.mark.parametrize("kind, thousand", [(kind, one) for kind, most in THOUSANDS.items() for one in range(most)])
def test_mutants(kind, thousand):
    findings = fuzz.fuzz(kind, range(1000 * thousand, 1000 * (thousand + 1)))
    assert findings.wrong == {}
    assert findings.counts["equal"] > 10


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda path: 1 / 0, "ZeroDivisionError: division by zero at test_fuzz.py:"),
        (lambda path: fuzz.os._exit(3), "kills its process (3)"),
        (lambda path: bytearray(9 << 27) and "equal", "takes 11"),
        (lambda path: exec("assert False, 'outputs differ'"), "outputs differ"),
    ],
)
def test_what_is_wrong_is_told(monkeypatch, wrong, said):
    def check(path):
        return "equal" if path.read_bytes() == b"0" else wrong(path)

    monkeypatch.setitem(fuzz.KINDS, "planted", (lambda number: b"%d" % (number % 2), check, ""))
    findings = fuzz.fuzz("planted", range(3))
    assert (findings.counts["wrong"], findings.counts["equal"]) == (1, 2)
    assert list(findings.wrong) == [1]
    assert findings.wrong[1].startswith(said)


def test_mutants_are_always_the_same():
    for make, _, _ in fuzz.KINDS.values():
        assert make(7) == make(7)
        assert len({make(number) for number in range(20)}) > 10
