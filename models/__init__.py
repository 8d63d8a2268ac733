"""Trained networks that come with fewbit, and the test images on which their accuracy is measured.

Each network has a ``.json`` file with its accuracy and the command that trained it. The training scripts are
``train.py`` and ``train_*.py``; their common functions are in ``training.py``. The test images are the 10,000 of MNIST,
as published, and the first 2,000 of Fashion-MNIST (Zalando SE, MIT license).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TEST_IMAGES = FOLDER / "t10k-images-idx3-ubyte.gz"
TEST_LABELS = FOLDER / "t10k-labels-idx1-ubyte.gz"


def test_set(name: str) -> tuple[Path, Path]:
    """Files of the test images and labels for the network ``name``; MNIST's for an unknown network."""
    if name in _files() and facts(name).get("data") == "fashion-mnist":
        return FOLDER / "fashion-2k-images-idx3-ubyte.gz", FOLDER / "fashion-2k-labels-idx1-ubyte.gz"
    return TEST_IMAGES, TEST_LABELS


def shipped() -> dict[str, Path]:
    """Name and file of every few-bit network that comes with fewbit."""
    return {name: path for name, path in _files().items() if facts(name).get("kind") != "float"}


def floats() -> dict[str, Path]:
    """Name and file of every float model that comes with fewbit, as input for the quantizer."""
    return {name: path for name, path in _files().items() if facts(name).get("kind") == "float"}


def _files() -> dict[str, Path]:
    files = [*FOLDER.glob("*.safetensors"), *FOLDER.glob("*.onnx")]
    return {file.stem: file for file in sorted(files)}


def facts(name: str) -> dict[str, Any]:
    """The record of a network or float model that comes with fewbit: accuracy, training command, and more."""
    facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return facts
