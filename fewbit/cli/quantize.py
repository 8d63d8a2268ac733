"""The command ``fewbit quantize``."""

from __future__ import annotations

from pathlib import Path

import click

from fewbit import FewbitError
from fewbit.cli.options import model_argument, quiet_option
from fewbit.progress import Reporter

_RULES = ("paper", "least-squares", "nearest")
_AXES = ("inputs", "outputs", "channel", "tensor")


@click.command()
@model_argument
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="OUT.safetensors")
@click.option(
    "--code",
    default="shift3",
    show_default=True,
    metavar="CODE",
    help="binary, ternary, quinary, shift3, shift3(PHI), csd(TERMS,EXPONENTS) or int(BITS).",
)
@click.option("--rule", type=click.Choice(_RULES), default="nearest", show_default=True, help="Quantization rule.")
@click.option("--vector", type=click.IntRange(min=1), metavar="N", help="Number of weights that share a scale.")
@click.option(
    "--axis",
    type=click.Choice(_AXES),
    help="Weights that share a scale: vectors along the inputs or across the outputs, all weights of an output "
    "(channel), or all weights (tensor).  [default: channel; inputs with --vector]",
)
@click.option("--two-scales", is_flag=True, help="One scale for positive and one for negative levels.")
@click.option("--alpha-bits", default=8, show_default=True, metavar="B", help="Bits of a stored scale, with sign.")
@click.option(
    "--alpha-fraction", type=int, metavar="F", help="Fraction bits of a stored scale.  [default: all that fit]"
)
@click.option("--activations", type=int, metavar="B", help="Bits of the activations, 1 to 8.  [default: 8]")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME=SETTING[:SETTING...]",
    help="Settings of one layer: a code, a rule, two-scales, alpha-bits=B, alpha-fraction=F, vector=N, axis=A. May be "
    "repeated.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="X",
    help="A few hundred frames to calibrate the activation ranges: .npy or idx (.gz).",
)
@click.option("--inputs", type=click.Path(path_type=Path), metavar="X", help="Frames to measure the accuracy on.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="L", help="Their true classes.")
@click.option(
    "--input",
    "pixels",
    metavar="KIND",
    help="Integers that a float input is computed from.  [default: uint8/255]",
)
@quiet_option
def quantize(
    model: str,
    out: Path,
    code: str,
    rule: str,
    vector: int | None,
    axis: str | None,
    two_scales: bool,
    alpha_bits: int,
    alpha_fraction: int | None,
    activations: int | None,
    layers: tuple[str, ...],
    calibration: Path | None,
    inputs: Path | None,
    labels: Path | None,
    pixels: str | None,
    quiet: bool,
) -> None:
    """Quantize the weights of MODEL, a float ONNX model or an integer network, to few bits.

    The activations of a float model are quantized, too; those of an integer network stay as they are. Calibration
    frames are optional. With --inputs and --labels the accuracy before and after is printed.
    """
    from fewbit import arrays
    from fewbit.golden import file
    from fewbit.golden.codes import Code
    from fewbit.golden.network import Network
    from fewbit.golden.quantizers.weight_vectors import WeightVectors
    from fewbit.golden.write import check_writable
    from fewbit.quantization.quantize import accuracy, input_kind
    from fewbit.quantization.quantize import quantize as run_quantize
    from fewbit.quantization.recipe import Recipe
    from fewbit.quantization.report import describe
    from fewbit.readers import load_source

    if out.suffix.lower() != ".safetensors":
        raise FewbitError(f"{out}: the output must be a .safetensors file, not {out.suffix or 'without a suffix'}")
    check_writable(out)
    if (inputs is None) != (labels is None):
        raise FewbitError("the accuracy needs both --inputs and --labels")
    vectors = WeightVectors(axis or ("channel" if vector is None else "inputs"), vector or 0)
    recipe = Recipe(
        code=Code.parse(code), rule=rule, vectors=vectors, two_scales=two_scales, scale_bits=alpha_bits,
        scale_fraction=alpha_fraction,
    )  # fmt: skip
    named = dict(recipe.named(layer) for layer in layers)
    source = load_source(model)
    kind = None if isinstance(source, Network) else input_kind(pixels)
    labelled = (
        None
        if inputs is None or labels is None
        else (
            arrays.read_rows(inputs, "frames"),
            arrays.read_rows(labels, "labels"),
        )
    )
    frames = None if calibration is None else arrays.read_rows(calibration, "frames")
    with Reporter(quiet).steps("quantizing") as step:
        accuracies = []
        if labelled is not None:
            step("accuracy before")
            accuracies.append(accuracy(source, *labelled, kind))
        quantization = run_quantize(
            source,
            recipe,
            layers=named,
            activations=activations,
            input=pixels,
            calibration=frames,
            on_progress=step,
        )
        if labelled is not None:
            step("accuracy after")
            accuracies.append(accuracy(quantization.network, *labelled, kind))
    file.save(quantization.network, out)
    print(describe(quantization))
    if labelled is not None:
        before, after = (f"{100 * share:.2f} %" for share in accuracies)
        print(f"accuracy of {len(labelled[0]):,} frames: {before} before, {after} after")
    print(f"wrote {out}")
