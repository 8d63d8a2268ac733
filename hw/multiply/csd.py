"""The parallel canonic-signed-digit multiplier: it adds the partial products of the most significant digits of one
operand, all in one cycle."""

from __future__ import annotations

from typing import Any, Literal

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fewbit.golden.digits import largest_count, quality_bits, row_fields, word_bits
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import ZERO, Target, check_target
from fewbit.hw.fabric.gating import GateCell, advance
from fewbit.hw.multiply.partial_products import TREES, Row, Tree, chain_sum, join, row_term
from fewbit.hw.multiply.recoder import Recoder

Registers = Literal["none", "digits", "rows", "all"]
REGISTERS = ("none", "digits", "rows", "all")

Control = tuple[Value, Value, "Value | None"]
"""Control signals of a partial-product row: its digit counts; it counts and is -1; it is the upper of the row's two
digits (None where the row has only one)."""


def check_widths(block: str, width_a: int, width_b: int) -> None:
    """Raises FewbitError, with the name of the ``block``, unless both operands have at least 1 bit."""
    for name, width in (("a", width_a), ("b", width_b)):
        if width < 1:
            raise FewbitError(f"{block} needs operands of at least 1 bit, not {width} for {name}")


def ports(width_a: int, width_b: int, *, recoded: bool, **control: Any) -> dict[str, Any]:
    """The ports of a CSD multiplier, with those of ``control`` in front of ``product``."""
    operand = {"digits": In(word_bits(width_b))} if recoded else {"b": In(signed(width_b))}
    return {
        "a": In(signed(width_a)),
        **operand,
        "quality": In(quality_bits(width_b)),
        **control,
        "product": Out(signed(width_a + width_b)),
    }


