"""Test cases for the benches of the CSD multipliers: operands, expected products, and coverage points."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from fewbit.golden import csd
from fewbit.golden.digits import largest_count, quality_bits

EXHAUSTIVE = 13
"""If operands and quality have at most this many bits together, every combination is tested."""


def cases(width_a: int, width_b: int, *, recoded: bool = False, count: int = 2000, seed: int = 1) -> dict[str, Any]:
    """Test cases for :mod:`fewbit.sim.tb_csd` and :mod:`fewbit.sim.tb_csd_serial`.

    All combinations if there are few (see :data:`EXHAUSTIVE`). Otherwise the corner cases, every single digit, and
    ``count`` seeded random cases. The quality changes from case to case.

    Returns
    -------
    dict
        ``inputs``: a list of values for each port; ``expected``: products, as unsigned bit patterns; ``cycles``: cycles
        of the serial form from ``start`` to ``done``; ``points``: names of the coverage points, all of which must be
        covered; ``covers``: for each case, the points that it covers, as indices into ``points``.
    """
    a, b, quality = _operands(width_a, width_b, count, random.Random(seed))
    digits = csd.recode(b, width_b)
    kept_digits = csd.keep(digits, quality)
    product = a * csd.value(kept_digits)
    points = _points(width_a, width_b)
    index = {point: place for place, point in enumerate(points)}
    operand = csd.encode(digits) if recoded else b & (1 << width_b) - 1
    return {
        "inputs": {
            "a": (a & (1 << width_a) - 1).tolist(),
            "digits" if recoded else "b": [int(value) for value in operand],
            "quality": quality.tolist(),
        },
        "expected": (product & (1 << width_a + width_b) - 1).tolist(),
        "cycles": (1 + (kept_digits != 0).sum(-1)).tolist(),
        "points": points,
        "covers": [
            [index[point] for point in _covered(*case, width_a, width_b) if point in index]
            for case in zip(a.tolist(), b.tolist(), quality.tolist(), digits.tolist(), kept_digits.tolist())
        ],
    }


def _operands(width_a: int, width_b: int, count: int, rng: random.Random) -> tuple[Any, Any, Any]:
    low_a, low_b, qualities = -(1 << width_a - 1), -(1 << width_b - 1), 1 << quality_bits(width_b)
    if width_a + width_b + quality_bits(width_b) <= EXHAUSTIVE:
        grid = np.meshgrid(np.arange(low_a, -low_a), np.arange(low_b, -low_b), np.arange(qualities), indexing="ij")
        triples = np.stack([axis.ravel() for axis in grid], 1).tolist()
        rng.shuffle(triples)
    else:
        corners_a = [low_a, ~low_a, 0, -1, 1]
        corners_b = [low_b, ~low_b, 0, -1, 1]
        corners_b += [sign << place for place in range(width_b) for sign in (1, -1) if sign << place < -low_b]
        corners_b += [(2 << width_b - 1) // 3 >> 1, -((2 << width_b - 1) // 3 >> 1), (1 << width_b) // 3 >> 1]
        triples = [[x, y, q] for x in corners_a for y in corners_b for q in range(qualities)]
        for _ in range(count):
            triples.append([rng.randrange(low_a, -low_a), rng.randrange(low_b, -low_b), rng.randrange(qualities)])
        rng.shuffle(triples)
    a, b, quality = np.array(triples, np.int64).T
    return a, b, quality


def _points(width_a: int, width_b: int) -> list[str]:
    """Coverage points: each digit kept and dropped, each quality, each number of digits, and the corner cases."""
    points = [f"{operand} is {end}" for operand in "ab" for end in ("least", "greatest", "zero")]
    points += [f"both are {end}" for end in ("least", "greatest")]
    points += [f"quality {quality}" for quality in range(1 << quality_bits(width_b))]
    points += [f"{count} digits" for count in range(largest_count(width_b) + 1)]
    for place in range(width_b):
        for sign in "+-":
            if sign == "+" and place == width_b - 1 and width_b < 3:
                continue  # with fewer than 3 bits, the highest digit cannot be +1
            points.append(f"digit {sign}{place} kept")
            points.append(f"digit {sign}{place} dropped")
    return points


def _covered(
    a: int, b: int, quality: int, digits: list[int], kept_digits: list[int], width_a: int, width_b: int
) -> list[str]:
    ends = {}
    for name, value, width in (("a", a, width_a), ("b", b, width_b)):
        ends[name] = {-(1 << width - 1): "least", (1 << width - 1) - 1: "greatest"}.get(value, "")
    covered = [f"{name} is {end}" for name, end in ends.items() if end]
    covered += [f"{name} is zero" for name, value in (("a", a), ("b", b)) if value == 0]
    if ends["a"] and ends["a"] == ends["b"]:
        covered.append(f"both are {ends['a']}")
    covered += [f"quality {quality}", f"{sum(digit != 0 for digit in digits)} digits"]
    for place, (digit, left) in enumerate(zip(digits, kept_digits)):
        if digit:
            covered.append(f"digit {'+' if digit > 0 else '-'}{place} {'kept' if left else 'dropped'}")
    return covered
