"""Cells of the fabrics, placed by hand: Yosys would take plain logic apart and build other adders from it.

- iCE40: a logic cell is a LUT4 (SB_LUT4) and the carry (SB_CARRY) of its inputs I1, I2 and the carry below. Where no
  carry comes from below, or the LUT does not look at it, the LUT's other inputs are free.
- ECP5: a CCU2C is two slots of a carry chain, each a LUT4 whose value is added to the carry. Where one slot passes no
  carry on, it ends one sum and begins another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amaranth.hdl import Const, Instance, Module, Signal, Value

ZERO, ONE = Const(0, 1), Const(1, 1)


def table(function: Callable[..., int], inputs: int) -> int:
    """Contents of a LUT4 whose first ``inputs`` inputs are those of ``function``, bits as integers."""
    return sum((function(*(row >> k & 1 for k in range(inputs))) & 1) << row for row in range(16))


def lut(m: Module, name: str, fabric: str, function: Callable[..., int], *inputs: Value) -> Signal:
    """One LUT4 of ``fabric``, ``ice40`` or ``ecp5``: ``function(*inputs)``."""
    pins = [*inputs, *[ZERO] * (4 - len(inputs))]
    contents = Const(table(function, len(inputs)), 16)
    o = Signal(name=name)
    if fabric == "ice40":
        places = [("i", f"I{k}", pin) for k, pin in enumerate(pins)]
        m.submodules[f"{name}_lut"] = Instance("SB_LUT4", ("p", "LUT_INIT", contents), *places, ("o", "O", o))
    else:
        places = [("i", pin_name, pin) for pin_name, pin in zip("ABCD", pins)]
        m.submodules[f"{name}_lut"] = Instance("LUT4", ("p", "INIT", contents), *places, ("o", "Z", o))
    return o


def ice40_carry(m: Module, name: str, a: Value, b: Value, carry: Value) -> Signal:
    """The carry of ``a + b + carry``: in the cell of the LUT4 that has ``a`` as I1 and ``b`` as I2."""
    o = Signal(name=name)
    m.submodules[f"{name}_cell"] = Instance("SB_CARRY", i_I0=a, i_I1=b, i_CI=carry, o_CO=o)
    return o


@dataclass(frozen=True)
class Slot:
    """Half a CCU2C. ``sum = f(A, B, C, D) ^ carry``; the carry goes on where f is 1, else it is g(A, B).

    ``contents`` holds f, and in its lowest four bits g, which therefore is f where C and D are 0.
    """

    contents: int
    pins: tuple[Value, Value, Value, Value] = (ZERO, ZERO, ZERO, ZERO)


def carry_slot(generate: Callable[[int, int], int], a: Value = ZERO, b: Value = ZERO) -> Slot:
    """Its sum is the carry that comes in; the carry that it gives is ``generate(a, b)``."""
    return Slot(table(generate, 2) & 15, (a, b, ZERO, ONE))


def ecp5_row(m: Module, name: str, slots: Sequence[Slot]) -> list[Signal]:
    """Sums of a row of slots; the first must be a carry slot, and its sum means nothing.

    The ends are left open: a constant into a row, or a carry out of it that nobody takes, costs two LUTs each.
    Cost: a LUT4 a slot, in twos.
    """
    padded = [*slots, *[carry_slot(lambda a, b: 0)] * (len(slots) % 2)]
    sums = [Signal(name=f"{name}_{k}") for k in range(len(padded))]
    carry: Signal | None = None
    for k in range(0, len(padded), 2):
        parts: list[tuple[str, str, object]] = [] if carry is None else [("i", "CIN", carry)]
        for half in (0, 1):
            slot = padded[k + half]
            parts += [("p", f"INIT{half}", Const(slot.contents, 16)), ("p", f"INJECT1_{half}", "NO")]
            parts += [("i", f"{pin}{half}", value) for pin, value in zip("ABCD", slot.pins)]
            parts += [("o", f"S{half}", sums[k + half])]
        if k + 2 < len(padded):
            carry = Signal(name=f"{name}_carry{k}")
            parts.append(("o", "COUT", carry))
        m.submodules[f"{name}_ccu{k // 2}"] = Instance("CCU2C", *parts)
    return sums[: len(slots)]
