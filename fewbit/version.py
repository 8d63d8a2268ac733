"""The version of fewbit."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fewbit")
except PackageNotFoundError:  # fewbit runs from its source tree
    __version__ = "0+source"
