"""A level by multiplication, addition and shift: rows of shifted inputs onto an addend, and a clip at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.codes import csd_digits
from fewbit.golden.dtype import DType, Ints
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Threshold
from fewbit.hw.fabric.carry import (
    ONE,
    ZERO,
    Cell,
    Slot,
    Target,
    carry_slot,
    check_target,
    ecp5_chain,
    extend,
    ice40_chain,
    lut,
    plain_slot,
    slot,
    table,
)
from fewbit.hw.layers.multiply_shift_forms import MultiplyShift, fits


@dataclass(frozen=True, eq=False)
class DigitRow:
    """``digits[c] * x << place`` for channel c, digits -1, 0, 1 or 2."""

    place: int
    digits: Ints

    @cached_property
    def choices(self) -> list[int]:
        """The digits that there are, 0 first."""
        return sorted(set(self.digits.tolist()), key=lambda digit: (digit != 0, digit))

    @property
    def controls(self) -> int:
        """Bits that say which of them a channel has."""
        return (len(self.choices) - 1).bit_length()

    def codes(self) -> Ints:
        """Control bits of each channel.  # () -> (channels,)"""
        order = np.array([self.choices.index(digit) if digit in self.choices else 0 for digit in (-1, 0, 1, 2)])
        codes: Ints = order[self.digits + 1]
        return codes

    def bit(self, x: int, below: int, *code: int) -> int:
        """A bit of the term: of ``x`` and the bit below; of -1 it is the complement, which lacks a 1 at ``place``."""
        index = sum(bit << k for k, bit in enumerate(code))
        digit = self.choices[index] if index < len(self.choices) else 0
        return {-1: 1 - x, 0: 0, 1: x, 2: below}[digit]


