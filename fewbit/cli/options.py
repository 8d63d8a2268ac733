"""Arguments and options of several commands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

model_argument = click.argument("model", metavar="MODEL")
input_option = click.option(
    "--input",
    "input_kind",
    metavar="KIND",
    help="Integers that the float input of an ONNX model is computed from, such as uint8/255 for pixels / 255: the "
    "board then takes pixels.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show results only, no progress.")


def _above_zero(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{text!r} is not a number above 0.", context, parameter)
    return number


def _hertz(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    mhz = _above_zero(context, parameter, text)
    return None if mhz is None else round(mhz * 1e6)


_CONSTRAINTS = (
    click.option("--clock", "clock_hz", callback=_hertz, metavar="MHZ", help="Clock to plan for, in MHz."),
    click.option(
        "--fps",
        callback=_above_zero,
        metavar="N",
        help="Plan for N frames per second instead of the fastest design that fits.",
    ),
    click.option(
        "--max-lut", "max_cells", type=click.IntRange(min=1), metavar="N", help="Largest number of logic cells."
    ),
    click.option(
        "--dsp",
        is_flag=True,
        help="Use DSP blocks for scales, too: fewer cells, but a lower --quality then saves no energy.",
    ),
    click.option(
        "--spram/--no-spram",
        default=None,
        help="Whether weights may be in SPRAM, which the host loads at the start.  [default: if nothing else fits]",
    ),
)


def constraint_options(command: F) -> F:
    """Add the options for a plan's constraints, named as in :class:`fewbit.hw.planner.constraints.Constraints`."""
    for option in reversed(_CONSTRAINTS):
        command = option(command)
    return command
