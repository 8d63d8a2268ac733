"""Switching activity of the multipliers: transitions of nets a product, in netlists as a build maps them.

    python -m benchmarks.activity                     # both sizes, both families; under five minutes on two cores
    python -m benchmarks.activity 8 --family ice40    # one size, one family
    python -m benchmarks.activity --data pixels       # other activations; see benchmarks/operands.py

Every netlist is held to the golden product at every vector before anything is counted. The same vectors each time, so
the same figures from run to run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measure import mapped
from benchmarks.operands import HOLD, SOURCES, operands
from fewbit.golden import csd
from fewbit.golden.digits import largest_count
from fewbit.golden.dtype import Ints
from fewbit.golden.errors import FewbitError
from fewbit.hw.carry import Target
from fewbit.hw.csd import CsdMultiplier, Registers
from fewbit.hw.csd_serial import CsdMultiplierSerial
from fewbit.hw.emit import verilog
from fewbit.hw.multiplier import Multiplier
from fewbit.hw.rows import Tree
from fewbit.sim.toggles import CARRY_DELAY, LUT_DELAY, Mapped, Settled

DEVICES: dict[str, str] = {"ice40": "hx8k", "ecp5": "ecp5-25k"}
WIDTHS = (8, 16)
CASES = {"held": f"weights held for {HOLD} activations", "new": "a new weight for every product"}
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
    text : str
        Verilog, top module ``top``.
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
    text: str
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
        return f"module top(input {port} a, input {port} b, output {wide} product);\n  assign product = a * b;\nendmodule"
    return f"""\
module top(input clk, input en, input {port} a, input {port} b, output {wide} product);
  reg {port} x, y;
  reg {wide} held;
  wire {wide} now = x * y;
  always @(posedge clk) if (en) begin x <= a; y <= b; held <= now; end
  assign product = {"held" if registers == "ports" else "now"};
