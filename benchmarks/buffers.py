"""Buffers at the joins of a network: the fewest words that cost no cycle, and what one word less costs.

    python -m benchmarks.buffers [NETWORK] [TARGET]

A line for each input of a join that has a buffer: the words that the plan has, the most that wait there when the
buffer is unlimited, and what a design with one word less does, by the exact schedule. The last line says how long the
search took.
"""

from __future__ import annotations

import time
from dataclasses import replace

from benchmarks.command import command
from benchmarks.models import shipped
from fewbit.generator import design
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Join
from fewbit.hw.buffers import most_held
from fewbit.hw.chain import design_nodes, timing, with_buffers
from fewbit.hw.fold import JoinFold
from fewbit.hw.planner.plan import Plan
from fewbit.report import table

NETWORK, TARGET = "fashion-resnet", "ecp5-85k"


def main(arguments: list[str]) -> None:
    name, target = [*arguments, *(NETWORK, TARGET)[len(arguments) :]]
    plan = design(shipped(name), target).plan
    network, folding = plan.network, plan.folding
    joins = [layer for layer in network.layers if isinstance(layer, Join)]
    if not joins:
        raise FewbitError(f"network {name!r} has no branches")
    unset = {layer.name: replace(folding.of(layer, JoinFold), depths=None) for layer in joins}
    started = time.perf_counter()
    with_buffers(network, replace(folding, folds=folding.folds | unset))
    seconds = time.perf_counter() - started
    waiting = most_held(*design_nodes(network, folding))
    rows = []
    for layer, held in zip(joins, waiting):
        depths = folding.of(layer, JoinFold).depths or ()
        for side, words in enumerate(depths):
            if words:
                rows.append((layer.name, layer.inputs[side], words, held[side], one_less(plan, layer, side)))
    print(
        f"{network.name} on {plan.target.title}: {plan.cycles_per_frame:,} cycles a frame, {plan.latency:,} latency\n"
    )
    print(table(("join", "input", "words", "most if unlimited", "with one word less"), rows, left=2))
    print(f"\nfound in {1000 * seconds:,.0f} ms")


def one_less(plan: Plan, layer: Join, side: int) -> str:
    """What the design does when the buffer of one input has a word less."""
    fold = plan.folding.of(layer, JoinFold)
    depths = tuple(words - (place == side) for place, words in enumerate(fold.depths or ()))
    try:
        schedule = timing(
            plan.network, replace(plan.folding, folds=plan.folding.folds | {layer.name: replace(fold, depths=depths)})
        )
    except FewbitError:
        return "stands still"
    return f"{schedule.interval:,} cycles a frame, {schedule.latency:,} latency"


if __name__ == "__main__":
    command("buffers", main)
