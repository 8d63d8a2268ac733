"""Networks and plans as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from fewbit.golden.network import Linear, Network, TensorType
from fewbit.golden.sparsity import Sparsity
from fewbit.hw.fold import MatVecFold
from fewbit.hw.memory.kinds import MEMORIES
from fewbit.hw.planner.plan import LayerPlan, Plan
from fewbit.hw.units.base import FoldedUnit
from fewbit.hw.units.table import unit_of


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """``rows`` under ``columns`` as text; the first ``left`` columns are aligned left, the others right."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    text = StringIO()
    Console(file=text, width=1000, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def describe_network(network: Network) -> str:
    """Layers with their number kinds, memory and operations."""
    rows = []
    for layer in network.layers:
        source, result = network.source(layer), network.types[layer.name]
        takes = " and ".join(map(str, network.sources(layer)))
        code = str(layer.code) if isinstance(layer, Linear) else ""
        bits, operations = (
            f"{number:,}" if number else "" for number in (layer.memory_bits(source), layer.operations(source))
        )
        rows.append((layer.name, layer.kind, takes, result, code, bits, operations))
    linear = [(layer, network.types[layer.name]) for layer in network.layers if isinstance(layer, Linear)]
    weights, bits_in_all, operations_in_all = (
        sum(layer.weights.size for layer, _ in linear),
        sum(layer.weights.size * layer.code.bits for layer, _ in linear),
        sum(products(layer, result) for layer, result in linear),
    )
    how = "float32 frames are quantized on the host" if network.input_quantizer is not None else "integers"
    return "\n".join(
        [
            f"{network.name}: input {network.input} ({how}), output {network.output}",
            "",
            table(("layer", "kind", "takes", "gives", "weights", "memory bits", "operations"), rows, left=5),
            "",
            f"{weights:,} weights in {bits_in_all:,} bits; {operations_in_all:,} multiply-accumulates a frame",
            *_zeros(linear),
            *_partial_products(network, linear),
        ]
    )


def _zeros(linear: Sequence[tuple[Linear, TensorType]]) -> list[str]:
    """Zero weights of the layers whose code has a 0, and the products that meet them."""
    rows, operations, skipped = [], 0, 0
    for layer, result in linear:
        if 0 not in layer.code.levels:
            continue
        found = Sparsity.of(layer)
        all_of_it, gated = products(layer, result), found.zeros * (result.size // layer.outputs)
        share, terms = f"{100 * found.zeros / found.weights:.1f} %", f"{found.terms / found.weights:.2f}"
        rows.append((layer.name, found.zeros, share, terms, all_of_it, gated))
        operations, skipped = operations + all_of_it, skipped + gated
    if not rows:
        return []
    columns = ("layer", "zero weights", "share", "terms a weight", "lane operations", "with a zero")
    return [
        "",
        table(columns, rows),
        "",
        f"lane operations a frame with a zero weight: {skipped:,} of {operations:,}, "
        f"{100 * skipped / operations:.1f} %",
    ]


def _partial_products(network: Network, linear: Sequence[tuple[Linear, TensorType]]) -> list[str]:
    """Partial products of the layers with signed digits, by quality."""
    names, counts = [], []
    for layer, result in linear:
        if layer.digits:
            found, positions = Sparsity.of(layer), result.size // layer.outputs
            formed = [found.partial_products[min(k, layer.digits)] for k in range(1, network.digits + 1)]
            names.append(layer.name)
            counts.append([count * positions for count in (found.multiplications, found.rows, *formed)])
    if not names:
        return []
    _, rows, *formed = (sum(column) for column in zip(*counts))
    columns = ("layer", "multiplications", "rows", *(f"quality {k}" for k in range(1, network.digits + 1)))
    shares = ", ".join(f"{100 * (1 - one / rows):.1f} % at {k}" for k, one in enumerate(formed, 1))
    return [
        "",
        table(columns, [(name, *count) for name, count in zip(names, counts)]),
        "",
        f"partial products a frame at each quality; of {rows:,} rows gated: {shares}",
    ]


def products(layer: Linear, result: TensorType) -> int:
    """Multiply-accumulates a frame: the inputs that each element of ``result`` sees, padding among them."""
    return result.size * layer.fan_in


def _form(planned: LayerPlan) -> str:
    """Where a layer of a plan has its memories, or what form it takes."""
    unit = unit_of(planned.layer)
    assert isinstance(unit, FoldedUnit)
    return unit.describe(planned.fold)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _weight_share(one: LayerPlan) -> float | None:
    """Bits of weights that a layer reads a cycle, of what its own block RAMs could give."""
    return None if one.reads is None else one.reads.share(one.cycles)


def _memory_title(planned: LayerPlan) -> str:
    assert isinstance(planned.fold, MatVecFold)
    return MEMORIES[planned.fold.memory].title


def describe_bandwidth(plan: Plan) -> str:
    """How near a plan is to the device's weight bandwidth, on the busiest layer and as a whole."""
    # Of layers that are equally busy, one with weights: those without read none.
    weighted = max(plan.weighted, key=lambda one: one.cycles, default=plan.bottleneck)
    reads, parts = weighted.reads, []
    if reads is not None and (share := reads.share(weighted.cycles)) is not None:
        parts.append(
            f"{weighted.layer.name} reads {reads.bits_per_cycle(weighted.cycles):,.0f} bits a cycle, "
            f"{_percent(share)} of the {reads.gives:,} that its {reads.rams} block RAMs give"
        )
    elif reads is not None:
        parts.append(
            f"{weighted.layer.name} reads {reads.bits_per_cycle(weighted.cycles):,.0f} bits a cycle, from "
            + _memory_title(weighted)
        )
    if plan.bandwidth_share is not None:
        parts.append(
            f"all layers {plan.weight_bits_per_cycle:,.0f} on average, {_percent(plan.bandwidth_share)} of the "
            f"{plan.target.weight_bandwidth:,} that the device's block RAMs give"
        )
    return "; ".join(parts)


def describe_plan(plan: Plan) -> str:
    """How a network is folded onto its target, the exact cycles, how evenly the layers are busy, how near the plan is
    to the weight bandwidth, and what it left unused."""
    rows = []
    slowest = plan.bottleneck
    for one in plan.layers:
        word = "" if one.reads is None else f"{one.reads.word:,}"
        rows.append(
            (one.layer.name, _form(one),
             one.fold.lanes_out, one.fold.lanes_in, one.cycles, _percent(plan.busy(one)),
             word, _percent(_weight_share(one)), one.cost.cells, one.cost.ffs, one.cost.rams)
        )  # fmt: skip
    head = ("layer", "memory or form", "PE", "SIMD", "cycles", "of busiest", "word", "of RAMs", "cells", "FFs", "RAMs")
    lines = [
        f"on {plan.target.title} at {plan.clock_hz / 1e6:g} MHz, {plan.folding.input_lanes} input lanes",
        "",
        table(head, rows, left=2),
        "",
        f"{plan.cycles_per_frame:,} cycles a frame, {plan.latency:,} from a frame's first beat to its last score; "
        f"{plan.frames_per_second:,.0f} frames a second",
        f"busiest layer: {slowest.layer.name}, {slowest.cycles:,} cycles; "
        f"balance: layers with weights are busy for {_percent(plan.balance)} of them on average",
    ]
    if bandwidth := describe_bandwidth(plan):
        lines.append(f"weight bandwidth: {bandwidth}")
    if plan.target.capacity is not None:
        has = plan.target.capacity
        blocks = f"{plan.cost.dsps} of {has.dsps} DSP blocks, " if plan.cost.dsps else ""
        blocks += f"{plan.cost.sprams} of {has.sprams} SPRAMs, loaded at the start, " if plan.cost.sprams else ""
        lines.append(
            f"predicted: {plan.cost.cells:,} of {has.cells:,} logic cells, {plan.cost.ffs:,} flip-flops, "
            f"{plan.cost.rams} of {has.rams} block RAMs, {blocks}shell included; "
            f"left: {has.cells - plan.cost.cells:,} cells, {has.rams - plan.cost.rams} block RAMs"
        )
    return "\n".join(lines)


def plan_figures(plan: Plan) -> dict[str, Any]:
    """What a plan promises, for a build's report: resources, the busiest layer, balance, weight bandwidth."""
    return {
        "predicted": {
            "logic_cells": plan.cost.cells,
            "flip_flops": plan.cost.ffs,
            "block_rams": plan.cost.rams,
            "dsps": plan.cost.dsps,
            "sprams": plan.cost.sprams,
        },
        "bottleneck": plan.bottleneck.layer.name,
        "balance": round(plan.balance, 4),
        "weight_bits_per_cycle": round(plan.weight_bits_per_cycle, 2),
        "weight_bandwidth": plan.target.weight_bandwidth,
        "layers": [
            {
                "name": one.layer.name,
                "cycles": one.cycles,
                "of_busiest": round(plan.busy(one), 4),
                "weight_bits": None if one.reads is None else one.reads.word,
                "of_block_rams": None if (share := _weight_share(one)) is None else round(share, 4),
            }
            for one in plan.layers
        ],
    }
