"""Instantiates the adders and LUTs of a :class:`fewbit.hw.sums.term_tree.TermTree` in the cells of its family."""

from __future__ import annotations

from amaranth.hdl import Module, Value

from fewbit.hw.fabric.carry import FLIPPED, GATED, ice40_add
from fewbit.hw.sums.cells import NONE, NOTHING, Cells, Pin, Second, extended
from fewbit.hw.sums.term_tree import Item, Placed, TermTree


class TermCells(Cells):
    """Instantiates the sum that a tree describes in ``m``.

    Parameters
    ----------
    m : Module
    tree : TermTree
    x : Value
        The items, the first in the lowest bits: activations, or for a pair the sum, then the difference without its
        lowest
        bit, which equals that of the sum.
    w : Value
        Control bits.
    enable : Value
        Registers advance while it is high.
    stages : int
        Pipeline stages.
    offset : bool
        Whether two's-complement activations are handled as unsigned ones with an offset: then their sign bit is
        inverted.
    """

    def __init__(
        self, m: Module, tree: TermTree, x: Value, w: Value, enable: Value, stages: int, *, offset: bool = False
    ) -> None:
        super().__init__(m, tree.fabric, enable)
        self.tree, self.w, self.stages = tree, w, stages
        self.operands: list[list[Pin]] = []
        start = 0
        for item in tree.items:
            size = 2 * item.bits + 1 if item.pair else item.bits
            self.operands.append([Pin(x[start + k], offset and k == size - 1) for k in range(size)])
            start += size

    def build(self) -> list[Value]:
        """Bits of the sum, ``stages`` cycles with ``enable`` high after the operands."""
        bits = self.number(self.tree.root)
        self.finish()
        return [bit.value for bit in self.held(bits, self.stages - self.tree.root.stage)]

    def controls(self, placed: Placed) -> list[Pin]:
        return [Pin(self.w[placed.control + k]) for k in range(placed.node.controls)]

    def number(self, placed: Placed) -> list[Pin]:
        """The bits of a node in its own pipeline stage. For a leaf that is completed by its adder, the bits before
        that."""
        a, b = placed.a, placed.b
        if a is None or b is None:
            return self.leaf(placed)
        a_bits, b_bits = (self.held(self.number(part), placed.stage - part.stage) for part in (a, b))
        if self.fabric == "ice40":
            return self.ice40(placed, a, b, a_bits, b_bits)
        if placed.node.kind == "negate":
            (negate,) = self.controls(placed) or [NONE]
            seconds = [Second(lambda b, c, d: b ^ c, pin, negate, always=True) for pin in b_bits]
        else:
            seconds = [self.slot(b, k, b_bits) for k in range(b.node.item.width)]
        width = placed.node.width  # sums of unsigned numbers do not overflow, so the chain ends with a carry of 0
        seconds = [*seconds, *[NOTHING] * (width - len(seconds))]
        slots = [second.slot(pin) for pin, second in zip(extended(a_bits, width, sign=False), seconds)]
        return self.chain((placed.stage, placed.node.depth), slots)

    def leaf(self, placed: Placed) -> list[Pin]:
        node, item = placed.node, placed.node.item
        pins, controls = self.operands[placed.place], self.controls(placed)
        if item.pair:
            return pins if node.kind == "slot" else self.pair(item, pins, controls)
        if item.shifts:
            return [self.shift_leaf(placed, k, pins, controls) for k in range(item.width)]
        if node.kind != "free":
            return pins
        if item.zero:
            return [self.lut(lambda x, inverse, on: (x ^ inverse) & on, pin, *controls) for pin in pins]
        return [self.lut(lambda x, inverse: x ^ inverse, pin, *controls) for pin in pins]

    def pair(self, item: Item, pins: list[Pin], controls: list[Pin]) -> list[Pin]:
        """The sum or the difference of a pair, as the control bit says."""
        difference, *inverse = controls
        low = self.lut(lambda x, inverse: x ^ inverse, pins[0], *inverse) if inverse else pins[0]
        upper = zip(pins[1 : item.width], pins[item.width :])
        return [low, *(
            self.lut(lambda s, d, choose, *inverse: (d if choose else s) ^ sum(inverse), *both, difference, *inverse)
            for both in upper
        )]  # fmt: skip

    def sources(self, item: Item, k: int, pins: list[Pin]) -> tuple[Pin, Pin, Pin]:
        """The bits of the activation that are bit ``k`` of 1, 2 and 4 times the activation."""
        once, twice, fourfold = [*(NONE if place is None else pins[place] for place in item.sources(k)), NONE][:3]
        return once, twice, fourfold

    def shift_leaf(self, placed: Placed, k: int, pins: list[Pin], controls: list[Pin]) -> Pin:
        """Bit ``k`` of the activation times 1, 2, 4 or 0, inverted if the leaf includes the sign."""
        item, kind = placed.node.item, placed.node.kind
        sources = self.sources(item, k, pins)
        plain, doubled, _ = sources
        if len(controls) == 3 and kind != "free":  # its adder applies the gate, on ECP5 also the sign
            twice, inverse, _ = controls
            if kind == "slot":
                return self.lut(lambda x, y, twice: y if twice else x, plain, doubled, twice)
            return self.lut(lambda x, y, twice, inverse: (y if twice else x) ^ inverse, plain, doubled, twice, inverse)
        some, other, *inverses = controls
        if kind == "slot":  # its slot adds the bit of 4 times the activation
            return NONE if plain is doubled is NONE else self.lower(sources, some, other, fourfold=True)
        return self.shifted(sources, some, other, inverses, fourfold=item.shifts == 2)

    def ice40(self, placed: Placed, a: Placed, b: Placed, a_bits: list[Pin], b_bits: list[Pin]) -> list[Pin]:
        node = placed.node
        if node.kind == "gate":
            cell, (*_, spare) = GATED, self.controls(b)
        else:
            cell, (spare, *_) = FLIPPED, [*self.controls(placed), NONE]
        operands = (extended(a_bits, node.width, sign=a.node.signed), extended(b_bits, node.width, sign=b.node.signed))
        first, second = ([pin.value for pin in pins] for pins in operands)
        sums = ice40_add(self.m, self.name("sum"), first, second, [spare.value] * node.width, cell=cell)
        return [Pin(bit) for bit in sums]

    def slot(self, leaf: Placed, k: int, pins: list[Pin]) -> Second:
        """Bit ``k`` of a leaf that is completed by its slot."""
        item, controls = leaf.node.item, self.controls(leaf)
        if item.pair:
            if k == 0:
                return Second(lambda b, c, d: c, NONE, pins[0])
            return Second(lambda b, c, d: b if d else c, pins[item.bits + k], pins[k], controls[0])
        if item.shifts == 2:
            fourfold = self.sources(item, k, self.operands[leaf.place])[2]
            if pins[k] is NONE:
                return Second(lambda b, c, d: b & c & d, fourfold, *controls)
            return Second(lambda b, c, d: b & c if d else c, fourfold, pins[k], controls[1])
        *_, inverse, on = controls
        return Second(lambda b, c, d: (b ^ c) & d, pins[k], inverse, on)
