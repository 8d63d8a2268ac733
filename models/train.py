"""stub"""
from __future__ import annotations
import gzip, sys
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import torch
from torch import Tensor

HELD_OUT = 5000

@dataclass(frozen=True, kw_only=True)
class Mnist:
    train_images: Tensor
    train_labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

def read_idx(folder: Path, name: str) -> Tensor:
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            with opener(path, "rb") as file:
                raw = file.read()
            shape = tuple(int.from_bytes(raw[4 + 4 * k : 8 + 4 * k], "big") for k in range(raw[3]))
            return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())
    print(f"no {name} or {name}.gz in {folder}", file=sys.stderr)
    raise SystemExit(2)

def load_mnist(folder: Path) -> Mnist:
    images, labels = read_idx(folder, "train-images-idx3-ubyte"), read_idx(folder, "train-labels-idx1-ubyte").long()
    cut = len(images) - HELD_OUT
    return Mnist(train_images=images[:cut], train_labels=labels[:cut], held_out_images=images[cut:], held_out_labels=labels[cut:],
        test_images=read_idx(folder, "t10k-images-idx3-ubyte"), test_labels=read_idx(folder, "t10k-labels-idx1-ubyte").long())

def shift(images: Tensor, pixels: int) -> Tensor:
    """Each of ``images`` (N, H, W) moved by up to ``pixels`` each way, zeros moving in."""
    if pixels == 0:
        return images
    count, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    top, left = torch.randint(0, 2 * pixels + 1, (2, count, 1))
    rows = (top + torch.arange(height))[:, :, None]
    columns = (left + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns]
