"""Kept builds: whatever happens to their files, what is used is what was made."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiers import slow_but

from fewbit.sim import cache
from fewbit.sim.cache import MANIFEST


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """An entry of two files, and the folder of its kind."""
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "a").write_bytes(bytes(range(256)))
    (work / "b").write_text("b")
    kept = cache.keep("kind", "key", work, ["a", "b"])
    assert kept == tmp_path / "cache" / "kind" / "key"
    return work, kept


def test_what_is_kept_is_found(entry):
    work, kept = entry
    assert cache.find("kind", "key") == kept
    assert (kept / "a").read_bytes() == (work / "a").read_bytes()
    assert cache.find("kind", "other") is None
    assert cache.find("other", "key") is None


def test_a_second_of_the_same_key_changes_nothing(entry):
    work, kept = entry
    before = (kept / "a").stat().st_ino
    assert cache.keep("kind", "key", work, ["a", "b"]) == kept
    assert (kept / "a").stat().st_ino == before
    assert [path.name for path in kept.parent.iterdir()] == ["key"]


def truncate(folder):
    (folder / "a").write_bytes((folder / "a").read_bytes()[:100])


def flip(folder):
    content = bytearray((folder / "a").read_bytes())
    content[77] ^= 1
    (folder / "a").write_bytes(content)


def swap(folder):
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")


def lose(folder):
    (folder / "b").unlink()


def lose_manifest(folder):
    (folder / MANIFEST).unlink()


def spoil_manifest(folder):
    (folder / MANIFEST).write_text("[1")


def empty_manifest(folder):
    (folder / MANIFEST).write_text("{}")


def manifest_of_nothing(folder):
    (folder / MANIFEST).write_text(json.dumps({"key": "key", "files": {}}))


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def file_instead(folder):
    shutil.rmtree(folder)
    folder.write_text("x")


def folder_instead_of_a_file(folder):
    (folder / "a").unlink()
    (folder / "a").mkdir()


def link_to_nowhere(folder):
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")


DAMAGES = [
    truncate, flip, swap, lose, lose_manifest, spoil_manifest, empty_manifest, manifest_of_nothing, empty,
    file_instead, folder_instead_of_a_file, link_to_nowhere,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_removed_and_healed(entry, damage):
    work, kept = entry
    damage(kept)
    assert cache.find("kind", "key") is None
    assert [path.name for path in kept.parent.iterdir()] == []
    assert cache.keep("kind", "key", work, ["a", "b"]) == kept
    assert (kept / "a").read_bytes() == bytes(range(256))


def test_an_entry_under_the_name_of_another(entry):
    """Whole in itself, and not what was asked for."""
    _, kept = entry
    shutil.copytree(kept, kept.parent / "other")
    assert cache.find("kind", "other") is None
    assert cache.find("kind", "key") == kept


def test_a_cache_that_cannot_be_written(entry, monkeypatch, tmp_path):
    work, _ = entry
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert cache.keep("kind", "key", work, ["a"]) is None
    assert cache.find("kind", "key") is None


def test_what_killed_processes_left_is_swept(entry):
    work, kept = entry
    old, new = kept.parent / ".new-old", kept.parent / ".new-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    cache.keep("kind", "second", work, ["a"])
    assert not old.exists()
    assert new.exists()


DESIGN = """
module top(input clk, input rst, input [7:0] i__payload, input i__valid, output i__ready,
           output [7:0] o__payload, output o__valid, input o__ready);
  assign o__payload = i__payload + 8'd{add};
  assign o__valid = i__valid;
  assign i__ready = o__ready;
endmodule
"""
RUN = """
import sys
import numpy as np
from fewbit.sim.compile import compile_design
trace = compile_design(sys.argv[1]).run(np.arange(5, dtype=np.uint64)[:, None], 5, max_cycles=100)
print(*trace.outputs[:, 0])
"""


def run_design(add, folder):
    """What a process of its own gives, which may crash: outputs, or its status."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, DESIGN.format(add=add)],
        env={**os.environ, "FEWBIT_CACHE_DIR": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.split() if done.returncode == 0 else f"{done.returncode} {done.stderr}"


def expected(add):
    return [str(value + add) for value in range(5)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache of two compiled designs."""
    folder = tmp_path_factory.mktemp("compiled")
    for add in (1, 2):
        assert run_design(add, folder) == expected(add)
    return folder


def library(folder, add):
    """The library of one of the two designs: which is which, its content tells."""
    found = sorted((folder / "sim").iterdir())
    assert len(found) == 2
    manifests = [json.loads((entry / MANIFEST).read_text()) for entry in found]
    return found, [next(name for name in each["files"] if name != "ports") for each in manifests]


@pytest.mark.parametrize(
    "damage",
    slow_but(
        ["truncated", "swapped", "no manifest"], ["truncated", "flipped", "swapped", "swapped whole", "no manifest"]
    ),
)
def test_damaged_libraries_are_never_loaded(compiled, tmp_path, damage):
    """They gave wrong scores with exit status 0, SIGSEGV and SIGBUS."""
    folder = tmp_path / "cache"
    shutil.copytree(compiled, folder)
    (one, other), (name, _) = library(folder, 1)
    content = bytearray((one / name).read_bytes())
    if damage == "truncated":
        (one / name).write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        for place in range(len(content) // 4, len(content) // 2, 64):
            content[place] ^= 0xFF
        (one / name).write_bytes(content)
    elif damage == "swapped":
        (one / name).write_bytes((other / name).read_bytes())
        (other / name).write_bytes(content)
    elif damage == "swapped whole":
        one.rename(one.with_name("aside"))
        other.rename(one)
        one.with_name("aside").rename(other)
    else:
        (one / MANIFEST).unlink()
        (one / name).write_bytes((other / name).read_bytes())
    for _ in range(2):
        assert [run_design(add, folder) for add in (1, 2)] == [expected(1), expected(2)]
    assert sorted(path.name for path in (folder / "sim").iterdir()) == sorted(
        path.name for path in (compiled / "sim").iterdir()
    )


def test_two_processes_on_a_cold_cache(tmp_path):
    command = [sys.executable, "-c", RUN, DESIGN.format(add=3)]
    env = {**os.environ, "FEWBIT_CACHE_DIR": str(tmp_path)}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].split() for process in both] == [expected(3)] * 2
    entries = list((tmp_path / "sim").iterdir())
    assert len(entries) == 1
    assert run_design(3, tmp_path) == expected(3)


def test_a_damaged_netlist_is_made_anew(tmp_path, monkeypatch):
    from fewbit.sim.netlist import netlist

    monkeypatch.setenv("FEWBIT_CACHE_DIR", str(tmp_path))
    right = netlist(DESIGN.format(add=1), top="top", family="ice40")
    (kept,) = (tmp_path / "netlist").iterdir()
    (kept / "netlist.v").write_text(right.replace("SB_LUT4", "SB_LUT5"))
    assert netlist(DESIGN.format(add=1), top="top", family="ice40") == right
    assert (kept / "netlist.v").read_text() == right


def test_hashing_is_of_the_whole_file(tmp_path):
    content = np.random.default_rng(1).bytes(1 << 20)
    for place in (0, len(content) // 2, len(content) - 1):
        path = Path(tmp_path / "file")
        path.write_bytes(content)
        before = cache._hash(path)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert cache._hash(path) != before
