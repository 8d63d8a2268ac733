"""Accumulators in the cells of an FPGA family, which start a new sum without additional logic."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Value

from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import (
    ZERO,
    Cell,
    Slot,
    carry_slot,
    check_target,
    ecp5_chain,
    extend,
    ice40_chain,
    lut,
    table,
)
from fewbit.hw.fabric.families import family
from fewbit.hw.fabric.family import CarryChain


def accumulate(
    m: Module,
    name: str,
    target: str,
    total: Value,
    operand: Value,
    first: Value,
    preset: Sequence[Value] = (),
) -> Value:
    """The next value of a sum: ``total + operand``, or ``preset * 2**low + operand`` while ``first`` is high.

    ``preset`` is the start value of the upper bits, so ``low = len(total) - len(preset)``. Without a preset a sum
    starts with the operand alone. Where an unsigned operand overlaps the bits of the preset, those of its bits must be
    0 while ``first`` is high: the operand is then below ``2**low``.

    - iCE40: a LUT that adds has one unused input, which here selects the operand alone. The carries still propagate,
      but are not used. Above the operand, the second input of the carry cell is unused too, and the LUT selects the
      preset.
    - ECP5: the total is a gated operand, and the preset is in its place.

    Cost: a logic cell a bit; in addition one a bit where operand and preset overlap (iCE40), or one a chain (ECP5).

    Parameters
    ----------
    m : Module
    name : str
        Prefix of the names of the cells.
    target : str
        One of :data:`fewbit.hw.fabric.carry.TARGETS`.
    total : Value
        The register that holds the sum; this function does not write it. To shift the sum, pass its bits in other
        places.
    operand : Value
        Unsigned or signed; with a preset it must be unsigned.
    first : Value
        High with the first operand of a sum.
    preset : sequence of Value
        Bits, lowest first.

    Raises
    ------
    FewbitError
        If the target is unknown, the preset is wider than the sum, or there is a preset and the operand is signed.
    """
    check_target("an accumulator", target)
    width, low = len(total), len(total) - len(preset)
    is_signed = operand.shape().signed
    if low < 0:
        raise FewbitError(f"a preset of {len(preset)} bits does not fit a sum of {width}")
    if preset and is_signed:
        raise FewbitError("an accumulator with a preset needs an unsigned operand")
    bits = extend(list(operand), width) if is_signed else [*operand, *[ZERO] * width][:width]
    begins = [*[ZERO] * low, *preset]
    carry = family(target).carry
    if carry is CarryChain.SB_CARRY:
        cells = [
            _ice40_cell(m, f"{name}_start{k}", target, old, bit, first, begin if k >= low else None, k >= len(operand))
            for k, (old, bit, begin) in enumerate(zip(total, bits, begins, strict=True))
        ]
        return Cat(*ice40_chain(m, name, cells))
    if carry is CarryChain.CCU2C:
        contents = table(lambda operand, old, goes_on, begin: operand ^ (old if goes_on else begin))
        slots: list[Slot] = [carry_slot(lambda a, b: 0, ZERO)]
        slots += [(contents, bit, old, ~first, begin) for old, bit, begin in zip(total, bits, begins, strict=True)]
        return Cat(*ecp5_chain(m, name, slots)[1:])
    goes_on = (~first).replicate(width)
    return ((Cat(*total) & goes_on | Cat(*begins) & ~goes_on) + Cat(*bits))[:width]


def _ice40_cell(
    m: Module, name: str, target: str, old: Value, bit: Value, first: Value, begin: Value | None, free: bool
) -> Cell:
    """The cell of one bit; ``free`` where the operand has no such bit, so the input for it is unused."""
    if begin is None:
        return table(lambda first, old, bit, carry: bit if first else old ^ bit ^ carry), first, old, bit
    if free:
        return table(lambda begin, old, first, carry: begin if first else old ^ carry), begin, old, first
    held = lut(m, name, target, lambda first, begin, old: begin if first else old, first, begin, old)
    return table(lambda first, held, bit, carry: held if first else held ^ bit ^ carry), first, held, bit
