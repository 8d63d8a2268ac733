"""Levels by multiplication, addition and shift: rows of shifted inputs are added to an addend, and the result is
clipped."""

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
    """One row: ``digits[c] * x << place`` for channel c, with digits -1, 0, 1 or 2."""

    place: int
    digits: Ints

    @cached_property
    def choices(self) -> list[int]:
        """The different digits of the row, 0 first."""
        return sorted(set(self.digits.tolist()), key=lambda digit: (digit != 0, digit))

    @property
    def controls(self) -> int:
        """Control bits that select the digit of a channel."""
        return (len(self.choices) - 1).bit_length()

    def codes(self) -> Ints:
        """The control bits of each channel.  # () -> (channels,)"""
        order = np.array([self.choices.index(digit) if digit in self.choices else 0 for digit in (-1, 0, 1, 2)])
        codes: Ints = order[self.digits + 1]
        return codes

    def bit(self, x: int, below: int, *code: int) -> int:
        """A bit of the term, from the bit of ``x`` and the one below. For the digit -1 it is inverted: the term then
        lacks a 1 at ``place``."""
        index = sum(bit << k for k, bit in enumerate(code))
        digit = self.choices[index] if index < len(self.choices) else 0
        return {-1: 1 - x, 0: 0, 1: x, 2: below}[digit]


