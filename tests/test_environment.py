"""The command line where its surroundings are not as they should be: one line, a status, and nothing lost. All of it
in processes of its own."""

import os
import stat
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from fewbit_files import tiny_file
from tiers import slow_but, slow_but_at

from fewbit.cli import main as cli


@pytest.fixture
def tiny(tmp_path):
    return tiny_file(tmp_path)


@pytest.fixture
def frames(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[3, 0, 1, 0], [0, 3, 0, 0]], np.uint8))
    return tmp_path / "x.npy"


def run(*arguments, stdout=subprocess.PIPE, shell="", **env):
    command = [sys.executable, "-m", "fewbit", *map(str, arguments)]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(
        command, env={**os.environ, **{name: str(value) for name, value in env.items()}},
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip


def refused(done, status=2):
    """The one line of an error."""
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("fewbit: ")
    return lines[0].removeprefix("fewbit: ")


ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}


@pytest.mark.parametrize(
    "arguments",
    slow_but_at(
        (0, 3),
        [("info", "mnist-conv"), ("boards",), ("--help",), ("run", "--help"), ("ip", "--help"), ("quantize", "--help")],
        whole=True,
    ),
)
def test_an_output_of_ascii_alone(arguments):
    done = run(*arguments, **ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_a_message_on_ascii_alone(tmp_path):
    message = refused(run("info", tmp_path / "naïve.onnx", **ASCII))
    assert message.isascii()
    assert message.endswith("ve.onnx: no such file")


@pytest.mark.parametrize("shell, message", [
    ("> /dev/full", "cannot write to the standard output: no space left on device"),
    (">&-", None),
])  # fmt: skip
def test_an_output_that_takes_nothing(tiny, shell, message):
    done = run("info", tiny, shell=shell)
    if message is None:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert refused(done) == message


def test_a_reader_that_goes_away(tiny):
    read, write = os.pipe()
    os.close(read)
    done = run("info", tiny, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_outputs_on_a_device(tiny, frames, full):
    done = run("run", tiny, "--inputs", frames, "--outputs", full)
    assert refused(done) == f"cannot write {full}: no space left on device"
    assert stat.S_ISCHR(full.stat().st_mode)


@pytest.mark.parametrize("place", slow_but(["file"], ["no/such", "file", "/proc"]))
def test_temporary_files_that_cannot_be_made(tiny, frames, tmp_path, place):
    """Python looks for another place, and compilers may or may not."""
    (tmp_path / "file").write_text("")
    done = run(
        "run", tiny, "--inputs", frames, "--engine", "rtl",
        TMPDIR=tmp_path / place, TEMP="", TMP="", FEWBIT_CACHE_DIR=tmp_path / "cache",
    )  # fmt: skip
    if done.returncode:
        assert "temporary" in refused(done)


@pytest.mark.parametrize("engine", ["rtl", "netlist"])
def test_no_place_for_temporary_files(tiny, frames, tmp_path, monkeypatch, capsys, engine):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(SystemExit, match="^2$"):
        cli.main(["run", str(tiny), "--inputs", str(frames), "--engine", engine])
    assert capsys.readouterr().err == (
        "fewbit: no temporary folder can be made: no such file or directory; set TMPDIR to one that can be written\n"
    )


@pytest.mark.parametrize(
    "compiler, message",
    slow_but_at((1, 3), [
        ("g++ 'unclosed", 'CXX="g++ \'unclosed" is not a command (no closing quotation): correct it, or unset CXX'),
        ("no-such-compiler", "CXX names 'no-such-compiler', which is not on the PATH; install it or unset CXX"),
        ("false", "the compiler false, which CXX names, failed with exit status 1; it wrote nothing"),
        (
            "true",
            "the compiler true, which CXX names, ends without an error but writes no output; choose another by CXX, "
            "or unset it",
        ),
    ]),
)  # fmt: skip
def test_compilers_that_are_none(tiny, frames, tmp_path, compiler, message):
    done = run("run", tiny, "--inputs", frames, "--engine", "rtl", CXX=compiler, FEWBIT_CACHE_DIR=tmp_path / "cache")
    assert refused(done) == message


def without(tmp_path, package):
    """An environment in which ``package`` is not installed."""
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {package!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "block"), os.environ.get("PYTHONPATH", os.getcwd())])}


@pytest.mark.parametrize("package", ["cocotb", "find_libpython"])
def test_a_bench_without_its_packages(tiny, tmp_path, package):
    done = run("verilog", tiny, "-o", tmp_path / "out", "--check", **without(tmp_path, package))
    assert refused(done) == (
        f"a bench needs the package {package}, which is not installed; run: pip install 'fewbit[bench]'"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "port",
    slow_but(
        ["loop://", "/dev/absent"], ["loop://", "loop://?nosuch=1", "socket://127.0.0.1:1", "nosuch://x", "/dev/absent"]
    ),
)
def test_ports_without_a_board(tiny, frames, port):
    refused(run("run", tiny, "--inputs", frames, "--engine", "board", "--port", port))


