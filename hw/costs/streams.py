"""What stands around the datapaths costs: constants in LUTs, buffers of vectors, changes of lanes, windows, arg-max.

Flip-flops are counted as the components have them; logic cells go with them and with what a part moves. The constants
are those of single parts of many sizes, which ``python -m benchmarks.resources parts`` prints beside what it measures.
"""

from __future__ import annotations

from math import gcd

from fewbit.hw.cost import Cost
from fewbit.hw.fabric.devices import Target
from fewbit.hw.layers.window import Geometry
from fewbit.hw.memory.lut_ram import DISTRIBUTED, lut_ram_cells
from fewbit.hw.memory.vector_buffer import RING


def _alone(ffs: int, target: Target) -> Cost:
    """Flip-flops without a LUT in front of them: on iCE40 a logic cell each."""
    return Cost(cells=0 if target.kind.free_registers else ffs, ffs=ffs)


def _written(width: int, target: Target) -> Cost:
    """Beside a block RAM that is written while it is read: its word waits a cycle, and goes around the RAM, in case
    that it is read at the same address."""
    return Cost(cells=width) + _alone(2 * width, target)


def buffer_cost(words: int, line: int, style: str, target: Target) -> Cost:
    """Of a :class:`fewbit.hw.memory.vector_buffer.VectorBuffer`."""
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
    """Of a :class:`fewbit.hw.streams.Gearbox` for elements of ``bits`` bits."""
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
"""Logic cells of an arg-max, of a bit of a score and of a bit of the index; """

_ARGMAX_CELLS = (9, 3.75, 3.3)


def argmax_cost(bits: int, scores: int, target: Target) -> Cost:
    """Of a :class:`fewbit.hw.layers.argmax.ArgMaxUnit`."""
    index = (scores - 1).bit_length()
    whole, each, places = _ARGMAX.get(target.family, _ARGMAX_CELLS)
    return Cost(cells=whole + round(each * bits + places * index), ffs=2 * bits + 2 * index + 2)


_WINDOW = {"ecp5": (2.2, 25)}
"""Logic cells of a window unit: a flip-flop, and where it is padded."""

_WINDOW_CELLS = (2.6, 25)


def window_unit_cost(geometry: Geometry, bits: int, lanes: int, rows: int, lines: str, target: Target) -> Cost:
    """Of a :class:`fewbit.hw.layers.window.WindowUnit` that holds ``rows`` rows, but for its block RAMs."""
    pixel = geometry.shape[0] // lanes
    row_words = geometry.shape[2] * pixel
    address = _bits(rows * row_words)
    loops = (pixel // geometry.groups, *geometry.kernel, geometry.groups, geometry.columns, geometry.rows)
    held = 2 * _bits(rows + 1) + _bits(2 * rows + 1)
    ffs = 6 * address + _bits(row_words) + held + sum(map(_bits, loops)) + 5
    each, padded = _WINDOW.get(target.family, _WINDOW_CELLS)
    word = lanes * bits
    cost = Cost(cells=round(each * ffs) + (padded + word if any(geometry.padding) else 0), ffs=ffs)
    if lines == DISTRIBUTED:
        return cost + Cost(cells=lut_ram_cells(rows * row_words, word), ffs=word)
    if not target.ram_shapes:
        return cost + Cost(cells=rows * row_words * word, ffs=rows * row_words * word)
    return cost + _written(word, target)


def _bits(values: int) -> int:
    """Of a counter of so many values."""
    return (values - 1).bit_length()
