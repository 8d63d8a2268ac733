"""Plans sums of few-bit weights times activations: the adders, the gates, and their control bits.

The weights are known at generation time, so a lane does not receive its weight. The sum is a tree of adders, each of
which may invert its sum or gate an operand at no cost, and :class:`TermTree` computes the control bits for given
weights. A node outputs ``v = s * t + k``, where ``t`` is the sum of its products; the sign ``s`` (±1) and the offset
``k`` follow from the weights:

- a *free* node can have either sign, as its control bits say;
- a *fixed-sign* node has the sign of one of its weights, since nothing in it inverts the activation of that weight. It
  costs less.

An inversion, ``~v = top - v``, takes no adder, and its effect on ``k`` is known.
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
Form = Literal["free", "fixed-sign", "gate", "slot"]
Join = Literal["flip", "gate", "negate", "slot"]


@dataclass(frozen=True)
class Item:
    """What is at the leaves: a lane, or a pair of ±1 lanes of which the sum and the difference are given.

    Attributes
    ----------
    bits : int
        Bits of an activation.
    signed : bool
        Whether activations are two's complement, also inside the tree; else all operands are unsigned, with ``bias``.
    shifts : int
        The largest magnitude of a weight is ``2**shifts``.
    zero : bool
        Whether a weight may be 0.
    pair : bool
    bias : int
        The tree adds the activation, or the sum of a pair, plus this number.
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
        """Smallest and largest number of that width."""
        half = 1 << self.width - 1
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    @property
    def top(self) -> int:
        """For numbers of that width, ``~v`` is ``top - v``."""
        return sum(self.full)

    def sources(self, bit: int) -> tuple[int | None, ...]:
        """For each shift, the bit of the activation that is ``bit`` of the product; None where that is 0."""
        places = (bit - shift for shift in range(self.shifts + 1))
        last = self.bits - 1
        return tuple(None if place < 0 or (place > last and not self.signed) else min(place, last) for place in places)

    def luts(self, form: Form) -> int:
        """LUT4s of a leaf: one a bit, or two where the bit depends on more than four inputs; see
        :mod:`fewbit.hw.sums.term_cells`."""
        if self.pair:
            return 0 if form == "slot" else self.width - (form == "fixed-sign")
        if not self.shifts:
            return 0 if form in ("gate", "slot") or (form == "fixed-sign" and not self.zero) else self.bits
        controls = 2 + (form == "free")
        if form in ("gate", "slot"):
            return self.width - (form == "slot" and self.shifts == 2)
        inputs = [len({place for place in self.sources(bit) if place is not None}) for bit in range(self.width)]
        return sum(1 if count + controls <= 4 else 2 for count in inputs)


@dataclass(frozen=True)
class Node:
    """A leaf with one ``item``, or an adder of ``a`` and ``b``. Its output is from ``low`` to ``high``.

    ``controls`` is the number of its own control bits, without those of its operands.
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
    """Bits that hold every number from ``low`` to ``high``: two's complement if ``low`` is negative, else unsigned."""
    if low < 0:
        return max((-low - 1).bit_length(), high.bit_length()) + 1
    return max(high.bit_length(), 1)


def leaf(item: Item, form: Form) -> Node:
    """A leaf. ``free``: its LUTs apply the sign of the weight; ``fixed-sign``: they do not.

    The other forms are completed by the adder that they enter: on iCE40 that adder gates a ``gate``, on ECP5 the slot
    does for a ``slot`` all that fits in its cell.
    """
    ternary, free = item.zero and not item.shifts, form == "free"
    low, high = item.full
    if form == "free":
        controls = 2 if item.pair else 1 + (2 if item.shifts else item.zero)
    elif form == "fixed-sign":
        controls = 1 if item.pair else 2 if item.shifts else int(item.zero)
    elif form == "gate":  # a plain activation, or one shifted and inverted, but not gated
        controls, free = (1, False) if ternary else (3, True)
    else:
        free = not item.pair and item.shifts < 2  # the slot applies sign and gate
        controls = 1 if item.pair else 2 + (item.shifts == 1)
    if not free and not item.signed and not item.pair:
        high = ((1 << item.bits) - 1) << item.shifts
    return Node(item, form, free, low, high, 1, item.luts(form), 0 if item.luts(form) == 0 else 1, controls)


_START = 0.5
"""Slots of an ECP5 adder beside its bits: its share of the slot at the beginning of a row."""


