"""Comparison of weight codes on one network and board: accuracy, size and speed.

    python -m benchmarks.codes [--planned] [CODE ...]

The network is LeNet-5, fine-tuned for each code in the same way (``models/train_codes.py``): sixteen weights share a
scale of eight bits, and activations have three bits. A code for which no network was trained uses the network of a code
with the same levels. Each build takes minutes; ``--planned`` prints the planner's predictions instead.
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
"""Frames per second for which every row is planned."""

TWO_SCALES = ", two scales"
"""Suffix of a code whose positive and negative levels have a scale each."""
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
    """A network and its recorded accuracies: ``at_once`` without retraining, with 8-bit activations; and fine-tuned."""

    network: Network
    at_once: float
    accuracy: float


@cache
def row_of(code: str) -> Row:
    """The shipped LeNet-5 in ``code``, or the one in a code with the same levels, recoded.

    Raises
    ------
    LookupError
        If none is shipped.
    """
    requested, two_scales = Code.parse(code.removesuffix(TWO_SCALES)), code.endswith(TWO_SCALES)
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
        trained_code = Code.parse(recipe["code"])
        if trained_code.levels.tolist() == requested.levels.tolist():
            alike.append((trained_code != requested, name))
    if not alike:
        raise LookupError(f"no LeNet-5 with {code} weights and activations of {ACTIVATION_BITS} bits is shipped")
    _, name = min(alike)
    facts = models.facts(name)
    return Row(
        network=recoded(shipped(name), requested),
        at_once=facts["accuracy_without_retraining"]["uint8 activations"],
        accuracy=facts["test_accuracy"],
    )


def recoded(network: Network, code: Code) -> Network:
    """``network`` with the same weights, stored in ``code``."""
    layers = [replace(layer, code=code) if isinstance(layer, Linear) else layer for layer in network.layers]
    return replace(network, layers=tuple(layers))


def stored_bits(network: Network) -> int:
    """Bits per stored weight, for the widest code in the network."""
    return max(layer.code.bits for layer in network.layers if isinstance(layer, Linear))


def exact_cells(row: Row) -> tuple[str, ...]:
    """The table cells that need no build: bits per weight, and the accuracies."""
    return str(stored_bits(row.network)), f"{row.at_once:.2f} %", f"{row.accuracy:.2f} %"


def built_cells(row: Row, planned: bool) -> tuple[str, ...]:
    """The remaining table cells of :data:`FIGURES`, from a build or, if ``planned``, from the plan."""
    if planned:
        plan = board_design(row.network, catalogue.get(BOARD), Constraints(clock_hz=CLOCK_HZ, fps=FPS)).plan
        used = {"logic_cells": plan.cost.cells, "block_rams": plan.cost.rams, "dsps": plan.cost.dsps}
        fmax = "-"
    else:
        with tempfile.TemporaryDirectory() as folder:
            planned_design, report = build(
                row.network, BOARD, Path(folder) / "out", Constraints(clock_hz=CLOCK_HZ, fps=FPS)
            )
        plan, used = planned_design.plan, {use.kind: use.used for use in report.usage}
        fmax = f"{min(timing.fmax_hz for timing in report.timing) / 1e6:.1f}"
    return (
        *(f"{used.get(kind, 0):,}" for kind in ("logic_cells", "block_rams", "dsps")),
        f"{plan.cycles_per_frame:,}",
        fmax,
        f"{plan.frames_per_second:,.0f}",
    )


def table(names: Sequence[str] = CODES, *, planned: bool = False) -> Iterator[str]:
    """Yield the lines of the Markdown table for the codes ``names``, each when its build is finished.

    A code that does not fit or misses the timing has no line; the reason is printed on standard error.
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
