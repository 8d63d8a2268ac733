"""Small forms of what people's public networks contain, through the command line.

``NAME.npz`` has eight inputs and the outputs that qonnx gave for them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit.readers import load

FOLDER = Path(__file__).parent / "cases"
REFUSED: dict[str, list[str]] = {
    "resize_nearest": [
        "node 'up' (Resize): this op is not supported: hardware makes no map larger; end the network in front of it "
        "and let the host repeat pixels, or train with a convolution on the small map"
    ],
}
"""Lines that the command line prints of files that have no form in hardware."""
RIGHT = sorted({path.stem for path in FOLDER.iterdir()} - REFUSED.keys())


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fewbit", *map(str, arguments)], capture_output=True, text=True, encoding="utf-8"
    )


@pytest.mark.parametrize("name", RIGHT)
def test_file_gives_the_outputs_of_the_reference(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    reference = np.load(FOLDER / f"{name}.npz")
    np.save(tmp_path / "x.npy", reference["x"])
    run = command(
        "run", FOLDER / f"{name}.onnx", "--inputs", tmp_path / "x.npy", "--outputs", tmp_path / "g.npy", "--quiet"
    )
    assert run.returncode == 0, run.stderr
    got = np.load(tmp_path / "g.npy")
    if name == "two_outputs":  # the reference has the first one only, of five elements
        got = got[:, :5]
    assert got.size == reference["y"].size
    assert np.allclose(got.reshape(reference["y"].shape), reference["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RIGHT)
def test_native_file_gives_the_same(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from fewbit.golden import file

    network = load(FOLDER / f"{name}.onnx")
    file.save(network, tmp_path / "saved.safetensors")
    assert file.load(tmp_path / "saved.safetensors") == network


@pytest.mark.parametrize("name", REFUSED)
def test_file_is_refused_with_what_would_work(name: str) -> None:
    pytest.importorskip("onnx")
    run = command("run", FOLDER / f"{name}.onnx", "--inputs", "x.npy")
    path = FOLDER / f"{name}.onnx"
    assert (run.returncode, run.stderr.splitlines()) == (2, [f"fewbit: {path}: {line}" for line in REFUSED[name]])
