"""Sums of few-bit weights times activations: which adders and which gates, and the bits that steer them.

The weights are known beforehand, so a lane need not know its own: a sum is planned as a tree of adders, each of which
may turn its sum over or gate an operand at no cost, and :class:`TermTree` works out for given weights what every one of
them has to do. A node gives ``v = s * t + k``, where ``t`` is the sum of its products and the sign ``s`` and the number
``k`` follow from the weights:

- a *free* node takes whatever sign is asked of it;
- of a *forced* one the sign is that of a weight, since nothing in it inverts that activation: it costs less.

Turning over is ``~v = top - v``, and never costs an adder; what it adds to ``k`` is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil, log2
from typing import Literal

import numpy as np

from fewbit.golden.dtype import Ints
from fewbit.hw.memory.rom import rom_words

Fabric = Literal["ice40", "ecp5"]
Form = Literal["free", "forced", "gate", "slot"]
Join = Literal["flip", "gate", "turn", "slot"]


@dataclass(frozen=True)
class Item:
    """What stands at the leaves: a lane, or a pair of ±1 lanes of which the sum and the difference are given.

    Attributes
    ----------
    bits : int
        Of an activation.
    signed : bool
        Activations are two's complement, also inside the tree; else what is added is unsigned, perhaps with a bias.
    shifts : int
        A weight is at most ``2**shifts``.
    zero : bool
        A weight may be 0.
    pair : bool
    bias : int
        What stands in the tree is the activation, or sum of a pair, and this.
    """

    bits: int
    signed: bool
    shifts: int
    zero: bool
    pair: bool = False
    bias: int = 0

    @property
    def width(self) -> int:
        """Bits of the largest product."""
        return self.bits + self.shifts + self.pair

    @property
    def full(self) -> tuple[int, int]:
        """Least and greatest number of that width."""
        half = 1 << self.width - 1
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    @property
    def top(self) -> int:
        """``~v`` of a number of that width is ``top - v``."""
        return sum(self.full)

    def sources(self, bit: int) -> tuple[int | None, ...]:
        """Which bit of the activation stands at ``bit`` of the product for each shift; None where it is 0."""
        places = (bit - shift for shift in range(self.shifts + 1))
        last = self.bits - 1
        return tuple(None if place < 0 or (place > last and not self.signed) else min(place, last) for place in places)

    def luts(self, form: Form) -> int:
        """LUT4s of a leaf: one a bit, or two where it has more than four inputs; see
        :mod:`fewbit.hw.sums.term_cells`."""
        if self.pair:
            return 0 if form == "slot" else self.width - (form == "forced")
        if not self.shifts:
            return 0 if form in ("gate", "slot") or (form == "forced" and not self.zero) else self.bits
        steering = 2 + (form == "free")
        if form in ("gate", "slot"):
            return self.width - (form == "slot" and self.shifts == 2)
        found = [len({place for place in self.sources(bit) if place is not None}) for bit in range(self.width)]
        return sum(1 if count + steering <= 4 else 2 for count in found)


@dataclass(frozen=True)
class Node:
    """A leaf of one ``item``, or an adder of ``a`` and ``b``; numbers from ``low`` to ``high`` come out.

    ``controls`` bits steer it, not counting those of its operands.
    """

    item: Item
    kind: Form | Join
    free: bool
    low: int
    high: int
    items: int
    luts: float
    depth: int
    controls: int
    a: Node | None = None
    b: Node | None = None

    @property
    def signed(self) -> bool:
        return self.low < 0

    @property
    def width(self) -> int:
        return span(self.low, self.high)

    @property
    def top(self) -> int:
        """``~v`` is ``top - v``."""
        return -1 if self.signed else (1 << self.width) - 1

    @property
    def leaf(self) -> bool:
        return self.a is None


def span(low: int, high: int) -> int:
    """Bits that hold every number from ``low`` to ``high``: two's complement if there is a negative one."""
    if low < 0:
        return max((-low - 1).bit_length(), high.bit_length()) + 1
    return max(high.bit_length(), 1)


