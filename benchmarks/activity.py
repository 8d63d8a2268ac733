# amaranth: UnusedElaboratable=no
"""Switching activity of the multipliers: net transitions per product, in netlists that are mapped as for a board.

    python -m benchmarks.activity                     # both widths and families; minutes
    python -m benchmarks.activity 8 --family ice40    # one width, one family
    python -m benchmarks.activity --all               # also the run-time recoder with every form of multiplier
    python -m benchmarks.activity --data pixels       # other activations; see benchmarks/operands.py

Before transitions are counted, every product of the netlist is compared with the golden model. The test vectors are
the same in each run, and so are the figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from amaranth.lib import wiring

from benchmarks.measure import mapped
from benchmarks.operands import HOLD, SOURCES, operands
from fewbit.golden import csd
from fewbit.golden.digits import largest_count
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.fabric.carry import Target
from fewbit.hw.multiply.csd import REGISTERS, CsdMultiplier
from fewbit.hw.multiply.csd_serial import CsdMultiplierSerial
from fewbit.hw.multiply.exact import Multiplier
from fewbit.hw.multiply.partial_products import TREES
from fewbit.sim.toggles import CARRY_DELAY, LUT_DELAY, Mapped, Settled

DEVICES: dict[Target, str] = {"ice40": "hx8k", "ecp5": "ecp5-25k"}
OWN_FLOW: dict[Target, str] = {"ice40": "default", "ecp5": "abc"}  # abc9 sometimes drops instantiated carry cells
WIDTHS = (8, 16)
CASES = {"held": f"weights held for {HOLD} activations", "new": "a new weight for every product"}
RARE = tuple(f"recoder, {tree}, {registers}" for tree in TREES for registers in ("rows", "all"))
DATA = {
    "network": "Activations: sums of the first layer of mnist-small, over test images. Weights: second layer of a\n"
    "small float network (benchmarks/operands.py). Both scaled to the width, the largest to its largest number.",
    "pixels": "Activations: pixels of the test images, less 128. Weights: the second layer of a small float network.",
    "uniform": "Activations: uniform. Weights: normal. From no network.",
}
WARM = HOLD
"""Number of products before counting starts, which fill the pipelines; the same number is then counted."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of multiplier whose transitions are counted.

    Attributes
    ----------
    name : str
    like : str
        Name of the form of ``*`` that it is compared with, which has registers in the same places.
    block : Component or str
        The multiplier as a component, or as Verilog with the top module ``top``.
    flow : str
        Synthesis flow, one of :data:`benchmarks.measure.FLOWS`.
    latency : int
        Cycles from operands to product; -1 for the serial form, which takes one cycle per digit and one more.
    knob : bool
        Whether it has a quality.
    recoded : bool
        Whether its second operand is given as digits, recoded beforehand, instead of ``b``.
    """

    name: str
    like: str
    block: wiring.Component | str
    flow: str = "default"
    latency: int = 0
    knob: bool = False
    recoded: bool = False

    @property
    def serial(self) -> bool:
        """Whether it is the serial form."""
        return self.latency < 0


@dataclass(frozen=True, kw_only=True)
class Count:
    """Transitions per product of settled values, and with glitches; and clock edges at enabled flip-flops."""

    settled: float
    glitches: float
    clocked: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """Results for a form: logic cells, flip-flops, and counts by case and quality (0 for forms without a quality)."""

    form: Form
    cells: int
    flip_flops: int
    counts: Mapping[tuple[str, int], Count]


def plain(width: int, registers: str) -> str:
    """Verilog of ``a * b``. ``registers`` is ``none``, ``inputs``, or ``ports`` for both inputs and output."""
    port, wide = f"signed [{width - 1}:0]", f"signed [{2 * width - 1}:0]"
    if registers == "none":
        return (
            f"module top(input {port} a, input {port} b, output {wide} product);\n  assign product = a * b;\nendmodule"
        )
    return f"""\
