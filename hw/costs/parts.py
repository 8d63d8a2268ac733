"""What the parts of a layer cost in logic cells and block RAMs, and how many cycles they take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from math import ceil, log, log2

from fewbit.golden.dtype import DType, signed_bits
from fewbit.golden.network import Dense, Linear
from fewbit.golden.terms import term_exponents
from fewbit.hw.cost import Cost
from fewbit.hw.costs.columns import scale_columns, scale_field, weight_columns, weight_field
from fewbit.hw.costs.streams import buffer_cost, window_unit_cost
from fewbit.hw.fabric.carry import WITH_CELLS
from fewbit.hw.fabric.devices import Target
from fewbit.hw.fabric.families import FAMILIES
from fewbit.hw.fold import BIT_PLANES, TERMS, MatVecFold
from fewbit.hw.lanes.choose import lanes_for
from fewbit.hw.layers.multiply_shift import LaneForm
from fewbit.hw.layers.window import Geometry
from fewbit.hw.matvec.bit_serial import BIT
from fewbit.hw.matvec.term_serial import term_cycles, term_fields, term_memory
from fewbit.hw.memory.kind import Contents
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.memory.lut_ram import DISTRIBUTED
from fewbit.hw.memory.rom import BLOCK, rom_cells
from fewbit.hw.memory.vector_buffer import RING
from fewbit.hw.multiply.csd import CsdMultiplier
from fewbit.hw.multiply.dsp import DspMultiplier
from fewbit.hw.multiply.exact import Multiplier

CELLS_FOR_A_RAM = 200
"""Weight of a block RAM in :func:`in_cells`: about the ratio of logic cells to block RAMs in the devices."""

CELLS_FOR_A_DSP = 80
"""Weight of a DSP block in :func:`in_cells`: about the logic cells of an 8-bit product."""


def in_cells(cost: Cost) -> int:
    """A cost as one number, to compare costs where the device has enough of everything."""
    return cost.cells + CELLS_FOR_A_RAM * cost.rams + CELLS_FOR_A_DSP * cost.dsps


def divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def memories(
    stored: Contents, words: int, line: int, target: Target, *, readers: int = 0
) -> Iterator[tuple[str, str, Cost]]:
    """The options for the weight memory and the vector buffer, as names of both and the cost of the two together.

    ``stored`` are the contents of the weight memory; a vector has ``words`` words of ``line`` bits. With ``readers``
    above 0, each of them needs a copy of the vector.
    """
    weight_options = weight_memories(stored, target, preloaded=readers > 0)
    styles = [] if readers else [RING]
    styles += [BLOCK] if target.ram_shapes else []
    styles += [DISTRIBUTED] if target.lut_ram else []
    bank = 1 << (words - 1).bit_length() if readers else words
    vector_options = []
    for style in styles:
        cost = buffer_cost(bank, line, style, target)
        copy = Cost(rams=cost.rams) if style == BLOCK else cost
        vector_options.append((style, cost + (max(1, readers) - 1) * copy))
    for (memory, weight_cost), (buffer, vector_cost) in product(weight_options, vector_options):
        yield memory, buffer, weight_cost + vector_cost


def weight_memories(stored: Contents, target: Target, *, preloaded: bool = False) -> list[tuple[str, Cost]]:
    """The options for a weight memory with these contents, as names and costs; with ``preloaded`` only those that are
    loaded with the configuration."""
    kinds = [kind for kind in MEMORIES.values() if kind.fits(stored, target) and (kind.preloaded or not preloaded)]
    return [(kind.name, kind.cost(stored, target)) for kind in kinds]


def serves_vectors(layer: Linear, pe: int, simd: int) -> bool:
    """Whether all weights that one output (or input) uses in a cycle share one scale, or the layer has no scales."""
    if layer.scales is None:
        return True
    extent, together = (layer.outputs, pe) if layer.across else (layer.fan_in, simd)
    return layer.vector >= extent or layer.vector % together == 0


def stored_words(layer: Linear, pe: int, simd: int) -> Contents:
    """Contents of the memory of a unit that reads the weights of ``pe`` outputs and ``simd`` inputs at a time, with
    their scales."""
    weight, scale = weight_field(layer), scale_field(layer)
    lanes, scales = pe * simd, simd if layer.across else pe
    return Contents(
        depth=layer.outputs // pe * (layer.fan_in // simd),
        width=lanes * weight.bits + scales * scale.bits,
        vary=lanes * weight.varying + scales * scale.varying,
        columns=weight_columns(layer, pe, simd),
        scales=scale_columns(layer, pe, simd),
    )


def term_kind(layer: Linear, activation: DType) -> DType:
    """Kind of the numbers that lanes add, to estimate the delay of their sum.

    In front of a scale lanes are exact: they add products, which are wider than the activations by the largest weight.
    """
    if layer.scales is None or layer.across:
        return activation
    return DType("int", activation.bits + int(abs(layer.code.levels).max()).bit_length() - 1)


def products(layer: Linear, activation: DType, pe: int, simd: int) -> list[tuple[int, int, int]]:
    """The multiplications that a unit performs at a time: their number, and the widths of the two operands.

    Only weights that lanes multiply by, and scales, take multiplications. A sum of the leading digits of a number may
    take one bit more than the number.
    """
    multiplications = []
    kind = layer.scale_kind
    operand = signed_bits(activation) + (kind.bits if kind is not None and layer.across else 0)
    weight_bits = lanes_for(activation, layer.code).factor_bits(layer.code)
    if weight_bits is not None:
        multiplications.append((pe * simd, operand, weight_bits))
    if kind is not None:
        sets = 1 if layer.negative_scales is None else 2
        limit = simd * int(abs(layer.code.levels).max()) * max(activation.max, -activation.min)
        count, width = (
            (simd, signed_bits(activation)) if layer.across else (pe * sets, DType.holding(-limit, limit).bits)
        )
        multiplications.append((count, width, kind.bits + 1))
    return multiplications


def dsp_blocks(layer: Linear, activation: DType, pe: int, simd: int, target: Target) -> int:
    """DSP blocks for these multiplications; 0 if there are none, or they do not fit the DSP blocks."""
    multiplications = products(layer, activation, pe, simd)
    all_fit = all(target.multiplies(width_a, width_b) for _, width_a, width_b in multiplications)
    return sum(count for count, _, _ in multiplications) if all_fit else 0


def scale_cost(
    layer: Linear, activation: DType, pe: int, simd: int, stages: int, family: str, digits: int, dsp: bool = False
) -> Cost:
    """Cost of the multipliers by scales, whose digits take ``digits`` columns, and of the second lanes if negative
    weights have their own scale."""
    kind = layer.scale_kind
    if kind is None:
        return Cost()
    count, width, _ = products(layer, activation, pe, simd)[-1]
    multiplier_cells = DspMultiplier.cells(kind.bits) if dsp else CsdMultiplier.cells(width, kind.bits)
    if layer.across:
        return count * Cost(cells=multiplier_cells, ffs=2 * activation.bits + kind.bits) + Cost(ffs=digits)
    lane_overhead = lanes_for(activation, layer.code, family).exact_cells(layer.code, activation, simd, family)
    delay_cells = 0 if FAMILIES[family].free_registers else stages * digits
    delays = Cost(cells=delay_cells, ffs=(stages + 1) * digits)
    return count * Cost(cells=multiplier_cells + lane_overhead, ffs=2 * width + kind.bits) + delays


def window_cost(geometry: Geometry, source: DType, lanes: int, target: Target) -> tuple[int, str, Cost]:
    """Rows of a map to buffer, the memory for them, and the cost of windows of ``lanes`` channels.

    If the block RAMs have room for more rows than needed, all of it is used, up to the rows of a map and one more
    window.
    """
    row = geometry.shape[2] * geometry.shape[0] // lanes
    width = lanes * source.bits
    rows = geometry.least_rows
    rams = Cost(rams=target.block_rams(rows * row, width)) if target.ram_shapes else Cost()
    styles = ["block"] + (["distributed"] if target.lut_ram else [])
    ways = [(style, window_unit_cost(geometry, source.bits, lanes, rows, style, target)) for style in styles]
    ways[0] = (ways[0][0], ways[0][1] + rams)
    lines, cost = min(ways, key=lambda way: way[1].cells + CELLS_FOR_A_RAM * way[1].rams)
    if not target.ram_shapes:
        return rows, lines, cost
    most = geometry.shape[1] + geometry.kernel[0]
    while lines == "block" and rows < most and target.block_rams((rows + 1) * row, width) == cost.rams:
        rows += 1
    if lines == "block":
        cost = rams + window_unit_cost(geometry, source.bits, lanes, rows, lines, target)
    return rows, lines, cost


def dense_cycles(layer: Dense, activation: DType, fold: MatVecFold, groups: int = 1) -> int:
    """Cycles of a matrix-vector unit for one vector for each of ``groups``."""
    if fold.unit == TERMS:
        return term_cycles(layer, fold.pe, fold.simd, groups)
    return layer.outputs // fold.pe * (layer.fan_in // fold.simd) * (activation.bits if fold.unit == BIT_PLANES else 1)


@lru_cache(maxsize=64)
def _sum_bits(layer: Dense, activation: DType) -> int:
    """Bits of a sum of products; all outputs have the same width."""
    low, high = layer.bounds(activation)
    return DType.holding(int(low.min()), int(high.max())).bits


def unit_cost(
    layer: Dense,
    activation: DType,
    exact: bool,
    pe: int,
    simd: int,
    stages: int,
    family: str,
    serial: bool,
    dsp: bool = False,
) -> Cost:
    """Cost of the matrix-vector unit of a dense layer, without its memories and scales."""
    depth = layer.outputs // pe * (layer.fan_in // simd)
    accumulator = _sum_bits(layer, activation)
    cells_per_bit = 2 if family not in WITH_CELLS or exact else 1
    cost = Cost(cells=3 * depth.bit_length() + 10, ffs=2 * depth.bit_length() + 2 * stages + 5)
    if exact:
        cost += Cost(cells=rom_cells(layer.outputs // pe, pe * accumulator))
    if not serial:
        lanes = Cost(
            cells=lane_cells(layer, activation, simd, family, stages, dsp) + cells_per_bit * accumulator,
            ffs=sum_ffs(activation, simd, stages) + accumulator,
        )
        return cost + pe * lanes + Cost(cells=front_cells(layer, activation, simd, family))
    plane = activation.bits + simd.bit_length()
    joined = accumulator if exact or layer.fan_in > simd else 0
    lanes = Cost(
        cells=lane_cells(layer, BIT, simd, family)
        + (1 if family in WITH_CELLS else 2) * plane
        + cells_per_bit * joined,
        ffs=sum_ffs(BIT, simd, stages) + plane + joined,
    )
    return cost + pe * lanes + Cost(cells=mux_cells(activation, simd) + 8, ffs=simd + 2 * activation.bits.bit_length())


def sum_ffs(term: DType, simd: int, stages: int) -> int:
    """Flip-flops in the pipeline stages of a sum of ``simd`` terms: each stage holds fewer and wider sums than the one
    before."""
    positions = [position / stages for position in range(1, stages + 1)]
    total: float = sum(simd ** (1 - position) * int(term.bits + position * log2(simd)) for position in positions)
    return round(total)


def term_cost(layer: Dense, activation: DType, exact: bool, pe: int, simd: int, family: str, stages: int) -> Cost:
    """Cost of a term-serial unit, without its memories; measured by ``python -m benchmarks.serial``."""
    fields, exponents = term_fields(layer, simd), term_exponents(layer)
    bits = DType.holding(activation.min, activation.max).bits
    width = bits + exponents[-1] - exponents[0]
    total = _sum_bits(layer, activation)
    registers = 2 + fields["exponent"] + fields["lane"] + (stages > 1) * (bits + 1 + fields["exponent"])
    selection = activation.bits * (simd - 1) * 2 // 3 + width * (len(exponents) + 2) // 3 + fields["order"]
    per_output = Cost(
        cells=selection + registers + total * (2 if family not in WITH_CELLS or exact else 1),
        ffs=registers + width * max(1, stages - 1) + total,
    )
    address = term_memory(layer, pe, simd)[0].bit_length()
    starts = rom_cells(layer.outputs // pe, pe * total) if exact else 0
    return pe * per_output + Cost(cells=2 * address + 14 + starts, ffs=address + 3 * stages + 6)


def sum_stages(activation: DType, simd: int, target: Target, clock_hz: float) -> int:
    """Pipeline stages that a sum of ``simd`` lanes needs at this clock."""
    widest = 16 * target.fan_in_mhz * 1e6 / clock_hz / (1 + (activation.bits - 1) / 2)
    return max(1, ceil(log(simd) / log(max(3.0, widest)) - 1e-9))


_READ, _DSP, _ROW = 1.4, 0.8, 0.28
"""Delays in a product of integers, in the time in which the fabric sums 16 single bits: reading the operands from
memories, a DSP block, and a row of a multiplier in logic cells, each with its routing in a full device. They are
estimates with which the designs of ``python -m benchmarks.tiny --build`` meet their clocks."""


def lane_stages(layer: Linear, term: DType, simd: int, target: Target, clock_hz: float, *, dsp: bool = False) -> int:
    """Pipeline stages that ``simd`` lanes, which take activations of kind ``term``, and their sum need at this
    clock."""
    sums = sum_stages(term, simd, target, clock_hz)
    if not layer.code.signed_word:
        return sums
    if simd == 1:
        sums = 0
    period = target.fan_in_mhz * 1e6 / clock_hz
    rows = Multiplier.rows(signed_bits(term), layer.code.bits, target.family)
    product_delay = _DSP if dsp else _ROW * rows
    # In this order: a sum is only divided if there are registers on the operands and inside the multipliers, too.
    inside = not dsp and (sums > 1 or product_delay > period)
    operands = inside or sums > 1 or _READ + product_delay > period
    return operands + inside + 1 + sums


_MUX = (0, 0, 1, 2, 3, 3, 5, 5, 6)
"""Logic cells of a multiplexer for one bit of an activation, by the number of planes: ``python -m
benchmarks.bit_serial``."""


def lane_cells(layer: Dense, activation: DType, simd: int, family: str, stages: int = 1, dsp: bool = False) -> int:
    """Logic cells of the lanes of one output."""
    kind = lanes_for(activation, layer.code, family, exact=False)
    return kind.cells(layer.code, activation, simd, stages=stages, family=family, dsp=dsp)


def front_cells(layer: Dense, activation: DType, simd: int, family: str) -> int:
    """Logic cells of the component that the lanes of all outputs share."""
    kind = lanes_for(activation, layer.code, family, exact=False)
    return kind.front_cells(layer.code, activation, simd, family)


def mux_cells(activation: DType, simd: int) -> int:
    """Logic cells that select a bit plane of the activations, once for all outputs."""
    return simd * (_MUX[activation.bits] if activation.bits < len(_MUX) else activation.bits - 2)


def row_stages(form: LaneForm, target: Target, clock_hz: float) -> int:
    """Pipeline stages that a multiply-shift needs at this clock: ``python -m benchmarks.requantization --place``."""
    rows_per_stage = max(1, int(1.6e6 * target.fan_in_mhz / clock_hz))
    return max(1, ceil(len(form.rows) / rows_per_stage))


def multiply_shift_cells(form: LaneForm, lanes: int, groups: int, stages: int) -> int:
    """Logic cells of a multiply-shift, including its constants in LUTs; measured by ``python -m
    benchmarks.requantization``."""
    counter = 0 if groups == 1 else 2 * groups.bit_length() + 4
    return lanes * form.cells(stages) + rom_cells(groups, lanes * form.word_bits) + counter + 2 * stages
