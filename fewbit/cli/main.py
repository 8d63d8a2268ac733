"""The commands of ``fewbit``, and the exit status of the command line."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fewbit import FewbitError, __version__
from fewbit.cli.ip import ip
from fewbit.cli.options import constraint_options, input_option, model_argument, quiet_option
from fewbit.cli.quantize import quantize
from fewbit.progress import Reporter

COVERAGE, MOST = 0.98, 200
"""Default coverage and number of test vectors; copied from :mod:`fewbit.stimulus`, which is slow to import."""

_LONGEST = 500
"""Largest number of characters of an error message."""
_TARGETS = ("up5k", "hx8k", "ecp5-25k", "ecp5-85k", "asic")


def _stimulus(network: Any, frames: Any, most: int, coverage: float, reporter: Reporter) -> Any:
    """Choose test vectors of ``network`` for single faults: from ``frames`` or, if that is None, generated ones."""
    from fewbit.stimulus import choose

    with reporter.bar("choosing vectors", most) as done:
        return choose(network, frames, coverage=coverage, most=most, on_progress=done)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fewbit")
def cli() -> None:
    """Hardware for few-bit neural networks: a trained model goes in, Verilog and a bitstream come out.

    MODEL is a file (a native .safetensors, or QONNX .onnx as Brevitas exports it) or the name of a network that
    comes with fewbit, such as mnist-small. Every engine and every step gives the same integers. An error in the
    input is reported in one line, with exit status 2. A wrong result ends with exit status 1.
    """


@cli.command()
@click.option("--board", default="icebreaker", show_default=True, help="Board to build for.")
@click.option(
    "--model", "model_name", metavar="MODEL", help="Network; by default the most accurate shipped one that fits."
)
@click.option(
    "--out", "out_dir", type=click.Path(path_type=Path), default=Path("build/demo"), show_default=True, metavar="DIR"
)
@click.option(
    "--frames", default=1000, show_default=True, type=click.IntRange(min=1), help="Test images to run through the RTL."
)
@input_option
@quiet_option
def demo(board: str, model_name: str | None, out_dir: Path, frames: int, input_kind: str | None, quiet: bool) -> None:
    """Run all steps on real data: accuracy, Verilog, comparison of RTL and golden, bitstream, one-page report."""
    from fewbit.demo import demo as run_demo

    print(
        run_demo(
            board, out_dir, model_name=model_name, input_kind=input_kind, rtl_frames=frames, reporter=Reporter(quiet)
        )
    )


def _print_supported(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    import textwrap

    from fewbit.readers import supported_operators

    for title, operators in supported_operators().items():
        print(f"{title}:")
        print(textwrap.fill(", ".join(operators), 100, initial_indent="  ", subsequent_indent="  "))
    context.exit()


@cli.command()
@model_argument
@click.option(
    "--supported",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_supported,
    help="List the ONNX operators that can be imported, and exit.",
)
@click.option("--target", type=click.Choice(_TARGETS), default="up5k", show_default=True, help="Device to fold onto.")
@constraint_options
@input_option
def info(model: str, target: str, input_kind: str | None, **constraints: Any) -> None:
    """Show layers, number types, memory and operations, and the folding onto a target with its exact cycles."""
    from fewbit.generator import design
    from fewbit.hw.planner.constraints import Constraints
    from fewbit.readers import load
    from fewbit.report import describe_network, describe_plan

    network = load(model, input=input_kind)
    print(describe_network(network))
    print()
    try:
        planned = design(network, target, Constraints(**constraints))
    except FewbitError as error:
        print(f"no plan for {target}: {error}")
        return
    print(describe_plan(planned.plan))


@cli.command()
@model_argument
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="X",
    help="Frames: .npy, or idx (.gz).  [default with --check: generated frames that detect single faults]",
)
@click.option(
    "--engine",
    type=click.Choice(("golden", "rtl", "netlist", "bitstream", "board")),
    default="golden",
    show_default=True,
)
@click.option(
    "--outputs", type=click.Path(path_type=Path), metavar="Y.npy", help="Write the model's output tensor here."
)
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="L", help="True classes (.npy or idx): prints the accuracy."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N frames.")
@click.option("--check", is_flag=True, help="Compare with golden; exit status 1 if they differ.")
@click.option(
    "--quality",
    type=click.IntRange(min=0),
    metavar="K",
    help="Number of most significant signed digits that count in each multiplication by a scale or csd weight, on any "
    "engine.  [default: all]",
)
@click.option(
    "--target", type=click.Choice(_TARGETS), default="up5k", show_default=True, help="Device, for rtl and netlist."
)
@click.option("--board", default="icebreaker", show_default=True, help="Board, for the engine board.")
@click.option("--port", help="Serial port of the board.  [default: found by its USB ids]")
@click.option(
    "--build",
    "build_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of a finished build, for bitstream and board.",
)
@input_option
@quiet_option
def run(
    model: str,
    inputs: Path | None,
    engine: str,
    outputs: Path | None,
    labels: Path | None,
    limit: int | None,
    check: bool,
    quality: int | None,
    target: str,
    board: str,
    port: str | None,
    build_dir: Path | None,
    input_kind: str | None,
    quiet: bool,
) -> None:
    """Run frames through MODEL on an engine: the same numbers from any of them."""
    from fewbit import arrays, engines
    from fewbit.boards import catalogue
    from fewbit.golden.write import check_writable
    from fewbit.readers import load

    if inputs is None and (not check or engine == "golden" or labels is not None):
        raise click.UsageError("--inputs is required; frames are generated only for --check without --labels, on an "
                               "engine other than golden", click.get_current_context())  # fmt: skip
    network = load(model, input=input_kind)
    engines.check(network, engine, target=target, build_dir=build_dir, quality=quality)
    if engine == "board":
        catalogue.get(board)
    if outputs is not None:
        check_writable(outputs)
    reporter = Reporter(quiet)
    if inputs is None:
        stimulus = _stimulus(network, None, limit or MOST, COVERAGE, reporter)
        print(stimulus)
        frames = stimulus.frames
    else:
        frames = arrays.read_rows(inputs, "frames")
    classes = None if labels is None else arrays.read_rows(labels, "labels")
    if limit is not None:
        frames = frames[:limit]
        classes = None if classes is None else classes[:limit]
    if classes is not None:
        engines.check_labels(network, classes, len(frames))
    with reporter.bar(engine, len(frames)) as done:
        result = engines.run(
            network,
            frames,
            engine,
            target=target,
            board=board,
            port=port,
            build_dir=build_dir,
            quality=quality,
            on_progress=done,
        )
    if outputs is not None:
        arrays.write(outputs, result.output)
    print(f"{network.name} on {engine}: {len(frames):,} frames, output {network.output}")
    if result.cycles is not None:
        print(f"{result.cycles:,} cycles, {result.cycles / max(1, len(frames)):,.1f} a frame")
    if classes is not None:
        print(f"accuracy {100 * result.accuracy(classes):.2f} %")
    if outputs is not None:
        print(f"wrote {outputs}")
    if check:
        expected = engines.run(network, frames, quality=quality)
        wrong = engines.differing_frames(result, expected)
        print(f"equal to golden: {len(frames) - len(wrong):,} of {len(frames):,} frames")
        if len(wrong):
            raise SystemExit(1)


cli.add_command(quantize)
cli.add_command(ip)


@cli.command()
@model_argument
@click.option("-o", "--out", "out_dir", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option("--target", type=click.Choice(_TARGETS), default="up5k", show_default=True)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="X",
    help="Frames to choose the vectors from.  [default: generated frames]",
)
@click.option(
    "--frames", default=MOST, show_default=True, type=click.IntRange(min=1), help="Largest number of vectors."
)
@click.option(
    "--coverage",
    default=COVERAGE,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the visible single faults that generated vectors must detect; no more are added when they do.",
)
@click.option("--check", is_flag=True, help="Run the bench; exit status 1 if it fails.")
@click.option(
    "--simulator", metavar="NAME", help="What --check runs on: cxxrtl, icarus, icarus-2005 or verilator.  [$FEWBIT_SIM]"
)
@constraint_options
@input_option
@quiet_option
def verilog(
    model: str,
    out_dir: Path,
    target: str,
    inputs: Path | None,
    frames: int,
    coverage: float,
    check: bool,
    simulator: str | None,
    input_kind: str | None,
    quiet: bool,
    **constraints: Any,
) -> None:
    """Write MODEL as Verilog, with a cocotb bench and test vectors from the golden model."""
    from fewbit import arrays
    from fewbit.engines import network_inputs
    from fewbit.generator import design
    from fewbit.golden.write import check_folder
    from fewbit.hw.planner.constraints import Constraints
    from fewbit.readers import load
    from fewbit.sim.cocotb_run import choose
    from fewbit.verilog import run_exported_bench, write_verilog

    if simulator is not None and not check:
        raise FewbitError("--simulator is the simulator of --check: add --check, or leave out --simulator")
    if check:
        simulator = choose(simulator)
    check_folder(out_dir)
    network = load(model, input=input_kind)
    candidates = None if inputs is None else network_inputs(network, arrays.read_rows(inputs, "frames"))
    planned = design(network, target, Constraints(**constraints))
    reporter = Reporter(quiet)
    stimulus = _stimulus(planned.network, candidates, frames, coverage, reporter)
    files = write_verilog(planned, out_dir, stimulus.frames, notes=str(stimulus))
    print(stimulus)
    for file in files:
        print(f"wrote {file}")
    if check:
        with reporter.steps("bench") as step:
            step("simulating")
            results = run_exported_bench(out_dir, simulator=simulator)
        print(f"bench: {len(results)} passed")


@cli.command()
@model_argument
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A .onnx file (QONNX) or a .safetensors file (native).",
)
@input_option
def export(model: str, out: Path, input_kind: str | None) -> None:
    """Write MODEL as QONNX, which qonnx executes with the same integers and Netron draws, or in the native format."""
    from fewbit import writers
    from fewbit.golden.write import check_writable
    from fewbit.readers import load

    writers.check_suffix(out)
    check_writable(out)
    network = load(model, input=input_kind)
    writers.export(network, out)
    print(f"wrote {out}: {network.name}, {network.input} to {network.output}")


@cli.command()
@model_argument
@click.option("--board", required=True, help="Board to build for; fewbit boards lists them.")
@click.option("-o", "--out", "out_dir", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option("--baud", type=click.IntRange(min=1), help="Bits a second of the serial link.  [default: 1000000]")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0, 2**31 - 4), help="First seed of place and route."
)
@click.option("--yosys", type=click.Choice(("yowasp", "native", "pyosys")), default="yowasp", show_default=True)
@constraint_options
@input_option
@quiet_option
def build(
    model: str,
    board: str,
    out_dir: Path,
    baud: int | None,
    seed: int,
    yosys: Any,
    input_kind: str | None,
    quiet: bool,
    **constraints: Any,
) -> None:
    """Build the bitstream of MODEL for a board, with a report of its resources and timing."""
    from fewbit.bitstreams import build as run_build
    from fewbit.hw.planner.constraints import Constraints
    from fewbit.readers import load

    network = load(model, input=input_kind)
    options: dict[str, Any] = {} if baud is None else {"baud": baud}
    with Reporter(quiet).steps(f"building for {board}") as step:
        _, report = run_build(
            network,
            board,
            out_dir,
            Constraints(**constraints),
            seed=seed,
            yosys=yosys,
            on_progress=step,
            **options,
        )
    print(report, end="")
    print(f"wrote {out_dir / report.bitstream}")


@cli.command()
@click.argument("build_dir", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only print the command.")
@click.option("--permanent", is_flag=True, help="On ECP5: write the flash, so that the design survives power-off.")
def flash(build_dir: Path, dry_run: bool, permanent: bool) -> None:
    """Program a board with the finished build in DIR."""
    from fewbit.boards.flash import flash as run_flash

    print(run_flash(build_dir, permanent=permanent, dry_run=dry_run))


@cli.command()
def boards() -> None:
    """List the boards that fewbit builds for."""
    from fewbit.boards.catalogue import BOARDS
    from fewbit.hw.fabric.devices import target
    from fewbit.report import table

    rows = []
    for board in BOARDS:
        device = target(board.target)
        assert device.capacity is not None
        rows.append(
            (
                board.name,
                board.title,
                device.title,
                device.capacity.cells,
                device.capacity.rams,
                f"{board.clock_hz / 1e6:g}",
            )
        )
    print(table(("board", "name", "device", "logic cells", "block RAMs", "clock MHz"), rows, left=3))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with status 0 (success), 1 (wrong result), 2 (error in the input) or 128 + N
    (signal N)."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):  # None where it is closed
            output.reconfigure(errors="replace")  # an ASCII terminal cannot show the multiplication sign
    raise SystemExit(_written(_status(lambda: cli.main(arguments, prog_name="fewbit", standalone_mode=False))))


def _written(status: int) -> int:
    """Flush standard output; return ``status``, or another exit status if the output cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _unwritable(error)
    return status