def leaf(item: Item, form: Form) -> Node:
    """A leaf. ``free`` has its sign in its LUTs, ``forced`` has not. The others are finished by the adder they enter:
    on iCE40 ``gate`` is passed or not, on ECP5 ``slot`` is what the carry cell can do by itself."""
    ternary, free = item.zero and not item.shifts, form == "free"
    low, high = item.full
    if form == "free":
        controls = 2 if item.pair else 1 + (2 if item.shifts else item.zero)
    elif form == "forced":
        controls = 1 if item.pair else 2 if item.shifts else int(item.zero)
    elif form == "gate":  # an activation as it is; or one shifted and inverted, but not gated
        controls, free = (1, False) if ternary else (3, True)
    else:
        free = not item.pair and item.shifts < 2  # sign and zero by the slot
        controls = 1 if item.pair else 2 + (item.shifts == 1)
    if not free and not item.signed and not item.pair:
        high = ((1 << item.bits) - 1) << item.shifts
    return Node(item, form, free, low, high, 1, item.luts(form), 0 if item.luts(form) == 0 else 1, controls)


_START = 0.5
"""Slots that an adder of an ECP5 takes beside its bits: a row of them begins with one."""


def adder(fabric: Fabric, kind: Join, a: Node, b: Node) -> Node:
    """An adder of two nodes.

    ``flip`` turns its sum over where the sign wants it, ``gate`` and ``slot`` finish the leaf ``b``, and ``turn``
    inverts ``b``.
    """
    low, high, controls, free = a.low + b.low, a.high + b.high, 0, a.free
    if kind == "flip":
        free, controls = True, int(not a.free)
    elif kind == "gate":
        low, high, free = min(low, a.low), max(high, a.high), a.free and b.free
    elif kind == "turn" and not b.free:
        controls, low, high = 1, a.low + min(b.low, b.top - b.high), a.high + max(b.high, b.top - b.low)
    elif kind == "slot":
        free = a.free and b.free
    width = span(low, high)
    if kind == "flip" and controls:
        top = -1 if low < 0 else (1 << width) - 1
        low, high = min(low, top - high), max(high, top - low)
    luts = a.luts + b.luts + width + (_START if fabric == "ecp5" else 0)
    depth = max(a.depth, b.depth) + 1
    return Node(a.item, kind, free, low, high, a.items + b.items, luts, depth, controls, a, b)


def _joins(fabric: Fabric, a: Node, b: Node) -> Iterator[Node]:
    """All ways of adding ``b`` to ``a``."""
    if b.kind in ("gate", "slot") and b.leaf:
        # A leaf that cannot be inverted decides the sign of the sum.
        if b.free or a.free:
            yield adder(fabric, "gate" if fabric == "ice40" else "slot", a, b)
    elif fabric == "ice40":
        if b.free:
            yield adder(fabric, "flip", a, b)
    else:
        yield adder(fabric, "turn", a, b)


_KEPT = 3
_ALL_SPLITS = 24


def _kept(found: list[Node]) -> list[Node]:
    """The cheapest, and dearer ones of a smaller range."""
    best: list[Node] = []
    for node in sorted(found, key=lambda node: (node.luts, node.high - node.low, node.depth)):
        if all(node.high - node.low < other.high - other.low for other in best):
            best.append(node)
    return best[:_KEPT]


def _splits(count: int) -> list[int]:
    """Sizes of the second operand that are tried; of many items only even halves, and single ones."""
    if count <= _ALL_SPLITS:
        return list(range(1, count))
    half = count // 2
    power = 1 << (count - 1).bit_length() - 1
    return sorted({1, count - 1, *range(half - 2, half + 3), power, count - power} - {0, count})


