"""Adders as the fabrics have them, made of their own cells: Yosys would take plain ones apart and build others.

- iCE40 (SB_LUT4 with SB_CARRY): a cell adds one bit of two operands and has an input to spare, which turns the sum over
  (*flips* it) at no cost. ``a - b = ~(~a + b)``, so that subtracting is adding between two flips. Or it gates one
  operand: the carries run on, but nobody looks at them.
- ECP5 (CCU2C): a slot adds ``a`` and ``f(b, c, d)`` where ``f(b, 0, 0)`` is 0, so that an operand may be inverted or
  gated at no cost. A chain starts with a slot that passes no carry on, so that synthesis can leave its carry-in open
  (:mod:`fewbit.hw.fabric.ecp5`): a driven one costs two LUTs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.families import FAMILIES, family
from fewbit.hw.fabric.family import CarryChain

Target = str
"""Name of a family: what a datapath is made of."""

TARGETS = tuple(FAMILIES)
WITH_CELLS = tuple(name for name, one in FAMILIES.items() if one.cells)
"""Families whose cells datapaths are made of; for others they are plain RTL."""

ZERO, ONE = Const(0, 1), Const(1, 1)


def check_target(block: str, target: str) -> None:
    """Raises FewbitError if there is no such target."""
    if target not in TARGETS:
        raise FewbitError(f"{block} is made for one of {', '.join(TARGETS)}, not {target!r}")


def table(function: Callable[..., int], inputs: int = 4) -> int:
    """Contents of a LUT4 whose first inputs are those of ``function``."""
    return sum((function(*(row >> k & 1 for k in range(inputs))) & 1) << row for row in range(16))


def lut(m: Module, name: str, target: Target, function: Callable[..., int], *inputs: Value) -> Signal:
    """A LUT4 of ``target``, ``ice40`` or ``ecp5``, that stays as it is. ``function`` is of bits as integers."""
    primitive = family(target).lut
    assert primitive is not None
    values = [*inputs, *[ZERO] * (4 - len(inputs))]
    o = Signal(name=f"{name}_o")
    m.submodules[name] = Instance(
        primitive.cell,
        ("p", primitive.contents, Const(table(function, len(inputs)), 16)),
        *(("i", pin, value) for pin, value in zip(primitive.inputs, values)),
        ("o", primitive.output, o),
    )
    return o


def extend(bits: Sequence[Value], width: int) -> list[Value]:
    """``bits``, lowest first, with the sign repeated up to ``width`` bits, or cut to it."""
    return [bits[min(k, len(bits) - 1)] for k in range(width)]


Cell = tuple[int, Value, Value, Value]
"""A logic cell of an iCE40 chain: the contents of its LUT4, and the inputs I0, I1, I2; I3 is the carry that comes in.
The carry that goes on is the majority of I1, I2 and I3, whatever the LUT holds."""

FLIPPED = table(lambda flip, a, b, carry: a ^ b ^ carry ^ flip)
GATED = table(lambda gate, a, b, carry: a ^ b ^ carry if gate else a)
"""What an iCE40 adder's cell does with its spare input."""


def ice40_chain(m: Module, name: str, cells: Sequence[Cell], *, first: bool = True) -> list[Value]:
    """Outputs of a chain of cells. Without ``first`` cell 0 gives its carry only."""
    carry: Value = ZERO
    sums: list[Value] = []
    for k, (contents, flip, one, other) in enumerate(cells):
        if k or first:
            o = Signal(name=f"{name}_sum{k}")
            m.submodules[f"{name}_lut{k}"] = Instance(
                "SB_LUT4", p_LUT_INIT=Const(contents, 16), i_I0=flip, i_I1=one, i_I2=other, i_I3=carry, o_O=o
            )
            sums.append(o)
        else:
            sums.append(ZERO)
        if k < len(cells) - 1:
            out = Signal(name=f"{name}_carry{k + 1}")
            m.submodules[f"{name}_co{k}"] = Instance("SB_CARRY", i_I0=one, i_I1=other, i_CI=carry, o_CO=out)
            carry = out
    return sums


