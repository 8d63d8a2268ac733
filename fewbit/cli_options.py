"""Arguments and options that several commands share."""

from __future__ import annotations

import click

model_argument = click.argument("model", metavar="MODEL")
input_option = click.option(
    "--input",
    "input_kind",
    metavar="KIND",
    help="What a float ONNX input is made of, such as uint8/255 for pixels / 255: the board then takes pixels.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress, only results.")