@cache
def _nodes(fabric: Fabric, item: Item, count: int) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """The best free and the best forced sums of ``count`` items."""
    if count == 1:
        forced = () if item.zero and not item.shifts else (leaf(item, "forced"),)
        return (leaf(item, "free"),), forced
    found: list[Node] = []
    limit = ceil(log2(count)) + 2  # of the depth, lest everything is one long chain
    for size in _splits(count):
        ones = [node for nodes in _nodes(fabric, item, count - size) for node in nodes]
        others = [node for nodes in _nodes(fabric, item, size) for node in nodes]
        finished = (item.zero and item.shifts < 2) if fabric == "ice40" else (item.zero or item.pair)
        if size == 1 and finished:
            others.append(leaf(item, "gate" if fabric == "ice40" else "slot"))
        found += [node for a in ones for b in others for node in _joins(fabric, a, b)]
    found = [node for node in found if node.depth <= limit]
    return tuple(_kept([n for n in found if n.free])), tuple(_kept([n for n in found if not n.free]))


def plan(fabric: Fabric, item: Item, count: int) -> Node:
    """The smallest free sum of ``count`` items."""
    return min(_nodes(fabric, item, count)[0], key=lambda node: (node.luts, node.depth))


@dataclass(frozen=True)
class Placed:
    """A node at its place: the number of its item if it is a leaf, and where its control bits begin."""

    node: Node
    place: int
    control: int
    a: Placed | None = None
    b: Placed | None = None
    rank: int = 0


class TermTree:
    """The plan of ``sum_i w_i * x_i``, cut into ranks, with what steers it for given weights.

    The sums of the first rank are as small as they can be and come with a positive sign, so that nothing after them is
    steered and no control bit has to wait in a register.

    Parameters
    ----------
    fabric : ``"ice40"`` or ``"ecp5"``
    items : list of Item
        Each is as the first, but the last may be a lane by itself where the others are pairs.
    ranks : int
        Pipeline stages that the sum is cut into.

    Attributes
    ----------
    root : Placed
    controls : int
        Control bits.
    """

    def __init__(self, fabric: Fabric, items: list[Item], ranks: int) -> None:
        self.fabric, self.items = fabric, items
        self.controls = 0
        self._placed = 0
        fan_in = len(items)
        if ranks:
            fan_in = 1
            while fan_in**ranks < len(items):
                fan_in += 1
        self.root = self._joined([self._first(fan_in, count) for count in self._groups(fan_in)], fan_in, 0)

    def _groups(self, fan_in: int) -> list[int]:
        whole, rest = divmod(len(self.items), fan_in)
        return [fan_in] * whole + [rest] * (rest > 0)

    def _first(self, fan_in: int, count: int) -> Placed:
        """The sum of the next ``count`` items."""
        start = self._placed
        one, last = self.items[start], self.items[start + count - 1]
        if one == last:
            return self._place(plan(self.fabric, one, count))
        ones = [node for nodes in _nodes(self.fabric, one, count - 1) for node in nodes]
        others = [leaf(last, "free"), leaf(last, "forced")]
        both = [(a, b) for a in ones for b in others] + [(b, a) for a in ones for b in others]
        found = [node for a, b in both for node in _joins(self.fabric, a, b) if node.free]
        return self._place(min(found, key=lambda node: (node.luts, node.depth)))

    def _place(self, node: Node) -> Placed:
        if node.a is None or node.b is None:
            placed = Placed(node, self._placed, self.controls)
            self._placed += 1
            self.controls += node.controls
            return placed
        # A lane left over from the pairs is the last of the list, whichever operand it is.
        backwards = node.b.item.pair and not node.a.item.pair
        first, second = (node.b, node.a) if backwards else (node.a, node.b)
        one, other = self._place(first), self._place(second)
        a, b = (other, one) if backwards else (one, other)
        placed = Placed(node, 0, self.controls, a, b)
        self.controls += node.controls
        return placed

    def _joined(self, sums: list[Placed], fan_in: int, rank: int) -> Placed:
        """Sums of sums, ``fan_in`` at a time, each rank one later than what it adds."""
        while len(sums) > 1:
            rank += 1
            groups = [sums[start : start + fan_in] for start in range(0, len(sums), fan_in)]
            sums = [self._plain(group, rank) for group in groups]
        return sums[0]

    def _plain(self, sums: list[Placed], rank: int) -> Placed:
        while len(sums) > 1:
            pairs = [
                Placed(
                    adder(self.fabric, "flip" if self.fabric == "ice40" else "turn", a.node, b.node), 0, 0, a, b, rank
                )
                for a, b in zip(sums[::2], sums[1::2])
            ]
            sums = pairs + sums[len(pairs) * 2 :]
        return sums[0]

    def steer(self, weights: Ints) -> tuple[list[int], Ints]:
        """What steers the tree for rows of weights, and what ``v`` then is too much.

        # (rows, lanes) -> rows words of ``controls`` bits, (rows,) int64
        """
        rows = np.asarray(weights, np.int64)
        out = np.zeros((len(rows), self.controls), np.int64)
        k = self._steer(self.root, np.ones(len(rows), np.int64), rows, out)
        return (rom_words(out, 1) if self.controls else [0] * len(rows)), k

    def _weights(self, placed: Placed, rows: Ints) -> Ints:
        """(rows, 2) of a pair, (rows, 1) of a lane."""
        start = sum(1 + item.pair for item in self.items[: placed.place])
        return rows[:, start : start + 1 + placed.node.item.pair]

    def _sign(self, placed: Placed, rows: Ints) -> Ints:
        """The sign of a forced node."""
        if placed.a is None or placed.b is None:
            return np.where(self._weights(placed, rows)[:, 0] < 0, -1, 1)
        decides = placed.a if not placed.a.node.free else placed.b
        return self._sign(decides, rows)

    def _steer(self, placed: Placed, sign: Ints, rows: Ints, out: Ints) -> Ints:
        """Sets the control bits of ``placed`` so that ``v = sign * t + k``; gives ``k``."""
        node, a, b = placed.node, placed.a, placed.b
        mine = out[:, placed.control : placed.control + node.controls]
        if a is None or b is None:
            return _steer_leaf(node, self._weights(placed, rows) * sign[:, None], mine)
        if node.kind == "flip" and not a.node.free:
            inside = self._sign(a, rows)
            k = self._steer(a, inside, rows, out) + self._steer(b, inside, rows, out)
            mine[:, 0] = inside != sign
            return np.where(inside != sign, node.top - k, k)
        if node.kind == "turn" and not b.node.free:
            inside = self._sign(b, rows)
            k = self._steer(b, inside, rows, out)
            mine[:, 0] = inside != sign
            return self._steer(a, sign, rows, out) + np.where(inside != sign, b.node.top - k, k)
        return self._steer(a, sign, rows, out) + self._steer(b, sign, rows, out)


