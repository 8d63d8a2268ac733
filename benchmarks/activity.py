# amaranth: UnusedElaboratable=no
"""Switching activity of the multipliers: transitions of nets a product, in netlists as a build maps them.

    python -m benchmarks.activity                     # both sizes and families; minutes
    python -m benchmarks.activity 8 --family ice40    # one size, one family
    python -m benchmarks.activity --all               # the run-time recoder before every form of the rows as well
    python -m benchmarks.activity --data pixels       # other activations; see benchmarks/operands.py

Every netlist is held to the golden product at every vector before anything is counted. The same vectors each time, so
the same figures from run to run.
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
OWN_FLOW: dict[Target, str] = {"ice40": "default", "ecp5": "abc"}  # abc9 drops instantiated carry cells in places
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
"""Products before the counted ones, which are as many: every pipeline is full, and one weight in each is changed."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A multiplier to count the transitions of.

    Attributes
    ----------
    name : str
    like : str
        The form of ``*`` that it is compared with: registers in the same places.
    block : Component or str
        It, or Verilog of it, top module ``top``.
    flow : str
        How it is mapped: one of :data:`benchmarks.measure.FLOWS`.
    latency : int
        Cycles from operands to product; -1 for the serial form, which takes one for every digit and one more.
    knob : bool
        Whether it has a quality.
    recoded : bool
        Whether it takes digits in place of ``b``.
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
        return self.latency < 0


@dataclass(frozen=True, kw_only=True)
class Count:
    """Transitions a product: settled values only, and with glitches. Clock edges at flip-flops that were enabled."""

    settled: float
    glitches: float
    clocked: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """A form as counted: logic cells, flip-flops, and counts by case and quality (0 where there is no knob)."""

    form: Form
    cells: int
    flip_flops: int
    counts: Mapping[tuple[str, int], Count]


def plain(width: int, registers: str) -> str:
    """Verilog of ``a * b``, with no registers, with some at the ``inputs``, or at inputs and output (``ports``)."""
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
    """The forms of ``*``, the other exact multipliers, then those by canonic signed digits."""
    found = [
        Form(name=name, like=name, block=plain(width, registers), latency=list(PLAIN).index(registers))
        for registers, name in PLAIN.items()
    ]
    found.append(Form(name="*, Yosys' booth", like="*", block=plain(width, "none"), flow="booth"))
    rows = Multiplier(width, width, family)
    found.append(
        Form(name=f"rows ({'Booth' if family == 'ice40' else 'binary'})", like="*", block=rows, flow=OWN_FLOW[family])
    )
    for recoded in (True, False):
        word = "digits" if recoded else "recoder"
        for registers in REGISTERS:
            for tree in TREES:
                name = f"{word}, {tree}" if registers == "none" else f"{word}, {tree}, {registers}"
                found.append(_csd(width, family, recoded, tree, registers, name))
        serial = CsdMultiplierSerial(width, width, recoded=recoded)
        found.append(
            Form(name=f"{word}, serial", like=PLAIN["ports"], block=serial, latency=-1, knob=True,
                 recoded=recoded)
        )  # fmt: skip
    return found


def _csd(width: int, family: Target, recoded: bool, tree: Any, registers: Any, name: str) -> Form:
    block = CsdMultiplier(width, width, recoded=recoded, target=family, tree=tree, registers=registers)
    return Form(
        name=name, like=PLAIN[_LIKE[registers]], block=block, flow=OWN_FLOW[family],
        latency=block.latency, knob=True, recoded=recoded,
    )  # fmt: skip


def qualities(width: int) -> tuple[int, ...]:
    """1 to 4, and all digits."""
    return tuple(sorted({*range(1, min(4, largest_count(width)) + 1), largest_count(width)}))


def count(form: Form, netlist: Mapped, source: str, width: int, case: str, quality: int, streams: int) -> Count:
    """Transitions of a netlist, once every product of it is right.

    Raises
    ------
    FewbitError
        If the netlist gives a product that is not the golden one.
    """
    products = 2 * WARM
    a, b = operands(source, width, products + 1, streams, held=case == "held")
    digits = csd.recode(b, width)
    kept = csd.keep(digits, quality) if form.knob else digits
    expected = a * csd.value(kept)
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
        clocked=settled.clocked(first=first, where=_busy(kept, slot) if form.serial else None) / counted,
    )


def _busy(kept: Ints, slot: int) -> Any:
    """Cycles and streams into which a clock edge leads that a product of the serial form needs."""
    needs = 1 + (kept[:-1] != 0).sum(-1)
    edges = np.arange(1, slot + 1)[None, :, None] <= needs[:, None]
    return np.concatenate([np.zeros((1, needs.shape[1]), bool), edges.reshape(-1, needs.shape[1])])


