"""Plans popcounts: for every number of bits, the cheapest tree of counters in the cells of an FPGA family.

A count of ``n`` bits is the sum of two counts and one more bit, ``n = high + low + carry``: a carry chain as long as
the larger count, with the bit as its carry-in. The smallest counts use only LUTs. Three bits, each an XNOR of two
operands, take three LUT4s,

    p = m0 ^ m1,    sum = p ^ m2,    carry = ~sum if p else m0

since ``m2 = sum ^ p``, so no LUT has more than four inputs. A dynamic program over the counts finds how to split them:
the fewest cells, and among those the least delay.
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
"""Largest count for which every split is tried. For larger ones only halves and neighbours of powers of two are tried,
with no worse result."""

_STEPS = 20
"""Resolution, in steps per LUT delay, of the search for the best positions of pipeline registers."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """A count of ``bits`` bits as the sum of smaller ones; a plan is a tree of these.

    Parameters
    ----------
    bits : int
        How many bits are counted.
    high, low : Count or None
        The counts that are added, ``high`` the larger. Both None: the count is made of LUTs. Only ``low`` None: only
        the
        carry bit is added to ``high``.
    carry : bool
        Whether one more bit is added as carry-in.
    cells : int
        Logic cells of the whole tree.
    delay : float
        Delay from the operands to the last bit of the result, in LUT delays including wires.
    own_delay : float
        Delay of this sum alone, in LUT delays.
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
        """Whether two-bit numbers are added, for which LUTs are as good as a carry chain."""
        return self.high is not None and _short(self.high, self.low)


def plan(bits: int, fabric: Fabric, *, gated: bool = False) -> Count:
    """The cheapest tree that counts ``bits`` bits; with ``gated``, each bit also depends on a third operand, its gate.

    Raises FewbitError if ``bits`` is below 1, or the fabric is unknown.
    """
    if bits < 1:
        raise FewbitError(f"a popcount needs a width of at least 1, not {bits}")
    if fabric not in FABRICS:
        raise FewbitError(f"the fabric of a compressor tree must be one of {', '.join(FABRICS)}, not {fabric!r}")
    return _best(bits, fabric, gated)


@cache
def _best(bits: int, fabric: Fabric, gated: bool) -> Count:
    if bits == 1 or (fabric == "ice40" and bits <= 3):
        gate_lut = gated and bits > 1  # the first gated bit takes a LUT of its own
        delay = (0.0, 1.0, 1.0, 3.0)[bits] + gate_lut if fabric == "ice40" else 0.0
        return Count(bits=bits, cells=bits + gate_lut if fabric == "ice40" else 0, delay=delay, own_delay=delay)
    options = [_sum(_best(high, fabric, gated), _best(low, fabric, gated) if low else None, carry, fabric, gated)
             for high, low, carry in _splits(bits)]  # fmt: skip
    return min(options, key=lambda count: (count.cells, count.delay))


def _sum(high: Count, low: Count | None, carry: bool, fabric: Fabric, gated: bool) -> Count:
    """The count ``high + low + carry`` with its cells and delay.

    An iCE40 chain has a cell for each sum bit, one for the carry-in, and one for the carry-out. The LUT of the carry-in
    cell computes the XNOR of some other bit, so the carry bits take no further LUTs. On ECP5, chains share rows, where
    one slot ends a chain and begins the next, and XNORs are free. Of two gated bits that are added only one is free
    there; the other gated bits take a LUT each.
    """
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
    """The splits (high, low, carry) to try, in a fixed order."""
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


def cut(root: Count, stages: int, way: float = 0.0) -> float:
    """The least delay between registers, if each path through the tree has ``stages`` registers inside it; ``way`` is
    the delay of the operands before the tree."""
    # One step more than the whole delay, since rounding may put that slightly above its step.
    steps = range(math.ceil(_longest(root, way) * _STEPS), math.ceil((root.delay + way) * _STEPS) + 2)
    return steps[bisect.bisect_left(steps, -stages, key=lambda step: -arrival(root, step / _STEPS, way)[0])] / _STEPS


def _longest(count: Count, way: float) -> float:
    """The largest delay that no register can divide."""
    parts = [part for part in (count.high, count.low) if part]
    first = all(part.delay == 0 for part in parts)
    return max([count.own_delay + way * first, *(_longest(part, way) for part in parts)])


def arrival(count: Count, limit: float, way: float = 0.0) -> tuple[int, float]:
    """The number of pipeline stages in front of ``count``, and the delay from the last of them to its result.

    A stage is inserted wherever the delay would exceed ``limit``; ``way`` is the delay of the operands before the tree.
    """
    parts = [part for part in (count.high, count.low) if part and part.delay]
    if not parts:
        return 0, count.own_delay and way + count.own_delay
    stage, time = max(arrival(part, limit, way) for part in parts)
    if time + count.own_delay > limit:
        return stage + 1, count.own_delay
    return stage, time + count.own_delay
