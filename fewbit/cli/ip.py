"""The command ``fewbit ip``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fewbit import FewbitError


@click.group(context_settings={"show_default": True})
def ip() -> None:
    """Write one datapath as a single Verilog-2001 file, its datasheet as the header."""


_file = click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Output file; standard output by default."
)
_testbench = click.option("--testbench", is_flag=True, help="Write a cocotb bench beside FILE.")


def _block(name: str, out: Path | None, testbench: bool, **options: Any) -> None:
    from fewbit.ip import ip as make
    from fewbit.ip import write_ip

    if out is None:
        if testbench:
            raise FewbitError("a bench is written to the folder of the Verilog file: name the file with -o FILE")
        print(make(name, **options), end="")
        return
    for file in write_ip(name, out, testbench=testbench, **options):
        print(f"wrote {file}")


@ip.command("shift-decoder")
@click.option("--scale-width", type=int, required=True, metavar="B", help="Bits of the scale.")
@_file
@_testbench
def shift_decoder(scale_width: int, out: Path | None, testbench: bool) -> None:
    """The 3-bit shift-and-invert weight decoder: code, scale to weight (B + 3 bits, signed), illegal."""
    _block("shift-decoder", out, testbench, scale_width=scale_width)


@ip.command("xnor-popcount")
@click.option("--width", type=int, required=True, metavar="N", help="Bits of each operand.")
@click.option("--stages", type=int, default=0, help="Pipeline stages; 0 is combinational.")
@click.option("--target", type=click.Choice(("generic", "ice40", "ecp5")), default="generic", help="Device family.")
@_file
@_testbench
def xnor_popcount(width: int, stages: int, target: str, out: Path | None, testbench: bool) -> None:
    """The binary multiply-accumulate: a, b (N bits) to count, the number of equal bits; clk and rst if pipelined."""
    _block("xnor-popcount", out, testbench, width=width, stages=stages, target=target)


@ip.command("csd-multiplier")
@click.option("--width-a", type=int, required=True, metavar="A", help="Bits of a, signed.")
@click.option("--width-b", type=int, required=True, metavar="B", help="Bits of b, signed: the recoded operand.")
@click.option(
    "--form",
    type=click.Choice(("parallel", "serial")),
    default="parallel",
    help="All digits in one cycle, or one per cycle.",
)
@click.option("--recoded", is_flag=True, help="Replace b by a port `digits` with the recoded operand.")
@_file
@_testbench
def csd_multiplier(width_a: int, width_b: int, form: str, recoded: bool, out: Path | None, testbench: bool) -> None:
    """The canonic-signed-digit multiplier: a, b, quality to product (A + B bits, signed).

    The serial form also has the ports clk, rst, start and done.
    """
    _block("csd-multiplier", out, testbench, width_a=width_a, width_b=width_b, form=form, recoded=recoded)


@ip.command("binary-mac")
@click.option("--pe", type=int, required=True, metavar="P", help="Number of sums.")
@click.option("--simd", type=int, required=True, metavar="S", help="Bits of an input word.")
@click.option("--bits", type=int, required=True, metavar="A", help="Bits of a sum.")
@click.option("--stages", type=int, default=1, help="Pipeline stages in a popcount.")
@click.option("--target", type=click.Choice(("generic", "ice40", "ecp5")), default="generic", help="Device family.")
@_file
@_testbench
def binary_mac(pe: int, simd: int, bits: int, stages: int, target: str, out: Path | None, testbench: bool) -> None:
    """The binary MAC array: x (S bits), w (P x S bits), first, preset to sum (P x A bits) and sign (P bits).

    In each clock cycle, the number of equal bits in x and word p of w is added to sum p. If the preset is 2**(A - 1)
    minus a threshold, the sign says whether the sum has reached the threshold.
    """
    _block("binary-mac", out, testbench, pe=pe, simd=simd, bits=bits, stages=stages, target=target)


@ip.command("matvec")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    required=True,
    metavar="W.npy",
    help="Weights as an integer array, outputs x inputs.",
)
@click.option("--code", default="binary", metavar="CODE", help="Weight code: binary, ternary, int(4) ...")
@click.option("--activation", default="bipolar", metavar="TYPE", help="Type of the inputs: bipolar, uint2, int8 ...")
@click.option("--pe", type=int, default=1, help="Outputs at a time.")
@click.option("--simd", type=int, default=1, help="Inputs at a time.")
@click.option("--memory", type=click.Choice(("block", "logic")), default="block", help="Memory of the weights.")
@click.option(
    "--buffer",
    type=click.Choice(("block", "distributed", "ring")),
    default="block",
    help="Memory of the input vectors: block RAM, distributed RAM or rings of flip-flops.",
)
@click.option("--stages", type=int, default=1, help="Pipeline stages in the sum of the lanes.")
@click.option("--target", type=click.Choice(("generic", "ice40", "ecp5")), default="generic", help="Device family.")
@_file
@_testbench
def matvec(weights: Path, out: Path | None, testbench: bool, **options: Any) -> None:
    """The folded matrix-vector unit with its weights: a stream of S inputs in, a stream of P sums out."""
    from fewbit import arrays

    levels = arrays.read(weights)
    if levels.ndim != 2 or levels.dtype.kind not in "iu" or 0 in levels.shape:
        raise FewbitError(
            f"{weights}: weights must be an integer array, outputs x inputs, not {levels.dtype} {levels.shape}"
        )
    _block("matvec", out, testbench, weights=levels.astype("int64"), **options)


@ip.command("shift-lane")
@click.option("--code", default="shift3", metavar="CODE", help="binary, ternary, quinary or shift3.")
@click.option("--simd", type=int, default=1, metavar="N", help="Number of lanes, whose products are summed.")
@click.option("--activation", default="uint8", metavar="TYPE", help="Type of x: uint8, int4, bipolar ...")
@click.option("--stages", type=int, default=0, help="Pipeline stages; 0 is combinational.")
@click.option("--target", type=click.Choice(("generic", "ice40", "ecp5")), default="generic", help="Device family.")
@_file
@_testbench
def shift_lane(
    code: str, simd: int, activation: str, stages: int, target: str, out: Path | None, testbench: bool
) -> None:
    """The shift-and-invert multiply-accumulate: N activations x and N weights code to sum (signed) and illegal.

    The pipelined form also has the ports clk and rst.
    """
    _block("shift-lane", out, testbench, code=code, simd=simd, activation=activation, stages=stages, target=target)
