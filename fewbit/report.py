"""Descriptions of networks and plans as text and tables."""

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
    """Format ``rows`` as a text table with the headings ``columns``. The first ``left`` columns are aligned left, the
    others right."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    text = StringIO()
    Console(file=text, width=1000, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def describe_network(network: Network) -> str:
    """Describe a network: a table of its layers with number kinds, memory and operations, totals, zero weights and
    partial products."""
    rows = []
    for layer in network.layers:
        source, result = network.source(layer), network.types[layer.name]
        inputs = " and ".join(map(str, network.sources(layer)))
        code = str(layer.code) if isinstance(layer, Linear) else ""
        bits, operations = (
            f"{number:,}" if number else "" for number in (layer.memory_bits(source), layer.operations(source))
        )
        rows.append((layer.name, layer.kind, inputs, result, code, bits, operations))
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
    """Lines about zero weights, for layers whose code has a 0: how many there are, and how many products have them."""
    rows, operations, skipped = [], 0, 0
    for layer, result in linear:
        if 0 not in layer.code.levels:
            continue
        sparsity = Sparsity.of(layer)
        total, gated = products(layer, result), sparsity.zeros * (result.size // layer.outputs)
        share, terms = f"{100 * sparsity.zeros / sparsity.weights:.1f} %", f"{sparsity.terms / sparsity.weights:.2f}"
        rows.append((layer.name, sparsity.zeros, share, terms, total, gated))
        operations, skipped = operations + total, skipped + gated
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
    """Lines about the partial products of layers with signed digits, at each quality."""
    names, counts = [], []
    for layer, result in linear:
        if layer.digits:
            sparsity, positions = Sparsity.of(layer), result.size // layer.outputs
            formed = [sparsity.partial_products[min(k, layer.digits)] for k in range(1, network.digits + 1)]
            names.append(layer.name)
            counts.append([count * positions for count in (sparsity.multiplications, sparsity.rows, *formed)])
    if not names:
        return []
    _, rows, *formed = (sum(column) for column in zip(*counts))
    columns = ("layer", "multiplications", "rows", *(f"quality {k}" for k in range(1, network.digits + 1)))
    shares = ", ".join(f"{100 * (1 - count / rows):.1f} % at {k}" for k, count in enumerate(formed, 1))
    return [
        "",
        table(columns, [(name, *count) for name, count in zip(names, counts)]),
        "",
        f"partial products a frame at each quality; of {rows:,} rows gated: {shares}",
    ]


def products(layer: Linear, result: TensorType) -> int:
    """Number of multiply-accumulates of ``layer`` for one frame, including those with padding; ``result`` is the type
    of its output."""
    return result.size * layer.fan_in


def _form(planned: LayerPlan) -> str:
    """Description of the memories or the form of a layer of a plan."""
    unit = unit_of(planned.layer)
    assert isinstance(unit, FoldedUnit)
    return unit.describe(planned.fold)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _weight_share(planned: LayerPlan) -> float | None:
    """The weight bits that a layer reads in a cycle, as a share of the bandwidth of its block RAMs; None if the layer
    has no weights or no block RAMs."""
    return None if planned.reads is None else planned.reads.share(planned.cycles)


def _memory_title(planned: LayerPlan) -> str:
    assert isinstance(planned.fold, MatVecFold)
    return MEMORIES[planned.fold.memory].title


def describe_bandwidth(plan: Plan) -> str:
    """Describe the weight bandwidth that a plan uses: of the busiest layer with weights, and of all layers together."""
    # Layers without weights are skipped even if they are busier.
    busiest = max(plan.weighted, key=lambda planned: planned.cycles, default=plan.bottleneck)
    reads, parts = busiest.reads, []
    if reads is not None and (share := reads.share(busiest.cycles)) is not None:
        parts.append(
            f"{busiest.layer.name} reads {reads.bits_per_cycle(busiest.cycles):,.0f} bits a cycle, "
            f"{_percent(share)} of the {reads.gives:,} that its {reads.rams} block RAMs give"
        )
    elif reads is not None:
        parts.append(
            f"{busiest.layer.name} reads {reads.bits_per_cycle(busiest.cycles):,.0f} bits a cycle, from "
            + _memory_title(busiest)
        )
    if plan.bandwidth_share is not None:
        parts.append(
            f"all layers {plan.weight_bits_per_cycle:,.0f} on average, {_percent(plan.bandwidth_share)} of the "
            f"{plan.target.weight_bandwidth:,} that the device's block RAMs give"
        )
    return "; ".join(parts)


def describe_plan(plan: Plan) -> str:
    """Describe a plan: a table of the fold and the cost of each layer, exact cycles, balance of the layers, use of the
    weight bandwidth, and used and free resources."""
    rows = []
    slowest = plan.bottleneck
    for planned in plan.layers:
        fold, cost = planned.fold, planned.cost
        word = "" if planned.reads is None else f"{planned.reads.word:,}"
        rows.append(
            (planned.layer.name, _form(planned),
             fold.lanes_out, fold.lanes_in, planned.cycles, _percent(plan.busy(planned)),
             word, _percent(_weight_share(planned)), cost.cells, cost.ffs, cost.rams)
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
        capacity = plan.target.capacity
        blocks = f"{plan.cost.dsps} of {capacity.dsps} DSP blocks, " if plan.cost.dsps else ""
        blocks += f"{plan.cost.sprams} of {capacity.sprams} SPRAMs, loaded at the start, " if plan.cost.sprams else ""
        lines.append(
            f"predicted: {plan.cost.cells:,} of {capacity.cells:,} logic cells, {plan.cost.ffs:,} flip-flops, "
            f"{plan.cost.rams} of {capacity.rams} block RAMs, {blocks}shell included; "
            f"left: {capacity.cells - plan.cost.cells:,} cells, {capacity.rams - plan.cost.rams} block RAMs"
        )
    return "\n".join(lines)


def plan_figures(plan: Plan) -> dict[str, Any]:
    """The figures of a plan for the report of a build: predicted resources, busiest layer, balance and weight
    bandwidth."""
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
                "name": planned.layer.name,
                "cycles": planned.cycles,
                "of_busiest": round(plan.busy(planned), 4),
                "weight_bits": None if planned.reads is None else planned.reads.word,
                "of_block_rams": None if (share := _weight_share(planned)) is None else round(share, 4),
            }
            for planned in plan.layers
        ],
    }
