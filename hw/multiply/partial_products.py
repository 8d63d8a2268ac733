"""Partial-product rows of a multiplier, one for each two bits of the operand ``b``, and their sum.

A row is a term (0, ``a`` or ``2a``) and a sign. Rows are summed in chains: each row is added to the sum of the rows
below it, or subtracted from it. No row needs a carry-in for its sign:

- on iCE40, the running sum is inverted where the sign changes, in the adder's own cell: ``a - b = ~(~a + b)``;
- on ECP5, the term is inverted inside the adder's cell, and the ``+ 1`` of all negative rows are added together with
  row 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amaranth.hdl import Cat, Module, Signal, Value, signed

from fewbit.hw.fabric.carry import (
    ZERO,
    Slot,
    Target,
    add,
    carry_slot,
    ecp5_chain,
    extend,
    ice40_add,
    lut,
    plain_slot,
)
from fewbit.hw.fabric.families import family
from fewbit.hw.fabric.family import CarryChain

Tree = Literal["ripple", "balanced"]
TREES = ("ripple", "balanced")


@dataclass(frozen=True)
class Row:
    """A row with the value ``-term`` if ``negative``, else ``term``; bits lowest first, the last one the sign."""

    term: list[Value]
    negative: Value


def row_term(m: Module, name: str, target: Target, a: Value, on: Value, upper: Value | None) -> list[Value]:
    """0 unless ``on``; else ``2a`` if ``upper``, else ``a``. While the row is not ``on``, changes of ``a`` do not reach
    its bits.

    Cost: a LUT4 a bit.
    """
    fabric = family(target).cells  # synthesis could merge the gate into a later LUT, which ``a`` would then switch
    if not fabric:
        gate = Signal(name=f"{name}_on")
        m.d.comb += gate.eq(on)
        on = gate
    if upper is None:
        return [lut(m, f"{name}_{k}", target, int.__and__, x, on) if fabric else x & on for k, x in enumerate(a)]
    low, high = a[0] & on & ~upper, a[-1] & on
    pairs = list(zip(a[1:], a[:-1]))
    if fabric:
        low = lut(m, f"{name}_0", target, lambda x, on, upper: x & on & (1 - upper), a[0], on, upper)
        high = lut(m, f"{name}_{len(a)}", target, int.__and__, a[-1], on)
        middle: list[Value] = [
            lut(m, f"{name}_{k}", target, lambda x, below, on, upper: on & (below if upper else x), x, below, on, upper)
            for k, (x, below) in enumerate(pairs, 1)
        ]
    else:
        shifted = Signal(len(pairs), name=f"{name}_shifted")
        m.d.comb += shifted.eq(Cat(*((x & ~upper | below & upper) & on for x, below in pairs)))
        middle = list(shifted)
    return [low, *middle, high]


def chain_sum(m: Module, name: str, target: Target, rows: list[Row], width_a: int) -> list[Value]:
    """``sum_j rows[j] * 4**j``, where each row is added to the sum of those below. It has ``width_a + 2 * len(rows)``
    bits, one less where the last row has no upper digit."""
    carry = family(target).carry
    if carry is CarryChain.SB_CARRY:
        return _ice40_chain(m, name, target, rows)
    if carry is CarryChain.CCU2C:
        return _ecp5_chain(m, name, rows, width_a)
    width = 2 * (len(rows) - 1) + len(rows[-1].term) + 1
    total: Value = Signal(width, name=name)
    parts = []
    for j, row in enumerate(rows):
        term = Signal(signed(len(row.term)), name=f"{name}_term{j}")
        m.d.comb += term.eq(Cat(*row.term) ^ row.negative.replicate(len(row.term)))
        parts.append((term << 2 * j) + (row.negative << 2 * j))
    m.d.comb += total.eq(sum(parts[1:], parts[0]))
    return list(total)


def _ice40_chain(m: Module, name: str, target: Target, rows: list[Row]) -> list[Value]:
    """Keeps the running sum inverted where the next row is negative; ``0 - term = ~(~0 + term)`` starts it."""
    done: list[Value] = []
    running: list[Value] = []
    for j, row in enumerate(rows):
        width = len(row.term) + 1
        last = j == len(rows) - 1
        turn = (
            row.negative if last else lut(m, f"{name}_turn{j}", target, int.__xor__, row.negative, rows[j + 1].negative)
        )
        flips = [row.negative] * 2 + [turn] * (width - 2)
        term = extend(row.term, width)
        if j:
            sums = ice40_add(m, f"{name}_row{j}", extend(running, width), term, flips)
        else:  # bit 0 of a number equals bit 0 of its negative
            sums = ice40_add(m, f"{name}_row{j}", [row.negative] * width, term, flips, first=False)
            sums[0] = term[0]
        done, running = done + sums[:2], sums[2:]
    return done + running


def _ecp5_chain(m: Module, name: str, rows: list[Row], width_a: int) -> list[Value]:
    """Adds negative terms inverted. The ``+ 1`` of each enters with row 0 where that has room, else as a carry."""

    def inverted(b: int, c: int) -> int:
        return b ^ c

    done: list[Value] = []
    running: list[Value] = []
    for j, row in enumerate(rows):
        width = len(row.term) + 1
        term = extend(row.term, width)
        if j == 0:
            ones = [rows[k // 2].negative if k % 2 == 0 and k // 2 < len(rows) else ZERO for k in range(width_a)]
            others = extend([*ones, ZERO], width)
            start: list[Slot] = [carry_slot(lambda term, one: ~term & one, term[0], row.negative)]
            first: list[Value] = [term[0]]
        elif 2 * j < width_a:
            others = extend(running, width)
            low = term[0] ^ row.negative
            start, first = [carry_slot(lambda a, b: a & b, others[0], low)], [others[0] ^ low]
        else:
            others = [ZERO, *extend(running, width)]
            term, first = [ZERO, *term], []
            start = [carry_slot(lambda one, b: one, row.negative)]
        slots = [
            plain_slot(inverted, addend, bit, row.negative) for addend, bit in zip(others[1:], term[1:], strict=True)
        ]
        sums = first + ecp5_chain(m, f"{name}_row{j}", start + slots)[1:]
        done, running = done + sums[:2], sums[2:]
    return done + running


def join(m: Module, name: str, target: Target, low: list[Value], high: list[Value], rows: int) -> list[Value]:
    """``low + high * 4**rows``, where ``low`` is the sum of ``rows`` rows."""
    width = len(high)
    return low[: 2 * rows] + add(m, name, target, extend(low[2 * rows :], width), high)
