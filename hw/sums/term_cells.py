"""The adders and gates of a :class:`fewbit.hw.sums.term_tree.TermTree` in the cells of its fabric."""

from __future__ import annotations

from amaranth.hdl import Module, Value

from fewbit.hw.fabric.carry import FLIPPED, GATED, ice40_add
from fewbit.hw.sums.cells import NONE, NOTHING, Cells, Pin, Second, extended
from fewbit.hw.sums.term_tree import Item, Placed, TermTree


class TermCells(Cells):
    """Builds the sum of a tree into ``m``.

    Parameters
    ----------
    m : Module
    tree : TermTree
    x : Value
        The items one after the other: activations; of a pair, all bits of the sum and then those of the difference but
        the lowest, which both have in common.
    w : Value
        Control bits.
    enable : Value
    ranks : int
        Pipeline stages.
    offset : bool
        Activations are two's complement, taken as unsigned ones with a bias: their sign bit is inverted.
    """

    def __init__(
        self, m: Module, tree: TermTree, x: Value, w: Value, enable: Value, ranks: int, *, offset: bool = False
    ) -> None:
        super().__init__(m, tree.fabric, enable)
        self.tree, self.w, self.ranks = tree, w, ranks
        self.operands: list[list[Pin]] = []
        start = 0
        for item in tree.items:
            size = 2 * item.bits + 1 if item.pair else item.bits
            self.operands.append([Pin(x[start + k], offset and k == size - 1) for k in range(size)])
            start += size

    def build(self) -> list[Value]:
        """Bits of the sum, ``ranks`` enabled cycles after the operands."""
        bits = self.number(self.tree.root)
        self.finish()
        return [bit.value for bit in self.held(bits, self.ranks - self.tree.root.rank)]

    def controls(self, placed: Placed) -> list[Pin]:
        return [Pin(self.w[placed.control + k]) for k in range(placed.node.controls)]

    def number(self, placed: Placed) -> list[Pin]:
        """The bits of a node, at its own rank; of a leaf that its adder finishes, what there is of it."""
        a, b = placed.a, placed.b
        if a is None or b is None:
            return self.leaf(placed)
        one, other = (self.held(self.number(part), placed.rank - part.rank) for part in (a, b))
        if self.fabric == "ice40":
            return self.ice40(placed, a, b, one, other)
        if placed.node.kind == "turn":
            (turn,) = self.controls(placed) or [NONE]
            seconds = [Second(lambda b, c, d: b ^ c, pin, turn, always=True) for pin in other]
        else:
            seconds = [self.slot(b, k, other) for k in range(b.node.item.width)]
        width = placed.node.width  # no sum of unsigned numbers runs over, and the chain leaves the carry at 0
        seconds = [*seconds, *[NOTHING] * (width - len(seconds))]
        slots = [second.slot(pin) for pin, second in zip(extended(one, width, sign=False), seconds)]
        return self.chain((placed.rank, placed.node.depth), slots)

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
        """The sum or the difference."""
        difference, *inverse = controls
        low = self.lut(lambda x, inverse: x ^ inverse, pins[0], *inverse) if inverse else pins[0]
        upper = zip(pins[1 : item.width], pins[item.width :])
        return [low, *(
            self.lut(lambda s, d, choose, *inverse: (d if choose else s) ^ sum(inverse), *both, difference, *inverse)
            for both in upper
        )]  # fmt: skip

    def sources(self, item: Item, k: int, pins: list[Pin]) -> tuple[Pin, Pin, Pin]:
        """The bits of the activation that stand at bit ``k`` of 1, 2 and 4 times it."""
        one, two, four = [*(NONE if place is None else pins[place] for place in item.sources(k)), NONE][:3]
        return one, two, four

    def shift_leaf(self, placed: Placed, k: int, pins: list[Pin], controls: list[Pin]) -> Pin:
        """Bit ``k`` of the activation times 1, 2, 4 or 0, and inverted where the leaf can."""
        item, kind = placed.node.item, placed.node.kind
        sources = self.sources(item, k, pins)
        one, two, _ = sources
        if len(controls) == 3 and kind != "free":  # its adder has the zero, on ECP5 also the sign
            twice, inverse, _ = controls
            if kind == "slot":
                return self.lut(lambda x, y, twice: y if twice else x, one, two, twice)
            return self.lut(lambda x, y, twice, inverse: (y if twice else x) ^ inverse, one, two, twice, inverse)
        some, other, *inverses = controls
        if kind == "slot":  # its slot has the fourfold
            return NONE if one is two is NONE else self.lower(sources, some, other, fourfold=True)
        return self.shifted(sources, some, other, inverses, fourfold=item.shifts == 2)

    def ice40(self, placed: Placed, a: Placed, b: Placed, one: list[Pin], other: list[Pin]) -> list[Pin]:
        node = placed.node
        if node.kind == "gate":
            cell, (*_, steering) = GATED, self.controls(b)
        else:
            cell, (steering, *_) = FLIPPED, [*self.controls(placed), NONE]
        operands = (extended(one, node.width, sign=a.node.signed), extended(other, node.width, sign=b.node.signed))
        first, second = ([pin.value for pin in pins] for pins in operands)
        sums = ice40_add(self.m, self.name("sum"), first, second, [steering.value] * node.width, cell=cell)
        return [Pin(bit) for bit in sums]

    def slot(self, leaf: Placed, k: int, pins: list[Pin]) -> Second:
        """Bit ``k`` of a leaf that its slot finishes."""
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
