"""cocotb bench of any component with an input stream ``i`` and an output stream ``o``.

``$FEWBIT_VECTORS`` names a file of :class:`fewbit.sim.vectors.Vectors`. The protocol checker runs in every test.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import cocotb

from fewbit.sim.bench import PATTERNS, Bench, compare
from fewbit.sim.vectors import Vectors, fields_of

VECTORS = Vectors.load(os.environ["FEWBIT_VECTORS"])

FEWEST = 4
"""Least number of frames that are run under each pattern, if there are that many."""

PATIENCE = 2000 + VECTORS.latency
"""Cycles without a transfer after which a design counts as stalled. A design makes no transfer from its last input word
until its first result, so this includes the latency."""


def check(got: Sequence[int], expected: Sequence[int], vectors: Vectors) -> None:
    """Compare words field by field; the error names field, frame, beat and lane of the first difference."""
    parts = zip(*(fields_of(word, vectors.fields) for word in got))
    right = zip(*(fields_of(word, vectors.fields) for word in expected))
    for field, got_values, expected_values in zip(vectors.fields, parts, right):
        try:
            compare(
                got_values,
                expected_values,
                lanes=field.lanes,
                bits=field.bits,
                signed=field.signed,
                beats=vectors.beats_out,
            )
        except AssertionError as error:
            raise AssertionError(f"{field.name}: {error}") from None
    compare(got, expected, lanes=0, bits=1, beats=vectors.beats_out)


@cocotb.test()
@cocotb.parametrize(valid=PATTERNS, ready=PATTERNS)
async def frames(dut: Any, valid: str, ready: str) -> None:
    """Frames without gaps other than those of the patterns.

    All frames run with both ends always active, and each once more under one of the other pairs of patterns.
    """
    bench = Bench(dut, valid=valid, ready=ready)
    await bench.start(VECTORS.image)
    words, expected = share(PATTERNS.index(valid) * len(PATTERNS) + PATTERNS.index(ready))
    check(await bench.run(words, len(expected), patience=PATIENCE), expected, VECTORS)


def share(pattern: int) -> tuple[list[int], list[int]]:
    """Input and expected words of the frames for pair of patterns number ``pattern``.

    Pair 0 runs all frames. The other pairs share the frames evenly, with at least :data:`FEWEST` each.
    """
    others = len(PATTERNS) ** 2 - 1
    chosen: Sequence[int] = range(VECTORS.frames)
    if pattern and VECTORS.frames > FEWEST:
        size = max(FEWEST, -(-VECTORS.frames // others))
        start = (pattern - 1) * size % VECTORS.frames
        chosen = [(start + place) % VECTORS.frames for place in range(size)]
    parts = [VECTORS.frame(index) for index in chosen]
    return [word for words, _ in parts for word in words], [word for _, words in parts for word in words]


@cocotb.test()
async def idle_gaps(dut: Any) -> None:
    """Frames one at a time, each into an idle design, with pauses of different lengths up to 20 cycles between them."""
    bench = Bench(dut)
    await bench.start(VECTORS.image)
    for index in range(min(VECTORS.frames, 8)):
        words, expected = VECTORS.frame(index)
        got = await bench.run(words, len(expected), patience=PATIENCE, after=(index * 7) % 21)
        check(got, expected, VECTORS)


@cocotb.test()
async def reset_in_mid_frame(dut: Any) -> None:
    """A reset in mid-frame discards the input so far: the next frame is complete and right."""
    bench = Bench(dut, valid="always", ready="random")
    await bench.start(VECTORS.image)
    for round_, cycles in enumerate([*range(1, 12), 17, 29]):
        bench.driver.queue.extend(VECTORS.words)
        await bench.idle(cycles)
        await bench.reset(cycles=1)
        words, expected = VECTORS.frame(round_ % VECTORS.frames)
        check(await bench.run(words, len(expected), patience=PATIENCE), expected, VECTORS)
