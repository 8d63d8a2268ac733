"""What all tests share: a known Yosys, and the cocotb benches of `fewbit.sim` as one call."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from work_kinds import case, kinds, uncounted

from fewbit.cli import main as cli
from fewbit.hw.emit import verilog
from fewbit.sim.cocotb_run import TestResult, run_bench
from fewbit.sim.vectors import Vectors

os.environ["AMARANTH_USE_YOSYS"] = "builtin"

# A shell starts what runs in the background with interrupts ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""Every collected test, also those that are not selected."""

_started: list[str] = []
"""Programs that the test at hand has started."""


def _note_programs(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "subprocess.Popen":
        return
    command = arguments[1] if isinstance(arguments[1], (list, tuple)) else [arguments[1]]
    program = Path(os.fsdecode(command[0])).name
    # Python itself asks these two what the platform is, and a compiler's version is asked for once in a process.
    if program not in ("ldconfig", "uname") and "--version" not in command:
        _started.append(program)


sys.addaudithook(_note_programs)


@pytest.hookimpl(tryfirst=True)  # before slow tests are deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[COLLECTED] = list(items)
    if path := os.environ.get("FEWBIT_LIST_TESTS"):
        Path(path).write_text(json.dumps([[*case(item)[:3], sorted(kinds(item))] for item in items]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _started.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    result = yield
    if item.get_closest_marker("slow") is None and (wrong := uncounted(kinds(item), _started)):
        pytest.fail(wrong, pytrace=False)
    return result


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of the test module's own for what is compiled and mapped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWBIT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bench_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where benches compile what is the same for all of them: one folder for the workers of a run."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "bench_cache"


@pytest.fixture
def bench(tmp_path: Path, bench_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[TestResult]]:
    """``bench(component, "tb_stream", vectors)``: the emitted Verilog of a component under a bench of `fewbit.sim`.

    What comes third is handed over as a file: :class:`Vectors`, or a dict of plain JSON.
    """
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(bench_cache))

    def run(component: Any, module: str, cases: Vectors | dict[str, Any]) -> list[TestResult]:
        file = tmp_path / "cases.json"
        if isinstance(cases, Vectors):
            cases.save(file)
        else:
            file.write_text(json.dumps(cases))
        return run_bench(
            verilog(component, "dut"),
            toplevel="dut",
            module=f"fewbit.sim.{module}",
            build_dir=tmp_path / "bench",
            env={"FEWBIT_VECTORS": str(file), "FEWBIT_CASES": str(file)},
            seed=1,
        )

    return run


@pytest.fixture
def fewbit(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """``fewbit("info", "model")`` runs a command: exit status, standard output, standard error."""

    def call(*arguments: Any) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


@pytest.fixture
def refused(fewbit: Callable[..., tuple[Any, str, str]]) -> Callable[..., str]:
    """The one line with which a command refuses, after checking that it is one line and the status is 2."""

    def call(*arguments: Any) -> str:
        status, out, err = fewbit(*arguments)
        assert (status, out) == (2, "")
        assert err.count("\n") == 1, err
        assert err.startswith("fewbit: ")
        return err.removeprefix("fewbit: ").rstrip("\n")

    return call


@pytest.fixture
def full(tmp_path):
    """A device node of our own that is always full: a fault in the test would replace it."""
    node = tmp_path / "full"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        node.open("wb").close()
    except OSError:
        pytest.skip("device nodes cannot be made here")
    return node
