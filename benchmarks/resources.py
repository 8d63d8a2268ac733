"""Predicted and actual resources: logic cells, flip-flops, block RAMs and DSP blocks.

    python -m benchmarks.resources [NAME@BOARD ...]
    python -m benchmarks.resources parts

Each design is synthesized and packed as in a build, with its shell, but not placed. Without arguments, every shipped
network is measured on every board for which it has a plan. ``parts`` measures single components of several sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from amaranth.hdl import signed, unsigned
from amaranth.lib import wiring

from benchmarks.command import command
from benchmarks.measure import measure
from benchmarks.models import markdown, shipped
from fewbit import models
from fewbit.bitstreams import board_design, pack
from fewbit.boards.catalogue import BOARDS, get
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.hw.cost import Cost
from fewbit.hw.costs.streams import argmax_cost, buffer_cost, gearbox_cost, window_unit_cost
from fewbit.hw.fabric.devices import Target, target
from fewbit.hw.layers.argmax import ArgMaxUnit
from fewbit.hw.layers.window import Geometry, WindowUnit
from fewbit.hw.memory.vector_buffer import BLOCK, DISTRIBUTED, RING, VectorBuffer
from fewbit.hw.streams import Gearbox

KINDS = ("logic_cells", "flip_flops", "block_rams", "dsps")
HEAD = ("network", "board", "logic cells", "flip-flops", "block RAMs", "DSP blocks")


@dataclass(frozen=True)
class Comparison:
    """Predicted and actual resources, a number for each of :data:`KINDS`."""

    predicted: tuple[int, ...]
    real: tuple[int, ...]

    @property
    def off(self) -> tuple[float, ...]:
        """Relative error of each prediction, positive if too high. If none is used: 1 if some are predicted, else 0."""
        return tuple(
            (ours - theirs) / theirs if theirs else float(ours > 0) for ours, theirs in zip(self.predicted, self.real)
        )

    def cells(self) -> tuple[str, ...]:
        """Table cell for each kind of resource: predicted / actual (error)."""
        return tuple(
            f"{ours:,} / {theirs:,} ({100 * off:+.0f} %)" if theirs or ours else "0 / 0"
            for ours, theirs, off in zip(self.predicted, self.real, self.off)
        )


def _numbers(cost: Cost) -> tuple[int, ...]:
    return cost.cells, cost.ffs, cost.rams, cost.dsps


def compare(pair: str) -> Comparison:
    """Plan, synthesize and pack the design ``network@board``; return predicted and actual resources."""
    name, _, board = pair.partition("@")
    planned, usage = pack(shipped(name), board)
    real = {use.kind: use.used for use in usage}
    return Comparison(_numbers(planned.plan.cost), tuple(real.get(kind, 0) for kind in KINDS))


def has_plan(pair: str) -> bool:
    """Whether the planner finds a plan for ``network@board``."""
    name, board = pair.split("@")
    try:
        board_design(shipped(name), get(board))
    except FewbitError:
        return False
    return True


def pairs() -> Iterator[str]:
    """All pairs ``network@board`` of shipped networks and boards that have a plan."""
    return filter(has_plan, (f"{name}@{board.name}" for name in models.shipped() for board in BOARDS))


@dataclass(frozen=True)
class Part:
    """A component of some size, and its predicted cost."""

    title: str
    component: partial[wiring.Component]
    cost: partial[Cost]

    def compare(self, device: Target) -> Comparison:
        """Measure the component on ``device``, and compare with its predicted cost."""
        cells = measure(self.component(), device.name)
        return Comparison(_numbers(self.cost(target=device)), (cells["lc"], cells["ff"], cells["ram"], cells["dsp"]))


def _geometry(channels: int, size: int, kernel: int, stride: int, padding: int, groups: int) -> Geometry:
    return Geometry(
        shape=(channels, size, size),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding,) * 4,
        groups=groups,
    )


def parts() -> Iterator[Part]:
    """The components to measure: buffers, gearboxes, arg-max and window units of several sizes."""
    for lanes, words, bits, style in [
        (8, 9, 1, BLOCK), (12, 18, 2, BLOCK), (32, 28, 1, BLOCK), (2, 80, 2, BLOCK),
        (8, 2, 1, RING), (16, 4, 1, RING), (2, 32, 2, RING),
        (8, 9, 1, DISTRIBUTED), (49, 16, 1, DISTRIBUTED), (2, 42, 3, DISTRIBUTED), (112, 7, 1, DISTRIBUTED),
    ]:  # fmt: skip
        yield Part(
            f"buffer, {words} words of {lanes} x {bits} bits, {style}",
            partial(VectorBuffer, unsigned(bits), lanes, words, style),
            partial(buffer_cost, words, lanes * bits, style),
        )
    for bits, lanes_in, lanes_out in [(2, 1, 16), (1, 32, 1), (7, 32, 1), (1, 7, 49), (2, 3, 2), (10, 16, 4)]:
        yield Part(
            f"gearbox, {lanes_in} to {lanes_out} of {bits} bits",
            partial(Gearbox, unsigned(bits), lanes_in, lanes_out),
            partial(gearbox_cost, bits, lanes_in, lanes_out),
        )
    for bits, scores in [(5, 10), (12, 10), (16, 10), (10, 100), (8, 2)]:
        yield Part(
            f"arg-max, {scores} of {bits} bits",
            partial(ArgMaxUnit, signed(bits), scores),
            partial(argmax_cost, bits, scores),
        )
    for channels, size, kernel, stride, padding, groups, lanes, bits, rows, memory in [
        (1, 28, 3, 2, 1, 1, 1, 2, 31, BLOCK), (1, 28, 3, 1, 1, 1, 1, 8, 4, BLOCK),
        (4, 12, 3, 1, 0, 1, 2, 2, 4, BLOCK), (32, 5, 3, 1, 0, 1, 2, 2, 4, BLOCK),
        (6, 14, 5, 1, 0, 1, 1, 3, 19, BLOCK), (16, 10, 2, 2, 0, 2, 8, 3, 12, BLOCK),
        (1, 28, 3, 1, 1, 1, 1, 8, 4, DISTRIBUTED), (4, 12, 3, 1, 0, 1, 2, 2, 4, DISTRIBUTED),
    ]:  # fmt: skip
        geometry = _geometry(channels, size, kernel, stride, padding, groups)
        yield Part(
            f"window, {kernel} x {kernel} / {stride} of {channels} x {size} x {size}, padding {padding}, "
            f"{lanes} x {bits} bits, {rows} rows, {memory}",
            partial(WindowUnit, geometry, DType("uint", bits), lanes=lanes, rows=rows, memory=memory),
            partial(_window_cost, geometry, bits, lanes, rows, memory),
        )


def _window_cost(geometry: Geometry, bits: int, lanes: int, rows: int, lines: str, *, target: Target) -> Cost:
    depth, width = rows * geometry.shape[2] * geometry.shape[0] // lanes, bits * lanes
    rams = target.block_rams(depth, width) if lines == BLOCK else 0
    return Cost(rams=rams) + window_unit_cost(geometry, bits, lanes, rows, lines, target)


def main(arguments: list[str]) -> None:
    if arguments == ["parts"]:
        rows = [
            (part.title, device, *part.compare(target(device)).cells())
            for part in parts()
            for device in ("up5k", "ecp5-25k")
            if target(device).lut_ram or DISTRIBUTED not in part.title
        ]
        print(markdown(("part", *HEAD[1:]), rows))
        return
    comparisons = {pair: compare(pair) for pair in arguments or pairs()}
    print(markdown(HEAD, [(*pair.split("@"), *comparison.cells()) for pair, comparison in comparisons.items()]))
    print("\nfarthest off: " + "; ".join(farthest(comparisons)))


def farthest(comparisons: dict[str, Comparison]) -> Iterator[str]:
    """For each kind of resource, text with the largest relative error and its design."""
    for place, title in enumerate(HEAD[2:]):
        pair = max(comparisons, key=lambda pair: abs(comparisons[pair].off[place]))
        yield f"{title} {100 * comparisons[pair].off[place]:+.1f} % ({pair})"


if __name__ == "__main__":
    command("resources", main)
