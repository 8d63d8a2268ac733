"""The command line as its user meets it: what it prints, what it writes, and one clear line for each mistake."""

import os
import re
import stat
from dataclasses import replace

import numpy as np
import pytest
from fewbit_files import tiny_file

from fewbit import models
from fewbit.golden import file
from fewbit.sim.cocotb_run import available

COMMANDS = ("boards", "build", "demo", "flash", "info", "ip", "quantize", "run", "verilog")


@pytest.fixture
def tiny(tmp_path):
    return tiny_file(tmp_path)


@pytest.fixture
def frames(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([[3, 0, 1, 0], [0, 3, 0, 0], [1, 1, 1, 1]], np.uint8))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(fewbit, command):
    status, out, _ = fewbit(command, "--help")
    assert status == 0
    assert out.startswith(f"Usage: fewbit {command}")


def test_no_command_shows_the_help(fewbit):
    status, _, err = fewbit()
    assert status == 2
    assert all(f"\n  {command}" in err for command in COMMANDS)


def test_version(fewbit):
    status, out, _ = fewbit("--version")
    assert status == 0
    assert out.startswith("fewbit, version ")


def test_boards(fewbit):
    status, out, _ = fewbit("boards")
    assert status == 0
    for board in ("icebreaker", "ice40-hx8k-b-evn", "ulx3s-25f", "ulx3s-85f"):
        assert board in out


def test_info_shows_layers_and_cycles(fewbit, tiny):
    status, out, _ = fewbit("info", tiny, "--target", "hx8k")
    assert status == 0
    assert "tiny: input uint2[4] (integers), output uint1[1]" in out or "tiny: input uint2[4]" in out
    assert "8 weights in 8 bits" in out
    assert "cycles a frame" in out


def test_info_of_a_network_too_large_for_the_target_still_describes_it(fewbit):
    status, out, _ = fewbit("info", "mnist-large", "--target", "up5k", "--no-spram")
    assert status == 0
    assert "668,672 weights" in out
    assert "no plan for up5k: network 'mnist-large' does not fit Lattice iCE40UP5K" in out


@pytest.mark.parametrize("engine", ["golden", "rtl"])
def test_run_writes_the_output_and_tells_the_accuracy(fewbit, tiny, frames, tmp_path, engine):
    labels = tmp_path / "labels.npy"
    np.save(labels, np.array([0, 1, 1]))
    outputs = tmp_path / "y.npy"
    status, out, err = fewbit(
        "run", tiny, "--inputs", frames, "--engine", engine, "--outputs", outputs, "--labels", labels, "--check"
    )
    assert (status, err) == (0, "")
    assert "accuracy 66.67 %" in out
    assert "equal to golden: 3 of 3 frames" in out
    np.testing.assert_array_equal(np.load(outputs), [[0], [1], [0]])


def test_run_limit(fewbit, tiny, frames):
    _, out, _ = fewbit("run", tiny, "--inputs", frames, "--limit", 2)
    assert "2 frames" in out


def test_run_check_fails_with_status_1(fewbit, tiny, frames, monkeypatch):
    from fewbit import engines

    wrong = engines.run_golden

    def rtl(made, values, on_progress=None, quality=None):
        right = wrong(made.network, values)
        return engines.Run(right.network, right.scores + np.array([1, 0]), right.classes)

    monkeypatch.setattr(engines, "run_rtl", rtl)
    status, out, _ = fewbit("run", tiny, "--inputs", frames, "--engine", "rtl", "--check")
    assert status == 1
    assert "equal to golden: 0 of 3 frames" in out


def test_verilog_writes_a_bench_that_passes(fewbit, tiny, tmp_path):
    out_dir = tmp_path / "out"
    status, out, _ = fewbit("verilog", tiny, "-o", out_dir, "--check")
    assert status == 0
    assert sorted(path.name for path in out_dir.iterdir()) == [
        "bench", "fewbit_top.v", "plan.txt", "tb_fewbit_top.py", "vectors.json", "vectors.txt",
    ]  # fmt: skip
    assert "bench: " in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tiny.safetensors"]