endmodule"""


PLAIN = {"none": "*", "inputs": "* with input registers", "ports": "* with input and output registers"}
_LIKE = {"none": "none", "digits": "inputs", "rows": "inputs", "all": "ports"}


def forms(width: int, family: Target) -> list[Form]:
    """The forms of ``*``, the other exact multipliers, then those by canonic signed digits."""
    flow = "abc" if family == "ecp5" else "default"  # abc9 drops instantiated carry cells in places
    found = [
        Form(name=name, like=name, text=plain(width, registers), latency=list(PLAIN).index(registers))
        for registers, name in PLAIN.items()
    ]
    found.append(Form(name="*, Yosys' booth", like="*", text=plain(width, "none"), flow="booth"))
    rows = verilog(Multiplier(width, width, family), "top")
    found.append(Form(name=f"rows ({'Booth' if family == 'ice40' else 'binary'})", like="*", text=rows, flow=flow))
    for recoded in (True, False):
        word = "digits" if recoded else "recoder"
        for registers in ("none", "digits", "rows", "all"):
            for tree in ("ripple", "balanced"):
                found.append(_csd(width, family, flow, recoded, tree, registers, f"{word}, {tree}"))  # type: ignore[arg-type]
        serial = CsdMultiplierSerial(width, width, recoded=recoded)
        found.append(
            Form(name=f"{word}, serial", like=PLAIN["ports"], text=verilog(serial, "top"), latency=-1, knob=True,
                 recoded=recoded)
        )  # fmt: skip
    return found


def _csd(
    width: int, family: Target, flow: str, recoded: bool, tree: Tree, registers: Registers, name: str
) -> Form:
    block = CsdMultiplier(width, width, recoded=recoded, target=family, tree=tree, registers=registers)
    return Form(
        name=name if registers == "none" else f"{name}, {registers}", like=PLAIN[_LIKE[registers]],
        text=verilog(block, "top"), flow=flow, latency=block.latency, knob=True, recoded=recoded,
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


def line(form: Form, *, family: str, width: int, source: str, streams: int) -> Line:
    """A form mapped, checked and counted in every case and at every quality."""
    cells, design = mapped(form.text, DEVICES[family], flow=form.flow)
    netlist = Mapped(design, "top")
    counts = {
        (case, quality if form.knob else 0): count(form, netlist, source, width, case, quality, streams)
        for case in CASES
        for quality in (qualities(width) if form.knob else (largest_count(width),))
    }
    return Line(form=form, cells=cells["lc"], flip_flops=cells["ff"], counts=counts)


def lines(width: int, family: Target, *, source: str = "network", streams: int = 64, only: str = "") -> list[Line]:
    """All forms of one size and family; of those by digits only the ones whose name holds ``only``."""
    chosen = [form for form in forms(width, family) if not form.knob or only in form.name]
    with ProcessPoolExecutor() as pool:
        one = partial(line, family=family, width=width, source=source, streams=streams)
        return list(pool.map(one, chosen))


def ratio(one: Line, all_lines: list[Line], case: str, quality: int, *, like: str = "") -> float:
    """Transitions with glitches of a form, over those of the ``*`` that it is compared with, or of ``like``."""
    name = like or one.form.like
    base = next(other for other in all_lines if other.form.name == name)
    return one.counts[case, quality if one.form.knob else 0].glitches / base.counts[case, 0].glitches


def best(all_lines: list[Line], case: str, quality: int) -> Line:
    """The form by digits known beforehand with the fewest transitions."""
    chosen = [one for one in all_lines if one.form.recoded]
    return min(chosen, key=lambda one: one.counts[case, quality].glitches)


def _table(width: int, family: str, case: str, found: list[Line]) -> Iterator[str]:
    levels = qualities(width)
    yield f"{width} x {width}, {family}, {CASES[case]}: transitions a product"
    head = "".join(f"{'K=' + str(k):>7}" for k in levels)
    yield f"{'form':30} {'LC':>5} {'FF':>4} |{'settled':<{7 * len(levels)}}|{'glitches':<{7 * len(levels)}}|over *, glitches"
    yield f"{'':30} {'':>5} {'':>4} |{head}|{head}|{head.replace('  K', 'K')} | clocked, K=2"
    for one in found:
        keys = [(case, k) for k in levels] if one.form.knob else [(case, 0)]
        pad = " " * 7 * (len(levels) - len(keys))
        settled = "".join(f"{one.counts[key].settled:7.1f}" for key in keys)
        glitches = "".join(f"{one.counts[key].glitches:7.1f}" for key in keys)
        over = "".join(f"{ratio(one, found, case, key[1]):5.2f}" for key in keys)
        short = " " * 5 * (len(levels) - len(keys))
        clocked = one.counts[case, 2 if one.form.knob else 0].clocked
        yield (
            f"{one.form.name.replace(' registers', ' reg.'):30} {one.cells:5} {one.flip_flops:4} |{settled}{pad}|"
            f"{glitches}{pad}|{over}{short} | {clocked:5.1f}"
        )
    yield ""


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activity", description=__doc__.split("\n", 1)[0])
    parser.add_argument("width", nargs="*", type=int, help="bits of the factors (default: 8 and 16)")
    parser.add_argument("--family", choices=DEVICES, help="default: both")
    parser.add_argument("--data", choices=SOURCES, default="network", help="what is multiplied (default: network)")
    parser.add_argument("--streams", type=int, default=64, help="16 products are counted in each; a multiple of 64")
    parser.add_argument("--only", default="", help="of the forms by digits, those with this in their name")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = _arguments(arguments)
    families: list[Any] = [options.family] if options.family else list(DEVICES)
    summary = []
    for width in options.width or WIDTHS:
        for family in families:
            found = lines(width, family, source=options.data, streams=options.streams, only=options.only)
            for case in CASES:
                print("\n".join(_table(width, family, case, found)), flush=True)
                for quality in qualities(width):
                    summary.append(f"{width} {family} {case} {quality}: {best(found, case, quality).form.name} {ratio(best(found, case, quality), found, case, quality):.3f}")
    print("\n".join(summary))


if __name__ == "__main__":
    main(sys.argv[1:])