def _steer_leaf(node: Node, wanted: Ints, out: Ints) -> Ints:
    """Control bits of a leaf that must give ``wanted`` times its activation, and the number that comes on top.

    The bits are, where the leaf has them: of a pair, 1 for the difference; of a shift, two bits that mean the
    activation, its double, 0 and four times it (one bit, its double, of a leaf whose zero stands apart); then 1 for the
    inverse; then 1 for not 0.
    """
    item = node.item
    first = wanted[:, 0]
    inverse = first < 0
    if item.pair:
        difference = wanted[:, 0] != wanted[:, 1]
        bits = [difference] + [inverse] * node.free
        bias = np.where(difference, 1 << item.bits, item.bias)
        scale = np.ones_like(first)
    else:
        size = np.abs(first)
        scale, bias = size, np.full_like(first, item.bias)
        bits = []
        if item.shifts:
            if node.controls == 3 and node.kind in ("gate", "slot"):
                bits = [size == 2, inverse, size != 0]
            else:
                bits = [(size == 2) | (size == 4), (size == 0) | (size == 4)] + [inverse] * node.free
        elif node.kind == "gate":
            bits = [size != 0]
        else:
            bits = [inverse] * node.free + [size != 0] * item.zero
    for place, bit in enumerate(bits):
        out[:, place] = bit
    sized = scale * bias
    return np.where(inverse, item.top - sized, sized)