def _unwritable(error: OSError) -> int:
    from fewbit.golden.errors import reason

    # Otherwise Python would try again at exit, and print a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        return 1
    return _fail(f"cannot write to the standard output: {reason(error)}", 2)


def _status(work: Callable[[], Any]) -> int:
    from fewbit.golden.errors import reason
    from fewbit.hw import child
    from fewbit.sim.cocotb_run import BenchFailure

    # Amaranth warns about components of a design that was abandoned because of an error; the error message is enough.
    warnings.filterwarnings("ignore", message=r".* created but never used")
    try:
        with child.signals():
            work()
    except child.Terminated as error:
        return _fail("interrupted" if error.number == signal.SIGINT else "terminated", 128 + error.number)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        command = (
            f" {error.ctx.info_name}" if isinstance(error, click.UsageError) and error.ctx and error.ctx.parent else ""
        )
        hint = f" (see fewbit{command} --help)" if isinstance(error, click.UsageError) else ""
        return _fail(f"{error.format_message()}{hint}", 2)
    except FewbitError as error:
        first, *more = str(error).split("\n")
        status = _fail(first, 2)
        for line in more:  # further obstacles of a file
            print(_line(line), file=sys.stderr)
        return status
    except BenchFailure as error:
        return _fail(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.filename is None and error.errno == errno.ENOSPC:  # standard output; files raise FewbitError
            return _unwritable(error)
        where = "" if error.filename is None else f"{error.filename}: "
        return _fail(f"{where}{reason(error)}", 2)
    except MemoryError:
        return _fail("this machine has too little memory", 2)
    return 0


def _fail(message: str, status: int) -> int:
    print(_line(f"fewbit: {message}"), file=sys.stderr)
    return status


def _line(message: str) -> str:
    """``message`` as one line of limited length."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(message.split()))
    if len(line) > _LONGEST:  # names may be very long; the file and the reason are at the ends of the line
        line = f"{line[: _LONGEST // 2]} ... {line[-(_LONGEST // 2 - 5) :]}"
    return line