def test_verilog_says_what_its_vectors_see(fewbit, tiny, tmp_path):
    _, out, _ = fewbit("verilog", tiny, "-o", tmp_path / "out", "--coverage", 0.5)
    notes = (tmp_path / "out" / "vectors.txt").read_text()
    assert notes in out
    assert re.search(r"  [\d,]+ of [\d,]+ single-weight faults are visible to these vectors, \d+ to none at all", notes)


def test_verilog_chooses_from_the_inputs(fewbit, tiny, frames, tmp_path):
    status, out, _ = fewbit("verilog", tiny, "-o", tmp_path / "out", "--inputs", frames, "--frames", 2)
    assert status == 0
    assert "2 vectors, chosen from 3 frames" in out


@pytest.mark.parametrize("engine", ["rtl", "netlist"])
def test_run_check_makes_its_own_frames(fewbit, tiny, engine):
    status, out, _ = fewbit("run", tiny, "--engine", engine, "--check", "--limit", 5)
    assert status == 0
    assert "single-weight faults are visible to these vectors" in out
    assert re.search(r"^equal to golden: ([1-5]) of \1 frames$", out, re.MULTILINE)


@pytest.mark.parametrize(
    "options", [(), ("--engine", "rtl"), ("--check",), ("--engine", "rtl", "--check", "--labels", "l")]
)
def test_run_without_inputs(refused, tiny, options):
    assert refused("run", tiny, *options) == (
        "--inputs is required; frames are generated only for --check without --labels, on an engine other than golden "
        "(see fewbit run --help)"
    )


@pytest.mark.slow
@pytest.mark.skipif(not available("verilator"), reason="verilator is not installed")
def test_verilog_checks_on_the_simulator_asked_for(fewbit, tiny, tmp_path):
    status, out, _ = fewbit("verilog", tiny, "-o", tmp_path / "out", "--check", "--simulator", "verilator")
    assert (status, "bench: 19 passed" in out) == (0, True)
    assert "Verilator" in (tmp_path / "out" / "bench" / "bench.log").read_text()


def test_verilog_refuses_a_simulator_before_it_writes(refused, tiny, tmp_path):
    call = ("verilog", tiny, "-o", tmp_path / "out", "--simulator", "fast")
    assert refused(*call) == "--simulator is the simulator of --check: add --check, or leave out --simulator"
    assert (
        refused(*call, "--check") == "the simulator must be one of cxxrtl, icarus, icarus-2005, verilator, not 'fast'"
    )
    assert not (tmp_path / "out").exists()


def test_verilog_bench_sees_a_fault(fewbit, tiny, tmp_path):
    from fewbit.sim.cocotb_run import BenchFailure
    from fewbit.verilog import run_exported_bench

    out_dir = tmp_path / "out"
    fewbit("verilog", tiny, "-o", out_dir)
    vectors = (out_dir / "vectors.json").read_text()
    network = file.load(tiny)
    weights = network.layers[0].weights.copy()
    weights[1, 2] *= -1
    fault = replace(network, layers=(replace(network.layers[0], weights=weights), *network.layers[1:]))
    file.save(fault, tiny)
    fewbit("verilog", tiny, "-o", out_dir)
    (out_dir / "vectors.json").write_text(vectors)
    with pytest.raises(BenchFailure):
        run_exported_bench(out_dir)


def test_a_network_that_is_not_there(refused, tmp_path):
    path = tmp_path / "absent.safetensors"
    assert refused("info", path) == f"{path}: no such file"


def test_a_truncated_network(refused, tiny):
    tiny.write_bytes(tiny.read_bytes()[:-3])
    assert f"{tiny}: not a whole .safetensors file" in refused("info", tiny)


def test_a_truncated_onnx(refused, tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(models.shipped()["tfc-w1a1"].read_bytes()[:5000])
    assert refused("info", path).startswith(f"{path}: ")


def test_a_foreign_file(refused, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8")
    assert refused("info", path) == f"{path}: a network must be a file .safetensors, .onnx or .tflite, not .jpg"


def test_wrong_shape(refused, tiny, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 5), np.uint8))
    assert refused("run", tiny, "--inputs", tmp_path / "x.npy") == "inputs must have shape (N, 4), not (2, 5)"


def test_wrong_type(refused, tiny, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 4), np.float32))
    message = refused("run", tiny, "--inputs", tmp_path / "x.npy")
    assert message == "network 'tiny' takes integers (uint2[4]), not float32"