DESIGN, BOARD = ("generator", "design"), ("bitstreams", "board_design")

FIRST_OF_COMMAND = (0, 4, 10, 11, 12, 16)
"""Places in the list below: one for each command and each function that does its work."""

LATE = """
import sys
import fewbit.{module} as module
def late(*arguments, **options):
    raise SystemExit("the work has begun")
module.{name} = late
from fewbit.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "module, name, arguments, message",
    slow_but_at(FIRST_OF_COMMAND, [
        (*DESIGN, ("verilog", "{tiny}", "-o", "{file}"), "cannot write to {file}: file exists"),
        (*DESIGN, ("verilog", "{tiny}", "-o", "{file}/x"), "cannot write to {file}/x: not a directory"),
        (*DESIGN, ("verilog", "{tiny}", "-o", "{out}", "--check", "--simulator", "x"),
         "the simulator must be one of cxxrtl, icarus, icarus-2005, verilator, not 'x'"),
        (*DESIGN, ("verilog", "{tiny}", "-o", "{out}", "--inputs", "{none}"), "{none}: no such file"),
        (*BOARD, ("build", "{tiny}", "--board", "none", "-o", "{out}"), "unknown board 'none'"),
        (*BOARD, ("build", "{tiny}", "--board", "icebreaker", "-o", "{file}"),
         "cannot write to {file}: file exists"),
        (*BOARD, ("build", "{tiny}", "--board", "icebreaker", "-o", "{out}", "--baud", "30000000"),
         "30000000 baud is too fast for a clock of 24 MHz: ask for at most 3000000 baud"),
        (*BOARD, ("build", "{tiny}", "--board", "icebreaker", "-o", "{out}", "--clock", "900"), ""),
        (*BOARD, ("build", "{tiny}", "--board", "icebreaker", "-o", "{out}", "--baud", "100"),
         "a pause must last longer than 20 bits, not 0.1 s at 100 baud"),
        (*DESIGN, ("verilog", "{tiny}", "-o", "{out}/" + 300 * "x"), "cannot write to {out}/" + 300 * "x"),
        (*BOARD, ("demo", "--board", "icebreaker", "--out", "{file}"),
         "cannot write to {file}: file exists"),
        ("stimulus", "choose", ("run", "{tiny}", "--engine", "bitstream", "--check"),
         "the engine bitstream needs the folder of a finished build: --build DIR"),
        ("stimulus", "choose", ("run", "{tiny}", "--engine", "rtl", "--check", "--outputs", "{file}/y"),
         "cannot write {file}/y: not a directory"),
        ("stimulus", "choose", ("run", "{tiny}", "--engine", "netlist", "--target", "asic", "--check"),
         "there is no netlist for"),
        ("stimulus", "choose", ("run", "{tiny}", "--engine", "rtl", "--check", "--quality", "1"),
         "network 'tiny' has no quality to set: it does not multiply by signed digits"),
        ("stimulus", "choose", ("run", "{tiny}", "--engine", "board", "--board", "none", "--check"),
         "unknown board 'none'"),
        ("ip", "ip", ("ip", "xnor-popcount", "--width", "8", "-o", "{file}/x.v"),
         "cannot write {file}/x.v: not a directory"),
    ]),
)  # fmt: skip
def test_options_are_checked_before_the_work(tiny, tmp_path, module, name, arguments, message):
    (tmp_path / "file").write_text("mine")
    places = {"tiny": tiny, "file": tmp_path / "file", "out": tmp_path / "out", "none": tmp_path / "none.npy"}
    done = subprocess.run(
        [sys.executable, "-c", LATE.format(module=module, name=name), *(one.format(**places) for one in arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "the work has begun" not in done.stderr
    assert refused(done).startswith(message.format(**places))
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "name", slow_but(["../other.bin", "", 7], ["../other.bin", "/etc/hostname", "a/b.bin", "", "..", "a\\b.bin", 7])
)
def test_a_report_that_points_elsewhere(tiny, tmp_path, name):
    import json

    from fake_board import report_of

    from fewbit.golden import file

    report = json.loads(report_of(file.load(tiny)).to_json()) | {"bitstream": name}
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "report.json").write_text(json.dumps(report))
    (tmp_path / "other.bin").write_text("not ours")
    message = f"the build report names the bitstream {name!r}, which is not a plain file name: build again"
    assert refused(run("flash", "--dry-run", tmp_path / "build")) == message
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.uint8))
    arguments = ("--engine", "bitstream", "--build", tmp_path / "build")
    assert refused(run("run", tiny, "--inputs", tmp_path / "x.npy", *arguments)) == message