def digit_rows(multiplier: Ints) -> list[DigitRow]:
    """Rows whose sum is ``multiplier[c] * x``.

    Where multipliers differ at most in their sign, a row for each canonic signed digit. Else radix 4 with the digits
    -1, 0, 1 and 2: a LUT4 of two bits of x and two controls forms each of them.
    """
    sizes = np.abs(multiplier)
    if (sizes == sizes[0]).all():
        sign = np.where(multiplier < 0, -1, 1)
        return [DigitRow(place, digit * sign) for digit, place in csd_digits(int(sizes[0]))]
    rows, left, place = [], multiplier, 0
    while left.any():
        digits = left - ((left + 1) >> 2 << 2)
        if (digits % 2).any():
            rows.append(DigitRow(place, digits))
        elif digits.any():
            rows.append(DigitRow(place + 1, digits // 2))
        left, place = left - digits >> 2, place + 2
    return rows


@dataclass(frozen=True, eq=False)
class LaneForm:
    """How a lane for ``target`` gives the levels of ``form`` where x of a channel goes from ``low`` to ``high``."""

    form: MultiplyShift
    low: Ints
    high: Ints
    target: Target = "generic"

    @cached_property
    def source(self) -> DType:
        """Of x."""
        return DType.holding(int(self.low.min()), int(self.high.max()))

    @cached_property
    def total(self) -> DType:
        """Of the sum that is shifted."""
        ends = np.stack([self.form.multiplier * end + self.form.addend for end in (self.low, self.high)])
        return DType.holding(int(ends.min()), int(ends.max()))

    @property
    def clips(self) -> tuple[bool, bool]:
        """Whether the shifted sum can be below 0, and above the highest level."""
        ends = np.stack([self.form.multiplier * end + self.form.addend for end in (self.low, self.high)])
        return int(ends.min()) < 0, int(ends.max()) >> self.form.shift > self.form.levels

    @cached_property
    def rows(self) -> list[DigitRow]:
        return digit_rows(self.form.multiplier)

    def turned(self, row: int) -> bool:
        """Whether the sum enters this row inverted: ``a - x = ~(~a + x)``, where x itself cannot be inverted for
        nothing."""
        return self.target == "ice40" and row < len(self.rows) and self.rows[row].choices == [-1]

    @cached_property
    def encoded(self) -> tuple[list[int], list[int]]:
        """Where each bit of addend and controls stands in the word of a channel, -1 and -2 for a constant 0 and 1; and
        the words."""
        start = self.form.addend.copy()
        for index, row in enumerate(self.rows):
            if not self.turned(index):
                start += np.where(row.digits == -1, 1 << row.place, 0)
        planes = [start >> place & 1 for place in range(self.total.bits)]
        if self.turned(0):
            first = self.rows[0].place
            planes[first:] = [1 - plane for plane in planes[first:]]
        for row in self.rows:
            planes += [row.codes() >> bit & 1 for bit in range(row.controls)]
        columns: list[int] = []
        found: dict[bytes, int] = {}
        words = [0] * len(start)
        for plane in planes:
            if (plane == plane[0]).all():
                columns.append(-1 - int(plane[0]))
                continue
            column = found.setdefault(plane.tobytes(), len(found))
            columns.append(column)
            words = [word | int(bit) << column for word, bit in zip(words, plane)]
        return columns, words

    @property
    def word_bits(self) -> int:
        return max(max(self.encoded[0], default=-1), -1) + 1

    def cells(self, stages: int = 1) -> int:
        """Logic cells of a lane, predicted, without what gives the words."""
        x, together = self.source.bits, -(-len(self.rows) // stages)
        cells = sum(self.total.bits - row.place + self._term_cells(row) for row in self.rows)
        for stage in range(1, stages):
            later = self.rows[stage * together :]
            cells += (x if later else 0) + sum(row.controls for row in later)
        width = self.form.levels.bit_length()
        below, above = self.clips
        cells += width * (below or above) + above * max(0, self.total.bits - self.form.shift - width) // 3
        return cells

    def _term_cells(self, row: DigitRow) -> int:
        if row.choices == [1] or (self.target == "ice40" and row.choices == [-1]):
            return 0
        if self.target == "ecp5" and 2 not in row.choices:
            return 2
        return self.source.bits + (2 in row.choices)


def cheapest(layer: Threshold, low: Ints, high: Ints, target: Target = "generic") -> LaneForm | None:
    """The form of the smallest lane that gives the levels of ``layer`` for inputs from ``low`` to ``high``, if any."""
    low, high = (np.resize(end, layer.channels).astype(np.int64) for end in (low, high))
    made = [LaneForm(form, low, high, target) for form in fits(layer, low, high)]
    return min(made, key=lambda one: one.cells() + one.word_bits, default=None)


class MultiplyShiftLane(wiring.Component):
    """``o = min(max((multiplier[c] * x + addend[c]) >> shift, 0), levels)``, channel c as ``word`` says.

    **Latency**: ``stages`` cycles, ``en[k]`` high in the k-th of them. **Throughput**: one a cycle.

    Cost: for each row a cell a bit of the sum from its place on, and where channels differ in its digit a LUT a bit of
    x; a LUT or two a bit of the level.

    Parameters
    ----------
    form : LaneForm
    stages : int
        Pipeline stages, rows spread evenly over them; 0 is combinational.

    Members
    -------
    x : In(signed)
        As wide as the reach takes.
    word : In(form.word_bits)
        What distinguishes a channel from the others.
    en : In(stages)
    o : Out(unsigned)

    Raises
    ------
    FewbitError
        If there is no such target, or stages are below 0.
    """

    def __init__(self, form: LaneForm, stages: int = 1) -> None:
        check_target("a multiply-shift", form.target)
        if stages < 0:
            raise FewbitError(f"a multiply-shift has at least 0 stages, not {stages}")
        self.form, self.stages, self.target, self.rows = form, stages, form.target, form.rows
        super().__init__(
            {
                "x": In(signed(form.source.bits)),
                "word": In(form.word_bits),
                "en": In(stages),
                "o": Out(form.form.levels.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Rows go onto the addend one after the other, some between two pipeline stages; bits that no later row and
        no level sees are left behind. The last rank holds the sum, shifted; the clip comes behind it."""
        m = Module()
        known = {-1: ZERO, -2: ONE, **dict(enumerate(self.word))}
        bits = [known[column] for column in self.form.encoded[0]]
        running, x = bits[: self.form.total.bits], list(self.x)
        controls, place = [], self.form.total.bits
        for one in self.rows:
            controls.append(bits[place : place + one.controls])
            place += one.controls
        lowest, together = 0, -(-len(self.rows) // max(1, self.stages))
        for stage in range(max(1, self.stages)):
            rows = range(min(stage * together, len(self.rows)), min((stage + 1) * together, len(self.rows)))
            for row in rows:
                running = self._add(m, row, x, controls[row], running, lowest)
            later = list(range(rows.stop, len(self.rows)))
            kept = min([self.form.form.shift, *(self.rows[row].place for row in later)])
            running, lowest = self._held(m, f"sum_{stage}", stage, running[kept - lowest :]), kept
            if later:
                x = self._held(m, f"x_{stage}", stage, x)
            for row in later:
                controls[row] = self._held(m, f"digit_{row}_{stage}", stage, controls[row])
        m.d.comb += self.o.eq(self._clipped(running))
        return m

    def _held(self, m: Module, name: str, stage: int, bits: Sequence[Value]) -> list[Value]:
        if not self.stages:
            return list(bits)
        rank = Signal(len(bits), name=name, reset_less=True)
        with m.If(self.en[stage]):
            m.d.sync += rank.eq(Cat(*bits))
        return list(rank)

    def _add(
        self, m: Module, index: int, x: list[Value], code: list[Value], running: list[Value], lowest: int
    ) -> list[Value]:
        """``running``, whose first bit counts ``2**lowest``, and row ``index``."""
        row, name = self.rows[index], f"row{index}"
        done, running = running[: row.place - lowest], running[row.place - lowest :]
        term, below = extend(x, len(running)), extend([ZERO, *x], len(running))
        if row.choices == [1] and not self.form.turned(index + 1):
            while running and running[0] is ZERO:  # nothing is to be added here
                done.append(term[0])
                running, term, below = running[1:], term[1:], below[1:]
            if not running:
                return done
        if self.target == "ice40":
            return done + self._ice40(m, index, term, below, code, running)
        if self.target == "ecp5":
            return done + self._ecp5(m, name, row, term, below, code, running)
        total, chosen = Signal(len(running), name=name), Signal(len(running), name=f"{name}_term")
        terms = {-1: ~Cat(*term), 0: Const(0), 1: Cat(*term), 2: Cat(*below)}
        with m.Switch(Cat(*code)):
            for one, digit in enumerate(row.choices):
                with m.Case(one) if code else m.Default():
                    m.d.comb += chosen.eq(terms[digit])
        m.d.comb += total.eq(Cat(*running) + chosen)
        return done + list(total)

    def _luts(
        self, m: Module, name: str, row: DigitRow, term: list[Value], below: list[Value], code: list[Value]
    ) -> list[Value]:
        """The bits of the term, each a LUT but those of its sign."""
        made: list[Value] = []
        for k in range(min(len(term), self.form.source.bits + (2 in row.choices))):
            if 2 in row.choices:
                made.append(lut(m, f"{name}_term{k}", self.target, row.bit, term[k], below[k], *code))
            else:
                one = lut(m, f"{name}_term{k}", self.target, lambda x, *code: row.bit(x, 0, *code), term[k], *code)
                made.append(one)
        return extend(made, len(term))

    def _ice40(
        self, m: Module, index: int, term: list[Value], below: list[Value], code: list[Value], running: list[Value]
    ) -> list[Value]:
        row = self.rows[index]
        if row.choices not in ([1], [-1]):
            term = self._luts(m, f"row{index}", row, term, below, code)
        turned, following = self.form.turned(index), self.form.turned(index + 1)
        first = self.form.total.bits - len(running)
        kept = self.rows[index + 1].place if following else self.form.total.bits
        cells: list[Cell] = []
        for k, (one, other) in enumerate(zip(running, term, strict=True)):
            if any(one is before and other is beside for _, _, before, beside in cells):
                # Yosys pairs carries with LUTs by these two inputs: a second pair of the same would make a loop.
                one = lut(m, f"row{index}_again{k}", "ice40", lambda bit: bit, one)
            cells.append((_SUM[turned ^ (following and first + k >= kept)], ZERO, one, other))
        return ice40_chain(m, f"row{index}", cells)

    def _ecp5(
        self,
        m: Module,
        name: str,
        row: DigitRow,
        term: list[Value],
        below: list[Value],
        code: list[Value],
        running: list[Value],
    ) -> list[Value]:
        """A slot takes x as it is, and two controls."""
        if 2 in row.choices:
            term, code = self._luts(m, name, row, term, below, code), []
            row = DigitRow(row.place, np.ones(1, np.int64))
        controls = [*code, ZERO, ZERO][:2]

        def operand(x: int, *code: int) -> int:
            return row.bit(x, 0, *code[: row.controls])

        first = lut(m, f"{name}_first", "ecp5", operand, term[0], *code) if row.choices != [1] else term[0]
        slots: list[Slot] = [carry_slot(lambda a, b: a & b, running[0], first)]
        for one, other in zip(running[1:], term[1:], strict=True):
            if row.controls < 2:
                slots.append(plain_slot(operand, one, other, controls[0]))
            else:
                slots.append(slot(operand, one, other, *controls))
        return [running[0] ^ first, *(ecp5_chain(m, name, slots)[1:] if len(slots) > 1 else [])]

    def _clipped(self, shifted: list[Value]) -> Value:
        """The level from the sum: 0 below, and the highest level above."""
        below, above = self.form.clips
        number, width, top = Cat(*shifted).as_signed(), len(self.o), self.form.form.levels
        level: Value = number[:width]
        if above:
            over = number[width:-1].any() if top == (1 << width) - 1 else number > top
            level = Mux(over, top, level)
        return Mux(number[-1], 0, level) if below else level


_SUM = [table(lambda _, a, b, carry: a ^ b ^ carry), table(lambda _, a, b, carry: a ^ b ^ carry ^ 1)]