def adder(fabric: Fabric, kind: Join, a: Node, b: Node) -> Node:
    """An adder of two nodes.

    ``flip`` inverts the sum if its sign has to change, ``gate`` and ``slot`` complete the leaf ``b``, and ``negate``
    inverts ``b``.
    """
    low, high, controls, free = a.low + b.low, a.high + b.high, 0, a.free
    if kind == "flip":
        free, controls = True, int(not a.free)
    elif kind == "gate":
        low, high, free = min(low, a.low), max(high, a.high), a.free and b.free
    elif kind == "negate" and not b.free:
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
    """All adders of ``a`` and ``b``."""
    if b.kind in ("gate", "slot") and b.leaf:
        # A leaf that cannot be inverted fixes the sign of the sum.
        if b.free or a.free:
            yield adder(fabric, "gate" if fabric == "ice40" else "slot", a, b)
    elif fabric == "ice40":
        if b.free:
            yield adder(fabric, "flip", a, b)
    else:
        yield adder(fabric, "negate", a, b)


_MOST_NODES = 3
_ALL_SPLITS = 24


def _best(nodes: list[Node]) -> list[Node]:
    """The cheapest nodes: for each cost only those with a smaller range than all cheaper ones."""
    best: list[Node] = []
    for node in sorted(nodes, key=lambda node: (node.luts, node.high - node.low, node.depth)):
        if all(node.high - node.low < cheaper.high - cheaper.low for cheaper in best):
            best.append(node)
    return best[:_MOST_NODES]


def _splits(count: int) -> list[int]:
    """Sizes of the second operand that are tried; for many items only about half, powers of two, and one item."""
    if count <= _ALL_SPLITS:
        return list(range(1, count))
    half = count // 2
    power = 1 << (count - 1).bit_length() - 1
    return sorted({1, count - 1, *range(half - 2, half + 3), power, count - power} - {0, count})


@cache
def _nodes(fabric: Fabric, item: Item, count: int) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """The best free and the best fixed-sign sums of ``count`` items."""
    if count == 1:
        fixed_sign = () if item.zero and not item.shifts else (leaf(item, "fixed-sign"),)
        return (leaf(item, "free"),), fixed_sign
    adders: list[Node] = []
    limit = ceil(log2(count)) + 2  # of the depth, so the tree is not one long chain
    for size in _splits(count):
        firsts = [node for nodes in _nodes(fabric, item, count - size) for node in nodes]
        seconds = [node for nodes in _nodes(fabric, item, size) for node in nodes]
        finished = (item.zero and item.shifts < 2) if fabric == "ice40" else (item.zero or item.pair)
        if size == 1 and finished:
            seconds.append(leaf(item, "gate" if fabric == "ice40" else "slot"))
        adders += [node for a in firsts for b in seconds for node in _joins(fabric, a, b)]
    adders = [node for node in adders if node.depth <= limit]
    return tuple(_best([n for n in adders if n.free])), tuple(_best([n for n in adders if not n.free]))


def plan(fabric: Fabric, item: Item, count: int) -> Node:
    """The smallest free sum of ``count`` items."""
    return min(_nodes(fabric, item, count)[0], key=lambda node: (node.luts, node.depth))


@dataclass(frozen=True)
class Placed:
    """A node in a tree: the index ``place`` of its item if it is a leaf, the position ``control`` of its first control
    bit, and its pipeline stage ``stage``."""

    node: Node
    place: int
    control: int
    a: Placed | None = None
    b: Placed | None = None
    stage: int = 0


