"""Common part of the training scripts: command-line options, run time, saving of the network and its record."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fewbit.golden.file import save
from fewbit.golden.network import Network
from fewbit.models.training import Mnist, accuracy, held_out_accuracy, integer_accuracy, load_mnist, scores_of

R = TypeVar("R", bound=Any)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a training script.

    Attributes
    ----------
    data : Mnist
    out : Path
        File of the network. The record is written beside it, with the suffix ``.json``.
    command : str
        Command that repeats this run.
    began : float
        Start time, in seconds since the epoch.
    """

    data: Mnist
    out: Path
    command: str
    began: float

    @property
    def seconds(self) -> int:
        """Run time so far, in seconds."""
        return round(time.time() - self.began)

    def export(self, network: Network, model: nn.Module, takes: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Save ``network``, made from ``model``; return the accuracies of both for the record.

        ``takes`` converts uint8 images to the input of ``model``.
        """
        save(network, self.out)
        exact = integer_accuracy(network, self.data.test_images, self.data.test_labels)
        return {"test_accuracy": exact} | self.measured(model, takes, f"test {exact:.2f} % in integers")

    def measured(self, model: nn.Module, takes: Callable[[Tensor], Tensor], exported: str) -> dict[str, Any]:
        """Measure the accuracy of ``model`` in torch; return it for the record and print it after ``exported``.

        ``takes`` converts uint8 images to the input of ``model``.
        """
        torch_says = accuracy(scores_of(model, takes(self.data.test_images)), self.data.test_labels)
        print(f"{exported}, {torch_says:.2f} % in torch, {self.seconds} s; wrote {self.out}")
        return {"torch_accuracy": torch_says, "held_out_accuracy": held_out_accuracy(model, self.data, takes)}

    def write(self, recipe: Any, facts: dict[str, Any]) -> None:
        """Write the record: the command, ``facts``, the run time and the recipe, as JSON."""
        record = {"command": self.command, **facts, "seconds": self.seconds, "recipe": asdict(recipe)}
        self.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


def options(doc: str) -> argparse.ArgumentParser:
    """Argument parser with the options of all training scripts. ``doc`` is the docstring of the script."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the idx files, plain or .gz")
    return parser


def start(data: Path, out: Path, command: str) -> Job:
    """Start a job: limit torch to one thread, read the data and take the time."""
    torch.set_num_threads(1)  # for networks of this size, one thread is faster than several
    return Job(data=load_mnist(data), out=out, command=command, began=time.time())


def preset_job(script: str, doc: str, presets: Mapping[str, R], suffix: str = ".safetensors") -> tuple[str, R, Job]:
    """Read the command line of ``script``; return the name of the chosen preset, its recipe, and the job."""
    parser = options(doc)
    parser.add_argument("preset", choices=presets)
    parser.add_argument("--epochs", type=int, help="default: the preset's")
    parser.add_argument("--seed", type=int, help="default: the preset's")
    parser.add_argument("-o", "--out", type=Path, help=f"default: PRESET{suffix}; a .json goes beside it")
    args = parser.parse_args()
    changes = {key: getattr(args, key) for key in ("epochs", "seed") if getattr(args, key) is not None}
    recipe = replace(presets[args.preset], **changes)
    command = f"python models/{script} {args.preset} --data DIR --epochs {recipe.epochs} --seed {recipe.seed}"
    return args.preset, recipe, start(args.data, args.out or Path(f"{args.preset}{suffix}"), command)
