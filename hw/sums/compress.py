"""Which counters make a popcount: a plan for every number of bits, the cheapest in the cells of a fabric.

A count of ``n`` bits is the sum of two counts and one bit more, ``n = high + low + carry``: a chain as long as the
larger count, with the bit in its carry-in. The smallest are made of LUTs alone: three bits, each an XNOR of two
operands, take three LUT4s,

    p = m0 ^ m1,    sum = p ^ m2,    carry = ~sum if p else m0

since ``m2 = sum ^ p``, so that no LUT sees more than four operands. How to split is a dynamic program over the counts:
the fewest cells, and of those the least delay.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from fewbit.golden.errors import FewbitError

Fabric = Literal["ice40", "ecp5"]
FABRICS = ("ice40", "ecp5")

_EXHAUSTIVE = 40
"""Up to this count every split is tried; above it halves and the neighbours of powers of two, which lose nothing."""

_STEPS = 20
"""Of a LUT's delay, in which the best place of registers is sought."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """A count of ``bits`` bits and how it is made; a plan is a tree of them.

    Parameters
    ----------
    bits : int
        How many bits are counted.
    high, low : Count or None
        The counts that are added, ``high`` the larger. Neither: made of LUTs. Without ``low`` only the bit is added.
    carry : bool
        Whether one bit more enters as carry.
    cells : int
        Logic cells of the whole tree.
    delay : float
        From the operands to the last bit, in LUTs with their wires.
    own_delay : float
        Of this sum alone.
    """

    bits: int
    high: Count | None = None
    low: Count | None = None
    carry: bool = False
    cells: int
    delay: float
    own_delay: float

    @property
    def width(self) -> int:
        """Bits of the result."""
        return self.bits.bit_length()

    @property
    def short(self) -> bool:
        """Whether two-bit numbers are added, which LUTs do as well as a carry chain."""
        return self.high is not None and _short(self.high, self.low)


def plan(bits: int, fabric: Fabric, *, gated: bool = False) -> Count:
    """The cheapest tree for a count of ``bits`` bits; ``gated`` if each of them also depends on a third operand.

    Raises FewbitError if there are none, or no such fabric.
    """
    if bits < 1:
        raise FewbitError(f"a popcount needs a width of at least 1, not {bits}")
    if fabric not in FABRICS:
        raise FewbitError(f"compressor trees are made for one of {', '.join(FABRICS)}, not {fabric!r}")
    return _best(bits, fabric, gated)


@cache
def _best(bits: int, fabric: Fabric, gated: bool) -> Count:
    if bits == 1 or (fabric == "ice40" and bits <= 3):
        more = gated and bits > 1  # the first of them is computed before it is added
        delay = (0.0, 1.0, 1.0, 3.0)[bits] + more if fabric == "ice40" else 0.0
        return Count(bits=bits, cells=bits + more if fabric == "ice40" else 0, delay=delay, own_delay=delay)
    tries = [_sum(_best(high, fabric, gated), _best(low, fabric, gated) if low else None, carry, fabric, gated)
             for high, low, carry in _splits(bits)]  # fmt: skip
    return min(tries, key=lambda count: (count.cells, count.delay))


def _sum(high: Count, low: Count | None, carry: bool, fabric: Fabric, gated: bool) -> Count:
    """``high + low + carry``. An iCE40 chain has a cell for each sum, for the carry that enters and for the one that
    leaves; the former also computes some bit's XNOR, so that bits that enter are free. On ECP5 chains stand in rows,
    where one slot ends a chain and begins the next, and XNORs are free. Of gated bits only one of two added ones is
    free there; all others take a LUT."""
    bits = high.bits + (low.bits if low else 0) + carry
    length = high.width
    if fabric == "ecp5":
        cells, delay = length + 1, 2 + length / 20
    elif _short(high, low):
        cells, delay = (4, 2.0) if low and carry else (3, 1.0)
    else:
        cells, delay = length + carry + (bits.bit_length() > length), 2 + length / 10
    if gated:
        cells += carry + (fabric == "ecp5" and high.bits == 1)
        delay += fabric == "ecp5" and high.bits == 1
    parts = [part for part in (high, low) if part]
    return Count(
        bits=bits, high=high, low=low, carry=carry, own_delay=delay,
        cells=sum(part.cells for part in parts) + cells, delay=max(part.delay for part in parts) + delay,
    )  # fmt: skip


def _short(high: Count, low: Count | None) -> bool:
    return high.width == 2 and (low is None or low.width == 2)


def _splits(bits: int) -> Iterator[tuple[int, int, bool]]:
    """(high, low, carry) to try, in a fixed order."""
    for carry in (False, True):
        rest = bits - carry
        half = (rest + 1) // 2
        if bits <= _EXHAUSTIVE:
            highs = set(range(half, rest + 1))
        else:
            powers = [1 << k for k in range(bits.bit_length())]
            highs = {half, half + 1, half + 2, *powers, *(power - 1 for power in powers)}
        for high in sorted(highs):
            if half <= high <= rest and high < bits:
                yield high, rest - high, carry


def cut(root: Count, ranks: int, way: float = 0.0) -> float:
    """The least delay between registers that ``ranks`` ranks of them inside the tree allow, where operands take ``way``
    to it."""
    # A step more than the whole delay, which as a float may be a little above its own step.
    steps = range(math.ceil(_longest(root, way) * _STEPS), math.ceil((root.delay + way) * _STEPS) + 2)
    return steps[bisect.bisect_left(steps, -ranks, key=lambda step: -arrival(root, step / _STEPS, way)[0])] / _STEPS


def _longest(count: Count, way: float) -> float:
    """What cannot be cut."""
    parts = [part for part in (count.high, count.low) if part]
    first = all(part.delay == 0 for part in parts)
    return max([count.own_delay + way * first, *(_longest(part, way) for part in parts)])


def arrival(count: Count, limit: float, way: float = 0.0) -> tuple[int, float]:
    """Pipeline stages before ``count`` where a rank is set as soon as ``limit`` would be passed, and the delay
    from the last of them to its result; from the operands it is ``way`` more."""
    parts = [part for part in (count.high, count.low) if part and part.delay]
    if not parts:
        return 0, count.own_delay and way + count.own_delay
    rank, time = max(arrival(part, limit, way) for part in parts)
    if time + count.own_delay > limit:
        return rank + 1, count.own_delay
    return rank, time + count.own_delay
