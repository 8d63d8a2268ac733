"""fewbit: hardware for few-bit neural networks, from a trained model to a bitstream, bit-exact.

>>> import fewbit
>>> network = fewbit.load("mnist-small")
>>> print(network.input, network.output)
uint8[28, 28] uint4[]
>>> design = fewbit.design(network, "up5k", fewbit.Constraints(clock_hz=12e6))
>>> design.plan.cycles_per_frame
448

All other names are imported from their modules; the hardware components in :mod:`fewbit.hw` can be used in any Amaranth
design. Names of this package are loaded at their first use.
"""

from typing import TYPE_CHECKING

from fewbit.lazy import lazy

if TYPE_CHECKING:
    from fewbit.bitstreams import build
    from fewbit.boards.flow import Misfit, TimingMiss
    from fewbit.engines import Run, run
    from fewbit.generator import Design, design
    from fewbit.golden.codes import Code
    from fewbit.golden.dtype import DType
    from fewbit.golden.errors import FewbitError
    from fewbit.golden.file import save
    from fewbit.golden.network import Network, TensorType
    from fewbit.hw.planner.constraints import Constraints
    from fewbit.hw.planner.plan import MisfitError
    from fewbit.quantization.quantize import Quantization, quantize
    from fewbit.quantization.recipe import Recipe
    from fewbit.readers import load
    from fewbit.version import __version__
    from fewbit.writers import export

__getattr__, __dir__, _names = lazy(
    __name__,
    {
        "Code": "fewbit.golden.codes",
        "Constraints": "fewbit.hw.planner.constraints",
        "DType": "fewbit.golden.dtype",
        "Design": "fewbit.generator",
        "FewbitError": "fewbit.golden.errors",
        "Misfit": "fewbit.boards.flow",
        "MisfitError": "fewbit.hw.planner.plan",
        "Network": "fewbit.golden.network",
        "Quantization": "fewbit.quantization.quantize",
        "Recipe": "fewbit.quantization.recipe",
        "Run": "fewbit.engines",
        "TensorType": "fewbit.golden.network",
        "TimingMiss": "fewbit.boards.flow",
        "__version__": "fewbit.version",
        "build": "fewbit.bitstreams",
        "design": "fewbit.generator",
        "export": "fewbit.writers",
        "load": "fewbit.readers",
        "quantize": "fewbit.quantization.quantize",
        "run": "fewbit.engines",
        "save": "fewbit.golden.file",
    },
)

__all__ = [
    "Code", "Constraints", "DType", "Design", "FewbitError", "Misfit", "MisfitError", "Network", "Quantization",
    "Recipe", "Run", "TensorType", "TimingMiss", "__version__", "build", "design", "export", "load", "quantize", "run",
    "save",
]  # fmt: skip
