"""One network in every weight code on one board: accuracy, size and speed.

    python -m benchmarks.codes [--planned] [CODE ...]

LeNet-5, fine-tuned for each code in the same way (``models/train_codes.py``): vectors of sixteen weights that share a
scale of eight bits, three-bit activations. A code without a network of its own takes that of a code with the same
levels. ``--planned`` builds nothing: cells and block RAMs are those that the planner predicts; a build takes minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks.models import markdown, shipped
from fewbit import models
from fewbit.bitstreams import board_design, build
from fewbit.boards import catalogue
from fewbit.golden.codes import Code
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import Linear, Network
from fewbit.hw.planner.constraints import Constraints

FLOAT = "lenet5"
BOARD = "ulx3s-85f"
CLOCK_HZ = 40_000_000
FPS = 2000
"""Frames a second that every row is planned for."""

TWO_SCALES = ", two scales"
"""Behind the name of a code whose levels of either sign have a scale of their own."""
CODES = (
    "binary",
    "ternary",
    "ternary" + TWO_SCALES,
    "shift3(1)",
    "quinary",
    "shift3(2)",
    "shift3",
    "csd(1,5)",
    "csd(2,5)",
    "int(4)",
    "int(8)",
)
ACTIVATION_BITS = 3

FIGURES = (
    "bits a weight",
    "without retraining",
    "fine-tuned",
    "logic cells",
    "block RAMs",
    "DSP blocks",
    "cycles a frame",
    "fmax, MHz",
    "frames/s",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network, and its accuracies on record: without retraining with eight-bit activations, and as it is."""

    network: Network
    at_once: float
    accuracy: float


@cache
def row_of(code: str) -> Row:
    """The shipped LeNet-5 in ``code``, or in one with the same levels.

    Raises
    ------
    LookupError
        If none is shipped.
    """
    wanted, two_scales = Code.parse(code.removesuffix(TWO_SCALES)), code.endswith(TWO_SCALES)
    alike = []
    for name in models.shipped():
        recipe = models.facts(name).get("recipe", {})
        if (
            not name.startswith(f"{FLOAT}-")
            or "two_scales" not in recipe
            or recipe["activation_bits"] != ACTIVATION_BITS
            or recipe["two_scales"] != two_scales
        ):
            continue
        found = Code.parse(recipe["code"])
        if found.levels.tolist() == wanted.levels.tolist():
            alike.append((found != wanted, name))
    if not alike:
        raise LookupError(f"no LeNet-5 with {code} weights and activations of {ACTIVATION_BITS} bits is shipped")
    _, name = min(alike)
    facts = models.facts(name)
    return Row(
        network=recoded(shipped(name), wanted),
        at_once=facts["accuracy_without_retraining"]["uint8 activations"],
        accuracy=facts["test_accuracy"],
    )


def recoded(network: Network, code: Code) -> Network:
    """The same weights, stored in ``code``."""
    layers = [replace(layer, code=code) if isinstance(layer, Linear) else layer for layer in network.layers]
    return replace(network, layers=tuple(layers))


def stored_bits(network: Network) -> int:
    """Bits of a weight as its code stores it, of the widest code of the network."""
    return max(layer.code.bits for layer in network.layers if isinstance(layer, Linear))


def exact_cells(row: Row) -> tuple[str, ...]:
    """The cells of a row that need no build: bits of a weight, and the accuracies."""
    return str(stored_bits(row.network)), f"{row.at_once:.2f} %", f"{row.accuracy:.2f} %"


def built_cells(row: Row, planned: bool) -> tuple[str, ...]:
    """The other cells, of :data:`FIGURES`."""
    if planned:
        plan = board_design(row.network, catalogue.get(BOARD), Constraints(clock_hz=CLOCK_HZ, fps=FPS)).plan
        used = {"logic_cells": plan.cost.cells, "block_rams": plan.cost.rams, "dsps": plan.cost.dsps}
        fmax = "-"
    else:
        with tempfile.TemporaryDirectory() as folder:
            made, report = build(row.network, BOARD, Path(folder) / "out", Constraints(clock_hz=CLOCK_HZ, fps=FPS))
        plan, used = made.plan, {use.kind: use.used for use in report.usage}
        fmax = f"{min(timing.fmax_hz for timing in report.timing) / 1e6:.1f}"
    return (
        *(f"{used.get(kind, 0):,}" for kind in ("logic_cells", "block_rams", "dsps")),
        f"{plan.cycles_per_frame:,}",
        fmax,
        f"{plan.frames_per_second:,.0f}",
    )


def table(names: Sequence[str] = CODES, *, planned: bool = False) -> Iterator[str]:
    """The lines of the Markdown table for the codes ``names``, each as soon as it is known.

    What does not fit, or misses the clock, has no row, and is told on the standard error.
    """
    rows = {name: row_of(name) for name in names}
    yield from markdown(("code", *FIGURES), []).splitlines()
    for name, row in rows.items():
        try:
            built = built_cells(row, planned)
        except FewbitError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        yield "| " + " | ".join((f"`{name}`", *exact_cells(row), *built)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codes", nargs="*", metavar="CODE", help="default: all")
    parser.add_argument("--planned", action="store_true", help="what the planner predicts, without a build")
    args = parser.parse_args()
    for line in table(args.codes or CODES, planned=args.planned):
        print(line, flush=True)


if __name__ == "__main__":
    main()
