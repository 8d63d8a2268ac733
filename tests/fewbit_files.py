"""Files of networks for tests of the command line."""

from __future__ import annotations

from pathlib import Path

from fewbit.golden import file
from fewbit.golden.codes import BINARY
from fewbit.golden.dtype import DType
from fewbit.golden.network import ArgMax, Dense, Network, TensorType


def tiny_file(folder: Path) -> Path:
    """A network of two rows of weights, in ``tiny.safetensors``."""
    dense = Dense(name="fc", weights=[[1, -1, 1, 1], [-1, 1, 1, -1]], code=BINARY)
    network = Network(
        name="tiny", input=TensorType(DType("uint", 2), (4,)), layers=(dense, ArgMax(name="class")), output_shape=(1,)
    )
    path = folder / "tiny.safetensors"
    file.save(network, path)
    return path