def ice40_add(
    m: Module,
    name: str,
    a: Sequence[Value],
    b: Sequence[Value],
    spare: Sequence[Value],
    *,
    first: bool = True,
    cell: int = FLIPPED,
) -> list[Value]:
    """``(a + b) xor spare`` modulo ``2**len(a)``; with ``cell`` GATED ``a + b`` where ``spare``, else ``a``; all of one
    length.

    Cost: a logic cell a bit. Without ``first`` bit 0 gives its carry only.
    """
    cells = [(cell, more, one, other) for one, other, more in zip(a, b, spare, strict=True)]
    return ice40_chain(m, name, cells, first=first)


Slot = tuple[int, Value, Value, Value, Value]
"""Half a CCU2C: the contents of its LUT4, and the inputs A, B, C, D. The sum is LUT ^ carry-in; the carry goes on where
the LUT is 1, else it is the LUT's value at A and B with C and D 0."""


def ecp5_chain(m: Module, name: str, slots: Sequence[Slot]) -> list[Value]:
    """Sums of a chain of slots, the first of which must not pass its carry-in on. Cost: a LUT a slot, in twos."""
    padded = [*slots, *[(0, ZERO, ZERO, ZERO, ZERO)] * (len(slots) % 2)]
    sums: list[Value] = []
    carry: Value = ZERO
    for k in range(0, len(padded), 2):
        pins: list[tuple[str, str, object]] = [("p", "INJECT1_0", "NO"), ("p", "INJECT1_1", "NO")]
        for half, (contents, *inputs) in enumerate(padded[k : k + 2]):
            pins.append(("p", f"INIT{half}", Const(contents, 16)))
            pins += [("i", f"{pin}{half}", value) for pin, value in zip("ABCD", inputs)]
            sums.append(Signal(name=f"{name}_sum{k + half}"))
            pins.append(("o", f"S{half}", sums[-1]))
        pins.append(("i", "CIN", carry))
        carry = Signal(name=f"{name}_carry{k + 2}")
        pins.append(("o", "COUT", carry))
        m.submodules[f"{name}_{k}"] = Instance("CCU2C", *pins)
    return sums[: len(slots)]


def slot(operand: Callable[[int, int, int], int], a: Value, b: Value, c: Value = ZERO, d: Value = ZERO) -> Slot:
    """A slot that adds ``a`` and ``operand(b, c, d)``, which must be 0 where c and d are."""
    return table(lambda a, b, c, d: a ^ operand(b, c, d)), a, b, c, d


def plain_slot(operand: Callable[[int, int], int], a: Value, b: Value, c: Value = ZERO) -> Slot:
    """A slot that adds ``a`` and ``operand(b, c)``, whatever that is: D, at 1, keeps it off the carry."""
    return table(lambda a, b, c, d: (a ^ operand(b, c)) if d else a), a, b, c, ONE


def carry_slot(function: Callable[[int, int], int], a: Value, b: Value = ZERO) -> Slot:
    """A slot whose sum is the carry that comes in, and whose carry is ``function(a, b)``."""
    return table(lambda a, b, c, d: 0 if d else function(a, b)), a, b, ZERO, ONE


def ecp5_add(m: Module, name: str, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
    """``a + b`` modulo ``2**len(a)``; both of one length. Cost: a LUT a bit, and one."""
    if len(a) == 1:
        return [a[0] ^ b[0]]
    chain = [carry_slot(lambda a, b: a & b, a[0], b[0])]
    chain += [plain_slot(lambda b, c: b, one, other) for one, other in zip(a[1:], b[1:], strict=True)]
    return [a[0] ^ b[0], *ecp5_chain(m, name, chain)[1:]]


def add(m: Module, name: str, target: Target, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
    """``a + b`` modulo ``2**len(a)`` as ``target`` has it; both of one length, bits lowest first."""
    carry = family(target).carry
    if carry is CarryChain.SB_CARRY:
        return ice40_add(m, name, a, b, [ZERO] * len(a))
    if carry is CarryChain.CCU2C:
        return ecp5_add(m, name, a, b)
    total = Signal(len(a), name=name)
    m.d.comb += total.eq(Cat(*a) + Cat(*b))
    return list(total)
