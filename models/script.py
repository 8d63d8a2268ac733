"""What the training scripts' command lines share: options, the clock, the network's file and the record beside it."""

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
    """One run of a script.

    Attributes
    ----------
    data : Mnist
    out : Path
        Of the network; the record goes beside it.
    command : str
        That does the same again.
    began : float
    """

    data: Mnist
    out: Path
    command: str
    began: float

    @property
    def seconds(self) -> int:
        return round(time.time() - self.began)

    def export(self, network: Network, model: nn.Module, takes: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Saves ``network``, made of ``model``, and measures it on the test images; what the record says of that."""
        save(network, self.out)
        exact = integer_accuracy(network, self.data.test_images, self.data.test_labels)
        return {"test_accuracy": exact} | self.measured(model, takes, f"test {exact:.2f} % in integers")

    def measured(self, model: nn.Module, takes: Callable[[Tensor], Tensor], exported: str) -> dict[str, Any]:
        """Accuracies of ``model`` as it was trained; prints them behind what was ``exported``."""
        torch_says = accuracy(scores_of(model, takes(self.data.test_images)), self.data.test_labels)
        print(f"{exported}, {torch_says:.2f} % in torch, {self.seconds} s; wrote {self.out}")
        return {"torch_accuracy": torch_says, "held_out_accuracy": held_out_accuracy(model, self.data, takes)}

    def write(self, recipe: Any, facts: dict[str, Any]) -> None:
        """The record."""
        record = {"command": self.command, **facts, "seconds": self.seconds, "recipe": asdict(recipe)}
        self.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


def options(doc: str) -> argparse.ArgumentParser:
    """Those that every script has, of one whose docstring is ``doc``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the idx files, plain or .gz")
    return parser


def start(data: Path, out: Path, command: str) -> Job:
    torch.set_num_threads(1)  # faster than more, at these sizes
    return Job(data=load_mnist(data), out=out, command=command, began=time.time())


def preset_job(script: str, doc: str, presets: Mapping[str, R], suffix: str = ".safetensors") -> tuple[str, R, Job]:
    """What the command line asks of ``script``: the name of one of ``presets``, its recipe, and the job."""
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