class TermTree:
    """The plan of ``sum_i w_i * x_i``, divided into pipeline stages, and its control bits for given weights.

    The sums in the first stage are as small as possible and have a positive sign. So nothing behind them has control
    bits, and no control bit needs a pipeline register.

    Parameters
    ----------
    fabric : ``"ice40"`` or ``"ecp5"``
    items : list of Item
        All are equal, but the last one may be a single lane if the others are pairs.
    stages : int
        Pipeline stages of the sum.

    Attributes
    ----------
    root : Placed
    controls : int
        Number of control bits.
    """

    def __init__(self, fabric: Fabric, items: list[Item], stages: int) -> None:
        self.fabric, self.items = fabric, items
        self.controls = 0
        self._placed = 0
        fan_in = len(items)
        if stages:
            fan_in = 1
            while fan_in**stages < len(items):
                fan_in += 1
        self.root = self._joined([self._first(fan_in, count) for count in self._groups(fan_in)], fan_in, 0)

    def _groups(self, fan_in: int) -> list[int]:
        whole, rest = divmod(len(self.items), fan_in)
        return [fan_in] * whole + [rest] * (rest > 0)

    def _first(self, fan_in: int, count: int) -> Placed:
        """The sum of the next ``count`` items."""
        start = self._placed
        first, last = self.items[start], self.items[start + count - 1]
        if first == last:
            return self._place(plan(self.fabric, first, count))
        firsts = [node for nodes in _nodes(self.fabric, first, count - 1) for node in nodes]
        lasts = [leaf(last, "free"), leaf(last, "fixed-sign")]
        both = [(a, b) for a in firsts for b in lasts] + [(b, a) for a in firsts for b in lasts]
        adders = [node for a, b in both for node in _joins(self.fabric, a, b) if node.free]
        return self._place(min(adders, key=lambda node: (node.luts, node.depth)))

    def _place(self, node: Node) -> Placed:
        if node.a is None or node.b is None:
            placed = Placed(node, self._placed, self.controls)
            self._placed += 1
            self.controls += node.controls
            return placed
        # A single lane beside pairs is the last item of the list, whichever operand it is, so it is placed second.
        backwards = node.b.item.pair and not node.a.item.pair
        first, second = (node.b, node.a) if backwards else (node.a, node.b)
        first_placed, second_placed = self._place(first), self._place(second)
        a, b = (second_placed, first_placed) if backwards else (first_placed, second_placed)
        placed = Placed(node, 0, self.controls, a, b)
        self.controls += node.controls
        return placed

    def _joined(self, sums: list[Placed], fan_in: int, stage: int) -> Placed:
        """Adds sums, ``fan_in`` at a time; each result is one pipeline stage later than its operands."""
        while len(sums) > 1:
            stage += 1
            groups = [sums[start : start + fan_in] for start in range(0, len(sums), fan_in)]
            sums = [self._plain(group, stage) for group in groups]
        return sums[0]

    def _plain(self, sums: list[Placed], stage: int) -> Placed:
        while len(sums) > 1:
            pairs = [
                Placed(
                    adder(self.fabric, "flip" if self.fabric == "ice40" else "negate", a.node, b.node),
                    0,
                    0,
                    a,
                    b,
                    stage,
                )
                for a, b in zip(sums[::2], sums[1::2])
            ]
            sums = pairs + sums[len(pairs) * 2 :]
        return sums[0]

    def control_words(self, weights: Ints) -> tuple[list[int], Ints]:
        """Control bits for rows of weights, and how much the output ``v`` then exceeds the sum of the products.

        # (rows, lanes) -> rows words of ``controls`` bits, (rows,) int64
        """
        rows = np.asarray(weights, np.int64)
        out = np.zeros((len(rows), self.controls), np.int64)
        k = self._set_controls(self.root, np.ones(len(rows), np.int64), rows, out)
        return (rom_words(out, 1) if self.controls else [0] * len(rows)), k

    def _weights(self, placed: Placed, rows: Ints) -> Ints:
        """The weights of a leaf: (rows, 2) for a pair, (rows, 1) for a lane."""
        start = sum(1 + item.pair for item in self.items[: placed.place])
        return rows[:, start : start + 1 + placed.node.item.pair]

    def _sign(self, placed: Placed, rows: Ints) -> Ints:
        """The sign of a fixed-sign node."""
        if placed.a is None or placed.b is None:
            return np.where(self._weights(placed, rows)[:, 0] < 0, -1, 1)
        decides = placed.a if not placed.a.node.free else placed.b
        return self._sign(decides, rows)

    def _set_controls(self, placed: Placed, sign: Ints, rows: Ints, out: Ints) -> Ints:
        """Sets the control bits of ``placed`` in ``out`` so that ``v = sign * t + k``, and returns ``k``."""
        node, a, b = placed.node, placed.a, placed.b
        mine = out[:, placed.control : placed.control + node.controls]
        if a is None or b is None:
            return _set_leaf_controls(node, self._weights(placed, rows) * sign[:, None], mine)
        if node.kind == "flip" and not a.node.free:
            inside = self._sign(a, rows)
            k = self._set_controls(a, inside, rows, out) + self._set_controls(b, inside, rows, out)
            mine[:, 0] = inside != sign
            return np.where(inside != sign, node.top - k, k)
        if node.kind == "negate" and not b.node.free:
            inside = self._sign(b, rows)
            k = self._set_controls(b, inside, rows, out)
            mine[:, 0] = inside != sign
            return self._set_controls(a, sign, rows, out) + np.where(inside != sign, b.node.top - k, k)
        return self._set_controls(a, sign, rows, out) + self._set_controls(b, sign, rows, out)


def _set_leaf_controls(node: Node, weights: Ints, out: Ints) -> Ints:
    """Sets the control bits of a leaf whose output is ``weights`` times its activations plus an offset; returns the
    offset.

    In order, and as far as the leaf has them: for a pair, 1 to select the difference; for a shift, two bits that select
    the activation, twice it, 0, or four times it (one bit for twice it, if the gate has its own); then 1 to invert;
    then 1 unless the weight is 0.
    """
    item = node.item
    first = weights[:, 0]
    inverse = first < 0
    if item.pair:
        difference = weights[:, 0] != weights[:, 1]
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