class CsdMultiplier(wiring.Component):
    """``product = a * b``, where only the ``quality`` most significant non-zero canonic signed digits of ``b`` count.

    A quality of 0 gives 0; one at or above the number of digits gives the exact product. In between
    ``|product - a * b| <= |a| * bound``, with ``bound(width_b, quality)`` of :mod:`fewbit.golden.csd`: 42, 10, 2 and 0
    at a quality of 1 to 4, for 8 bits. A row whose digit is zero or dropped is gated: its partial product is constant
    0, so changes of ``a`` cause no switching in it, and its registers, if it has any, are not clocked.

    With ``recoded``, ``b`` is given as the word of its digits that :func:`fewbit.golden.csd.encode` makes; for any
    other word the product is undefined. The word may also hold the *nearest* number with few digits
    (:func:`fewbit.golden.csd.nearest`): rounding to it takes no hardware.

    **Latency**: :attr:`latency` cycles with ``en`` high; 0 without registers. **Throughput**: one product a cycle.

    Cost of 8 by 8 bits in logic cells: recoded 97 on iCE40 and 98 on ECP5, else 108 and 113; a balanced tree takes
    9 to 13 more.

    Parameters
    ----------
    width_a, width_b : int
        Bits of the operands, both signed; at least 1.
    recoded : bool
        Whether the port ``digits`` replaces ``b``.
    target : str
        ``generic`` or ``asic``: plain RTL; ``ice40`` or ``ecp5``: instantiated cells of the family.
    tree : str
        ``ripple``: each row is added to the sum of the rows below it. ``balanced``: rows are added in pairs, and these
        sums in a tree; it has shorter paths and fewer glitches.
    registers : str
        Where the pipeline stages are. ``none``: nowhere. ``digits``: one in front of the partial products, for ``a``
        and the control signals of the rows, so that new digits reach all rows at once. ``rows``: one behind the partial
        products. ``all``: one behind the partial products and one behind every level of the tree.
    gate : GateCell
        The clock gate of the rows if the target is ``asic``.

    Members
    -------
    a : In(signed(width_a))
    b : In(signed(width_b))
        Absent if ``recoded``.
    digits : In(word_bits(width_b))
        Present only if ``recoded``.
    quality : In(quality_bits(width_b))
    en : In(1)
        Registers advance while it is high. Absent if there are none.
    product : Out(signed(width_a + width_b))
    """

    @staticmethod
    def cells(width_a: int, width_b: int) -> int:
        """Estimated logic cells of a multiplier with ``recoded``: ``python -m benchmarks.dsp`` measures them."""
        return largest_count(width_b) * (2 * width_a + 8)

    def __init__(
        self,
        width_a: int,
        width_b: int,
        *,
        recoded: bool = False,
        target: Target = "generic",
        tree: Tree = "ripple",
        registers: Registers = "none",
        gate: GateCell | None = None,
    ) -> None:
        check_widths("a CSD multiplier", width_a, width_b)
        check_target("a CSD multiplier", target)
        if tree not in TREES:
            raise FewbitError(f"the tree of a CSD multiplier must be one of {', '.join(TREES)}, not {tree!r}")
        if registers not in REGISTERS:
            raise FewbitError(
                f"the registers of a CSD multiplier must be one of {', '.join(REGISTERS)}, not {registers!r}"
            )
        self.width_a, self.width_b, self.recoded, self.target = width_a, width_b, recoded, target
        self.tree, self.registers, self.gate = tree, registers, gate or GateCell()
        self.rows = largest_count(width_b)
        groups = 1 if tree == "ripple" else -(-self.rows // 2)
        self.latency = {"none": 0, "digits": 1, "rows": 1, "all": 2 + (groups - 1).bit_length()}[registers]
        enable = {"en": In(1, init=1)} if self.latency else {}
        super().__init__(ports(width_a, width_b, recoded=recoded, **enable))

    def elaborate(self, platform: object) -> Module:
        """Controls say which rows count; each row forms its partial product; a tree of carry chains adds them up."""
        m = Module()
        a = list(self.a)
        controls = controls_of(self.digits, self.quality, self.width_b) if self.recoded else self._recode(m)
        if self.registers == "digits":
            a, controls = self._hold(m, a, controls)
        rows = [self._row(m, j, a, control) for j, control in enumerate(controls)]
        size = self.rows if self.tree == "ripple" else 2
        sums: list[tuple[list[Value], int]] = []
        for start in range(0, self.rows, size):
            group = rows[start : start + size]
            total = chain_sum(m, f"chain{start}", self.target, group, self.width_a)
            sums.append((self._registered(m, f"sum{start}", total), len(group)))
        level = 0
        while len(sums) > 1:
            level += 1
            joined = []
            for k, ((low, low_rows), (high, high_rows)) in enumerate(zip(sums[::2], sums[1::2])):
                total = join(m, f"join{level}_{k}", self.target, low, high, low_rows)
                joined.append((self._registered(m, f"joined{level}_{k}", total), low_rows + high_rows))
            if len(sums) % 2:
                joined.append((self._registered(m, f"joined{level}_last", sums[-1][0]), sums[-1][1]))
            sums = joined
        m.d.comb += self.product.eq(Cat(*sums[0][0]).as_signed())
        return m

    def _recode(self, m: Module) -> list[Control]:
        """Control signals of the rows from the recoder: a row counts if fewer than ``quality`` rows above it are not
        zero.

        What several rows read is a named signal, since as an expression it would double from row to row.
        """
        m.submodules.recoder = recoder = Recoder(self.width_b, self.target)
        m.d.comb += recoder.i.eq(self.b)
        nonzero, negative = recoder.nonzero, recoder.negative
        controls: list[Control] = []
        above: list[Value] = []
        for j in reversed(range(self.rows)):
            both = 2 * j + 1 < self.width_b
            some = nonzero[2 * j] | nonzero[2 * j + 1] if both else nonzero[2 * j]
            upper = nonzero[2 * j + 1] if both else None
            sign = negative[2 * j]
            if upper is not None:
                sign = (negative[2 * j + 1] & upper) | (negative[2 * j] & ~upper)
            on = Signal(name=f"on{j}")
            m.d.comb += on.eq(some & less(above or [ZERO], list(self.quality)))
            controls.insert(0, (on, sign & on, upper))
            count = Signal((self.rows - j).bit_length(), name=f"count{j}")
            m.d.comb += count.eq(Cat(*_increment(above, some, self.rows - j)))
            above = list(count)
        return controls

    def _hold(self, m: Module, a: list[Value], controls: list[Control]) -> tuple[list[Value], list[Control]]:
        """``a`` and the control signals, one cycle later."""
        operand = Signal(len(a), name="operand", reset_less=True)
        held: list[Control] = []
        statements = [operand.eq(Cat(*a))]
        for j, control in enumerate(controls):
            present = [bit for bit in control if bit is not None]
            register = Signal(len(present), name=f"control{j}", reset_less=True)
            statements.append(register.eq(Cat(*present)))
            held.append((register[0], register[1], register[2] if len(present) == 3 else None))
        advance(m, "digits", self.target, self.en, statements, self.gate)
        return list(operand), held

    def _row(self, m: Module, j: int, a: list[Value], control: Control) -> Row:
        on, negative, upper = control
        term = row_term(m, f"row{j}", self.target, a, on, upper)
        if self.registers in ("none", "digits"):
            return Row(term, negative)
        held = Signal(len(term), name=f"term{j}", reset_less=True)
        sign = Signal(name=f"negative{j}", reset_less=True)
        used = Signal(name=f"used{j}", init=1)  # the row's own registers have no reset, so it must be cleared once
        moves = Signal(name=f"moves{j}")
        m.d.comb += moves.eq(self.en & (on | used))
        with m.If(moves):
            m.d.sync += used.eq(on)
        advance(m, f"row{j}", self.target, moves, [held.eq(Cat(*term)), sign.eq(negative)], self.gate)
        return Row(list(held), sign)

    def _registered(self, m: Module, name: str, bits: list[Value]) -> list[Value]:
        if self.registers != "all":
            return bits
        register = Signal(len(bits), name=name, reset_less=True)
        advance(m, name, self.target, self.en, register.eq(Cat(*bits)), self.gate)
        return list(register)


def controls_of(digits: Value, quality: Value, width: int) -> list[Control]:
    """Control signals of the rows, lowest first, from the digit word of a number of ``width`` bits."""
    controls: list[Control] = []
    for field in row_fields(width):
        order = list(digits[field.offset : field.negative])
        some = Cat(*order).any()
        upper = digits[field.upper] if field.upper_bits else None
        on = some & ~less(list(quality), order)
        controls.append((on, digits[field.negative] & on, upper))
    return controls


def less(a: list[Value], b: list[Value]) -> Value:
    """``a < b`` for unsigned bits, lowest first, in gates: a carry chain would cost more for such narrow operands."""
    width = max(len(a), len(b))
    result: Value = ZERO
    for a_bit, b_bit in zip(a + [ZERO] * (width - len(a)), b + [ZERO] * (width - len(b))):
        result = (~a_bit & b_bit) | (~(a_bit ^ b_bit) & result)
    return result


def _increment(count: list[Value], by: Value, most: int) -> list[Value]:
    """``count + by`` in gates, with the number of bits that ``most`` takes."""
    carry, bits = by, []
    for bit in count:
        bits.append(bit ^ carry)
        carry = bit & carry
    return [*bits, carry][: most.bit_length()]
