"""What the components around the datapaths cost: vector buffers, gearboxes, windows, arg-max.

Flip-flops are counted as the components have them. Logic cells are estimated from the flip-flops and the widths, with
constants that were fitted to single components of many sizes: ``python -m benchmarks.resources parts`` prints estimates
beside measurements.
"""

from __future__ import annotations

from math import gcd

from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.layers.window import Geometry
from fewbit.hw.memory.lut_ram import DISTRIBUTED, lut_ram_cells
from fewbit.hw.memory.vector_buffer import RING


def _alone(ffs: int, target: Target) -> Cost:
    """Flip-flops without a LUT in front of them: on iCE40 each takes a logic cell."""
    return Cost(cells=0 if target.kind.free_registers else ffs, ffs=ffs)


def _written(width: int, target: Target) -> Cost:
    """Logic around a block RAM that is written and read at the same time: in case both addresses are equal, the written
    word is delayed by a cycle and bypasses the block RAM."""
    return Cost(cells=width) + _alone(2 * width, target)


def buffer_cost(words: int, line: int, style: str, target: Target) -> Cost:
    """Cost of a :class:`fewbit.hw.memory.vector_buffer.VectorBuffer`."""
    count = words.bit_length()
    wraps = 0 if words & (words - 1) == 0 else 3 * count
    if style == RING:
        moved = words * line
        return Cost(cells=moved + count + 8, ffs=moved + count + 2) + _alone(moved + line, target)
    walk = Cost(cells=5 * count + wraps + 6, ffs=2 * count + 4)
    if style == DISTRIBUTED:
        return walk + Cost(cells=lut_ram_cells(2 * words, line), ffs=line)
    rams = Cost(rams=target.block_rams(2 * words, line))
    return walk + rams + _written(line, target) + _alone(count + 3, target)


def gearbox_cost(bits: int, lanes_in: int, lanes_out: int, target: Target) -> Cost:
    """Cost of a :class:`fewbit.hw.streams.Gearbox` for elements of ``bits`` bits."""
    common = gcd(lanes_in, lanes_out)
    cost = Cost()
    if lanes_in != common:
        count = (lanes_in // common).bit_length()
        cost += Cost(cells=lanes_in * bits + 2 * count + 6, ffs=lanes_in * bits + count)
    if lanes_out != common:
        count = (lanes_out // common).bit_length()
        cost += Cost(cells=count + 6, ffs=count) + _alone(lanes_out * bits, target)
    return cost


_ARGMAX = {"ecp5": (4, 1.75, 2.5)}
"""Logic cells of an arg-max by family: fixed, for each bit of a score, and for each bit of the index."""

_ARGMAX_CELLS = (9, 3.75, 3.3)
"""The same for all other families."""


def argmax_cost(bits: int, scores: int, target: Target) -> Cost:
    """Cost of an :class:`fewbit.hw.layers.argmax.ArgMaxUnit`."""
    index = (scores - 1).bit_length()
    fixed, score_bit, index_bit = _ARGMAX.get(target.family, _ARGMAX_CELLS)
    return Cost(cells=fixed + round(score_bit * bits + index_bit * index), ffs=2 * bits + 2 * index + 2)


_WINDOW = {"ecp5": (2.2, 25)}
"""Logic cells of a window unit by family: for each flip-flop, and in addition if the map is padded."""

_WINDOW_CELLS = (2.6, 25)
"""The same for all other families."""


def window_unit_cost(geometry: Geometry, bits: int, lanes: int, rows: int, lines: str, target: Target) -> Cost:
    """Cost of a :class:`fewbit.hw.layers.window.WindowUnit` with ``rows`` buffered rows, without its block RAMs."""
    pixel = geometry.shape[0] // lanes
    row_words = geometry.shape[2] * pixel
    address = _bits(rows * row_words)
    loops = (pixel // geometry.groups, *geometry.kernel, geometry.groups, geometry.columns, geometry.rows)
    row_counters = 2 * _bits(rows + 1) + _bits(2 * rows + 1)
    ffs = 6 * address + _bits(row_words) + row_counters + sum(map(_bits, loops)) + 5
    cells_per_ff, padding_cells = _WINDOW.get(target.family, _WINDOW_CELLS)
    word = lanes * bits
    cost = Cost(cells=round(cells_per_ff * ffs) + (padding_cells + word if any(geometry.padding) else 0), ffs=ffs)
    if lines == DISTRIBUTED:
        return cost + Cost(cells=lut_ram_cells(rows * row_words, word), ffs=word)
    if not target.ram_shapes:
        return cost + Cost(cells=rows * row_words * word, ffs=rows * row_words * word)
    return cost + _written(word, target)


def _bits(values: int) -> int:
    """Bits of a counter with ``values`` values."""
    return (values - 1).bit_length()
