"""Trained networks that come with fewbit, and the test images that they are measured on.

Beside each network stands a ``.json`` with its accuracy and the command that trained it, by one of the ``train_*.py``
or ``train.py``; what these share is in ``training.py``. The images are the 10,000 of MNIST's test set, as its makers
published them, and the first 2,000 of Fashion-MNIST's (Zalando SE, MIT license).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TEST_IMAGES = FOLDER / "t10k-images-idx3-ubyte.gz"
TEST_LABELS = FOLDER / "t10k-labels-idx1-ubyte.gz"


def test_set(name: str) -> tuple[Path, Path]:
    """Files of the test images and labels that come with fewbit for the data of a shipped network; else MNIST's."""
    if name in _files() and facts(name).get("data") == "fashion-mnist":
        return FOLDER / "fashion-2k-images-idx3-ubyte.gz", FOLDER / "fashion-2k-labels-idx1-ubyte.gz"
    return TEST_IMAGES, TEST_LABELS


def shipped() -> dict[str, Path]:
    """Name and file of every shipped network in few bits."""
    return {name: path for name, path in _files().items() if facts(name).get("kind") != "float"}


def floats() -> dict[str, Path]:
    """Name and file of every shipped float model, for the quantizer to start from."""
    return {name: path for name, path in _files().items() if facts(name).get("kind") == "float"}


def _files() -> dict[str, Path]:
    files = [*FOLDER.glob("*.safetensors"), *FOLDER.glob("*.onnx")]
    return {file.stem: file for file in sorted(files)}


def facts(name: str) -> dict[str, Any]:
    """What is known of a shipped network or float model: its accuracy, the command that made it, and more."""
    facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return facts
