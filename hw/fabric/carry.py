"""Adders instantiated from the cells of an FPGA family, since Yosys would restructure plain ones.

- iCE40 (SB_LUT4 with SB_CARRY): a cell adds one bit of two operands. Its LUT has one input left, which inverts
  (*flips*) the sum bit at no cost; since ``a - b = ~(~a + b)``, subtraction is addition between two flips. Or that
  input gates one operand: the LUT then passes the other one, and the carries still propagate, but are not used.
- ECP5 (CCU2C): a slot, half of a CCU2C, adds ``a`` and ``f(b, c, d)`` where ``f(b, 0, 0)`` is 0, so an operand is
  inverted or gated at no cost. The first slot of a chain does not pass its carry-in on, so synthesis may leave the
  carry-in open (:mod:`fewbit.hw.fabric.ecp5`): a driven one costs two LUTs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.families import FAMILIES, family
from fewbit.hw.fabric.family import CarryChain

Target = str
"""Name of a family: which cells a datapath is built from."""

TARGETS = tuple(FAMILIES)
WITH_CELLS = tuple(name for name, kind in FAMILIES.items() if kind.cells)
"""Families whose cells datapaths instantiate; for the others, datapaths are plain RTL."""

ZERO, ONE = Const(0, 1), Const(1, 1)


def check_target(block: str, target: str) -> None:
    """Raises FewbitError, with the name of the ``block``, if ``target`` is unknown."""
    if target not in TARGETS:
        raise FewbitError(f"the target of {block} must be one of {', '.join(TARGETS)}, not {target!r}")


def table(function: Callable[..., int], inputs: int = 4) -> int:
    """Contents of a LUT4 that computes ``function`` of its first ``inputs`` inputs."""
    return sum((function(*(row >> k & 1 for k in range(inputs))) & 1) << row for row in range(16))


def lut(m: Module, name: str, target: Target, function: Callable[..., int], *inputs: Value) -> Signal:
    """A LUT4 primitive of ``target``, which synthesis leaves unchanged. ``function`` takes and returns bits as
    integers.

    ``target`` must be a family of which datapaths instantiate cells.
    """
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
    """``bits``, lowest first, sign-extended to ``width`` bits or truncated to them."""
    return [bits[min(k, len(bits) - 1)] for k in range(width)]


Cell = tuple[int, Value, Value, Value]
"""A logic cell of an iCE40 chain: the contents of its LUT4, and the inputs I0, I1 and I2; I3 is the carry-in. The
carry-out is the majority of I1, I2 and I3, whatever the LUT holds."""

FLIPPED = table(lambda flip, a, b, carry: a ^ b ^ carry ^ flip)
GATED = table(lambda gate, a, b, carry: a ^ b ^ carry if gate else a)
"""LUT contents of an iCE40 adder cell whose input I0 flips the sum bit, or gates the operand at I2."""


def ice40_chain(m: Module, name: str, cells: Sequence[Cell], *, first: bool = True) -> list[Value]:
    """Outputs of a chain of cells. If ``first`` is False, cell 0 has no LUT and only generates a carry."""
    carry: Value = ZERO
    sums: list[Value] = []
    for k, (contents, flip, a, b) in enumerate(cells):
        if k or first:
            o = Signal(name=f"{name}_sum{k}")
            m.submodules[f"{name}_lut{k}"] = Instance(
                "SB_LUT4", p_LUT_INIT=Const(contents, 16), i_I0=flip, i_I1=a, i_I2=b, i_I3=carry, o_O=o
            )
            sums.append(o)
        else:
            sums.append(ZERO)
        if k < len(cells) - 1:
            out = Signal(name=f"{name}_carry{k + 1}")
            m.submodules[f"{name}_co{k}"] = Instance("SB_CARRY", i_I0=a, i_I1=b, i_CI=carry, o_CO=out)
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
    """``(a + b) xor spare`` modulo ``2**len(a)``; with ``cell=GATED`` ``a + b`` where ``spare`` is 1, else ``a``. All
    three have one length.

    Cost: a logic cell a bit. If ``first`` is False, bit 0 only generates a carry.
    """
    cells = [(cell, flip, a_bit, b_bit) for a_bit, b_bit, flip in zip(a, b, spare, strict=True)]
    return ice40_chain(m, name, cells, first=first)


Slot = tuple[int, Value, Value, Value, Value]
"""Half a CCU2C: the contents of its LUT4, and the inputs A, B, C and D. The sum bit is LUT xor carry-in. Where the LUT
gives 1, the carry-in is passed on; elsewhere the carry-out is what the LUT holds for A and B with C and D at 0."""


def ecp5_chain(m: Module, name: str, slots: Sequence[Slot]) -> list[Value]:
    """Sum bits of a chain of slots, the first of which must not pass its carry-in on.

    Cost: a LUT for each slot, rounded up to pairs.
    """
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
    """A slot that adds ``a`` and ``operand(b, c, d)``; ``operand`` must be 0 where ``c`` and ``d`` are 0."""
    return table(lambda a, b, c, d: a ^ operand(b, c, d)), a, b, c, d


def plain_slot(operand: Callable[[int, int], int], a: Value, b: Value, c: Value = ZERO) -> Slot:
    """A slot that adds ``a`` and ``operand(b, c)``, which may be any function: D at 1 keeps it off the carry."""
    return table(lambda a, b, c, d: (a ^ operand(b, c)) if d else a), a, b, c, ONE


def carry_slot(function: Callable[[int, int], int], a: Value, b: Value = ZERO) -> Slot:
    """A slot whose sum bit is the carry-in, and whose carry-out is ``function(a, b)``."""
    return table(lambda a, b, c, d: 0 if d else function(a, b)), a, b, ZERO, ONE


def ecp5_add(m: Module, name: str, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
    """``a + b`` modulo ``2**len(a)``; both have one length. Cost: a LUT a bit, and one more."""
    if len(a) == 1:
        return [a[0] ^ b[0]]
    chain = [carry_slot(lambda a, b: a & b, a[0], b[0])]
    chain += [plain_slot(lambda b, c: b, a_bit, b_bit) for a_bit, b_bit in zip(a[1:], b[1:], strict=True)]
    return [a[0] ^ b[0], *ecp5_chain(m, name, chain)[1:]]


def add(m: Module, name: str, target: Target, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
    """``a + b`` modulo ``2**len(a)``, in the cells of ``target`` or as plain RTL. Both have one length, bits lowest
    first."""
    carry = family(target).carry
    if carry is CarryChain.SB_CARRY:
        return ice40_add(m, name, a, b, [ZERO] * len(a))
    if carry is CarryChain.CCU2C:
        return ecp5_add(m, name, a, b)
    total = Signal(len(a), name=name)
    m.d.comb += total.eq(Cat(*a) + Cat(*b))
    return list(total)