def line(form: Form, *, family: Target, width: int, source: str, streams: int) -> Line:
    """A form mapped, checked and counted in every case and at every quality."""
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
    """Forms of one size and family; of those with a quality only the ones in ``names``, if given.

    The work runs beside itself on as many cores as there are; what comes out does not depend on that.
    """
    chosen = [form for form in forms(width, family) if not form.knob or names is None or form.name in names]
    one = partial(line, family=family, width=width, source=source, streams=streams)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, chosen))


def ratio(one: Line, found: list[Line], case: str, quality: int, *, like: str = "") -> float:
    """Transitions with glitches of a form, over those of the ``*`` that it is compared with, or of ``like``."""
    name = like or one.form.like
    base = next(other for other in found if other.form.name == name)
    return _at(one, case, quality).glitches / _at(base, case, quality).glitches


def best(found: list[Line], case: str, quality: int) -> Line:
    """The form by digits known beforehand with the fewest transitions."""
    return min((one for one in found if one.form.recoded), key=lambda one: _at(one, case, quality).glitches)


def _at(one: Line, case: str, quality: int) -> Count:
    return one.counts[case, quality if one.form.knob else 0]


def table(width: int, family: str, case: str, found: list[Line]) -> Iterator[str]:
    """The lines of a printed table: three blocks of columns, each with a column for every quality K."""
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
    for one in found:
        counts = [_at(one, case, quality) for quality in (levels if one.form.knob else levels[:1])]
        ratios = [ratio(one, found, case, quality) for quality in levels[: len(counts)]]
        blocks = [[f"{one.settled:.0f}" for one in counts], [f"{one.glitches:.1f}" for one in counts]]
        blocks.append([f"{value:.2f}" for value in ratios])
        yield row(one.form.name, one.cells, one.flip_flops, blocks, f"{_at(one, case, 2).clocked:.0f}")
    yield ""


def verdict(width: int, family: str, found: list[Line]) -> Iterator[str]:
    """Where keeping few digits saves transitions in these lines, and where it does not."""
    full = largest_count(width)
    yield f"{width} x {width}, {family}:"
    for case, said in CASES.items():
        exact = min((one for one in found if not one.form.knob), key=lambda one: one.counts[case, 0].glitches)
        chosen = {quality: best(found, case, quality) for quality in (1, 2, full)}
        yield f"  {said}; fewest transitions by digits, over its * (bare *, best exact form):"
        for quality, one in chosen.items():
            own, bare = ratio(one, found, case, quality), ratio(one, found, case, quality, like="*")
            least = ratio(one, found, case, quality, like=exact.form.name)
            yield f"    K={quality}: {own:.2f} ({bare:.2f}, {least:.2f}), {one.form.name}"
        for quality in (2, full):
            more = [one.form.name for one in found if one.form.knob and ratio(one, found, case, quality) >= 1]
            listed = f"no fewer than * at K={quality}: {'; '.join(more) or 'none'}"
            yield textwrap.fill(listed, 120, initial_indent=" " * 4, subsequent_indent=" " * 6)


NOTE = f"""\
How to read this. A transition is a change of the output of a LUT, a carry or a flip-flop, in the synthesized netlist.
"settled" compares the values at the ends of cycles; "with glitches" counts every change on the way, where a LUT takes
{LUT_DELAY} units of time and every bit of a carry chain {CARRY_DELAY}. Changes of primary inputs are left out, those of
registers are not. "edges" are clock edges at enabled flip-flops at K=2: two transitions of a clock pin each, counted
nowhere else. "over its *" compares with Yosys' * with registers in the same places. The serial form counts all cycles
of a product, and is compared with * with all ports registered. K is the quality, the non-zero digits that are kept; the
last K keeps all, and is exact. "digits" are recoded beforehand, a "recoder" works at run time; the last word of a name
says where registers are: before the rows (digits), after them (rows), after every level (all).

The paper's claim is that gating the partial products that a quality leaves unused saves energy. By this proxy it holds
where a ratio is below 1: where weights are held, at a low quality, and the more so the wider the factors. It does not
hold for the forms listed as no fewer than *: every row hands on the glitches of those before it, so that at full
quality, with weights that change every time, or behind a run-time recoder, rows may cost more than *, which the settled
values alone do not show. A pipeline stage after the recoder keeps its glitches from the rows.
It is a proxy: transitions of nets under one model of delay, without the loads of wires, not joules.
"""


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activity", description=__doc__.split("\n", 1)[0])
    parser.add_argument("width", nargs="*", type=int, help="bits of the factors (default: 8 and 16)")
    parser.add_argument("--family", choices=DEVICES, help="default: both")
    parser.add_argument("--data", choices=SOURCES, default="network", help="what is multiplied (default: network)")
    parser.add_argument("--streams", type=int, default=64, help=f"{WARM} products are counted in each (default: 64)")
    parser.add_argument("--all", action="store_true", help="the run-time recoder before every form of the rows")
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
            found = lines(width, family, source=options.data, streams=options.streams, names=names)
            for case in CASES:
                print("\n".join(table(width, family, case, found)), flush=True)
            verdicts += verdict(width, family, found)
    print("\n".join([*verdicts, "", NOTE]), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