def digit_rows(multiplier: Ints) -> list[DigitRow]:
    """Rows whose sum is ``multiplier[c] * x``.

    If the multipliers differ at most in their sign, there is a row for each canonic signed digit. Otherwise, the rows
    are radix 4 with the digits -1, 0, 1 and 2, of which a LUT4 forms each bit from two bits of x and two control bits.
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
    """A lane for ``target`` that computes the levels of ``form``, for inputs from ``low`` to ``high`` (of each
    channel)."""

    form: MultiplyShift
    low: Ints
    high: Ints
    target: Target = "generic"

    @cached_property
    def source(self) -> DType:
        """Kind of the input."""
        return DType.holding(int(self.low.min()), int(self.high.max()))

    @cached_property
    def total(self) -> DType:
        """Kind of the sum that is shifted."""
        ends = np.stack([self.form.multiplier * end + self.form.addend for end in (self.low, self.high)])
        return DType.holding(int(ends.min()), int(ends.max()))

    @property
    def clips(self) -> tuple[bool, bool]:
        """Whether the shifted sum can be below 0, and whether it can be above the highest level."""
        ends = np.stack([self.form.multiplier * end + self.form.addend for end in (self.low, self.high)])
        return int(ends.min()) < 0, int(ends.max()) >> self.form.shift > self.form.levels

    @cached_property
    def rows(self) -> list[DigitRow]:
        return digit_rows(self.form.multiplier)

    def inverts(self, row: int) -> bool:
        """Whether the sum is inverted in front of this row: ``a - x = ~(~a + x)``. On iCE40 ``x`` itself cannot be
        inverted at no cost."""
        return self.target == "ice40" and row < len(self.rows) and self.rows[row].choices == [-1]

    @cached_property
    def encoded(self) -> tuple[list[int], list[int]]:
        """For each bit of the addend and the control bits its position in the word of a channel, or -1 and -2 for a
        constant 0 and 1; and the words of all channels."""
        start = self.form.addend.copy()
        for index, row in enumerate(self.rows):
            if not self.inverts(index):
                start += np.where(row.digits == -1, 1 << row.place, 0)
        planes = [start >> place & 1 for place in range(self.total.bits)]
        if self.inverts(0):
            first = self.rows[0].place
            planes[first:] = [1 - plane for plane in planes[first:]]
        for row in self.rows:
            planes += [row.codes() >> bit & 1 for bit in range(row.controls)]
        columns: list[int] = []
        column_of: dict[bytes, int] = {}
        words = [0] * len(start)
        for plane in planes:
            if (plane == plane[0]).all():
                columns.append(-1 - int(plane[0]))
                continue
            column = column_of.setdefault(plane.tobytes(), len(column_of))
            columns.append(column)
            words = [word | int(bit) << column for word, bit in zip(words, plane)]
        return columns, words

    @property
    def word_bits(self) -> int:
        return max(max(self.encoded[0], default=-1), -1) + 1

    def cells(self, stages: int = 1) -> int:
        """Estimated logic cells of a lane, without the memory of the words."""
        x, rows_per_stage = self.source.bits, -(-len(self.rows) // stages)
        cells = sum(self.total.bits - row.place + self._term_cells(row) for row in self.rows)
        for stage in range(1, stages):
            later = self.rows[stage * rows_per_stage :]
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
    """The form of the smallest lane that gives the levels of ``layer`` for inputs from ``low`` to ``high``; None if
    there is none."""
    low, high = (np.resize(end, layer.channels).astype(np.int64) for end in (low, high))
    options = [LaneForm(form, low, high, target) for form in fits(layer, low, high)]
    return min(options, key=lambda option: option.cells() + option.word_bits, default=None)


class MultiplyShiftLane(wiring.Component):
    """``o = min(max((multiplier[c] * x + addend[c]) >> shift, 0), levels)``, where ``word`` selects the channel c.

    **Latency**: ``stages`` cycles, with ``en[k]`` high in the k-th of them. **Throughput**: one level a cycle.

    Cost: for each row a cell for every bit of the sum from its place on and, if channels have different digits in it, a
    LUT for every bit of x; one or two LUTs for every bit of the level.

    Parameters
    ----------
    form : LaneForm
    stages : int
        Pipeline stages, between which the rows are divided evenly; 0 is combinational.

    Members
    -------
    x : In(signed)
        As wide as the input range of ``form``.
    word : In(form.word_bits)
        The constants of the channel, from ``form.encoded``.
    en : In(stages)
    o : Out(unsigned)

    Raises
    ------
    FewbitError
        If the target is unknown, or the stages are negative.
    """

    def __init__(self, form: LaneForm, stages: int = 1) -> None:
        check_target("a multiply-shift", form.target)
        if stages < 0:
            raise FewbitError(f"a multiply-shift has 0 or more stages, not {stages}")
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
        """Rows are added to the addend one after the other, several in a pipeline stage. Low bits that affect neither a
        later row nor the level are dropped. The last stage holds the shifted sum, which is then clipped."""
        m = Module()
        known = {-1: ZERO, -2: ONE, **dict(enumerate(self.word))}
        bits = [known[column] for column in self.form.encoded[0]]
        running, x = bits[: self.form.total.bits], list(self.x)
        controls, place = [], self.form.total.bits
        for digit_row in self.rows:
            controls.append(bits[place : place + digit_row.controls])
            place += digit_row.controls
        lowest, together = 0, -(-len(self.rows) // max(1, self.stages))
        for stage in range(max(1, self.stages)):
            rows = range(min(stage * together, len(self.rows)), min((stage + 1) * together, len(self.rows)))
            for row in rows:
                running = self._add(m, row, x, controls[row], running, lowest)
            later = list(range(rows.stop, len(self.rows)))
            needed = min([self.form.form.shift, *(self.rows[row].place for row in later)])
            running, lowest = self._held(m, f"sum_{stage}", stage, running[needed - lowest :]), needed
            if later:
                x = self._held(m, f"x_{stage}", stage, x)
            for row in later:
                controls[row] = self._held(m, f"digit_{row}_{stage}", stage, controls[row])
        m.d.comb += self.o.eq(self._clipped(running))
        return m

    def _held(self, m: Module, name: str, stage: int, bits: Sequence[Value]) -> list[Value]:
        if not self.stages:
            return list(bits)
        register = Signal(len(bits), name=name, reset_less=True)
        with m.If(self.en[stage]):
            m.d.sync += register.eq(Cat(*bits))
        return list(register)

    def _add(
        self, m: Module, index: int, x: list[Value], code: list[Value], running: list[Value], lowest: int
    ) -> list[Value]:
        """``running``, whose first bit has the weight ``2**lowest``, plus row ``index``."""
        row, name = self.rows[index], f"row{index}"
        done, running = running[: row.place - lowest], running[row.place - lowest :]
        term, below = extend(x, len(running)), extend([ZERO, *x], len(running))
        if row.choices == [1] and not self.form.inverts(index + 1):
            while running and running[0] is ZERO:  # adding to a constant 0 takes no cell
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
            for choice, digit in enumerate(row.choices):
                with m.Case(choice) if code else m.Default():
                    m.d.comb += chosen.eq(terms[digit])
        m.d.comb += total.eq(Cat(*running) + chosen)
        return done + list(total)

    def _luts(
        self, m: Module, name: str, row: DigitRow, term: list[Value], below: list[Value], code: list[Value]
    ) -> list[Value]:
        """The bits of the term, each from a LUT, except those of the sign extension."""
        bits: list[Value] = []
        for k in range(min(len(term), self.form.source.bits + (2 in row.choices))):
            if 2 in row.choices:
                bits.append(lut(m, f"{name}_term{k}", self.target, row.bit, term[k], below[k], *code))
            else:
                bit = lut(m, f"{name}_term{k}", self.target, lambda x, *code: row.bit(x, 0, *code), term[k], *code)
                bits.append(bit)
        return extend(bits, len(term))

    def _ice40(
        self, m: Module, index: int, term: list[Value], below: list[Value], code: list[Value], running: list[Value]
    ) -> list[Value]:
        row = self.rows[index]
        if row.choices not in ([1], [-1]):
            term = self._luts(m, f"row{index}", row, term, below, code)
        inverted, following = self.form.inverts(index), self.form.inverts(index + 1)
        first = self.form.total.bits - len(running)
        inverted_from = self.rows[index + 1].place if following else self.form.total.bits
        cells: list[Cell] = []
        for k, (a, b) in enumerate(zip(running, term, strict=True)):
            if any(a is earlier_a and b is earlier_b for _, _, earlier_a, earlier_b in cells):
                # Yosys pairs a carry with a LUT by these two inputs: the same two inputs again would make a
                # combinational loop.
                a = lut(m, f"row{index}_again{k}", "ice40", lambda bit: bit, a)
            cells.append((_SUM[inverted ^ (following and first + k >= inverted_from)], ZERO, a, b))
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
        """A slot takes x without a LUT in front of it, and up to two control bits."""
        if 2 in row.choices:
            term, code = self._luts(m, name, row, term, below, code), []
            row = DigitRow(row.place, np.ones(1, np.int64))
        controls = [*code, ZERO, ZERO][:2]

        def operand(x: int, *code: int) -> int:
            return row.bit(x, 0, *code[: row.controls])

        first = lut(m, f"{name}_first", "ecp5", operand, term[0], *code) if row.choices != [1] else term[0]
        slots: list[Slot] = [carry_slot(lambda a, b: a & b, running[0], first)]
        for a, b in zip(running[1:], term[1:], strict=True):
            if row.controls < 2:
                slots.append(plain_slot(operand, a, b, controls[0]))
            else:
                slots.append(slot(operand, a, b, *controls))
        return [running[0] ^ first, *(ecp5_chain(m, name, slots)[1:] if len(slots) > 1 else [])]

    def _clipped(self, shifted: list[Value]) -> Value:
        """The level: the shifted sum, but 0 if that is negative, and the highest level if it is above."""
        below, above = self.form.clips
        number, width, top = Cat(*shifted).as_signed(), len(self.o), self.form.form.levels
        level: Value = number[:width]
        if above:
            over = number[width:-1].any() if top == (1 << width) - 1 else number > top
            level = Mux(over, top, level)
        return Mux(number[-1], 0, level) if below else level


_SUM = [table(lambda _, a, b, carry: a ^ b ^ carry), table(lambda _, a, b, carry: a ^ b ^ carry ^ 1)]