def test_a_single_number_as_inputs(refused, tiny, tmp_path):
    np.save(tmp_path / "x.npy", np.uint8(3))
    message = refused("run", tiny, "--inputs", tmp_path / "x.npy")
    assert message == f"{tmp_path / 'x.npy'}: holds a single number, not frames (N, ...)"


def test_missing_inputs(refused, tiny, tmp_path):
    message = refused("run", tiny, "--inputs", tmp_path / "absent.npy")
    assert message == f"{tmp_path / 'absent.npy'}: no such file or directory"


def test_labels_of_another_length(refused, tiny, frames, tmp_path):
    np.save(tmp_path / "labels.npy", np.zeros(9, int))
    fewbit_says = refused("run", tiny, "--inputs", frames, "--labels", tmp_path / "labels.npy", "-q")
    assert fewbit_says == "labels must be 3 integers on one axis, not int64 (9,)"


def test_unwritable_outputs(refused, tiny, frames, tmp_path):
    message = refused("run", tiny, "--inputs", frames, "--outputs", tmp_path / "no" / "y.npy")
    assert message == f"cannot write {tmp_path / 'no' / 'y.npy'}: no such file or directory"


def test_unknown_board(refused, tiny, tmp_path):
    message = refused("build", tiny, "--board", "arty", "-o", tmp_path / "out")
    assert message.startswith("unknown board 'arty'; the boards are ")
    assert "icebreaker" in message
    assert not (tmp_path / "out").exists()


def test_board_that_is_too_small(refused, tmp_path):
    message = refused("build", "mnist-large", "--board", "icebreaker", "--no-spram", "-o", tmp_path / "out")
    assert message.startswith("network 'mnist-large' does not fit Lattice iCE40UP5K: it needs about ")
    assert message.endswith("take a larger board, more --max-lut, or a smaller network")
    assert not (tmp_path / "out").exists()


def test_frame_rate_out_of_reach(refused, tiny):
    status_line = refused("verilog", tiny, "-o", "never", "--fps", "1e9")
    assert status_line.startswith("1e+09 frames a second are out of reach on Lattice iCE40UP5K at 24 MHz; the fastest")


@pytest.mark.parametrize("option", ["--clock", "--fps"])
@pytest.mark.parametrize("wish", ["0", "-5", "nan", "inf", "fast"])
@pytest.mark.parametrize("command", [("verilog", "-o", "never"), ("info",)], ids=lambda command: command[0])
def test_a_clock_or_a_rate_that_is_none(refused, tiny, command, option, wish):
    name, *rest = command
    message = refused(name, tiny, *rest, option, wish)
    assert message == f"Invalid value for '{option}': '{wish}' is not a number above 0. (see fewbit {name} --help)"


def test_output_folder_that_is_a_file(refused, tiny, tmp_path):
    (tmp_path / "out").write_text("mine")
    message = refused("verilog", tiny, "-o", tmp_path / "out")
    assert message == f"cannot write to {tmp_path / 'out'}: file exists"
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_without_permission(refused, tiny, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert refused("verilog", tiny, "-o", locked / "out") == f"cannot write to {locked / 'out'}: permission denied"


def test_output_folder_under_a_file(refused, tiny, tmp_path):
    (tmp_path / "file").write_text("mine")
    message = refused("verilog", tiny, "-o", tmp_path / "file" / "out")
    assert message == f"cannot write to {tmp_path / 'file' / 'out'}: not a directory"


def test_unknown_option(refused):
    assert "No such option" in refused("info", "mnist-small", "--colour")


def test_unknown_command(refused):
    assert "No such command 'synthesize'" in refused("synthesize")


def test_missing_argument(refused):
    assert "Missing argument 'MODEL'" in refused("info")


def test_unknown_target(refused):
    assert "'--target'" in refused("info", "mnist-small", "--target", "xc7")


def test_flash_without_a_build(refused, tmp_path):
    message = refused("flash", tmp_path / "nothing")
    assert message.endswith("run fewbit build first")


def test_input_kind_of_a_native_model(refused, tiny):
    assert "is for ONNX files" in refused("info", tiny, "--input", "uint8/255")


def test_board_that_is_not_connected(refused, tiny, frames):
    message = refused("run", tiny, "--inputs", frames, "--engine", "board", "--port", "/dev/absent")
    assert "/dev/absent" in message
