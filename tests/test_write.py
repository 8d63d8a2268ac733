"""Files that are written whole or not at all, and what is no file, which stays what it is."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from fewbit.golden.errors import FewbitError
from fewbit.golden.write import check_folder, check_writable, write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_and_an_old_one(tmp_path):
    mask = os.umask(0o027)
    try:
        write(tmp_path / "a", b"one")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    (tmp_path / "a").chmod(0o604)
    write(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o604
    assert names(tmp_path) == ["a"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "target"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/target")
    check_writable(tmp_path / "link")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path / "there") == ["target"]


def test_a_link_to_what_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_pipe_is_written_through(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    check_writable(tmp_path / "pipe")
    write(tmp_path / "pipe", b"through")
    reader.join(10)
    assert got == [b"through"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_is_written_through(full):
    check_writable(full)
    with pytest.raises(FewbitError, match=f"^cannot write {full}: no space left on device$"):
        write(full, b"x")
    assert stat.S_ISCHR(full.stat().st_mode)
    assert names(full.parent) == ["full"]


def test_a_name_of_full_length(tmp_path):
    longest = "n" * 255
    write(tmp_path / longest, b"x")
    write(tmp_path / longest, b"y")
    assert (tmp_path / longest).read_bytes() == b"y"
    for call in (check_writable, lambda path: write(path, b"x")):
        with pytest.raises(FewbitError, match=r"^cannot write .*/n+: file name too long$"):
            call(tmp_path / ("n" * 256))


@pytest.mark.parametrize("place, why", [
    ("folder", "is a directory"), ("no/x", "no such file or directory"), ("file/x", "not a directory"),
])  # fmt: skip
def test_places_that_cannot_be_written(tmp_path, place, why):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FewbitError, match=f"^cannot write {tmp_path / place}: {why}$"):
        check_writable(tmp_path / place)
    with pytest.raises(FewbitError, match=f"^cannot write {tmp_path / place}: "):
        write(tmp_path / place, b"x")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The limit of a file's size stands for it: the write fails half-way."""
    import resource
    import signal

    (tmp_path / "a").write_bytes(b"old")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(FewbitError, match=f"^cannot write {tmp_path / 'a'}: file too large$"):
            write(tmp_path / "a", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_folders(tmp_path):
    (tmp_path / "file").write_text("mine")
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "newer")
    with pytest.raises(FewbitError, match=f"^cannot write to {tmp_path / 'file'}: file exists$"):
        check_folder(tmp_path / "file")
    with pytest.raises(FewbitError, match=f"^cannot write to {tmp_path / 'file' / 'x'}: not a directory$"):
        check_folder(tmp_path / "file" / "x")
    assert names(tmp_path) == ["file"]


def test_the_output_of_a_process_is_written_through(tmp_path):
    """/dev/stdout is a link to an open file, which may be a pipe without a place of its own."""
    code = "from fewbit.golden.write import *; check_writable('/dev/stdout'); write('/dev/stdout', b'through')"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"through"
    with (tmp_path / "file").open("wb") as file:
        file.write(b"before ")
        file.flush()
        subprocess.run(command, stdout=file, check=True)
    assert b"through" in (tmp_path / "file").read_bytes()
