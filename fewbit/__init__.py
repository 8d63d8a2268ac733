"""fewbit: hardware for few-bit neural networks, from a trained model to a bitstream, bit for bit."""

from importlib.metadata import PackageNotFoundError, version

from fewbit.golden.errors import FewbitError

try:
    __version__ = version("fewbit")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"

__all__ = ["FewbitError", "__version__"]