module top(input clk, input en, input {port} a, input {port} b, output {wide} product);
  reg {port} x, y;
  reg {wide} held;
  wire {wide} now = x * y;
  always @(posedge clk) if (en) begin x <= a; y <= b; held <= now; end
  assign product = {"held" if registers == "ports" else "now"};
endmodule"""


PLAIN = {"none": "*", "inputs": "*, inputs registered", "ports": "*, all ports registered"}
_LIKE = {"none": "none", "digits": "inputs", "rows": "inputs", "all": "ports"}


def forms(width: int, family: Target) -> list[Form]:
    """All forms to compare: those of ``*``, the other exact multipliers, and the canonic-signed-digit multipliers."""
    all_forms = [
        Form(name=name, like=name, block=plain(width, registers), latency=list(PLAIN).index(registers))
        for registers, name in PLAIN.items()
    ]
    all_forms.append(Form(name="*, Yosys' booth", like="*", block=plain(width, "none"), flow="booth"))
    rows = Multiplier(width, width, family)
    all_forms.append(
        Form(name=f"rows ({'Booth' if family == 'ice40' else 'binary'})", like="*", block=rows, flow=OWN_FLOW[family])
    )
    for recoded in (True, False):
        word = "digits" if recoded else "recoder"
        for registers in REGISTERS:
            for tree in TREES:
                name = f"{word}, {tree}" if registers == "none" else f"{word}, {tree}, {registers}"
                all_forms.append(_csd(width, family, recoded, tree, registers, name))
        serial = CsdMultiplierSerial(width, width, recoded=recoded)
        all_forms.append(
            Form(name=f"{word}, serial", like=PLAIN["ports"], block=serial, latency=-1, knob=True,
                 recoded=recoded)
        )  # fmt: skip
    return all_forms


def _csd(width: int, family: Target, recoded: bool, tree: Any, registers: Any, name: str) -> Form:
    block = CsdMultiplier(width, width, recoded=recoded, target=family, tree=tree, registers=registers)
    return Form(
        name=name, like=PLAIN[_LIKE[registers]], block=block, flow=OWN_FLOW[family],
        latency=block.latency, knob=True, recoded=recoded,
    )  # fmt: skip


def qualities(width: int) -> tuple[int, ...]:
    """The qualities to measure: 1 to 4, and all digits."""
    return tuple(sorted({*range(1, min(4, largest_count(width)) + 1), largest_count(width)}))


def count(form: Form, netlist: Mapped, source: str, width: int, case: str, quality: int, streams: int) -> Count:
    """Simulate a netlist, compare every product with the golden model, and count transitions.

    Raises
    ------
    FewbitError
        If a product of the netlist differs from the golden one.
    """
    products = 2 * WARM
    a, b = operands(source, width, products + 1, streams, held=case == "held")
    digits = csd.recode(b, width)
    kept_digits = csd.keep(digits, quality) if form.knob else digits
    expected = a * csd.value(kept_digits)
    inputs: dict[str, Ints] = {"a": a, "en": np.ones_like(a), "quality": np.full_like(a, quality)}
    inputs |= {"digits": csd.encode(digits).astype(np.int64)} if form.recoded else {"b": b}
    slot = 1 + quality if form.serial else 1
    inputs = {name: np.repeat(values, slot, axis=0) for name, values in inputs.items() if name in netlist.ports}
    if form.serial:
        inputs["start"] = np.broadcast_to((np.arange(len(a) * slot) % slot == 0)[:, None], inputs["a"].shape)
    settled = netlist.settle({name: values[: products * slot + 1] for name, values in inputs.items()})
    delay = slot if form.serial else form.latency
    got = settled.port("product", signed=True)[delay::slot]
    wrong = got != expected[: len(got)]
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        raise FewbitError(
            f"{form.name}: {a[place]} times {b[place]} at a quality of {quality} is {expected[place]}, not {got[place]}"
        )
    first, counted = WARM * slot + (1 if form.serial else 0), (products - WARM) * streams
    if not form.serial:
        settled = Settled(netlist, settled.states[:-1], settled.enabled[:-1])
    return Count(
        settled=settled.zero_delay(first=first).total / counted,
        glitches=settled.glitches(first=first).total / counted,
        clocked=settled.clocked(first=first, where=_busy(kept_digits, slot) if form.serial else None) / counted,
    )


def _busy(kept_digits: Ints, slot: int) -> Any:
    """Mask (cycles, streams) of the cycles in which the serial form works on a product."""
    needs = 1 + (kept_digits[:-1] != 0).sum(-1)
    edges = np.arange(1, slot + 1)[None, :, None] <= needs[:, None]
    return np.concatenate([np.zeros((1, needs.shape[1]), bool), edges.reshape(-1, needs.shape[1])])


def line(form: Form, *, family: Target, width: int, source: str, streams: int) -> Line:
    """Map a form, check it, and count its transitions in every case and at every quality."""
    cells, design = mapped(form.block, DEVICES[family], flow=form.flow)
    netlist = Mapped(design, "top")
    counts = {
        (case, quality if form.knob else 0): count(form, netlist, source, width, case, quality, streams)
        for case in CASES
        for quality in (qualities(width) if form.knob else (largest_count(width),))
    }
    return Line(form=form, cells=cells["lc"], flip_flops=cells["ff"], counts=counts)


def lines(
    width: int, family: Target, *, source: str = "network", streams: int = 64, names: Container[str] | None = None
) -> list[Line]:
    """Results for all forms of one width and family. ``names`` selects those with a quality; None is all.

    The forms are measured in parallel on all cores; the results do not depend on that.
    """
    chosen = [form for form in forms(width, family) if not form.knob or names is None or form.name in names]
    measure_form = partial(line, family=family, width=width, source=source, streams=streams)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(measure_form, chosen))


def ratio(result: Line, results: list[Line], case: str, quality: int, *, like: str = "") -> float:
    """Transitions with glitches of a form, divided by those of the form ``like``; by default, of ``form.like``."""
    name = like or result.form.like
    base = next(other_result for other_result in results if other_result.form.name == name)
    return _at(result, case, quality).glitches / _at(base, case, quality).glitches


def best(results: list[Line], case: str, quality: int) -> Line:
    """The form with digits recoded beforehand that has the fewest transitions."""
    return min(
        (result for result in results if result.form.recoded),
        key=lambda result: _at(result, case, quality).glitches,
    )


def _at(result: Line, case: str, quality: int) -> Count:
    return result.counts[case, quality if result.form.knob else 0]


def table(width: int, family: str, case: str, results: list[Line]) -> Iterator[str]:
    """Lines of the table of results: three groups of columns, each with a column for every quality K."""
    levels = qualities(width)

    def row(name: str, lc: object, ff: object, blocks: list[list[str]], last: str) -> str:
        sizes = (6, 7, 5)
        cells = ["".join(f"{cell:>{size}}" for cell in block) for block, size in zip(blocks, sizes)]
        padded = [f"{cell:{size * len(levels)}}" for cell, size in zip(cells, sizes)]
        return f"{name:31}{lc:>4}{ff:>4} |{' |'.join(padded)} |{last:>6}"

    yield f"{width} x {width}, {family}, {CASES[case]}: transitions a product"
    titles = [f"{'  ' + title:{size * len(levels)}}" for title, size in
              zip(("settled", "with glitches", "over its *"), (6, 7, 5))]  # fmt: skip
    yield f"{'':31}{'':4}{'':4} |{' |'.join(titles)} | edges"
    yield row("", "LC", "FF", [[f"K={k}" for k in levels]] * 3, "K=2")
    for result in results:
        counts = [_at(result, case, quality) for quality in (levels if result.form.knob else levels[:1])]
        ratios = [ratio(result, results, case, quality) for quality in levels[: len(counts)]]
        blocks = [[f"{count.settled:.0f}" for count in counts], [f"{count.glitches:.1f}" for count in counts]]
        blocks.append([f"{value:.2f}" for value in ratios])
        yield row(result.form.name, result.cells, result.flip_flops, blocks, f"{_at(result, case, 2).clocked:.0f}")
    yield ""


def verdict(width: int, family: str, results: list[Line]) -> Iterator[str]:
    """Text lines that say for which forms a low quality saves transitions, and for which it does not."""
    full = largest_count(width)
    yield f"{width} x {width}, {family}:"
    for case, description in CASES.items():
        exact = min(
            (result for result in results if not result.form.knob),
            key=lambda result: result.counts[case, 0].glitches,
        )
        chosen = {quality: best(results, case, quality) for quality in (1, 2, full)}
        yield f"  {description}; fewest transitions by digits, over its * (bare *, best exact form):"
        for quality, result in chosen.items():
            own_ratio = ratio(result, results, case, quality)
            bare_ratio = ratio(result, results, case, quality, like="*")
            exact_ratio = ratio(result, results, case, quality, like=exact.form.name)
            yield f"    K={quality}: {own_ratio:.2f} ({bare_ratio:.2f}, {exact_ratio:.2f}), {result.form.name}"
        for quality in (2, full):
            more = [
                result.form.name
                for result in results
                if result.form.knob and ratio(result, results, case, quality) >= 1
            ]
            listed = f"no fewer than * at K={quality}: {'; '.join(more) or 'none'}"
            yield textwrap.fill(listed, 120, initial_indent=" " * 4, subsequent_indent=" " * 6)


NOTE = f"""\
How to read this. A transition is a change of the output of a LUT, a carry or a flip-flop in the synthesized netlist.
"settled" compares the values at the ends of cycles. "with glitches" counts all changes within a cycle, with a delay
of {LUT_DELAY} units for a LUT and {CARRY_DELAY} for each bit of a carry chain. Changes of primary inputs are not
counted, those of registers are. "edges" are clock edges at enabled flip-flops at K=2; each is two transitions of a
clock pin, which are not counted elsewhere. "over its *" is the ratio to Yosys' * with registers in the same places. The
serial form counts all cycles of a product, and is compared with * with registers at all ports. K is the quality, the
number of non-zero digits that are kept; the last K keeps all, and is exact. "digits" are recoded beforehand, a
"recoder" works at run time. The last word of a name says where the registers are: before the partial products (digits),
after them (rows), or after every adder level (all).

The paper claims that energy is saved by gating the partial products that a quality leaves unused. By this proxy that is
true where the ratio is below 1: with held weights, at a low quality, and more so for wider operands. It is not true for
the forms listed as no fewer than *. Each partial product passes on the glitches of those before it. Therefore, at full
quality, with weights that change every time, or behind a run-time recoder, they may have more transitions than *, which
the settled values do not show. A pipeline stage after the recoder keeps its glitches from the partial products.
This is a proxy for energy: net transitions with one delay model and without wire loads, not joules.
"""


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activity", description=__doc__.split("\n", 1)[0])
    parser.add_argument("width", nargs="*", type=int, help="bits of the operands (default: 8 and 16)")
    parser.add_argument("--family", choices=DEVICES, help="default: both")
    parser.add_argument("--data", choices=SOURCES, default="network", help="what is multiplied (default: network)")
    parser.add_argument("--streams", type=int, default=64, help=f"{WARM} products are counted in each (default: 64)")
    parser.add_argument("--all", action="store_true", help="also the run-time recoder with every form of multiplier")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = _arguments(arguments)
    families: list[Target] = [options.family] if options.family else list(DEVICES)
    print(f"{DATA[options.data]}\n{WARM * options.streams} products for every figure.\n")
    verdicts: list[str] = []
    for width in options.width or WIDTHS:
        for family in families:
            every = [form.name for form in forms(width, family)]
            names = every if options.all else [name for name in every if name not in RARE]
            results = lines(width, family, source=options.data, streams=options.streams, names=names)
            for case in CASES:
                print("\n".join(table(width, family, case, results)), flush=True)
            verdicts += verdict(width, family, results)
    print("\n".join([*verdicts, "", NOTE]), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
